"""A student at a scale of its own: the smaller batch against the stock Resize, the distillation against plain sums."""

from collections.abc import Sequence
from copy import deepcopy
from math import ceil
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.transforms import TRANSFORMS
from mmdet.models import DetDataPreprocessor
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.structures import InstanceData
from torch import Tensor, nn

import tiny
from det_distill.scene import Scene
from det_distill.student.resolution import Shrink
from det_distill.terms.base import Batch
from det_distill.terms.feature.proposals import ProposalMimic
from det_distill.views.anatomy import Anatomy, MapSpec

PAD = 7.0


def raw(sizes: Sequence[tuple[int, int]], boxes: Sequence[Sequence[float]] = (), **meta: Any) -> dict[str, Any]:
    """Images of noise as a data loader hands them over, each with the same boxes, ignored ones on top."""
    g = torch.Generator().manual_seed(0)
    inputs = [torch.randint(0, 256, (3, h, w), generator=g, dtype=torch.uint8) for h, w in sizes]
    samples = []
    for size in sizes:
        sample = DetDataSample(metainfo=dict(img_shape=size, scale_factor=(2.0, 4.0)) | meta)
        found = torch.tensor(list(boxes)).reshape(-1, 4)
        sample.gt_instances = InstanceData(bboxes=found, labels=torch.arange(len(found)))
        sample.ignored_instances = InstanceData(bboxes=found + 1, labels=torch.arange(len(found)))
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def shrunk(scale: float, data: dict[str, Any], divisor: int = 1) -> tuple[Any, ...]:
    own = DetDataPreprocessor(pad_size_divisor=divisor, pad_value=PAD, boxtype2tensor=False)
    data = own(data, training=True)
    return data["inputs"], data["data_samples"], *Shrink(scale, own)(data["inputs"], data["data_samples"])


def test_at_scale_one_the_very_same_objects_are_handed_on():
    inputs, samples, whole, small, own = shrunk(1, raw([(6, 8)], [[0.0, 0, 4, 4]]))
    assert whole is inputs
    assert small is inputs
    assert own is samples
    rois = torch.rand(3, 5)
    assert Shrink(1, nn.Identity()).to_batch(rois) is rois


def test_at_one_half_a_pixel_is_the_mean_of_two_by_two():
    inputs, _, whole, small, _ = shrunk(0.5, raw([(6, 8), (6, 8)]))
    assert whole is inputs
    for b, c, y, x in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(3), torch.arange(4)):
        four = [inputs[b, c, 2 * y + i, 2 * x + k].item() for i in (0, 1) for k in (0, 1)]
        assert small[b, c, y, x].item() == pytest.approx(sum(four) / 4)


@pytest.mark.parametrize(("scale", "size"), [(1 / 2, (32, 64)), (2 / 3, (48, 96)), (3 / 4, (64, 128))], ids=str)
def test_equals_the_stock_resize_and_preprocessor(scale: float, size: tuple[int, int]):
    """To one grey level: the stock Resize rounds to whole ones."""
    box = [4.0, 8.0, 28.0, 24.0]
    model = tiny.faster_rcnn()
    own = MODELS.build(model.data_preprocessor)
    data = raw([size], [box])
    new = (round(size[1] * scale), round(size[0] * scale))
    resize = TRANSFORMS.build(dict(type="mmdet.Resize", scale=new, keep_ratio=True))
    image = data["inputs"][0].permute(1, 2, 0).numpy()
    stock = resize(dict(img=image, img_shape=size, gt_bboxes=HorizontalBoxes([box])))
    sample = DetDataSample(metainfo=dict(img_shape=stock["img_shape"]))
    sample.gt_instances = InstanceData(bboxes=stock["gt_bboxes"])
    pixels = torch.from_numpy(stock["img"]).permute(2, 0, 1)
    expected = own(dict(inputs=[pixels], data_samples=[sample]), training=True)

    data = own(data, training=True)
    _, small, samples = Shrink(scale, own)(data["inputs"], data["data_samples"])

    h, w = expected["data_samples"][0].img_shape
    assert samples[0].img_shape == (h, w)
    grey = 1 / own.std.min().item()
    torch.testing.assert_close(small[..., :h, :w], expected["inputs"][..., :h, :w], rtol=0, atol=grey)
    assert samples[0].gt_instances.bboxes.allclose(expected["data_samples"][0].gt_instances.bboxes)


