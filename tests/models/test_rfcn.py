"""R-FCN: pooling and votes against loops, training with and without hard example mining, and every config's shapes."""

import det_distill.plugins  # noqa: F401  (before mmdet: it serves mmcv's operators)

# isort: split
import copy
import io
import math
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import nn
from torchvision.ops import box_iou

import tiny
from det_distill.models.rfcn import RFCN, PSBBoxHead, PSRoIExtractor, RFCNRoIHead

CONFIGS = Path(__file__).parents[2] / "configs"
ALIGN = dict(type="PSRoIAlign", sampling_ratio=2)
POOL = dict(type="PSRoIPool")


# ------------------------------------------------------------ pooling, bin by bin


def bilinear(plane, y, x):
    """One plane at a point; cells' values sit at whole coordinates, more than a cell outside there is 0."""
    height, width = plane.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = min(int(y), height - 1), min(int(x), width - 1)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = plane[top, left] * (1 - x + left) + plane[top, right] * (x - left)
    lower = plane[bottom, left] * (1 - x + left) + plane[bottom, right] * (x - left)
    return upper * (1 - y + top) + lower * (y - top)


def align_bin(plane, box, i, j, k, stride, points):
    x1, y1, x2, y2 = (side / stride - 0.5 for side in box)
    values = [
        bilinear(plane, y1 + (i + (a + 0.5) / points) * (y2 - y1) / k, x1 + (j + (b + 0.5) / points) * (x2 - x1) / k)
        for a in range(points)
        for b in range(points)
    ]
    return sum(values) / len(values)


def pool_bin(plane, box, i, j, k, stride, _points):
    """The paper's: corners rounded to cells, bins cut outwards. torchvision never reads the last row and column."""
    x1, y1, x2, y2 = (math.floor(side / stride + 0.5) for side in box)
    height, width = max(y2 - y1, 1) / k, max(x2 - x1, 1) / k
    rows = range(max(y1 + math.floor(i * height), 0), min(y1 + math.ceil((i + 1) * height), plane.shape[0] - 1))
    columns = range(max(x1 + math.floor(j * width), 0), min(x1 + math.ceil((j + 1) * width), plane.shape[1] - 1))
    values = [plane[y, x] for y in rows for x in columns]
    return sum(values) / len(values) if values else 0.0


def by_loops(pool, maps, rois, k, stride, points=2):
    """Output c of a RoI takes its bin (i, j) from map (c k + i) k + j."""
    channels = maps.shape[1] // k**2
    pooled = torch.zeros(len(rois), channels, k, k, dtype=maps.dtype)
    for n, (image, *box) in enumerate(rois.tolist()):
        for c in range(channels):
            for i in range(k):
                for j in range(k):
                    pooled[n, c, i, j] = pool(maps[int(image), (c * k + i) * k + j], box, i, j, k, stride, points)
    return pooled


def extractor(layer, k=3, strides=(8,), channels=4, cls=2, reg=4, **other):
    torch.manual_seed(0)
    layer = layer | dict(output_size=k)
    made = PSRoIExtractor(layer, channels, list(strides), cls_channels=cls, reg_channels=reg, **other).double()
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    return made


def some_rois(size, count=6):
    """Boxes of two images; the last three lie partly outside, the very last wholly."""
    height, width = size
    generator = torch.Generator().manual_seed(3)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([width / 2, height / 2])
    side = 5 + torch.rand(count, 2, generator=generator) * torch.tensor([width / 2, height / 2])
    corner[-3:] -= torch.tensor([[width / 2 + 1.3, 7.7], [-width / 3, -height / 2], [9 * width, 0]])
    image = (torch.arange(count) % 2).float()[:, None]
    return torch.cat((image, corner, corner + side), dim=1).double()


