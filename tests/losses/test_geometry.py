"""Distances and directions where points nearly coincide, against plain numbers."""

import itertools
import math

import pytest
import torch

from det_distill.losses._geometry import NEGLIGIBLE, distances, unit


def test_distances_of_many_near_points_far_from_0_are_exact():
    points = 1000 + torch.randint(0, 5, (60, 3), generator=torch.Generator().manual_seed(7)) / 1024  # exact in fp32
    found = distances(points).tolist()
    for (i, a), (j, b) in itertools.product(enumerate(points.tolist()), repeat=2):
        assert found[i][j] == pytest.approx(math.dist(a, b), rel=1e-5)  # products of matrices are off by 100 times


def test_a_vector_has_a_direction_from_beyond_the_negligible_length_on():
    for length, direction in ((0.0, 0.0), (NEGLIGIBLE, 0.0), (2 * NEGLIGIBLE, 1.0), (1e30, 1.0)):
        vector = torch.tensor([[length, 0.0]], dtype=torch.float64)
        assert unit(vector).tolist() == [[pytest.approx(direction), 0]]