@pytest.mark.parametrize("kind", ["tensors", "horizontal boxes"])
def test_boxes_and_sizes_are_those_of_the_smaller_image_and_the_given_ones_stay(kind: str):
    data = raw([(64, 96), (60, 90)], [[2.0, 4.0, 30.0, 50.0]])
    if kind == "horizontal boxes":
        for sample in data["data_samples"]:
            for own in (sample.gt_instances, sample.ignored_instances):
                own.bboxes = HorizontalBoxes(own.bboxes)
    _, samples, _, small, own = shrunk(0.5, data, divisor=32)
    scene = Scene.from_samples(own)
    assert scene.boxes[1].tolist() == [[1, 2, 15, 25]]
    assert scene.ignored[1].tolist() == [[1.5, 2.5, 15.5, 25.5]]
    assert scene.shapes == [(32, 48), (30, 45)]
    assert own[1].gt_instances.labels.equal(samples[1].gt_instances.labels)
    assert own[1].pad_shape == own[1].batch_input_shape == tuple(small.shape[2:]) == (32, 64)
    assert own[1].scale_factor == (1.0, 2.0)

    before = Scene.from_samples(samples)
    assert before.boxes[1].tolist() == [[2, 4, 30, 50]]
    assert before.ignored[1].tolist() == [[3, 5, 31, 51]]
    assert before.shapes == [(64, 96), (60, 90)]
    assert samples[1].batch_input_shape == (64, 96)
    assert samples[1].scale_factor == (2.0, 4.0)


sides = st.integers(1, 70)


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.tuples(sides, sides), min_size=1, max_size=3),
    scale=st.sampled_from([(1, 2), (2, 3), (3, 4)]),
    divisor=st.sampled_from([1, 32]),
)
def test_padding_is_padding_for_any_sizes_and_both_inputs_fit(sizes, scale, divisor):
    up, down = scale
    given, _, whole, small, own = shrunk(up / down, raw(sizes), divisor)
    for axis in (0, 1):
        side = given.shape[axis + 2]
        blocks = ceil(side / (down * divisor))  # the least padding after which both sides are whole and divide
        assert whole.shape[axis + 2] == blocks * down * divisor
        assert small.shape[axis + 2] == blocks * up * divisor
    h, w = given.shape[2:]
    assert whole[..., :h, :w].equal(given)
    for image, sample, (height, width) in zip(small, own, sizes, strict=True):
        h, w = sample.img_shape
        assert max(abs(h - height * up / down), abs(w - width * up / down)) <= 0.5
        assert (image[:, h:] == PAD).all()
        assert (image[..., w:] == PAD).all()
    beyond = whole.clone()
    for image, (height, width) in zip(beyond, sizes, strict=True):
        image[:, :height, :width] = PAD
    assert (beyond == PAD).all()


def test_given_images_are_not_changed():
    inputs, _, whole, _, _ = shrunk(0.5, raw([(5, 7), (9, 3)]))
    before = raw([(5, 7), (9, 3)])["inputs"]
    assert inputs[0, :, :5, :7].equal(before[0].float())
    assert whole[1, :, :9, :3].equal(before[1].float())


@pytest.mark.parametrize("scale", [0, -1, 1.5, float("nan"), float("inf"), "half", None])
def test_a_scale_that_is_none_is_refused_with_examples(scale: Any):
    with pytest.raises(ValueError, match=r"student\.scale=.*a number in \(0, 1\] is expected, such as 1/2"):
        Shrink(scale, nn.Identity())


@pytest.mark.parametrize("key", ["pad_size_divisor", "pad_value"])
@pytest.mark.parametrize("value", ["32", None, [1]])
def test_padding_by_what_is_no_number_is_refused_by_its_key(key: str, value: Any):
    preprocessor = DetDataPreprocessor()
    setattr(preprocessor, key, value)
    with pytest.raises(ValueError, match=rf"data_preprocessor\.{key}=.*; a number"):
        Shrink(0.5, preprocessor)


