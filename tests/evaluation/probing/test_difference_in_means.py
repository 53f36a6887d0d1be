from typing import Any

import pytest
import torch

from sae_lens_abstopk import ConfigError, DifferenceInMeans
from sae_lens_abstopk.evaluation.probing.difference_in_means import DifferenceInMeansFitter


def data(n: int = 200, d: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    pole = torch.randint(0, 2, (n,), generator=generator)
    x = torch.randn(n, d, generator=generator) + 50
    x[:, 3] += 4 * pole
    return x, pole


def test_streamed_batches_give_the_difference_of_the_means() -> None:
    x, pole = data()
    fitter = DifferenceInMeansFitter(12)
    for part, poles in zip(x.split(37), pole.split(37), strict=True):
        assert fitter.update(part, poles) is fitter
    fit = fitter.result
    difference = x[pole == 1].double().mean(0) - x[pole == 0].double().mean(0)
    assert isinstance(fit, DifferenceInMeans)
    assert fit != fitter.result
    torch.testing.assert_close(fit.direction, difference / difference.norm())
    assert fit.norm == pytest.approx(difference.norm().item())
    assert fit.n == (int((pole == 0).sum()), int((pole == 1).sum()))
    assert fit.direction.norm().item() == pytest.approx(1)
    apart = DifferenceInMeansFitter().update(x[pole == 0], 0).update(x[pole == 1], 1).result
    torch.testing.assert_close(apart.direction, fit.direction)


def test_the_threshold_lies_half_way_and_scores_rise_towards_pole_b() -> None:
    x, pole = data()
    fit = DifferenceInMeansFitter().update(x, pole).result
    means = fit(torch.stack([fit.mean_a, fit.mean_b]))
    assert means.mean().item() == pytest.approx(fit.threshold)
    assert means[0] < means[1]
    assert ((fit(x) > fit.threshold) == (pole == 1)).double().mean() > 0.9
    assert fit(x.view(10, 20, 12)).shape == (10, 20)


def test_sums_in_half_precision_would_lose_the_difference_and_these_do_not() -> None:
    x = torch.full((20_000, 1), 1000.0, dtype=torch.bfloat16)
    fit = DifferenceInMeansFitter().update(x, 0).update(x + 8, 1).result
    assert fit.norm == 8


@pytest.mark.parametrize(
    ("x", "pole"), [(torch.ones(3, 4), torch.tensor([0, 1, 2])), (torch.tensor([[1.0, 2.0, 3.0, torch.nan]]), 0)]
)
def test_activations_and_poles_that_do_not_fit_are_refused(x: torch.Tensor, pole: Any) -> None:
    fitter = DifferenceInMeansFitter(4)
    with pytest.raises(ConfigError, match=r"x must be finite, and each pole 0 \(A\) or 1 \(B\)"):
        fitter.update(x, pole)
    with pytest.raises(ConfigError, match="pole B has no example"):
        _ = fitter.update(torch.ones(3, 4), 0).result


def test_equal_means_have_no_direction_and_no_nan() -> None:
    fit = DifferenceInMeansFitter().update(torch.ones(2, 3), torch.tensor([0, 1])).result
    assert fit.direction.tolist() == [0, 0, 0]
    assert fit.norm == 0
