"""Sorting channels changes nothing of what a net computes, and brings the heaviest to the front."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.registry import MODELS
from torch import Tensor, nn

import strangers
import tiny
from det_distill.inheritance.sorting import places, sort_channels
from det_distill.views.families import view_of

NETS: dict[str, tuple[Callable[[], Any], int]] = {  # and how many groups of layers have one order of channels
    # A stream a stage, stem included in the first; the inside of each of two blocks a stage; FPN: lateral, output; the
    # RPN's convolution; two linear layers.
    "fpn": (tiny.faster_rcnn, 4 + 8 + 2 + 1 + 2),
    "c4": (tiny.c4, 3 + 6 + 1 + 2),  # three stages, no FPN
    "rfcn": (tiny.rfcn, 4 + 8 + 1 + 1),  # the last convolution, which RPN and position-sensitive heads read; the RPN's
    "rpn": (tiny.rpn, 4 + 8 + 2 + 1),
    "retinanet": (lambda: tiny.single_stage("retinanet"), 4 + 8 + 2 + 2),  # two towers of one
    "fcos": (lambda: tiny.single_stage("fcos"), 4 + 8 + 2),  # group norms in its towers: their order has to stay
    # Stem; a stage: its first convolution, two branches and a block's inside that lie side by side, and what reads
    # them; the last one's block has an order of its own, for it has no shortcut, and its pools lie side by side.
    # Neck: reductions; four times branches and block; downsampling; what the shared towers of two convolutions read.
    "cascade": (strangers.cascade, 4 + 8 + 2 + 1 + 3 * 2),
    # As below, but a stem of one, two stages of three blocks, and of each of three levels an output and two towers of
    # two convolutions.
    "yolox": (strangers.yolox, 1 + 4 * 5 + 2 * 2 + 1 + 2 + 2 + 4 * 5 + 2 + 3 + 3 * 4),
    "rtmdet": (tiny.rtmdet, 3 + 4 * 5 + 1 + 2 + 2 + 4 * 5 + 2 + 1 + 4),
}


def built(kind: str) -> Any:
    torch.manual_seed(0)
    net = MODELS.build(NETS[kind][0]())
    for name, value in (*net.named_parameters(), *net.named_buffers()):
        if value.is_floating_point():
            nn.init.uniform_(value, *((0.5, 1.5) if "running_var" in name else (-0.3, 0.4)))
    return net.eval()


def outputs(net: Any) -> list[Tensor]:
    """What the stock heads give of two images."""
    torch.manual_seed(0)
    images, boxes = torch.randn(2, 3, 64, 96), torch.tensor([[0.0, 3, 5, 40, 60], [1, 20, 0, 90, 50]])
    with torch.no_grad():
        maps = net.extract_feat(images)
        head = getattr(net, "rpn_head", None) or net.bbox_head
        found = [one for part in head(maps) for one in part]
        stages = range(getattr(getattr(net, "roi_head", None), "num_stages", 0))
        judged = [net.roi_head._bbox_forward(stage, maps, boxes) for stage in stages]
        if hasattr(net, "roi_head") and not stages:
            judged = [net.roi_head._bbox_forward(maps, boxes)]
        return [*found, *(one[name] for one in judged for name in ("cls_score", "bbox_pred"))]


@pytest.mark.parametrize("kind", NETS)
def test_a_sorted_net_computes_what_it_did(kind: str):
    net = built(kind)
    before, weights = outputs(net), {name: value.clone() for name, value in net.state_dict().items()}
    assert sort_channels(view_of(net, "teacher")) == NETS[kind][1]
    after = outputs(net)
    assert len(before) > 2
    for one, other in zip(before, after, strict=True):
        assert one.abs().max() > 1e-4
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(one.abs().max()))
    stem = next(iter(weights))
    assert not net.state_dict()[stem].equal(weights[stem])


def test_the_heaviest_come_first():
    """By loops, of one order inside a block and of one between linear layers."""
    net = built("fpn")
    sort_channels(view_of(net, "teacher"))
    block, head = net.backbone.layer2[1], net.roi_head.bbox_head
    count = len(block.bn1.weight)
    inside = [
        shares([block.bn1.weight[c].item() ** 2 for c in range(count)]),
        shares([block.conv2.weight[:, c].square().sum().item() for c in range(count)]),
    ]
    between = [
        shares([row.square().sum().item() for row in head.shared_fcs[1].weight]),
        shares([head.fc_cls.weight[:, c].square().sum().item() for c in range(32)]),
        shares([head.fc_reg.weight[:, c].square().sum().item() for c in range(32)]),
    ]
    for parts in (inside, between):
        weights = [sum(one) for one in zip(*parts, strict=True)]
        assert weights == sorted(weights, reverse=True)
        assert weights[0] > weights[-1]


def shares(values: list[float]) -> list[float]:
    return [len(values) * one / sum(values) for one in values]


def test_a_crop_laid_flat_keeps_its_cells():
    """The first linear layer reads 49 cells of each channel."""
    net = built("fpn")
    before = net.roi_head.bbox_head.shared_fcs[0].weight.detach().clone().view(32, 16, 49)
    sort_channels(view_of(net, "teacher"))
    after = net.roi_head.bbox_head.shared_fcs[0].weight.detach().view(32, 16, 49)
    norms = lambda weight: weight.square().sum(dim=(0, 2)).sort().values  # noqa: E731
    torch.testing.assert_close(norms(before), norms(after))


def test_twice_sorted_is_once_sorted():
    net = built("fpn")
    sort_channels(view_of(net, "teacher"))
    once = {name: value.clone() for name, value in net.state_dict().items()}
    sort_channels(view_of(net, "teacher"))
    assert all(value.equal(once[name]) for name, value in net.state_dict().items())


def test_what_looks_at_channels_by_number_is_an_error():
    net = built("fpn")
    net.neck.lateral_convs[0].register_forward_hook(lambda _m, _a, out: out * torch.arange(16.0)[:, None, None])
    with pytest.raises(
        ValueError, match=r"channels of the teacher no longer give what they did at '\w+.*looks at them"
    ):
        sort_channels(view_of(net, "teacher"))


def test_a_layer_that_does_not_run_is_an_error():
    net = built("fpn")
    net.roi_head.mask = nn.Conv2d(16, 4, 1)
    with pytest.raises(ValueError, match=r"the teacher's 'roi_head.mask' does not run where boxes are found"):
        sort_channels(view_of(net, "teacher"))


def test_a_layer_of_zeros_decides_nothing():
    net = built("fpn")
    nn.init.zeros_(net.roi_head.bbox_head.fc_reg.weight)
    before = outputs(net)
    assert sort_channels(view_of(net, "teacher")) == NETS["fpn"][1]
    for one, other in zip(before, outputs(net), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(one.abs().max()))


def reversed_channels(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same net, its channels counted from behind."""
    ends = "rpn_cls", "rpn_reg", "fc_cls", "fc_reg"
    found = {}
    for name, value in weights.items():
        new = value.clone()
        if new.dim() and not any(end in name for end in ends):
            new = new.flip(0)
        if new.dim() > 1 and name != "backbone.conv1.weight":
            rows = new.reshape(len(new), -1, 49) if "shared_fcs.0" in name else new
            new = rows.flip(1).reshape(new.shape)
        found[name] = new
    return found


