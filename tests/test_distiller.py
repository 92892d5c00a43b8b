"""The contracts of the Distiller, judged by stock MMDetection."""

import copy
import io

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper

import tiny
from det_distill.distiller import Distiller


@pytest.fixture
def teacher(tmp_path):
    return tiny.write_teacher(tmp_path, tiny.faster_rcnn(16, 24))


@pytest.fixture
def model(teacher):
    return MODELS.build(tiny.distiller(tiny.faster_rcnn(), teacher))


STUDENTS = {"fpn": (tiny.faster_rcnn, "neck"), "single level": (tiny.c4, "backbone")}


@pytest.mark.parametrize("kind", STUDENTS)
class TestTraining:
    def pair(self, kind, folder, **other):
        build, tap = STUDENTS[kind]
        terms = dict(imitation=tiny.imitation(tap=tap, **other))
        return build(), tiny.distiller(build(), tiny.write_teacher(folder, build(16)), terms=terms)

    def ten_steps(self, model):
        """Losses and final weights of ten SGD steps, as MMEngine takes them."""
        model.train()
        optim = build_optim_wrapper(model, dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.02, momentum=0.9)))
        logs = [model.train_step(tiny.batch(seed=step), optim) for step in range(10)]
        return logs, model.state_dict()

    def test_at_weight_zero_ten_steps_are_bit_identical_to_stock(self, kind, tmp_path):
        stock_cfg, cfg = self.pair(kind, tmp_path, weight=0.0)
        results = []
        for config in (stock_cfg, cfg):
            torch.manual_seed(3)
            built = MODELS.build(config)
            built.init_weights()
            results.append(self.ten_steps(built))
        (stock_logs, stock_weights), (logs, weights) = results
        for ours, theirs in zip(logs, stock_logs, strict=True):
            assert ours.pop("loss_imitation") == 0
            assert {k: v.item() for k, v in ours.items()} == {k: v.item() for k, v in theirs.items()}
        assert list(weights) == list(stock_weights)
        assert all(torch.equal(weights[k], stock_weights[k]) for k in weights)

    def test_at_weight_zero_the_teacher_never_runs(self, kind, tmp_path):
        model = MODELS.build(self.pair(kind, tmp_path, weight=0.0)[1])
        model.teacher.detector.backbone.register_forward_hook(lambda *_: pytest.fail("the teacher ran"))
        tiny.losses(model, tiny.batch())

    def test_every_part_learns_and_the_teacher_does_not(self, kind, tmp_path):
        model = MODELS.build(self.pair(kind, tmp_path)[1])
        before = copy.deepcopy(model.teacher.detector.state_dict())
        value = tiny.losses(model, tiny.batch())["loss_imitation"]
        value.backward()
        assert value > 0
        assert model.student.backbone.conv1.weight.grad.abs().sum() > 0
        assert sum(p.grad.abs().sum() for p in model.terms.parameters()) > 0
        assert all(p.grad is None for p in model.teacher.detector.parameters())
        after = model.teacher.detector.state_dict()
        assert all(torch.equal(before[k], after[k]) for k in before)

    def test_images_without_objects_train_with_a_loss_of_zero(self, kind, tmp_path):
        model = MODELS.build(self.pair(kind, tmp_path)[1])
        losses = tiny.losses(model, tiny.batch(boxes=0))
        assert losses["loss_imitation"] == 0
        total, _ = model.parse_losses(losses)
        total.backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)

    def test_zero_area_boxes_mark_nothing_and_train(self, kind, tmp_path):
        model, data = MODELS.build(self.pair(kind, tmp_path)[1]), tiny.batch()
        for sample in data["data_samples"]:
            sample.gt_instances.bboxes[:, 2] = sample.gt_instances.bboxes[:, 0]
        losses = tiny.losses(model, data)
        assert losses["loss_imitation"] == 0

    def test_the_students_own_losses_are_stock(self, kind, tmp_path):
        stock, cfg = self.pair(kind, tmp_path)
        distiller, plain = MODELS.build(cfg), MODELS.build(stock)
        plain.load_state_dict(distiller.state_dict())
        ours, theirs = (tiny.losses(m, tiny.batch(), seed=5) for m in (distiller, plain))
        ours.pop("loss_imitation")
        assert str(ours) == str(theirs)


