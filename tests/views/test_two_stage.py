"""What a view shows is what the detector's own modules give when run one after another, by hand."""

from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

import tiny
from det_distill.views.anatomy import MapSpec
from det_distill.views.base import PREACTIVATION, PROPOSALS, ROIS, RPN_TARGETS, TRAINING
from det_distill.views.two_stage import TwoStageView

KINDS = {"fpn": tiny.faster_rcnn, "c4": tiny.c4}
LAYER3 = "backbone.layer3"
NAMES = {PREACTIVATION, *TwoStageView.sources, *TwoStageView.training}
# By detector: channels and strides of the maps, RPN anchors a cell, channels of a RoI's features.
FPN_MAPS = dict(backbone=[(8, 4), (16, 8), (32, 16), (64, 32)], neck=[(16, s) for s in (4, 8, 16, 32, 64)])
SHAPES = {"fpn": (FPN_MAPS, 3, 16), "c4": (dict(backbone=[(32, 16)]), 9, 32)}
TRAINED = {**KINDS, "rfcn": tiny.rfcn, "rpn": tiny.rpn}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@cache
def built(kind: str) -> nn.Module:
    torch.manual_seed(0)
    detector = MODELS.build(TRAINED[kind]())
    for parameter in detector.parameters():
        nn.init.normal_(parameter, std=0.1)
    return detector


@pytest.fixture
def detector(kind: str) -> nn.Module:
    return deepcopy(built(kind)).eval()


def batch_of(detector: nn.Module, **size: Any) -> tuple[Tensor, list[Any]]:
    data = detector.data_preprocessor(tiny.batch(**size), training=True)
    return data["inputs"], data["data_samples"]


def by_hand(det: nn.Module, inputs: Tensor, rois: Tensor) -> dict[str, Any]:
    """Module after module, level by level and RoI by RoI."""
    backbone = det.backbone(inputs)
    maps = det.neck(backbone) if det.with_neck else backbone
    rpn = [det.rpn_head.forward_single(level) for level in maps]
    extractor, box = det.roi_head.bbox_roi_extractor, det.roi_head.bbox_head
    features = torch.cat([extractor(maps[: extractor.num_inputs], roi[None]) for roi in rois])
    embedding = features.flatten(1)
    for fc in box.shared_fcs:
        embedding = F.linear(embedding, fc.weight, fc.bias).clamp(min=0)
    x = inputs
    for layer in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3"):
        x = getattr(det.backbone, layer)(x)
    y, before = det.backbone.maxpool(det.backbone.relu(det.backbone.bn1(det.backbone.conv1(inputs)))), []
    for name in det.backbone.res_layers:
        for block in getattr(det.backbone, name):
            skip = block.downsample(y) if block.downsample else y
            raw = block.norm2(block.conv2(block.norm1(block.conv1(y)).clamp(min=0))) + skip
            y = raw.clamp(min=0)
        before.append(raw)
    return {
        PREACTIVATION: [before[index] for index in det.backbone.out_indices],
        "backbone": backbone, "neck": maps, "rpn.logits": [a for a, _ in rpn], "rpn.deltas": [b for _, b in rpn],
        "roi.features": features, "roi.embedding": embedding, "roi.logits": box.fc_cls(embedding),
        "roi.deltas": box.fc_reg(embedding), LAYER3: [x],
    }  # fmt: skip


def same(found: Any, expected: Any) -> None:
    if isinstance(found, Tensor):
        return torch.testing.assert_close(found, expected)
    assert len(found) == len(expected)
    return [same(*two) for two in zip(found, expected, strict=True)] and None


def test_shows_during_the_stock_loss_and_alone_what_the_modules_give_by_hand(detector: nn.Module):
    inputs, samples = batch_of(detector)
    view = TwoStageView(detector, "student")
    names = [*view.names(), LAYER3]
    with view.record(names) as seen:
        detector.loss(inputs, samples)
    assert set(seen) == set(names)
    expected = by_hand(detector, inputs, seen[ROIS])
    shown = [name for name in names if name not in TRAINING]
    alone = view.run(inputs, shown, seen[ROIS])
    for name in shown:
        same(seen[name], expected[name])
        same(alone[name], expected[name])