@pytest.mark.parametrize("pool", [(ALIGN, align_bin), (POOL, pool_bin)], ids=["align", "pool"])
@pytest.mark.parametrize(
    ("k", "stride", "size"), [(3, 8, (96, 128)), (7, 16, (224, 160)), (1, 4, (40, 40)), (5, 32, (64, 96))], ids=str
)
def test_the_extractor_is_two_convolutions_and_pooling_bin_by_bin(pool, k, stride, size):
    layer, loop = pool
    made = extractor(layer, k, (stride,))
    level = torch.randn(2, 4, size[0] // stride, size[1] // stride, dtype=torch.float64)
    rois = some_rois(size)
    with torch.no_grad():
        found = made((level,), rois)
        scores, deltas = (by_loops(loop, conv(level), rois, k, stride) for conv in (made.conv_cls, made.conv_reg))
    assert found.shape == (6, 6, k, k)
    torch.testing.assert_close(found, torch.cat((scores, deltas), dim=1))


@pytest.mark.parametrize("pool", [(ALIGN, align_bin), (POOL, pool_bin)], ids=["align", "pool"])
def test_on_a_pyramid_a_roi_reads_the_level_of_its_size(pool):
    layer, loop = pool
    made = extractor(layer, 2, (4, 8, 16), finest_scale=16)
    levels = tuple(torch.randn(1, 4, 128 // s, 128 // s, dtype=torch.float64) for s in (4, 8, 16))
    boxes = [[8, 8, 28, 28], [10, 20, 60, 50], [0, 0, 120, 120], [4, 4, 124, 9]]
    expected_level = [0, 1, 2, 0]  # sides (root of the area) of 20, 39, 120 and 24 px; from 32 and 64 on the next
    rois = torch.tensor([[0, *box] for box in boxes], dtype=torch.float64)
    with torch.no_grad():
        found = made(levels, rois)
        for n, level in enumerate(expected_level):
            maps = torch.cat((made.conv_cls(levels[level]), made.conv_reg(levels[level])), dim=1)
            torch.testing.assert_close(found[n : n + 1], by_loops(loop, maps, rois[n : n + 1], 2, 4 * 2**level))


@pytest.mark.parametrize("layer", [ALIGN, POOL], ids=["align", "pool"])
@pytest.mark.parametrize("strides", [(8,), (8, 16)], ids=str)
def test_pooling_passes_gradcheck(layer, strides):
    made = extractor(layer, 2, strides, channels=2, cls=1, reg=1)
    levels = [torch.randn(2, 2, 64 // s, 64 // s, dtype=torch.float64, requires_grad=True) for s in strides]
    rois = some_rois((64, 64))
    assert torch.autograd.gradcheck(lambda *maps: made(maps, rois), levels)


@pytest.mark.parametrize("layer", [ALIGN, POOL], ids=["align", "pool"])
@pytest.mark.parametrize("strides", [(8,), (8, 16)], ids=str)
def test_no_roi_is_a_differentiable_nothing(layer, strides):
    made = extractor(layer, 3, strides)
    levels = [torch.randn(1, 4, 64 // s, 64 // s, dtype=torch.float64, requires_grad=True) for s in strides]
    found = made(tuple(levels), torch.zeros(0, 5))
    assert found.shape == (0, 6, 3, 3)
    found.sum().backward()
    assert all((level.grad == 0).all() for level in levels)
    assert all((parameter.grad == 0).all() for parameter in made.parameters())


@pytest.mark.parametrize("layer", [ALIGN, POOL], ids=["align", "pool"])
def test_a_box_of_no_area_is_finite(layer):
    rois = torch.tensor([[0.0, 20, 20, 20, 20], [0, 20, 20, 40, 20]])
    assert extractor(layer)((torch.randn(1, 4, 8, 8, dtype=torch.float64),), rois).isfinite().all()


def test_boxes_keep_their_precision_beside_half_precision_maps():
    made = extractor(ALIGN).bfloat16()
    level, rois = torch.randn(1, 4, 32, 32).bfloat16(), torch.tensor([[0, 130.3, 150.7, 201.9, 222.2]])
    with torch.no_grad():
        found = made((level,), rois)
        maps = torch.cat((made.conv_cls(level), made.conv_reg(level)), dim=1).double()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), by_loops(align_bin, maps, rois, 3, 8), rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------ votes


@pytest.mark.parametrize(("agnostic", "deltas"), [(True, 4), (False, 12)])
def test_a_vote_is_the_mean_over_bins(agnostic, deltas):
    head = PSBBoxHead(num_classes=3, reg_class_agnostic=agnostic)
    pooled = torch.randn(5, 4 + deltas, 3, 3)
    scores, boxes = head(pooled)
    assert (scores.shape, boxes.shape) == ((5, 4), (5, deltas))
    for n in range(5):
        for c in range(4 + deltas):
            bins = [pooled[n, c, i, j].item() for i in range(3) for j in range(3)]
            found = scores[n, c] if c < 4 else boxes[n, c - 4]
            assert found.item() == pytest.approx(sum(bins) / 9, abs=1e-6)


def test_a_shifted_box_loses_the_votes_of_a_position_sensitive_map():
    """An object of 14 cells, bins of 2; map (i, j) of its class is 1 on that part of the object and 0 elsewhere."""
    k, stride = 7, 8
    made = PSRoIExtractor(POOL | dict(output_size=k), k**2, [stride], cls_channels=2, reg_channels=4)
    for parameter in made.parameters():
        nn.init.zeros_(parameter)
    nn.init.dirac_(made.conv_cls.weight[: k**2])  # the class; background stays 0
    parts = torch.zeros(1, k**2, 24, 24)
    for i in range(k):
        for j in range(k):
            parts[0, i * k + j, 4 + 2 * i : 6 + 2 * i, 4 + 2 * j : 6 + 2 * j] = 1
    box = torch.tensor([[0.0, 4, 4, 18, 18]]) * stride
    votes = []
    for cells in range(4):
        scores, _ = PSBBoxHead(num_classes=1)(made((parts,), box + cells * torch.tensor([0, stride, 0, stride, 0])))
        votes.append(scores[0, 0].item())
    assert votes == pytest.approx([1, 0.5, 0, 0])  # the share of an RoI-pooled object mask would be 1, 13/14, 12/14...


def test_tools_that_watch_fc_cls_find_the_position_sensitive_scores():
    head, seen = PSBBoxHead(num_classes=3), []
    head.fc_cls.register_forward_hook(lambda _module, args, _output: seen.append(args[0]))
    pooled = torch.randn(2, 8, 3, 3)
    head(pooled)
    assert seen[0].equal(pooled[:, :4])
    assert not list(head.parameters())
    assert not head.state_dict()


# ------------------------------------------------------------ the detector


def rfcn(**head):
    model = tiny.rfcn()
    model.roi_head.bbox_head.update(head)
    return model


def build(model, seed=0):
    torch.manual_seed(seed)
    return MODELS.build(copy.deepcopy(model))


def mining(model, count):
    model.train_cfg.rcnn.sampler.update(type="OHEMSampler", num=count)
    return model


def on_a_pyramid():
    model = rfcn()
    model.backbone.update(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(1, 2))
    model.neck = dict(type="FPN", in_channels=[16, 32], out_channels=16, num_outs=2)
    model.rpn_head.anchor_generator.update(strides=[8, 16], scales=[4])
    model.roi_head.bbox_roi_extractor.featmap_strides = [8, 16]
    return model


@pytest.mark.parametrize(
    "model",
    [rfcn(), rfcn(reg_class_agnostic=False), mining(rfcn(), 16), on_a_pyramid()],
    ids=["class-agnostic", "class-specific", "hard-examples", "pyramid"],
)
def test_a_training_step_reaches_every_parameter(model):
    detector = build(model)
    losses = tiny.losses(detector, tiny.batch())
    total, _ = detector.parse_losses(losses)
    total.backward()
    assert {"loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox"} <= set(losses)
    assert total.isfinite()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_hard_example_mining_keeps_the_negatives_of_highest_loss():
    detector = build(mining(rfcn(), 24))
    head, generator = detector.roi_head, torch.Generator().manual_seed(5)
    data = detector.data_preprocessor(tiny.batch(1), training=True)
    truth = data["data_samples"][0].gt_instances
    corner = 80 * torch.rand(60, 2, generator=generator)
    boxes = torch.cat((corner, corner + 8 + 30 * torch.rand(60, 2, generator=generator)), dim=1)
    with torch.no_grad():
        nn.init.normal_(head.bbox_roi_extractor.conv_cls.weight)  # losses well apart
        maps = detector.extract_feat(data["inputs"])
        proposals = InstanceData(priors=boxes)
        sampled = head.bbox_sampler.sample(
            head.bbox_assigner.assign(proposals, truth), proposals, truth, feats=[m[:1] for m in maps]
        )
        losses = []
        for box in boxes[box_iou(boxes, truth.bboxes).max(dim=1).values < 0.5]:
            (score,) = head._bbox_forward(maps, torch.cat((torch.zeros(1), box))[None])["cls_score"].tolist()
            background = score[-1] - math.log(sum(map(math.exp, score)))
            losses.append((-background, tuple(box.tolist())))
    count = len(sampled.neg_priors)
    assert len(losses) > 2 * count > 0
    hardest = {box for _, box in sorted(losses, reverse=True)[:count]}
    assert {tuple(box.tolist()) for box in sampled.neg_priors} == hardest


def test_an_image_without_objects_trains():
    data = tiny.batch(2)
    for sample in data["data_samples"]:
        sample.gt_instances = sample.gt_instances[:0]
    detector = build(rfcn())
    total, _ = detector.parse_losses(tiny.losses(detector, data))
    total.backward()
    assert total.isfinite()
    assert all(parameter.grad is not None for parameter in detector.parameters())


def predicted(detector):
    data = detector.data_preprocessor(tiny.batch(), training=False)
    with torch.no_grad():
        return [sample.pred_instances for sample in detector.eval()(**data, mode="predict")]


@pytest.mark.parametrize("agnostic", [True, False])
def test_prediction_gives_boxes_inside_the_image(agnostic):
    for found in predicted(build(rfcn(reg_class_agnostic=agnostic))):
        assert 0 < len(found) <= 100
        assert found.bboxes.shape == (len(found), 4)
        assert (found.bboxes >= 0).all()
        assert (found.bboxes <= torch.tensor([128, 96, 128, 96])).all()
        assert set(found.labels.tolist()) <= {0, 1, 2}
        assert (found.scores > 0.05).all()


def test_a_checkpoint_brings_the_same_boxes_back():
    first, second = build(rfcn(), seed=1), build(rfcn(), seed=2)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file))  # strict
    for one, other in zip(predicted(first), predicted(second), strict=True):
        assert len(one) > 0
        assert one.bboxes.equal(other.bboxes)
        assert one.scores.equal(other.scores)


def test_the_roi_head_has_two_convolutions_and_nothing_else():
    shapes = {name: tuple(value.shape) for name, value in build(rfcn()).roi_head.state_dict().items()}
    assert shapes == {
        "bbox_roi_extractor.conv_cls.weight": (4 * 16, 16, 1, 1),
        "bbox_roi_extractor.conv_cls.bias": (4 * 16,),
        "bbox_roi_extractor.conv_reg.weight": (4 * 16, 16, 1, 1),
        "bbox_roi_extractor.conv_reg.bias": (4 * 16,),
    }


class Tensors(nn.Module):
    """A detector's tensor mode as a function of the image alone."""

    def __init__(self, detector, samples):
        super().__init__()
        self.detector, self.samples = detector, samples

    def forward(self, image):
        return self.detector(image, self.samples, mode="tensor")


@pytest.mark.filterwarnings(
    "ignore::torch.jit.TracerWarning", "ignore:.*torch.jit.*", "ignore:DeprecationWarning. .*anchor"
)
@pytest.mark.parametrize("model", [rfcn(), tiny.faster_rcnn()], ids=["R-FCN", "Faster R-CNN"])
def test_it_is_traced_as_faster_rcnn_is(model):
    """`torch.export` stops in MMDetection's RPN, for both."""
    detector = build(model).eval()
    data = detector.data_preprocessor(tiny.batch(1), training=False)
    plain = Tensors(detector, data["data_samples"])
    with torch.no_grad():
        traced = torch.jit.trace(plain, data["inputs"], check_trace=False)
        for image in (data["inputs"], data["inputs"].flip(3)):
            for found, expected in zip(traced(image)[0], plain(image)[0], strict=True):
                torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


# ------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (dict(type="PSRoiAlign"), "roi_layer.type: found 'PSRoiAlign', expected one of .*; nearest: PSRoIAlign"),
        (dict(type="RoIPool"), "roi_layer.type: found 'RoIPool', .*; nearest: PSRoIPool"),
        (dict(type="PSRoIAlign"), "sampling_ratio: found None, expected at least 1"),
        (dict(type="PSRoIAlign", sampling_ratio=0), "sampling_ratio: found 0, expected at least 1"),
    ],
)
def test_a_mistaken_pooling_is_named(mistake, message):
    with pytest.raises(ValueError, match=message):
        extractor(mistake)


def test_maps_of_other_channels_are_named():
    with pytest.raises(ValueError, match=r"in_channels: found 4, expected 8, the maps' channels"):
        extractor(ALIGN)((torch.zeros(1, 8, 4, 4, dtype=torch.float64),), torch.zeros(0, 5))


@pytest.mark.parametrize(
    ("part", "other", "message"),
    [
        ("bbox_head", dict(type="PSBoxHead"), "bbox_head.type: found 'PSBoxHead', expected 'PSBBoxHead'"),
        (
            "bbox_head",
            dict(type="Shared2FCBBoxHead"),
            "bbox_head.type: found 'Shared2FCBBoxHead', expected 'PSBBoxHead'",
        ),
        (
            "bbox_roi_extractor",
            dict(type="SingleRoIExtractor"),
            "bbox_roi_extractor.type: found 'SingleRoIExtractor', expected 'PSRoIExtractor'",
        ),
        ("shared_head", dict(type="ResNetStage", depth=50), "shared_head: found one, expected None"),
    ],
)
def test_a_part_of_faster_rcnn_left_in_the_config_is_named(part, other, message):
    model = rfcn()
    model.roi_head[part] = other
    with pytest.raises(ValueError, match=message):
        build(model)


def test_every_part_is_registered_under_its_name():
    parts = (PSRoIExtractor, PSBBoxHead, RFCNRoIHead, RFCN)
    assert [MODELS.get(part.__name__) for part in parts] == list(parts)


# ------------------------------------------------------------ configs


def shapes(path):
    """Strides and channels of maps, and the shapes of what the heads return, without memory or arithmetic."""
    cfg = Config.fromfile(CONFIGS / path)
    with torch.device("meta"):
        detector = MODELS.build(cfg.model)
        maps = detector.extract_feat(torch.zeros(1, 3, 128, 128))
        logits, _ = detector.rpn_head(maps)
        result = detector.roi_head._bbox_forward(maps, torch.zeros(5, 5))
    roi = tuple(result["cls_score"].shape), tuple(result["bbox_pred"].shape)
    return detector, [(128 // m.shape[3], m.shape[1]) for m in maps], logits[0].shape[1], *roi


@pytest.mark.parametrize(("family", "classes", "anchors"), [("voc0712", 20, 9), ("coco", 80, 12), ("kitti", 3, 12)])
@pytest.mark.parametrize("depth", [50, 101])
def test_the_paper_s_net_fits_each_data_set(family, classes, anchors, depth):
    detector, maps, scored, scores, deltas = shapes(f"{family}/rfcn_r{depth}.py")
    assert isinstance(detector, RFCN)
    assert detector.backbone.depth == depth
    assert maps == [(16, 1024)]
    assert [block.conv2.dilation for block in detector.backbone.layer4] == [(2, 2)] * 3
    assert detector.roi_head.bbox_roi_extractor.conv_cls.out_channels == 7 * 7 * (classes + 1)
    assert detector.roi_head.bbox_roi_extractor.conv_reg.out_channels == 7 * 7 * 4
    assert (scored, scores, deltas) == (anchors, (5, classes + 1), (5, 4))
    assert detector.test_cfg.rpn.max_per_img == detector.train_cfg.rpn_proposal.max_per_img == 300
    assert detector.train_cfg.rcnn.sampler.type == "RandomSampler"


@pytest.mark.parametrize(
    ("path", "channels", "anchors", "classes"),
    [
        ("digits/rfcn_r18-half.py", 512, 9, 10),
        ("digits/rfcn_r18-quarter.py", 256, 9, 10),
        ("bccd/rfcn_r18-half.py", 512, 12, 3),
        ("bccd/rfcn_r18_teacher.py", 512, 12, 3),
    ],
)
def test_the_small_ones_look_at_one_map_of_stride_8(path, channels, anchors, classes):
    detector, *found = shapes(path)
    assert found == [[(8, channels)], anchors, (5, classes + 1), (5, 4)]
    assert all(parameter.requires_grad for parameter in detector.parameters())
    assert [stride for stride, _ in detector.rpn_head.prior_generator.strides] == [8]


def test_the_faster_rcnn_to_compare_with_differs_in_the_roi_head_alone():
    names = ("rfcn_r18-half", "faster-rcnn_r18-half_single")
    ours, theirs = (Config.fromfile(CONFIGS / f"digits/{name}.py") for name in names)
    differing = {key for key in ours if ours[key] != theirs[key]}
    assert differing == {"model"}
    assert {key for key in ours.model if ours.model[key] != theirs.model[key]} == {"type", "roi_head"}
    assert ours.model.roi_head.bbox_head.num_classes == theirs.model.roi_head.bbox_head.num_classes == 10