@pytest.mark.parametrize(("scale", "nearest"), [(0.123, "1/8"), (0.01, "1/16"), (0.99, "1"), (0.67, "2/3")])
def test_a_scale_that_gives_no_whole_pixels_is_refused_with_the_nearest(scale: float, nearest: str):
    with pytest.raises(ValueError, match=rf"student\.scale={scale}; .*denominator up to 16.*the nearest is {nearest}$"):
        Shrink(scale, nn.Identity())


@pytest.mark.parametrize(("scale", "exact"), [(0.5, 1 / 2), (0.667, 2 / 3), (1 / 3, 1 / 3), (0.0625, 1 / 16)])
def test_a_rounded_fraction_is_meant_exactly(scale: float, exact: float):
    assert Shrink(scale, nn.Identity()).scale == exact


@pytest.mark.parametrize("scale", [1 / 2, 2 / 3, 3 / 4])
def test_to_batch_inverts_what_was_done_to_boxes(scale: float):
    boxes = [[3.0, 5.0, 40.0, 33.5], [0.0, 0.0, 64.0, 64.0]]
    _, _, _, _, own = shrunk(scale, raw([(64, 64)], boxes))
    rois = torch.cat((torch.tensor([[3.0], [4.0]]), own[0].gt_instances.bboxes), dim=1)
    back = Shrink(scale, nn.Identity()).to_batch(rois)
    assert back[:, 0].tolist() == [3, 4]
    torch.testing.assert_close(back[:, 1:], torch.tensor(boxes))


def test_masks_are_refused():
    data = raw([(8, 8)], [[0.0, 0, 4, 4]])
    data["data_samples"][0].gt_instances.masks = torch.ones(1, 8, 8)
    with pytest.raises(ValueError, match=r"gt_instances\.masks cannot be scaled: student\.scale=0\.5"):
        shrunk(0.5, data)


# ---------------------------------------------------------------- a Distiller whose student sees half

SHARED = [4, 8, 16, 32]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return tiny.write_teacher(tmp_path_factory.mktemp("teacher"), tiny.faster_rcnn(12, 24))


def half(teacher: dict[str, str], student: Any = None, **terms: Any) -> Any:
    student = dict(model=tiny.faster_rcnn(), scale=0.5) if student is None else student
    torch.manual_seed(0)
    return MODELS.build(tiny.distiller(student, teacher, terms=terms))


def seen_by(modules: dict[str, nn.Module]) -> dict[str, list[tuple[Any, Any]]]:
    """Arguments and output of every call from now on."""
    calls: dict[str, list[tuple[Any, Any]]] = {name: [] for name in modules}
    for name, module in modules.items():
        module.register_forward_hook(lambda _m, args, out, name=name: calls[name].append((args, out)))
    return calls


def test_the_teacher_sees_the_whole_batch_and_the_students_boxes_twice_as_large(teacher):
    model = half(teacher, scores=dict(type="WeightedSoftLabels", head="roi", weight=1))
    its = model.teacher.detector
    calls = seen_by(
        dict(
            own=model.student.roi_head.bbox_roi_extractor, its=its.roi_head.bbox_roi_extractor,
            small=model.student.backbone, whole=its.backbone,
        )
    )  # fmt: skip
    value = tiny.losses(model, tiny.batch(size=(96, 128)))["loss_scores"]
    assert value > 0
    [((_, own), _)], [((_, boxes), _)] = calls["own"], calls["its"]
    assert len(own) > 6
    assert boxes[:, 0].equal(own[:, 0])
    assert boxes[:, 1:].equal(2 * own[:, 1:])
    shapes = [tuple(calls[name][0][0][0].shape) for name in ("small", "whole")]
    assert shapes == [(2, 3, 64, 64), (2, 3, 128, 128)]  # a multiple of 64, so that half of it is one of 32


