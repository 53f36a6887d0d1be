"""The centre of activations."""

import torch

from sae_lens_abstopk.saes.centring import geometric_median
from tests.saes.test_signed_saes import tokens


def test_the_geometric_median_withstands_an_outlier() -> None:
    x = torch.cat([tokens(99), torch.full((1, 8), 1e4)])
    assert geometric_median(x).norm() < 1
    assert x.mean(0).norm() > 100
    distance = lambda point: (x - point).norm(dim=1).sum()  # noqa: E731
    median = geometric_median(x)
    assert all(distance(median) <= distance(median + 0.05 * direction) for direction in torch.eye(8))
