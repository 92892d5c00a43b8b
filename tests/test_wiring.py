"""Terms are fitted to both nets before training, each net seen once."""

import pytest
from mmdet.registry import MODELS

import tiny
from det_distill.views.base import View


def test_three_terms_cost_one_dry_run_a_side(tmp_path, monkeypatch):
    sides = []
    plain = View.dry_run

    def counted(view, names):
        sides.append((view.side, sorted(names)))
        return plain(view, names)

    monkeypatch.setattr(View, "dry_run", counted)
    terms = dict(
        imitation=tiny.imitation(),
        soft=dict(type="WeightedSoftLabels", head="roi", weight=0.5),
        bounded=dict(type="BoundedRegression", head="roi"),
    )
    MODELS.build(
        tiny.distiller(
            tiny.faster_rcnn(), tiny.write_teacher(tmp_path, tiny.faster_rcnn(16, 24)), terms=dict(terms, off=None)
        )
    )

    assert sides == [
        ("student", ["neck", "roi.deltas", "roi.logits", "roi.targets"]),
        ("teacher", ["neck", "roi.deltas", "roi.logits"]),
    ]


WRONG = [
    (dict(terms=3), r"^terms=3; a dict of terms by name"),
    (dict(terms=["imitation"]), r"^terms=\['imitation'\]; a dict"),
    (dict(teacher=7), r"^teacher=7; dict\(config="),
    (dict(task_weights=[0.5]), r"^task_weights=\[0\.5\]; a dict of numbers or"),
    (dict(stages=1), r"^stages: a list of dicts is expected, found 1"),
]


@pytest.mark.parametrize(("wrong", "told"), WRONG, ids=[next(iter(wrong)) for wrong, _ in WRONG])
def test_a_value_of_the_wrong_kind_is_named(tmp_path, wrong, told):
    teacher = tiny.write_teacher(tmp_path, tiny.faster_rcnn())
    with pytest.raises(ValueError, match=told):
        MODELS.build(tiny.distiller(tiny.faster_rcnn(), **(dict(teacher=teacher) | wrong)))
