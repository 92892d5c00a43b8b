"""Under autocast every term computes in fp32 on what the nets show in half precision, and no box is rounded."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from terms.test_universal import ADAPTED, TERMS, WORKING, _id, built, of_term, on
from torch import Tensor, nn

import tiny
from det_distill.masks import cells_on
from det_distill.views.base import ROI_TARGETS, ROIS, RPN_TARGETS

BF16 = torch.bfloat16
# Convolutions and products inside a term, its adapter's as a rule, round to bf16's 8 bits; measured 0.1 % to 1.9 %, of
# boundary samples, which follow gradients through the student's own head, 3.6 %. Everything else computes in fp32.
ROUNDED = dict.fromkeys(ADAPTED, 0.02) | {"boundary samples": 0.1, "critic": 0.05}


def wide(value: Any) -> Any:
    """Half precision in fp32, in nested lists and tuples."""
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    return type(value)(map(wide, value)) if type(value) in (list, tuple) else value


@pytest.fixture(scope="module", params=["fpn", "c4", "rfcn"])
def step(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One step of all terms under autocast, what they were shown in it, and a step without."""
    kind = request.param
    names = [name for one, name in WORKING if one == kind]
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = built(tmp_path_factory.mktemp(kind), kind, {_id(name): on(kind, name) for name in names})
    for term in model.terms.values():
        term.weight = 1.0
    plain, fresh, shown = tiny.losses(deepcopy(model), tiny.batch()), deepcopy(model.terms), {}
    for key, term in model.terms.items():
        term.register_forward_hook(lambda _module, args, _out, key=key: shown.update({key: args}))
    with torch.autocast("cpu", BF16):
        losses = tiny.losses(model, tiny.batch())
    return dict(model=model, names=names, losses=losses, plain=plain, terms=fresh, shown=shown)


def in_full(term: nn.Module, shown: Any) -> float:
    """The term's value of the same features, everything in fp32."""
    own, its, batch = shown
    value = term({key: wide(own[key]) for key in own}, {key: wide(its[key]) for key in its}, batch)
    return sum(value.values()).item() if isinstance(value, Mapping) else value.item()


def test_both_nets_run_in_half_precision(step):
    for own, its, _ in step["shown"].values():
        for side in (own, its):
            for tap in {*side} & {"neck", "backbone"}:
                assert {one.dtype for one in side[tap]} == {BF16}


def test_every_term_is_what_fp32_makes_of_the_same_features(step):
    far = {}
    for name in step["names"]:
        value, expected = of_term(name, step["losses"]), in_full(step["terms"][_id(name)], step["shown"][_id(name)])
        assert value.dtype == torch.float32
        if value.item() != pytest.approx(expected, rel=ROUNDED.get(name, 1e-5)):
            far[name] = value.item(), expected
    assert far == {}


def test_terms_of_maps_are_near_a_step_in_fp32(step):
    """Terms of boxes are not: other scores sample other boxes."""
    names = {"hint", "imitation", "cell scores", "attention", "selectivity", "firing", "places", "soft labels, rpn"}
    for name in names & {*step["names"]}:
        values = [of_term(name, step[one]).item() for one in ("losses", "plain")]
        assert values[0] == pytest.approx(values[1], rel=0.02), name  # measured: at most 0.7 %


def test_gradients_are_finite_and_fp32(step):
    total, _ = step["model"].parse_losses(step["losses"])
    total.backward()
    found = [weight.grad for weight in step["model"].parameters() if weight.grad is not None]
    assert len(found) > 50
    assert all(grad.dtype == torch.float32 and grad.isfinite().all() for grad in found)


# Not its proposals: stock MMDetection decodes those from anchors in the precision of the scores.
BOXES = (ROIS, RPN_TARGETS, ROI_TARGETS)


def floats(value: Any) -> list[Tensor]:
    parts = value if isinstance(value, list | tuple) else [value]
    found = [floats(one) if isinstance(one, list | tuple) else [one] for one in parts]
    return [one for some in found for one in some if isinstance(one, Tensor) and one.is_floating_point()]


def test_boxes_and_targets_keep_fp32(step):
    model = step["model"]
    data = model.data_preprocessor(tiny.batch(), training=True)
    with torch.autocast("cpu", BF16), model.view.record(BOXES) as seen:
        model.student.loss(data["inputs"], data["data_samples"])
    for name in BOXES:
        assert {one.dtype for one in floats(seen[name])} == {torch.float32}, name


@pytest.mark.parametrize("kind", ["AnchorIoUMask", "GtBoxMask", "FullMask"])
def test_masks_are_those_without_autocast(step, kind):
    own, _, batch = step["shown"][_id("imitation")]
    tap = "neck" if "neck" in own else "backbone"
    maps = own[tap][:4]
    grid = [round(96 / one.shape[2]) for one in maps]
    mask = TASK_UTILS.build(dict(type=kind))
    plain = cells_on(mask, batch.scene, batch.priors, maps, grid)
    with torch.autocast("cpu", BF16):
        half = cells_on(mask, batch.scene, batch.priors, maps, grid)
    assert all(torch.equal(*pair) for pair in zip(plain, half, strict=True))
    assert any(one.any() for one in plain)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_run_under_amp_is_finite_on_a_gpu(dtype: str, tmp_path: Path):
    teacher = tiny.write_teacher(tmp_path, tiny.faster_rcnn(16, 24))
    data = tiny.write_dataset(tmp_path / "set", images=4)
    terms = dict(imitation=tiny.imitation(), soft=TERMS["soft labels, roi"])
    model = tiny.distiller(tiny.faster_rcnn(), teacher, terms=terms)
    cfg = tiny.run_config(data, tmp_path / "run", model, train_cfg=dict(max_epochs=1))
    cfg.optim_wrapper.update(type="AmpOptimWrapper", dtype=dtype, loss_scale=dict(init_scale=256.0))
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert all(value.isfinite().all() for value in runner.model.state_dict().values())
    saved = torch.load(tmp_path / "run/epoch_1.pth", weights_only=True)["state_dict"]
    MODELS.build(tiny.faster_rcnn()).load_state_dict(saved, strict=True)