def test_shows_shapes_as_documented(kind: str, detector: nn.Module):
    maps, anchors, channels = SHAPES[kind]
    inputs, samples = batch_of(detector, size=(128, 192))
    view = TwoStageView(detector, "student")
    with view.record(view.names()) as seen:
        detector.loss(inputs, samples)
    grids = {stride: (128 // stride, 192 // stride) for stride in (4, 8, 16, 32, 64)}
    for name, levels in maps.items():
        assert [tuple(one.shape) for one in seen[name]] == [(2, c, *grids[s]) for c, s in levels]
    strides = [s for _, s in maps.get("neck", maps["backbone"])]
    assert [tuple(one.shape) for one in seen["rpn.logits"]] == [(2, anchors, *grids[s]) for s in strides]
    assert [tuple(one.shape) for one in seen["rpn.deltas"]] == [(2, 4 * anchors, *grids[s]) for s in strides]
    n = len(seen[ROIS])
    behind = {ROIS: (5,), "roi.features": (channels, 7, 7), "roi.embedding": (32,), "roi.logits": (4,)}
    for name, shape in (behind | {"roi.deltas": (12,)}).items():
        assert tuple(seen[name].shape) == (n, *shape)


def iou(one: Sequence[float], other: Sequence[float]) -> float:
    (x1, y1, x2, y2), (a1, b1, a2, b2) = one, other
    common = max(0, min(x2, a2) - max(x1, a1)) * max(0, min(y2, b2) - max(y1, b1))
    return common / max(1e-9, (x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - common)


def test_encoded_targets_belong_to_the_recorded_rois(detector: nn.Module):
    inputs, samples = batch_of(detector)
    with TwoStageView(detector, "student").record([ROIS, "roi.targets"]) as seen:
        detector.loss(inputs, samples)
    labels, _, deltas, weights = seen["roi.targets"]
    positives = 0
    for (image, x1, y1, x2, y2), label, delta, weight in zip(
        seen[ROIS].tolist(), labels.tolist(), deltas.tolist(), weights, strict=True
    ):
        truth, best = None, 0.5  # MMDetection's positive threshold
        gt = samples[int(image)].gt_instances
        for (a1, b1, a2, b2), gt_label in zip(gt.bboxes.tolist(), gt.labels.tolist(), strict=True):
            common = iou((x1, y1, x2, y2), (a1, b1, a2, b2))
            if common >= best:
                shift = [((a1 + a2) - (x1 + x2)) / 2 / (x2 - x1), ((b1 + b2) - (y1 + y2)) / 2 / (y2 - y1)]
                truth, best = (gt_label, shift), common
        assert label == (3 if truth is None else truth[0])
        assert weight.tolist() == [float(truth is not None)] * 4
        if truth is not None:
            assert delta[:2] == pytest.approx([s / 0.1 for s in truth[1]], abs=1e-3)
            positives += 1
    assert positives >= 6  # the ground truth is among the sampled boxes


@pytest.mark.parametrize(
    ("names", "stages"),
    [
        ([], []),
        (["backbone"], ["backbone"]),
        ([LAYER3], ["backbone"]),
        (["neck"], ["backbone", "neck"]),
        (["rpn.deltas"], ["backbone", "neck", "rpn_head"]),
        (["rpn_head.rpn_conv"], ["backbone", "neck", "rpn_head"]),
        (["roi.logits"], ["backbone", "neck", "roi_head.bbox_roi_extractor", "roi_head.bbox_head"]),
    ],
    ids=str,
)
def test_runs_each_needed_stage_once_and_no_other(names: list[str], stages: list[str]):
    det, calls = deepcopy(built("fpn")).eval(), Counter()
    for path in ("backbone", "neck", "rpn_head", "roi_head.bbox_roi_extractor", "roi_head.bbox_head"):
        det.get_submodule(path).register_forward_hook(lambda *_, path=path: calls.update([path]))
    TwoStageView(det, "teacher").run(torch.zeros(1, 3, 64, 64), names, torch.tensor([[0.0, 0, 0, 32, 32]]))
    assert calls == dict.fromkeys(stages, 1)


def test_a_dry_run_finds_channels_and_strides(kind: str, detector: nn.Module):
    maps, anchors, channels = SHAPES[kind]
    view = TwoStageView(detector, "student")
    strides = [s for _, s in maps.get("neck", maps["backbone"])]
    expected = {name: tuple(MapSpec(*level) for level in levels) for name, levels in maps.items()} | {
        LAYER3: (MapSpec(32, 16),),
        PREACTIVATION: tuple(MapSpec(*level) for level in maps["backbone"]),
        "rpn.logits": tuple(MapSpec(anchors, s) for s in strides),
        "rpn.deltas": tuple(MapSpec(4 * anchors, s) for s in strides),
        "roi.features": (channels, 7, 7), "roi.embedding": (32,), "roi.logits": (4,), "roi.deltas": (12,),
    }  # fmt: skip
    assert view.dry_run([*view.names(), LAYER3]) == expected
    assert view.head.num_classes == 3


def test_a_dry_run_leaves_flags_statistics_and_randomness_alone(detector: nn.Module):
    detector.train()
    detector.backbone.layer1.eval()
    flags = [module.training for module in detector.modules()]
    state = {name: value.clone() for name, value in detector.state_dict().items()}
    stream = torch.get_rng_state()
    TwoStageView(detector, "student").dry_run(["backbone", "rpn.logits", "roi.logits"])
    assert [module.training for module in detector.modules()] == flags
    assert all(value.equal(state[name]) for name, value in detector.state_dict().items())
    assert torch.get_rng_state().equal(stream)


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("fpn", "nek", "did you mean 'neck'"),
        ("fpn", "rpn.logit", "did you mean 'rpn.logits'"),
        ("fpn", "backbone.layer9", "'backbone' has no child 'layer9'; it has 'conv1'"),
        ("fpn", "backbone.", "'backbone' has no child ''"),
        ("fpn", "zzz", "has no tap 'zzz'. It shows backbone, neck"),
        ("c4", "neck", "has no tap 'neck'"),
    ],
    indirect=["kind"],
)
@pytest.mark.parametrize("use", ["dry_run", "run"])
def test_an_unknown_tap_is_refused_with_the_nearest(detector: nn.Module, kind: str, name: str, said: str, use: str):
    view = TwoStageView(detector, "teacher")
    with pytest.raises(ValueError, match="the teacher has no tap") as error:
        view.dry_run([name]) if use == "dry_run" else view.run(torch.zeros(1, 3, 64, 64), [name])
    assert said in str(error.value)
    assert ", ".join(view.names()) in str(error.value)


def test_a_dry_run_says_whose_parts_do_not_fit_together():
    config = tiny.faster_rcnn()
    config["neck"]["in_channels"] = [8, 16, 32, 65]  # its backbone shows 64
    view = TwoStageView(MODELS.build(config), "teacher")
    with pytest.raises(ValueError, match="the teacher, a FasterRCNN, fails on an image of 256 x 256") as error:
        view.dry_run(["neck"])
    assert "65" in str(error.value)
    assert not any(module._forward_hooks for module in view.detector.modules())


def test_a_head_that_gives_more_than_a_row_a_box_is_refused(detector: nn.Module, monkeypatch: pytest.MonkeyPatch):
    """As SABL's, whose boxes are scores of buckets and offsets."""
    stock = detector.roi_head.bbox_head.forward
    monkeypatch.setattr(detector.roi_head.bbox_head, "forward", lambda crops: (stock(crops)[0], stock(crops)))
    view = TwoStageView(detector, "teacher")
    with pytest.raises(ValueError, match=r"the teacher's 'roi\.deltas' is a tuple, not a tensor of a row a box"):
        view.dry_run(["roi.deltas"])
    assert view.dry_run(["roi.logits"])


def test_a_failed_recording_leaves_no_hook(detector: nn.Module):
    sight = TwoStageView(detector, "student").record(["backbone", "backbone.nope"])
    with pytest.raises(ValueError, match="no child 'nope'"), sight:
        pass
    assert not any(module._forward_hooks for module in detector.modules())


def test_names_the_reason_when_nothing_can_be_shown(detector: nn.Module):
    view, inputs = TwoStageView(detector, "teacher"), torch.zeros(1, 3, 64, 64)
    for name in TRAINING:
        with pytest.raises(ValueError, match=rf"'{name}' exists on the training student only, but the teacher is"):
            view.run(inputs, ["backbone", name])
    with pytest.raises(ValueError, match="RoI head needs boxes"):
        view.run(inputs, ["roi.logits"])
    with pytest.raises(ValueError, match=r"'roi_head.bbox_head.fc_cls' shows \(1, 4\), not feature"):
        view.dry_run(["roi_head.bbox_head.fc_cls"])
    with pytest.raises(KeyError, match="was not recorded"):
        view.run(inputs, ["backbone"])["neck"]


@pytest.mark.parametrize(
    ("part", "stranger", "said"),
    [
        (
            "roi_head.bbox_head",
            "roi_head.bbox_roi_extractor",
            r"roi_head\.bbox_head is a SingleRoIExtractor in a Stand",
        ),
        ("roi_head", "neck", r"roi_head\.bbox_head is a NoneType in a FPN; a box head, which knows"),
        ("rpn_head", "roi_head.bbox_head", r"rpn_head is a Shared2FCBBoxHead; one with anchors is expected"),
    ],
)
def test_a_part_in_the_place_of_a_head_is_refused_by_name(part: str, stranger: str, said: str):
    detector = deepcopy(built("fpn"))
    above, _, name = part.rpartition(".")
    setattr(detector.get_submodule(above), name, detector.get_submodule(stranger))
    with pytest.raises(ValueError, match=said):
        TwoStageView(detector, "student")


def test_every_stable_name_is_shown_by_a_detector_with_a_neck():
    names = TwoStageView(built("fpn"), "student").names()
    assert set(names) == NAMES


# ---------------------------------------------------------------- what only a training student shows


@pytest.fixture(params=TRAINED)
def trained(request: pytest.FixtureRequest) -> nn.Module:
    return deepcopy(built(request.param)).eval()


def test_proposals_are_those_of_the_stock_rpn_best_first(trained: nn.Module):
    inputs, samples = batch_of(trained)
    view = TwoStageView(trained, "student")
    with view.record([PROPOSALS, "rpn.logits", "rpn.deltas"]) as seen:
        trained.loss(inputs, samples)
    own = {} if view.bare else dict(cfg=trained.train_cfg.rpn_proposal)
    metas = [sample.metainfo for sample in samples]
    logits, deltas = (list(seen[name]) for name in ("rpn.logits", "rpn.deltas"))
    stock = view.rpn.predict_by_feat(logits, deltas, batch_img_metas=metas, **own)
    assert len(seen[PROPOSALS]) == len(samples)
    for boxes, result in zip(seen[PROPOSALS], stock, strict=True):
        assert boxes.equal(result.bboxes)
        assert len(boxes) > 5
        assert result.scores.tolist() == sorted(result.scores.tolist(), reverse=True)
        assert not boxes.requires_grad


def test_rpn_targets_fit_the_shown_logits_and_mark_anchors_on_objects(trained: nn.Module):
    inputs, samples = batch_of(trained)
    view = TwoStageView(trained, "student")
    with view.record([RPN_TARGETS, "rpn.logits"]) as seen:
        trained.loss(inputs, samples)
    labels, label_weights, deltas, delta_weights, count = seen[RPN_TARGETS]
    assert [one.numel() for one in labels] == [one.numel() for one in seen["rpn.logits"]]
    assert sum(int((one > 0).sum()) for one in label_weights) == count
    sizes = [tuple(level.shape[2:]) for level in seen["rpn.logits"]]
    anchors = view.rpn.prior_generator.grid_priors(sizes, device="cpu")
    positive = 0
    for level, own in enumerate(anchors):
        for image, sample in enumerate(samples):
            for anchor in own[delta_weights[level][image][:, 0] > 0].tolist():
                assert max(iou(anchor, box) for box in sample.gt_instances.bboxes.tolist()) >= 0.3  # min_pos_iou
                positive += 1
    assert positive > 0


def test_recorded_rois_are_what_the_extractor_is_given_and_their_targets_go_with_them():
    detector = deepcopy(built("rfcn")).eval()
    inputs, samples = batch_of(detector)
    given: list[Tensor] = []
    detector.roi_head.bbox_roi_extractor.register_forward_hook(lambda _m, args, _o: given.append(args[1].clone()))
    with TwoStageView(detector, "student").record([ROIS, "roi.targets", "roi.logits", "roi.deltas"]) as seen:
        detector.loss(inputs, samples)
    assert seen[ROIS].equal(given[-1])
    labels, _, deltas, _ = seen["roi.targets"]
    n = len(seen[ROIS])
    assert n > 6
    assert (len(labels), tuple(deltas.shape)) == (n, (n, 4))
    assert (tuple(seen["roi.logits"].shape), tuple(seen["roi.deltas"].shape)) == ((n, 4), (n, 4))


@pytest.mark.parametrize(
    ("kind", "absent"), [("rfcn", set()), ("rpn", {name for name in NAMES if name.startswith("roi.")})]
)
def test_other_students_show_what_they_name(kind: str, absent: set[str]):
    """Every name a view offers is there after a training step; what a detector has not, it does not offer."""
    detector = deepcopy(built(kind)).eval()
    view = TwoStageView(detector, "student")
    assert set(view.names()) == NAMES - absent
    inputs, samples = batch_of(detector)
    names = [name for name in view.names() if name != "roi.embedding"]
    with view.record(names) as seen:
        detector.loss(inputs, samples)
    shown = [name for name in names if name not in TRAINING]
    alone = view.run(inputs, shown, None if view.bare else seen[ROIS])
    for name in shown:
        same(seen[name], alone[name])
    assert set(view.dry_run(names)) == set(shown)


def test_the_embedding_of_an_rfcn_is_what_its_bins_vote_with():
    view = TwoStageView(deepcopy(built("rfcn")).eval(), "student")
    seen = view.run(torch.randn(1, 3, 64, 64), ["roi.embedding", "roi.logits"], torch.tensor([[0.0, 8, 8, 40, 40]]))
    assert tuple(seen["roi.embedding"].shape) == (1, 4, 4, 4)
    torch.testing.assert_close(seen["roi.embedding"].mean(dim=(2, 3)), seen["roi.logits"])


def test_recording_every_name_leaves_the_training_step_as_it_is(trained: nn.Module):
    """The same losses and gradients, to the bit, and no hook or wrapped method afterwards."""
    inputs, samples = batch_of(trained)
    results = []
    for record in (False, True):
        one = deepcopy(trained)
        view = TwoStageView(one, "student")
        torch.manual_seed(4)
        with view.record(view.names() if record else []):
            losses = one.loss(inputs, deepcopy(samples))
        total, _ = one.parse_losses(losses)
        total.backward()
        results.append([total, *(p.grad for p in one.parameters() if p.grad is not None)])
        wrapped = {"get_targets", "predict_by_feat", "loss_by_feat"}
        assert not any(wrapped & set(vars(module)) for module in one.modules())
        assert not any(module._forward_hooks for module in one.modules())
    assert all(a.equal(b) for a, b in zip(*results, strict=True))


# ---------------------------------------------------------------- a bare RPN as the student


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return tiny.write_teacher(tmp_path_factory.mktemp("teacher"), tiny.faster_rcnn(12, 24))


def taught(teacher: dict[str, str], student: Any, **term: Any) -> Any:
    torch.manual_seed(0)
    return MODELS.build(tiny.distiller(student, teacher, terms=dict(one=term)))


@pytest.mark.parametrize(
    "term",
    [
        dict(type="ProposalMimic", tap="neck", weight=1, num=7),
        dict(type="WeightedSoftLabels", head="rpn", weight=1),
        dict(type="BoundedRegression", head="rpn", margin=1e3),
        tiny.imitation(),
    ],
    ids=lambda term: term["type"],
)
def test_a_bare_rpn_learns_from_a_two_stage_teacher(teacher, term):
    model = taught(teacher, tiny.rpn(), **term)
    losses = tiny.losses(model, tiny.batch())
    assert set(losses) == {"loss_rpn_cls", "loss_rpn_bbox", "loss_one"}
    losses["loss_one"].backward()
    assert losses["loss_one"] > 0
    assert model.student.backbone.conv1.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.teacher.detector.parameters())


