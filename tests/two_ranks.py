"""What one of several processes does: the gradients of each term, alone, under DistributedDataParallel, into a file."""

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmdet.registry import MODELS
from mmengine.registry import DefaultScope
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

import tiny

EMPTY = 2  # the image without an object


def model_of(folder: Path, terms: dict[str, Any], single: str | None = None) -> Any:
    """A Distiller whose steps draw nothing and whose norms do not know their batch, its task off."""
    make = (lambda width: tiny.single_stage(single, width)) if single else tiny.faster_rcnn
    student, teacher = make(8), make(12)
    if not single:
        for part in (student.train_cfg.rpn, student.train_cfg.rcnn):
            part.sampler.update(num=10**6, pos_fraction=1.0)  # all there are
        student.train_cfg.rpn_proposal.max_per_img = 8  # so that truth makes a difference in how many boxes there are
    torch.manual_seed(0)
    cfg = tiny.distiller(student, tiny.write_teacher(folder, teacher), terms=terms)
    model = MODELS.build(cfg)
    for part in (model.student, *model.terms.values()):
        torch.manual_seed(1)
        for value in part.parameters():
            torch.nn.init.normal_(value, std=0.1)
    for detector in (model.student, model.teacher.detector):
        if not single:
            detector.roi_head.bbox_head.fc_cls.bias.data[-1] += 3
    return model


def batch(images: list[int]) -> dict[str, Any]:
    """Some of four images, of which one has no object and the others have more and more."""
    parts = [tiny.batch(1, boxes=0 if one == EMPTY else 1 + 2 * one, seed=one) for one in images]
    return {key: [part[key][0] for part in parts] for key in parts[0]}


def gradients(model: Any, name: str, images: list[int], wrapped: Any = None) -> dict[str, torch.Tensor]:
    """Of every weight, from one step of one term."""
    for key, term in model.terms.items():
        term.weight = float(key == name)
    model.zero_grad()
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    data = model.data_preprocessor(batch(images), training=True)
    losses = (wrapped or model)(**data, mode="loss")
    of_term = {key: value for key, value in losses.items() if key.startswith(f"loss_{name}")}
    silent = {key: 0 * torch.as_tensor(sum(v) if isinstance(v, list) else v) for key, v in losses.items()}
    sum((silent | of_term).values()).backward()
    return {key: weight.grad.clone() for key, weight in model.named_parameters() if weight.grad is not None}


def main(folder: Path, terms: dict[str, Any], single: str | None) -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    own = folder / str(rank)
    own.mkdir()
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = model_of(own, terms, single)
        wrapped = DistributedDataParallel(model)
        found = {name: gradients(model, name, [2 * rank, 2 * rank + 1], wrapped) for name in terms}
        state = {name: term.state_dict() for name, term in model.terms.items()}
    torch.save(dict(gradients=found, state=state), folder / f"rank{rank}.pth")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), torch.load(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
