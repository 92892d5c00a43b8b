"""What teaches and learns in a stage, judged parameter by parameter; what a config gets wrong is named."""

import copy
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from torch import nn

import tiny
from det_distill.stages import Stages

HINT = tiny.imitation(0.5, "backbone", mask=dict(type="FullMask"), distance="l2")
SCORES = dict(type="WeightedSoftLabels", head="roi", weight=0.5)
TERMS = dict(hint=HINT, scores=SCORES)
FITNETS = [
    dict(until=2, terms=["hint"], task_loss=False, train=["backbone"]),
    dict(terms=["scores"]),
]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return tiny.write_teacher(tmp_path_factory.mktemp("teacher"), tiny.faster_rcnn(16, 24))


def built(teacher: dict[str, str], stages: Any, student: Any = None, terms: Any = TERMS) -> Any:
    torch.manual_seed(0)
    return MODELS.build(tiny.distiller(student or tiny.faster_rcnn(), teacher, terms=terms, stages=stages))


def entered(teacher: dict[str, str], stage: dict[str, Any], **other: Any) -> Any:
    model = built(teacher, [stage], **other)
    model.stages.enter(0)
    return model


def stepped(model: Any, decay: float = 0.1) -> tuple[dict[str, Any], set[str]]:
    """The losses of one SGD step with weight decay, and what it changed: weights and buffers by full name."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=decay, momentum=0.9)
    before = copy.deepcopy(everything(model))
    losses = tiny.losses(model, tiny.batch())
    model.parse_losses(losses)[0].backward()
    optimiser.step()
    return losses, {name for name, value in everything(model).items() if not torch.equal(value, before[name])}


def everything(model: nn.Module) -> dict[str, Any]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def of(changed: set[str], *prefixes: str) -> set[str]:
    return {name for name in changed if name.startswith(prefixes)}


def test_in_the_hint_stage_head_gradients_are_none_and_the_heads_do_not_run(teacher):
    """METHODS.md, FitNets' oracle."""
    model = entered(teacher, FITNETS[0] | dict(until=None))
    for part in (model.student.neck, model.student.rpn_head, model.student.roi_head.bbox_head):
        part.register_forward_hook(lambda *_: pytest.fail("a part behind the hint ran"))
    losses = tiny.losses(model, tiny.batch())
    assert set(losses) == {"loss_hint", "loss_scores"}
    assert losses["loss_scores"] == 0
    model.parse_losses(losses)[0].backward()
    parts = {name: weight.grad for name, weight in model.named_parameters()}
    assert all(grad is None for name, grad in parts.items() if not name.startswith(("student.backbone", "terms.hint")))
    assert all(parts[name].abs().sum() > 0 for name in parts if name.endswith("layer4.1.conv2.weight"))
    assert all(parts[name].abs().sum() > 0 for name in parts if name.startswith("terms.hint") and "weight" in name)


def test_the_hint_is_the_one_that_a_run_without_stages_logs(teacher):
    plain, staged = built(teacher, None), entered(teacher, FITNETS[0] | dict(until=None))
    values = [tiny.losses(model, tiny.batch())["loss_hint"] for model in (plain, staged)]
    assert values[0] == values[1] > 0


TRAINED = {
    "all": (None, ("student.", "terms.hint.")),
    "backbone": (["backbone"], ("student.backbone.", "terms.hint.")),
    "a layer and a head": (
        ["backbone.layer3", "rpn_head"],
        ("student.backbone.layer3.", "student.rpn_head.", "terms.hint."),
    ),
    "a leaf": (["roi_head.bbox_head.fc_cls"], ("student.roi_head.bbox_head.fc_cls.", "terms.hint.")),
    "adapters alone": ([], ("terms.hint.",)),
}


@pytest.mark.parametrize("case", TRAINED)
def test_only_what_is_named_moves_weight_decay_and_statistics_included(teacher, case):
    """With all losses on and a weight decay that would move every weight."""
    train, prefixes = TRAINED[case]
    model = entered(teacher, dict(terms=["hint"], train=train))
    _, changed = stepped(model)
    assert changed == of(changed, *prefixes)
    weights = {name for name, weight in model.named_parameters() if name.startswith(prefixes)}
    assert weights <= changed
    running = {name for name in everything(model) if "running_mean" in name and name.startswith(prefixes)}
    assert running <= changed
    assert running or case in ("a leaf", "adapters alone")