def test_at_most_num_proposals_an_image_are_mimicked(teacher):
    model = taught(teacher, tiny.rpn(), type="ProposalMimic", tap="neck", weight=1, num=7)
    term, given = model.terms["one"], []
    rois = term.rois
    term.rois = lambda student: given.append((student[PROPOSALS], rois(student))) or given[-1][1]
    tiny.losses(model, tiny.batch())
    [(boxes, kept)] = given
    assert min(len(one) for one in boxes) > 7
    for image, one in enumerate(boxes):
        assert kept[kept[:, 0] == image][:, 1:].equal(one[:7])


OF_ROI_HEADS = dict(
    labels=dict(type="WeightedSoftLabels", head="roi", weight=1),
    boxes=dict(type="BoundedRegression", head="roi"),
    features=dict(type="ProposalMimic", tap="roi.features", weight=1),
    sampled=dict(type="ProposalMimic", tap="neck", weight=1, boxes="sampled"),
)
NO_TAP = r"terms\.one: the {} is a bare RPN without a RoI head, so it has no tap 'roi\."


@pytest.mark.parametrize("name", OF_ROI_HEADS)
def test_a_bare_rpn_is_taught_nothing_of_a_roi_head(teacher, name):
    with pytest.raises(ValueError, match=NO_TAP.format("student")):
        taught(teacher, tiny.rpn(), **OF_ROI_HEADS[name])


