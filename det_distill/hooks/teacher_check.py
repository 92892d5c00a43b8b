"""No step before the teacher has shown that it knows the data."""

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from det_distill.hooks.unwrap import unwrapped
from det_distill.randomness import untouched
from det_distill.refusals import at_least
from det_distill.teachers.check import demand, teacher_map


@HOOKS.register_module()
class TeacherCheckHook(Hook):
    """Stops a run before its first step if the teacher's mAP on a few images is next to nothing.

    See `det_distill.teachers.check.teacher_map`. It draws no random number of the run's. A bare RPN has no mAP, and a
    teacher of other classes (`check_classes=False`) none on these data: of both the log says that nobody checked.

    Args:
        images: How many images, evenly spread over the validation split; 0 leaves the check out.
        min_map: The least COCO mAP, in [0, 1]. Low, for shuffled or untrained weights have 0.

    Raises:
        ValueError: A negative number; in training, a teacher below `min_map`.
    """

    priority = "NORMAL"

    def __init__(self, images: int = 8, min_map: float = 0.02) -> None:
        self.images, self.min_map = int(at_least("images", images, 0)), at_least("min_map", min_map, 0)

    def before_train(self, runner: Runner) -> None:
        if not self.images:
            return
        model = unwrapped(runner)
        for name, teacher in model.teachers.items():
            title = "teacher check" if len(model.teachers) == 1 else f"teacher check, {name}"
            known = teacher.view.classes
            if not known or (teacher.class_map is None and model.view.classes not in (None, known)):
                runner.logger.info(f"{title}: left out, the teacher does not tell the student's classes apart")
                continue
            with untouched():
                found = teacher_map(teacher, runner.cfg, self.images)
            runner.logger.info(f"{title}: mAP {found:.3f} on {self.images} images")
            try:
                demand(teacher, found, self.min_map, self.images)
            except ValueError as error:
                raise ValueError(f"{error} TeacherCheckHook(min_map=...) lowers the bar") from error
