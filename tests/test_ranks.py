"""Two processes learn as one with both batches: what terms divide by and compare is counted over all ranks."""

from pathlib import Path
from typing import Any

import pytest
import torch
import two_ranks

import tiny

FULL, NEAR, ANCHORS = dict(type="FullMask"), dict(type="GtBoxMask"), dict(type="AnchorIoUMask", psi=0.3)
ADAPTER = dict(type="ConvAdapter", kernel=1)
TWO_STAGE: dict[str, dict[str, Any]] = {
    "imitation": dict(type="FeatureImitation", tap="neck", mask=ANCHORS, weight=1),
    "near": dict(type="FeatureImitation", tap="neck", mask=NEAR, weight=1, distance="l2"),
    "hint": dict(type="FeatureImitation", tap="neck", mask=FULL, weight=1, distance="l1"),
    "proposals": dict(type="ProposalMimic", tap="neck", weight=1),
    "sampled": dict(type="ProposalMimic", tap="neck", weight=1, boxes="sampled"),
    "native": dict(type="ProposalMimic", tap="neck", weight=1, boxes="sampled", crop="native"),
    "roi_labels": dict(type="WeightedSoftLabels", head="roi", weight=1),
    "rpn_labels": dict(type="WeightedSoftLabels", head="rpn", weight=1),
    "soft_roi": dict(type="SoftLabels", head="roi", weight=1),
    "soft_rpn": dict(type="SoftLabels", head="rpn", weight=1),
    "roi_boxes": dict(type="BoundedRegression", head="roi", margin=1e3),
    "rpn_boxes": dict(type="BoundedRegression", head="rpn", margin=1e3),
    "cells": dict(type="PixelWise", tap="rpn.logits", weight=1),
    "attention": dict(type="AttentionTransfer", tap="neck", weight=1),
    "flow": dict(type="FlowOfSolution", tap="neck", adapter=ADAPTER, weight=1),
    "selectivity": dict(type="NeuronSelectivity", tap="neck", weight=1),
    "firing": dict(type="ActivationBoundary", weight=1),
    "neurons": dict(type="NeuronSelection", budget=2, samples=4, weight=1),
    "distances": dict(type="DistanceRelation", weight=1),
    "angles": dict(type="AngleRelation", weight=1, cap=16),
    "in_images": dict(type="AngleRelation", per="image", weight=1),
    "ranking": dict(type="DarkRank", kind="hard", weight=1),
    "triplets": dict(type="TripletMargin", weight=1),
    "crops": dict(type="DistanceRelation", tap="neck", weight=1),
    "places": dict(type="PairWise", tap="neck", weight=1),
    "critic": dict(type="Holistic", tap="neck", adapter=ADAPTER, size=8, width=4, weight=1),
    "boundary": dict(type="BoundarySamples", weight=1),
}
DRAWING = {"critic", "boundary"}  # they draw at random, so two ranks see other samples than one
DENSE = {
    "dense": dict(type="SoftLabels", head="dense", weight=1),
    "imitation": dict(type="FeatureImitation", tap="neck", mask=ANCHORS, weight=1),
}
BINS = {"boxes": dict(type="LocalisationDistillation", weight=1)}


def both(folder: Path, terms: dict[str, Any], *single: str) -> list[dict[str, Any]]:
    """What two processes of `two_ranks` leave behind."""
    torch.save(terms, folder / "terms.pth")
    tiny.two_processes(two_ranks.__file__, folder, folder / "terms.pth", *single)
    return [torch.load(folder / f"rank{rank}.pth") for rank in range(2)]


@pytest.fixture(scope="module")
def two_stage(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return both(tmp_path_factory.mktemp("two_stage"), TWO_STAGE)


def agree(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], rel: float = 1e-4) -> None:
    largest = max(value.abs().max() for value in expected.values())
    assert largest > 0
    for key, value in found.items():
        torch.testing.assert_close(value, expected.get(key, torch.zeros_like(value)), rtol=rel, atol=rel * largest)


@pytest.mark.parametrize("name", [name for name in TWO_STAGE if name not in DRAWING])
def test_gradients_are_those_of_one_process_with_both_batches(two_stage, tmp_path, name):
    model = two_ranks.model_of(tmp_path, {name: TWO_STAGE[name]})
    expected = two_ranks.gradients(model, name, [0, 1, 2, 3])
    for rank in two_stage:
        agree(rank["gradients"][name], expected)


def test_what_draws_at_random_still_learns_alike_on_every_rank(two_stage):
    for name in DRAWING:
        first, second = (rank["gradients"][name] for rank in two_stage)
        assert any(value.any() for value in first.values())
        for key, value in first.items():
            assert value.equal(second[key])


def test_ranks_keep_one_critic_and_choose_the_same_neurons(two_stage):
    for name in ("critic", "neurons"):
        first, second = (rank["state"][name] for rank in two_stage)
        for key, value in first.items():
            torch.testing.assert_close(value, second[key], rtol=0, atol=0)


@pytest.mark.parametrize(("kind", "terms"), [("retinanet", DENSE), ("gfl", BINS)])
def test_a_dense_head_learns_as_in_one_process(kind, terms, tmp_path):
    ranks = both(tmp_path, terms, kind)
    for name, cfg in terms.items():
        (tmp_path / name).mkdir()
        expected = two_ranks.gradients(two_ranks.model_of(tmp_path / name, {name: cfg}, kind), name, [0, 1, 2, 3])
        for rank in ranks:
            agree(rank["gradients"][name], expected)
