"""Proposal mimic as a term: one box list, one level a box, one crop operator for both nets."""

from math import ceil, floor, log2, sqrt
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmcv.ops import roi_align
from torch import Tensor

from det_distill.scene import Scene
from det_distill.terms.base import Batch
from det_distill.terms.feature.proposals import ProposalMimic
from det_distill.views.anatomy import Anatomy, MapSpec

STRIDES, SIZE = (4, 8, 16), (128, 192)
BATCH = Batch(Scene([], [], []), [], None)
PROPOSALS = (
    torch.tensor([[8.0, 8, 40, 40], [0, 0, 180, 120], [60.5, 30.25, 90.75, 100], [3, 3, 4, 4]]),
    torch.tensor([[100.0, 20, 190, 126]]),
)


def maps(channels: int, seed: int, strides: tuple[int, ...] = STRIDES, scale: float = 1) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    sizes = [(2, channels, int(SIZE[0] * scale) // s, int(SIZE[1] * scale) // s) for s in strides]
    return tuple(torch.randn(size, generator=g).requires_grad_() for size in sizes)


def anatomy(name: str, tap: str, spec: Any, scale: float = 1.0) -> Anatomy:
    return Anatomy(name, {tap: spec}, None, SimpleNamespace(), scale)


def wired(own: Any, its: Any, tap: str = "neck", scale: float = 1.0, **config: Any) -> ProposalMimic:
    torch.manual_seed(0)
    term = ProposalMimic(tap, weight=1, **config)
    term.wire(anatomy("student", tap, own, scale), anatomy("teacher", tap, its))
    return term


def specs(channels: int, *strides: int) -> tuple[MapSpec, ...]:
    return tuple(MapSpec(channels, stride) for stride in strides)


def level_of(box: list[float]) -> int:
    """FPN's rule: 56 px at the first level, of stride 4, twice that at the next."""
    side = sqrt(max(0, box[2] - box[0]) * max(0, box[3] - box[1]))
    return min(len(STRIDES) - 1, max(0, floor(log2(side / 56 + 1e-6))))


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("num", [1, 2, 128])
def test_aligned_crops_are_compared_box_by_box(num: int, normalise: bool):
    own, its = maps(4, 0), maps(6, 1)
    term = wired(specs(4, *STRIDES), specs(6, *STRIDES), num=num, size=5, normalise=normalise)
    total, count = 0.0, 0
    for image, boxes in enumerate(PROPOSALS):
        for box in boxes[:num].tolist():
            k = level_of(box)
            rois = torch.tensor([[image, *box]])
            crops = [roi_align(side[k], rois, (5, 5), 1 / STRIDES[k], 0, "avg", True) for side in (own, its)]
            gap = (term.adapter(crops[0]) - crops[1]).square().sum().item()
            total += gap / (6 * 25 if normalise else 1)
            count += 1
    value = term({"neck": own, "rpn.proposals": PROPOSALS}, {"neck": its}, BATCH)
    assert value.item() == pytest.approx(total / (2 * count), rel=1e-4)
    value.backward()
    assert all(one.grad is None for one in its)
    assert term.adapter.conv.weight.grad.any()


def test_native_crops_are_the_boxes_own_cells():
    own, its = maps(4, 0), maps(4, 1)
    term = wired(specs(4, *STRIDES), specs(4, *STRIDES), crop="native", boxes="sampled", adapter=None)
    rois = torch.cat([torch.cat((torch.full((len(b), 1), float(i)), b), dim=1) for i, b in enumerate(PROPOSALS)])
    total = 0.0
    for image, *box in rois.tolist():
        k = level_of(box)
        h, w = own[k].shape[2:]
        x1, y1 = (min(max(0, floor(c / STRIDES[k])), n - 1) for c, n in ((box[0], w), (box[1], h)))
        x2, y2 = (max(a + 1, min(ceil(c / STRIDES[k]), n)) for c, n, a in ((box[2], w, x1), (box[3], h, y1)))
        gap = [side[k][int(image), :, y1:y2, x1:x2] for side in (own, its)]
        total += (gap[0] - gap[1]).square().mean().item()
    value = term({"neck": own, "roi.rois": rois}, {"neck": its}, BATCH)
    assert value.item() == pytest.approx(total / (2 * len(rois)), rel=1e-5)


@pytest.mark.parametrize("crop", ["align", "native"])
def test_equal_maps_and_no_adapter_give_zero_and_no_boxes_a_zero_that_trains(crop: str):
    own = maps(4, 0)
    term = wired(specs(4, *STRIDES), specs(4, *STRIDES), crop=crop, adapter=None)
    assert term({"neck": own, "rpn.proposals": PROPOSALS}, {"neck": own}, BATCH).item() == 0
    nothing = (torch.zeros(0, 4), torch.zeros(0, 4))
    value = term({"neck": own, "rpn.proposals": nothing}, {"neck": maps(4, 1)}, BATCH)
    assert value.item() == 0
    value.backward()


def test_both_sides_are_quantised_behind_the_adapter():
    own, its = (
        {"roi.logits": torch.tensor([[0.6, 2.5]], requires_grad=True)},
        {"roi.logits": torch.tensor([[1.4, 2.6]])},
    )
    term = wired((2,), (2,), tap="roi.logits", quantiser=dict(type="Quantiser"), normalise=False)
    value = term(own, its, BATCH)  # Q = (1, 2) and (1, 3): the notes' oracle
    assert value.item() == 0.5
    value.backward()
    assert own["roi.logits"].grad.tolist() == [[0, -1]]


def test_the_notes_oracle_of_fixed_items():
    own = {"roi.logits": torch.tensor([[1.0, 1, 1, 1], [0, 0, 0, 3]])}
    value = wired((4,), (4,), tap="roi.logits")(own, {"roi.logits": torch.zeros(2, 4)}, BATCH)
    assert value.item() == pytest.approx((4 / 4 + 9 / 4) / (2 * 2))


def test_at_half_scale_both_nets_crop_the_same_region():
    """Maps that say where they are in the image: the crops of equal regions are equal, wherever the level lies."""

    def where(strides: tuple[int, ...], size: tuple[int, int], unit: float) -> tuple[Tensor, ...]:
        maps = []
        for s in strides:
            y, x = ((torch.arange(side // s) + 0.5) * s * unit for side in size)
            maps.append(torch.stack(torch.broadcast_tensors(y[:, None], x))[None].repeat(2, 1, 1, 1).contiguous())
        return tuple(maps)

    half = (SIZE[0] // 2, SIZE[1] // 2)
    inner = (torch.tensor([[16.0, 16, 40, 40], [30, 20, 60, 44]]), torch.tensor([[20.0, 12, 76, 52]]))
    for strides, resize in (((4, 8), False), ((8, 16), True)):
        own, its = where(strides, half, 2.0), where((8, 16), SIZE, 1.0)
        term = wired(specs(2, *strides), specs(2, 8, 16), scale=0.5, resize=resize, adapter=None)
        seen = {"neck": own, "rpn.proposals": inner}
        assert term(seen, {"neck": its}, BATCH).item() == pytest.approx(0, abs=1e-6)
        term.crops.scale = 1
        assert term(seen, {"neck": its}, BATCH).item() > 1  # another region: the test can fail


@pytest.mark.parametrize(
    ("own", "its", "tap", "config", "said"),
    [
        (specs(4, 8), specs(4, 8), "neck", dict(crop="warp"), r"crop='warp' is none of 'align', 'native'"),
        (
            specs(4, 8),
            specs(4, 8),
            "neck",
            dict(boxes="proposal"),
            r"boxes='proposal' is none.*did you mean 'proposals'",
        ),
        (specs(4, 8), specs(4, 8), "neck", dict(num=0), "num=0; a number of at least 1"),
        (specs(4, 8), specs(4, 8), "neck", dict(crop="native", resize=True), "resize=True with crop='native'"),
        (specs(4, 8), specs(4, 16), "neck", {}, "they share no stride"),
        ((MapSpec(4, 8), MapSpec(8, 16)), specs(4, 8, 16), "backbone", {}, r"levels of differing channels .*strides="),
        ((32,), (48,), "roi.embedding", {}, r"'roi.embedding' has 32 channels on the student and 48.*LinearAdapter"),
        ((4, 7, 7), (4, 14, 14), "roi.features", {}, r"\(N, \*\(4, 7, 7\)\) on the student and"),
    ],
)
def test_what_cannot_be_compared_is_refused(own, its, tap, config, said):
    with pytest.raises(ValueError, match=said):
        wired(own, its, tap=tap, **config)


def test_embeddings_of_other_lengths_meet_through_a_linear_adapter():
    term = wired((32,), (48,), tap="roi.embedding", adapter=dict(type="LinearAdapter"))
    assert tuple(term.adapter.fc.weight.shape) == (48, 32)
    value = term({"roi.embedding": torch.randn(5, 32)}, {"roi.embedding": torch.randn(5, 48)}, BATCH)
    assert value > 0