@pytest.mark.parametrize("name", ["labels", "boxes", "features"])
def test_a_bare_rpn_teaches_nothing_of_a_roi_head(tmp_path, name):
    with pytest.raises(ValueError, match=NO_TAP.format("teacher")):
        taught(tiny.write_teacher(tmp_path, tiny.rpn(12, 24)), tiny.faster_rcnn(), **OF_ROI_HEADS[name])


def test_a_bare_rpn_teaches_its_maps_at_the_students_boxes(tmp_path):
    model = taught(tiny.write_teacher(tmp_path, tiny.rpn(12, 24)), tiny.faster_rcnn(), **OF_ROI_HEADS["sampled"])
    assert tiny.losses(model, tiny.batch())["loss_one"] > 0


def trained_rpn(teacher: dict[str, str]) -> dict[str, Tensor]:
    return taught(teacher, tiny.rpn(), type="ProposalMimic", tap="neck", weight=1).state_dict()


def assert_holds(detector: nn.Module, weights: dict[str, Tensor]) -> None:
    found = detector.state_dict()
    for name, value in weights.items():
        assert found[name.replace("bbox_head.", "rpn_head.", 1)].equal(value)


def test_a_distilled_rpns_checkpoint_starts_the_stock_faster_rcnn(teacher):
    """By MMDetection's own exchange of `bbox_head` for `rpn_head`."""
    weights = trained_rpn(teacher)
    stock = MODELS.build(tiny.faster_rcnn())
    result = stock.load_state_dict(dict(weights), strict=False)
    assert result.unexpected_keys == []
    assert all(key.startswith("roi_head.") for key in result.missing_keys)
    assert_holds(stock, weights)


def test_a_distilled_rpns_checkpoint_starts_a_distilled_faster_rcnn(teacher):
    weights = trained_rpn(teacher)
    model = taught(teacher, tiny.faster_rcnn(), **tiny.imitation())
    assert model.load_state_dict(dict(weights), strict=False).unexpected_keys == []
    assert_holds(model, weights)