class TestAsTheStudent:
    def test_its_state_dict_is_the_students(self, model):
        student = model.student.state_dict()
        assert list(model.state_dict()) == list(student)
        plain = MODELS.build(tiny.faster_rcnn())
        assert plain.load_state_dict(model.state_dict(), strict=True).missing_keys == []

    def test_a_state_dict_of_either_form_loads_and_adapters_stay(self, model):
        weights = {k: v + 1 if v.is_floating_point() else v for k, v in model.state_dict().items()}
        adapters = copy.deepcopy(model.terms.state_dict())
        model.load_state_dict(weights, strict=True)
        assert all(torch.equal(model.student.state_dict()[k], v) for k, v in weights.items())
        assert all(torch.equal(model.terms.state_dict()[k], v) for k, v in adapters.items())

    def test_a_wrapper_keeps_its_prefix(self, model):
        wrapped = torch.nn.Module()
        wrapped.module = model
        assert next(iter(wrapped.state_dict())) == "module.backbone.conv1.weight"
        wrapped.load_state_dict(wrapped.state_dict(), strict=True)

    def test_an_unknown_weight_is_still_reported(self, model):
        with pytest.raises(RuntimeError, match=r"nose\.weight"):
            model.load_state_dict(model.state_dict() | {"nose.weight": torch.zeros(1)}, strict=True)

    def test_predictions_are_the_students(self, model):
        plain = MODELS.build(tiny.faster_rcnn()).eval()
        plain.load_state_dict(model.state_dict())
        model.eval()
        ours, theirs = ([r.pred_instances for r in m.test_step(copy.deepcopy(tiny.batch()))] for m in (model, plain))
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a.bboxes, b.bboxes)
            assert torch.equal(a.scores, b.scores)

    def test_the_tensor_mode_is_the_students(self, model):
        inputs = torch.rand(1, 3, 64, 64)
        plain = MODELS.build(tiny.faster_rcnn()).eval()
        plain.load_state_dict(model.state_dict())
        samples = tiny.batch(1, (64, 64))["data_samples"]
        ours, theirs = (m.eval()(inputs, samples, mode="tensor") for m in (model, plain))
        assert str(ours) == str(theirs)

    def test_init_weights_draws_what_the_student_alone_draws(self, teacher):
        states = []
        for config in (tiny.faster_rcnn(), tiny.distiller(tiny.faster_rcnn(), teacher)):
            torch.manual_seed(11)
            built = MODELS.build(config)
            built.init_weights()
            states.append((built.state_dict(), torch.rand(3)))
        (a, next_a), (b, next_b) = states
        assert all(torch.equal(a[k], b[k]) for k in a)
        assert torch.equal(next_a, next_b)


class TestTheTeacherIsNoSubmodule:
    def test_it_is_in_nothing_that_walks_modules(self, model):
        own = {id(p) for p in model.parameters()} | {id(b) for b in model.buffers()}
        teacher = model.teacher.detector
        assert own.isdisjoint({id(p) for p in (*teacher.parameters(), *teacher.buffers())})
        assert teacher not in set(model.modules())

    def test_a_copy_shares_it(self, model):
        assert copy.deepcopy(model).teacher is model.teacher

    def test_it_follows_the_dtype_and_stays_in_eval(self, model):
        model.double().train()
        assert next(model.teacher.detector.parameters()).dtype == torch.float64
        assert not model.teacher.detector.training

    def test_a_saved_checkpoint_is_the_students_size(self, model):
        sizes = []
        for built in (model, MODELS.build(tiny.faster_rcnn())):
            file = io.BytesIO()
            torch.save(built.state_dict(), file)
            sizes.append(file.tell())
        assert sizes[0] == pytest.approx(sizes[1], rel=0.01)


class TestTaskWeights:
    def test_they_multiply_the_students_own_losses(self, teacher):
        plain = tiny.distiller(tiny.faster_rcnn(), teacher)
        halved = MODELS.build(plain | dict(task_weights=dict(loss_cls=0.5, loss_rpn_cls=2)))
        whole = MODELS.build(plain)
        whole.load_state_dict(halved.state_dict())
        a, b = (tiny.losses(m, tiny.batch()) for m in (halved, whole))
        assert a["loss_cls"] == 0.5 * b["loss_cls"]
        assert [x.item() for x in a["loss_rpn_cls"]] == [2 * x.item() for x in b["loss_rpn_cls"]]
        assert a["loss_bbox"] == b["loss_bbox"]

    @pytest.mark.parametrize(("step", "weight"), [(0, 1.0), (50, 0.75), (100, 0.5), (400, 0.5)])
    def test_they_may_follow_a_schedule(self, teacher, step, weight):
        ramp = dict(type="Ramp", start=1, stop=0.5, begin=0, end=100)
        model = MODELS.build(tiny.distiller(tiny.faster_rcnn(), teacher, terms={}, task_weights=dict(loss_cls=ramp)))
        plain = MODELS.build(tiny.faster_rcnn())
        plain.load_state_dict(model.state_dict())
        MessageHub.get_current_instance().update_info("iter", step)
        ours, stock = (tiny.losses(one, tiny.batch()) for one in (model, plain))
        assert ours["loss_cls"] == weight * stock["loss_cls"]
        assert ours["loss_bbox"] == stock["loss_bbox"]

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            (dict(type="Rmap", start=1), r"task_weights.loss_cls: type='Rmap' is not registered, did you mean 'Ramp'"),
            (dict(type="Ramp", strat=1), r"task_weights.loss_cls: Ramp.strat is unknown, did you mean 'start'"),
            (-1, r"task_weights.loss_cls: weight=-1; a number of at least 0"),
            ("half", r"task_weights.loss_cls: "),
        ],
    )
    def test_a_wrong_one_is_named_at_construction(self, teacher, given, words):
        with pytest.raises(ValueError, match=words):
            MODELS.build(tiny.distiller(tiny.faster_rcnn(), teacher, task_weights=dict(loss_cls=given)))

    def test_an_unknown_one_is_named(self, teacher):
        cfg = tiny.distiller(tiny.faster_rcnn(), teacher, task_weights=dict(loss_clss=0.5))
        with pytest.raises(ValueError, match=r"task_weights.loss_clss.*did you mean 'loss_cls'"):
            tiny.losses(MODELS.build(cfg), tiny.batch())


