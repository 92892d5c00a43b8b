"""Which model the student is: the one a Distiller's config names, at the width it names."""

from collections.abc import Mapping
from typing import Any

from det_distill.configs import load_config
from det_distill.refusals import only_keys
from det_distill.student.narrow import narrowed
from det_distill.views.base import View


def student_model(model: Mapping[str, Any]) -> dict[str, Any]:
    """The plain student's model dict, out of a Distiller's or of any other model's.

    A student is written as a model dict, as `dict(model=...)` or as `dict(config="path or mmdet::name")`, each with
    an optional `width` beside it, see `narrowed`, and an optional `scale`, which is no part of the model.

    Raises:
        FileNotFoundError: The student's config is not there.
        ValueError: A Distiller's dict without a student, an unknown key beside `config` or `model`, or a width that
            does not fit.
    """
    width = None
    if model.get("type") == "Distiller":
        student = model.get("student")
        if not student:
            raise ValueError(f"model.student must be a detector's model dict or dict(config=...), found {student!r}")
        width = student.get("width")
        model = {key: value for key, value in student.items() if key not in ("scale", "width")}
    for key in ("config", "model"):
        if key in model and "type" not in model:
            only_keys(model, (key, "scale", "width"), "student")
            model = model[key] if key == "model" else load_config(model[key], "student.config").model
    return dict(model) if width is None else narrowed(model, width)


def demand_known_widths(student: Mapping[str, Any], view: View) -> None:
    """Refuse a `width` of a student whose heads are not followed: theirs do not lie in keys of channels.

    Raises:
        ValueError: There is one, of such a student.
    """
    if student.get("width", 1) != 1 and not view.heads:
        raise ValueError(
            f"student.width={student['width']}: nobody knows the widths of what comes behind the neck of a "
            f"{type(view.detector).__name__}; write the narrow model out"
        )
