"""Masks and features as pictures while a student learns, wherever the run's Visualizer keeps pictures."""

from typing import Any

import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from det_distill.distiller import Distiller
from det_distill.hooks.feature_picture import feature_picture
from det_distill.hooks.unwrap import unwrapped
from det_distill.modes import evaluating
from det_distill.pictures.contenders import Contender
from det_distill.pictures.draw import Picture, resize
from det_distill.pictures.sheets import sheet, slide_of
from det_distill.preprocess import padding
from det_distill.randomness import untouched
from det_distill.refusals import at_least
from det_distill.stills import picture, still_dataset
from det_distill.terms.feature.imitation import FeatureImitation


@HOOKS.register_module()
class MaskVisualizationHook(Hook):
    """Before the first step and after every `interval` epochs, of the first training images, per image:

    - `masks_<image>`: a row for the mask of each `FeatureImitation` term, a column per level;
    - `features_<term>_<image>`: the student's adapted map, the teacher's and their difference.

    They go to every backend of the run's Visualizer (`vis_backends`: local files, TensorBoard, ...). Training itself is
    unchanged, to the bit.

    Args:
        interval: Epochs between pictures.
        images: How many images.

    Raises:
        ValueError: A number below 1; in training, no term has a mask.
    """

    priority = "LOW"

    def __init__(self, interval: int = 1, images: int = 2) -> None:
        self.every, self.images = int(at_least("interval", interval, 1)), int(at_least("images", images, 1))
        self._stills: list[Any] = []

    def before_train(self, runner: Runner) -> None:
        terms = unwrapped(runner).terms.values()
        if not any(isinstance(term, FeatureImitation) for term in terms):
            raise ValueError("MaskVisualizationHook: no term is a FeatureImitation, so there is no mask to show")
        with untouched():
            dataset = still_dataset(runner.cfg, "train")
            self._stills = [picture(dataset[index]) for index in range(min(self.images, len(dataset)))]
        self._classes = dataset.metainfo.get("classes", ())
        if runner.iter == 0:
            self._show(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        if self.every_n_epochs(runner, self.every):
            self._show(runner)

    def _show(self, runner: Runner) -> None:
        model = unwrapped(runner)
        terms = {name: term for name, term in model.terms.items() if isinstance(term, FeatureImitation)}
        masks = [
            Contender(f"{name}: {type(term.mask).__name__}", term.mask, term.grid, own=True)
            for name, term in terms.items()
        ]
        if model.view.priors is None:
            kind = type(model.student).__name__
            raise ValueError(f"MaskVisualizationHook draws at the student's anchors or points, and a {kind} has none")
        priors, divisor = model.view.priors, padding(model.data_preprocessor)[0]
        with evaluating(model), untouched():
            for index, (image, sample) in enumerate(self._stills):
                slide = slide_of(index, *_as_fed(model, image, sample), priors, divisor, self._classes)
                runner.visualizer.add_image(f"masks_{slide.name}", sheet(slide, masks)[2], runner.iter)
                for name in terms:
                    shown = feature_picture(model, name, image, sample)
                    runner.visualizer.add_image(f"features_{name}_{slide.name}", shown, runner.iter)


def _as_fed(model: Distiller, image: Picture, sample: Any) -> tuple[Picture, Any]:
    """Image and truth at the student's resolution, in whose pixels its masks are."""
    if model.shrink.scale == 1:
        return image, sample
    [own] = model.shrink(torch.zeros(1, 3, *image.shape[:2]), [sample])[2]
    return resize(image, model.shrink.scale), own