class TestTerms:
    def build(self, teacher, **terms) -> Distiller:
        return MODELS.build(tiny.distiller(tiny.faster_rcnn(), teacher, terms=terms))

    def test_none_switches_one_off(self, teacher):
        assert list(self.build(teacher, a=None, b=tiny.imitation()).terms) == ["b"]

    def test_the_value_is_weighted_once(self, teacher):
        one, ten = (self.build(teacher, imitation=tiny.imitation(weight=w)) for w in (0.01, 0.1))
        ten.load_state_dict(one.state_dict())
        ten.terms.load_state_dict(one.terms.state_dict())
        a, b = (tiny.losses(m, tiny.batch())["loss_imitation"].item() for m in (one, ten))
        assert b == pytest.approx(10 * a, rel=1e-6)

    @pytest.mark.parametrize(
        ("name", "cfg", "words"),
        [
            ("imitation", tiny.imitation(tap="nekc"), r"terms.imitation: .*'nekc'.*did you mean 'neck'"),
            ("imitation", tiny.imitation(tap="backbone.layer9"), "terms.imitation: .*no child 'layer9'"),
            ("imitation", tiny.imitation(tap="roi.embedding"), "terms.imitation: .*not feature maps"),
            ("imitation", tiny.imitation(adapter=None), "16 channels on the student and 24"),
            ("imitation", tiny.imitation(mask=dict(type="AnchorIoUMask", psi=3)), "terms.imitation: .*psi=3"),
            ("imitation", tiny.imitation(weight=-1), "terms.imitation: .*weight=-1"),
            ("imitation", dict(type="FeatureImitatoin"), "terms.imitation: .*did you mean 'FeatureImitation'"),
            ("imitation", tiny.imitation(wieght=1), "FeatureImitation.wieght is unknown, did you mean 'weight'"),
            ("imitation", tiny.imitation(mask=dict(type="AnchorIoUMask", spi=1)), "AnchorIoUMask.spi .*'psi'"),
            ("imitation", tiny.imitation(adapter=dict(type="ConvAdapter", relus=True)), "ConvAdapter.relus .*'relu'"),
            ("imitation", tiny.imitation(schedule=dict(type="Warmpu", end=3)), "'Warmpu' .*did you mean 'Warmup'"),
            ("two words", tiny.imitation(), "'two words' is no identifier"),
        ],
    )
    def test_what_cannot_be_wired_is_named_at_construction(self, teacher, name, cfg, words):
        with pytest.raises(ValueError, match=words):
            self.build(teacher, **{name: cfg})

    def test_a_name_the_student_logs_itself_is_refused(self, teacher):
        with pytest.raises(ValueError, match="already logs 'loss_cls'"):
            tiny.losses(self.build(teacher, cls=tiny.imitation()), tiny.batch())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(student=dict(config="configs/bccd/faster-rcnn_r18-hlf_fpn64.py")), "did you mean .*r18-half_fpn64.py"),
        (dict(student=dict(confg="x", config="y")), "student.confg is unknown, did you mean 'config'"),
    ],
)
def test_a_wrong_student_is_named(teacher, change, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        MODELS.build(tiny.distiller(tiny.faster_rcnn(), teacher) | change)


def test_a_student_may_be_named_by_its_config(teacher):
    built = MODELS.build(tiny.distiller(dict(config="configs/bccd/faster-rcnn_r18-half_fpn64.py"), teacher))
    assert built.student.backbone.base_channels == 32
