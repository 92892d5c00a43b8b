"""Terms are fitted to both nets before training, each net seen once."""

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