def test_equal_nets_give_equal_features_of_a_constant_image(tmp_path):
    """Away from the border, where no padding is seen."""
    teacher = tiny.write_teacher(tmp_path, tiny.faster_rcnn())
    model = half(teacher, hint=tiny.imitation(tap="backbone", mask=dict(type="FullMask"), strides=[4], resize=True))
    model.student.load_state_dict(model.teacher.detector.state_dict())
    model.eval()  # statistics of a batch would differ by the border
    data = tiny.batch(1, (256, 256))
    data["inputs"][0].fill_(200)
    calls = seen_by(dict(own=model.student.backbone, its=model.teacher.detector.backbone))
    model.loss(*model.data_preprocessor(data, training=True).values())
    own, its = (calls[side][0][1][0] for side in ("own", "its"))
    assert (own.shape[-1], its.shape[-1]) == (32, 64)
    # A cell of stride 4 sees 43 pixels.
    inner, outer = own[0, :, 6:-6, 6:-6], its[0, :, 6:-6, 6:-6]
    assert inner.std(dim=0).max() > 0
    torch.testing.assert_close(inner.amax((1, 2)), outer.amin((1, 2)))
    torch.testing.assert_close(inner.amin((1, 2)), outer.amax((1, 2)))


@pytest.mark.parametrize("term", ["imitation", "proposals"])
def test_levels_pair_by_what_they_cover_of_the_batch(teacher, term):
    cfg = tiny.imitation() if term == "imitation" else dict(type="ProposalMimic", tap="neck", weight=1)
    model = half(teacher, one=cfg | dict(strides=SHARED))
    pairs = model.terms["one"].pairs
    assert [pair.strides for pair in pairs] == [(4, 8), (8, 16), (16, 32), (32, 64)]
    assert [pair.places for pair in pairs] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    calls = seen_by(dict(own=model.student.neck, its=model.teacher.detector.neck))
    value = tiny.losses(model, tiny.batch())["loss_one"]
    value.backward()
    assert value > 0
    own, its = calls["own"][0][1], calls["its"][0][1]
    assert [one.shape[2:] for one in own[:4]] == [one.shape[2:] for one in its[1:]]


@pytest.mark.parametrize("term", [tiny.imitation(tap="backbone"), dict(type="ProposalMimic", tap="backbone", weight=1)])
def test_resize_pairs_levels_of_one_stride(tmp_path, term):
    student = dict(model=tiny.c4(), scale=0.5)
    model = half(tiny.write_teacher(tmp_path, tiny.c4(12)), student, one=term | dict(resize=True))
    assert [pair.strides for pair in model.terms["one"].pairs] == [(16, 16)]
    value = tiny.losses(model, tiny.batch())["loss_one"]
    value.backward()
    assert value > 0


@pytest.mark.parametrize(
    ("cfg", "said"),
    [
        (
            tiny.imitation(),
            r"terms\.one: 'neck' has strides \[4, 8, 16, 32, 64\] on the student and \[2, 4, 8, 16, 32\] on the "
            r"teacher, in the student's pixels.*set strides=\[4, 8, 16, 32\] .*at scale 0\.5; resize=True",
        ),
        (dict(type="ProposalMimic", tap="neck", weight=1), r"terms\.one: .*set strides=\[4, 8, 16, 32\]"),
        (
            dict(type="WeightedSoftLabels", head="rpn", weight=1),
            r"terms\.one: .*scale 0\.5, so its anchors are not the teacher's; use head='roi'",
        ),
        (dict(type="BoundedRegression", head="rpn"), r"terms\.one: .*use head='roi'"),
    ],
)
def test_what_does_not_fit_a_smaller_student_is_refused_with_what_does(teacher, cfg, said):
    with pytest.raises(ValueError, match=said):
        half(teacher, one=cfg)


def test_without_a_stride_in_common_resize_is_named(teacher):
    with pytest.raises(ValueError, match=r"share no stride at scale 0\.75; resize=True"):
        half(teacher, dict(model=tiny.faster_rcnn(), scale=0.75), one=tiny.imitation())


@pytest.mark.parametrize("form", ["beside config", "beside model", "inside the model"])
def test_a_scale_is_read_wherever_it_is_written(teacher, tmp_path, form):
    model = tiny.faster_rcnn()
    if form == "beside config":
        config = tiny.write_teacher(tmp_path, model)["config"]
        student: Any = dict(config=config, scale=0.5)
    else:
        student = dict(model=model, scale=0.5) if form == "beside model" else dict(model) | dict(scale=0.5)
    built = half(teacher, student, one=tiny.imitation(strides=SHARED))
    assert built.shrink.scale == 0.5