@pytest.mark.parametrize("channels", ["heaviest", "first"])
def test_a_student_finds_the_living_channels_wherever_they_are(tmp_path: Path, channels: str):
    """A teacher twice as wide, of whose channels the first half is dead: the student gives what it gives."""
    wide = tiny.faster_rcnn(16, 32)
    wide.roi_head.bbox_head.fc_out_channels = 64
    teacher = tiny.write_teacher(tmp_path, wide)
    saved = tiny.dead_beyond_the_student(teacher["checkpoint"])
    saved["state_dict"] = reversed_channels(saved["state_dict"])
    torch.save(saved, teacher["checkpoint"])
    init = dict(type="WeightSelection", channels=channels)
    model = MODELS.build(tiny.distiller(tiny.faster_rcnn(), teacher, init_cfg=init))
    model.init_weights()
    model.eval()
    same = [
        torch.allclose(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))
        for one, other in zip(outputs(model.student), outputs(model.teacher.detector), strict=True)
    ]
    assert all(same) is (channels == "heaviest")


def test_an_unknown_choice_of_channels_is_refused(tmp_path: Path):
    teacher = tiny.write_teacher(tmp_path, tiny.faster_rcnn(16, 32))
    init = dict(type="WeightSelection", channels="heavy")
    with pytest.raises(ValueError, match=r"init_cfg: channels='heavy' is none of 'first', 'heaviest', did you mean"):
        MODELS.build(tiny.distiller(tiny.faster_rcnn(), teacher, init_cfg=init))


@given(st.lists(st.integers(0, 4), max_size=9).flatmap(lambda some: st.tuples(st.just(some), st.permutations(some))))
def test_places_are_those_a_loop_finds(both: tuple[list[int], list[int]]):
    wanted, among = both
    left, expected = list(enumerate(among)), []
    for number in wanted:
        index = next(index for index, one in left if one == number)
        left = [pair for pair in left if pair[0] != index]
        expected.append(index)
    assert places(*(torch.tensor(one, dtype=torch.long) for one in both)).tolist() == expected