def test_the_judge_above_can_fail_without_a_stage_everything_moves(teacher):
    model = built(teacher, None)
    _, changed = stepped(model)
    assert {name for name, _ in model.named_parameters()} <= changed
    assert {name for name in everything(model) if "running_var" in name} <= changed


def test_train_and_eval_mode_come_and_go_as_in_validation_and_the_norms_stay(teacher):
    model = entered(teacher, dict(train=["neck"]))
    for mode in (True, False, True):
        model.train(mode)
        norms = [m for m in model.student.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
        assert norms
        assert not any(norm.training for norm in norms)
        assert model.student.neck.training is model.student.backbone.layer1[0].training is mode
    model.stages.enter(None)
    model.train()
    assert all(norm.training for norm in norms)


def test_what_the_config_froze_stays_frozen_in_every_stage(teacher):
    student = tiny.faster_rcnn()
    student.backbone.frozen_stages = 1
    stages = [dict(until=1, train=["neck"]), dict(until=2, train=["backbone"]), dict()]
    model = built(teacher, stages, student=student)
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    assert {name.split(".")[2] for name in frozen} == {"conv1", "bn1", "layer1"}
    for index in (0, 1, 2, None):
        model.stages.enter(index)
        learns = {name for name, weight in model.named_parameters() if weight.requires_grad}
        assert not learns & frozen
        model.train()
        assert not any(norm.training for norm in model.student.backbone.layer1.modules())
    assert learns == {name for name, _ in model.named_parameters()} - frozen


def test_a_gradient_from_the_stage_before_does_not_move_what_rests(teacher):
    model = built(teacher, [dict(until=1), dict(train=["neck"], terms=[])])
    model.stages.enter(0)
    model.parse_losses(tiny.losses(model, tiny.batch()))[0].backward()
    model.stages.enter(1)
    _, changed = stepped(model)
    assert changed == of(changed, "student.neck")


def test_terms_that_rest_cost_nothing_and_the_teacher_runs_for_none(teacher):
    model = entered(teacher, dict(terms=[]))
    model.teacher.detector.backbone.register_forward_hook(lambda *_: pytest.fail("the teacher ran"))
    losses, stock = tiny.losses(model, tiny.batch()), tiny.losses(built(teacher, None).student, tiny.batch())
    assert losses.pop("loss_hint") == losses.pop("loss_scores") == 0
    assert {k: torch.as_tensor(v[0] if isinstance(v, list) else v) for k, v in losses.items()} == {
        k: torch.as_tensor(v[0] if isinstance(v, list) else v) for k, v in stock.items()
    }


def test_terms_on_sampled_boxes_run_the_student_and_drop_its_losses(teacher):
    """The soft labels are those of a step with the task, and reach the head's weights."""
    model = entered(teacher, dict(terms=["scores"], task_loss=False))
    losses = tiny.losses(model, tiny.batch())
    assert set(losses) == {"loss_hint", "loss_scores"}
    assert losses["loss_scores"] == tiny.losses(built(teacher, None), tiny.batch())["loss_scores"] > 0
    model.parse_losses(losses)[0].backward()
    assert model.student.roi_head.bbox_head.fc_cls.weight.grad.abs().sum() > 0
    assert model.student.roi_head.bbox_head.fc_reg.weight.grad is None


@pytest.mark.parametrize("tap", ["rpn.logits", "rpn.proposals"])
def test_a_term_on_the_rpn_runs_as_far_as_it_must(teacher, tap):
    """Proposals exist only while the student trains as a whole, logits need the RPN alone."""
    term = dict(type="WeightedSoftLabels", head="rpn", weight=1.0)
    model, ran = entered(teacher, dict(task_loss=False), terms=dict(scores=term)), []
    model.terms["scores"].taps = ("rpn.logits", tap)
    model.terms["scores"].forward = lambda seen, *_: sum(one.sum() for one in seen["rpn.logits"])
    model.student.roi_head.bbox_head.register_forward_hook(lambda *_: ran.append("roi"))
    losses = tiny.losses(model, tiny.batch())
    assert set(losses) == {"loss_scores"}
    assert losses["loss_scores"].requires_grad
    assert ran == ([] if tap == "rpn.logits" else ["roi"])


def test_without_the_task_a_step_at_strength_0_leaves_the_student_as_it_is(teacher):
    """A `Warmup` begins at 0; there must be a loss to go back from all the same."""
    terms = dict(hint=HINT | dict(schedule=dict(type="Warmup", end=10)))
    model = entered(teacher, dict(task_loss=False), terms=terms)
    losses, changed = stepped(model, decay=0.0)
    assert losses["loss_hint"] == 0
    assert not {name for name in changed if "running" not in name and "num_batches" not in name}


def test_outside_a_runner_nothing_rests_until_a_stage_is_entered(teacher):
    staged, plain = (tiny.losses(built(teacher, stages), tiny.batch()) for stages in (FITNETS, None))
    assert list(staged) == list(plain)
    assert staged["loss_hint"] == plain["loss_hint"]


def test_a_copy_of_the_model_has_stages_of_its_own(teacher):
    """EMA copies the model."""
    model = entered(teacher, FITNETS[0] | dict(until=None))
    twin = copy.deepcopy(model)
    twin.stages.enter(None)
    assert twin.stages.student is twin.student
    assert not model.student.neck.lateral_convs[0].conv.weight.requires_grad
    assert twin.student.neck.lateral_convs[0].conv.weight.requires_grad


def test_the_stage_at_each_epoch_and_who_shares_an_optimiser():
    lr = dict(optim_wrapper=dict(optimizer=dict(lr=0.1)))
    configs = [dict(until=2), dict(until=3), dict(until=5) | lr, dict(until=6, param_scheduler=[]), dict(until=8), {}]
    stages = Stages(configs, nn.Linear(2, 2), nn.ModuleDict())
    assert [stages.at(epoch) for epoch in range(10)] == [0, 0, 1, 2, 2, 3, 4, 4, 5, 5]
    assert [stages.leg(index) for index in range(6)] == [(0, 1), (0, 1), (2, 2), (3, 3), (4, 5), (4, 5)]
    assert [stages.begin(index) for index in range(6)] == [0, 2, 3, 5, 6, 8]


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ([dict(until=2, term=["hint"])], r"^stages\.0\.term is unknown, did you mean 'terms'"),
        ([dict(terms=["hnt"])], r"^stages\.0\.terms='hnt' is none of 'hint', 'scores', did you mean 'hint'"),
        ([dict(until=1), dict(terms="hint")], r"^stages\.1\.terms='hint'; a list of names"),
        ([dict(train=["backbon"])], r"^stages\.0\.train: no module 'backbon': .* it has .*'backbone'"),
        ([dict(train=["backbone.layer9"])], r"^stages\.0\.train: .*'backbone' has no child 'layer9'"),
        ([dict(train="backbone")], r"^stages\.0\.train='backbone'; a list of names"),
        ([dict(until=2), dict(until=2)], r"^stages\.1\.until=2; a whole number above 2"),
        ([dict(until=0)], r"^stages\.0\.until=0; a whole number above 0"),
        ([dict(until=1.5)], r"^stages\.0\.until=1\.5; a whole number above 0"),
        ([dict(), dict()], r"^stages\.1: the stage before has no `until`"),
        ([dict(terms=[], task_loss=False)], r"^stages\.0: task_loss=False and no term"),
        ([dict(terms=["scores"], train=[])], r"^stages\.0: nothing learns"),
        (dict(until=2), "^stages: a list of dicts"),
    ],
)  # fmt: skip
def test_what_a_config_gets_wrong_is_named(teacher, stages, words):
    with pytest.raises(ValueError, match=words):
        built(teacher, stages)


@pytest.mark.parametrize(
    ("configs", "words"),
    [
        ([dict(until=2), dict(until=3)], r"stages\.1\.until=3, but the run lasts 4 epochs"),
        ([dict(until=4), {}], r"stages\.1 begins after 4 epochs, but the run lasts 4"),
    ],
)
def test_stages_that_do_not_fill_the_run_are_named(configs, words):
    with pytest.raises(ValueError, match=words):
        Stages(configs, nn.Linear(2, 2), nn.ModuleDict()).fill(4, "epochs")
