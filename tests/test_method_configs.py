"""Every config of a generic method, and of a single-stage student, is wired as its file says and learns."""

import ast
import inspect
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS

import tiny
from det_distill.student.model import student_model
from det_distill.terms.base import Term

ROOT = Path(__file__).parents[1]
RESPONSE = ("bss", "hinton", "structured")
FEATURE = ("ab", "at", "fitnets", "fsp", "low_resolution", "mobileid", "nst")
RELATION = ("darkrank", "rkd", "triplet")
METHODS = (*RESPONSE, *FEATURE, *RELATION, "single_stage")
CONFIGS = sorted(f"{method}/{path.stem}" for method in METHODS for path in (ROOT / "configs" / method).glob("*.py"))
SMALL = [name for name in CONFIGS if "/bccd_" in name]
COCO = [name for name in CONFIGS if "/coco_" in name]
OTHER = sorted(f"other_families/{path.stem}" for path in (ROOT / "configs/other_families").glob("*.py"))
SIGNED = ("loss_holistic",)  # a critic's score
ZERO = ("loss_neurons", "loss_triplet")  # before the neurons are chosen; where the margins hold


def test_every_method_has_a_config_on_bccd_and_every_single_stage_student_one_on_coco():
    assert {name.split("/")[0] for name in SMALL} == {*METHODS}
    assert {name.split("_")[2] for name in COCO} >= {"retinanet", "fcos", "atss", "gfl"}


@pytest.mark.parametrize("name", CONFIGS)
def test_it_is_a_docstring_and_a_short_diff(name):
    text = (ROOT / f"configs/{name}.py").read_text()
    assert ast.get_docstring(ast.parse(text)).splitlines()[0].endswith(".")
    assert len(text.splitlines()) <= 60


@pytest.mark.parametrize("name", SMALL)
def test_one_step_in_every_stage_says_something_and_reaches_the_student(name):
    model, cfg = tiny.shipped_distiller(name), tiny.shipped(name)
    assert student_model(cfg.model) == student_model(tiny.shipped_base(name).model)
    torch.manual_seed(0)
    model.student.init_weights()
    for term in model.terms.values():
        term.schedule = None  # a ramp may begin at nothing
    for index in [*range(len(model.stages.all))] or [None]:
        model.stages.enter(index)
        model.zero_grad()
        losses = tiny.losses(model, tiny.batch(size=(120, 160)))
        taught = {key for key in losses if key.startswith("loss_") and key.split(".")[0][5:] in model.terms}
        for key in taught:
            assert losses[key].isfinite()
            name_of_term = key.split(".")[0][5:]
            if model.stages.now.teaches(name_of_term) and key not in SIGNED:
                assert losses[key] > 0 or key in ZERO
        model.parse_losses(losses)[0].backward()
        assert any(p.grad is not None and p.grad.any() for p in model.student.backbone.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", COCO)
def test_a_pair_on_coco_is_wired_level_by_level(name):
    model = tiny.shipped_distiller(name)
    pairs = model.terms["imitation"].pairs
    assert [pair.channels for pair in pairs] == [(256, 256)] * len(pairs)
    assert [pair.strides for pair in pairs] == [(s, s) for s in (8, 16, 32, 64, 128)[: len(pairs)]]
    assert len(pairs) == (4 if "faster-rcnn" in name else 5)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHER)
def test_a_teacher_of_another_family_is_wired_at_every_level_of_the_student(name):
    pairs = tiny.shipped_distiller(name).terms["imitation"].pairs
    assert [(pair.channels, pair.strides) for pair in pairs] == [((256, 256), (s, s)) for s in (4, 8, 16, 32, 64)]


def test_no_term_is_longer_to_write_than_forty_lines():
    """Lines of code of each registered term: without blank lines, comments and docstrings."""
    terms = [one for one in set(MODELS.module_dict.values()) if inspect.isclass(one) and issubclass(one, Term)]
    assert len(terms) >= 18
    for one in terms:
        source = inspect.getsource(one)
        prose = {
            line
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node)
            for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)
        }
        lines = [
            line
            for number, line in enumerate(source.splitlines(), 1)
            if number not in prose and line.strip() and not line.strip().startswith("#")
        ]
        assert len(lines) <= 40, f"{one.__name__}: {len(lines)} lines"