def test_prediction_and_checkpoint_are_the_plain_students(teacher):
    model = half(teacher, one=tiny.imitation(strides=SHARED)).eval()
    plain = MODELS.build(tiny.faster_rcnn()).eval()
    assert plain.load_state_dict(model.state_dict(), strict=True).unexpected_keys == []
    ours, theirs = ([r.pred_instances for r in m.test_step(deepcopy(tiny.batch()))] for m in (model, plain))
    for a, b in zip(ours, theirs, strict=True):
        assert a.bboxes.equal(b.bboxes)
        assert a.scores.equal(b.scores)


def test_the_students_losses_are_those_of_stock_training_on_the_smaller_batch(teacher):
    model, plain = half(teacher, one=tiny.imitation(strides=SHARED)), MODELS.build(tiny.faster_rcnn())
    plain.load_state_dict(model.state_dict())
    data = tiny.batch(size=(128, 192))
    ours = tiny.losses(model, deepcopy(data), seed=5)
    small = deepcopy(data)
    small["inputs"] = [nn.functional.avg_pool2d(image.float(), 2) for image in data["inputs"]]
    for sample in small["data_samples"]:
        sample.gt_instances.bboxes = sample.gt_instances.bboxes / 2
        sample.set_metainfo(dict(img_shape=(64, 96)))
    theirs = tiny.losses(plain, small, seed=5)
    ours.pop("loss_one")
    for key, value in theirs.items():
        own, its = (torch.stack(list(x)) if isinstance(x, list) else x for x in (ours[key], value))
        torch.testing.assert_close(own, its, rtol=1e-4, atol=1e-5)


def places(strides: Sequence[int], size: float, scale: float) -> tuple[Tensor, ...]:
    """Maps (1, 3, H, W) of an input of `size`: each cell's centre x, y in pixels of the batch, and its level."""
    maps = []
    for level, stride in enumerate(strides):
        centre = (torch.arange(int(size / stride)) + 0.5) * stride / scale
        x, y = torch.meshgrid(centre, centre, indexing="xy")
        maps.append(torch.stack((x, y, torch.full_like(x, 1000 * level)))[None])
    return tuple(maps)


@pytest.mark.parametrize("resize", [False, True])
@pytest.mark.parametrize("scale", [0.5, 0.25])
def test_crops_of_both_sides_show_the_same_region_on_the_same_level(resize: bool, scale: float):
    """Maps that hold their own place and level: crops agree where both are the same, and only there."""
    student, teacher = (4, 8), (4, 8) if resize else (int(4 / scale), int(8 / scale))
    term = ProposalMimic("neck", weight=1, adapter=None, normalise=False, resize=resize)
    own, its = (
        Anatomy(side, dict(neck=tuple(MapSpec(3, s) for s in strides)), rpn=None, scale=size)
        for side, strides, size in (("student", student, scale), ("teacher", teacher, 1.0))
    )
    term.wire(own, its)
    # Two boxes of the first level, one of the second, in the student's pixels.
    boxes = torch.tensor([[10.3, 20.1, 50.7, 61.9], [30.0, 30.0, 120.0, 115.0], [16.0, 15.5, 219.3, 188.8]])
    goals = dict(neck=places(teacher, 1024, 1))
    shown = dict(neck=places(student, 1024 * scale, scale)) | {"rpn.proposals": (boxes,)}
    batch = Batch(Scene([], [], []), [], None)
    assert term(shown, goals, batch) < 1e-4
    term.crops.scale = 1.0
    assert term(shown, goals, batch) > 100  # the teacher's where the student's lie


def test_proposals_are_cropped_from_the_teacher_at_twice_their_place(teacher):
    model = half(teacher, one=dict(type="ProposalMimic", tap="neck", weight=1, strides=SHARED))
    own, its = model.terms["one"].crops.extractors
    calls = seen_by(dict(own=own, its=its))
    tiny.losses(model, tiny.batch())
    (_, rois), (_, boxes) = calls["own"][0][0], calls["its"][0][0]
    assert len(rois) > 6
    assert boxes.equal(rois * rois.new_tensor([1, 2, 2, 2, 2]))
