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


def test_one_pole_a_batch_is_the_same_as_mixed_batches() -> None:
    x, pole = data()
    apart = DifferenceInMeansFitter().update(x[pole == 0], 0).update(x[pole == 1], 1).result
    torch.testing.assert_close(apart.direction, DifferenceInMeansFitter().update(x, pole).result.direction)


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


def test_a_pole_without_examples_is_named() -> None:
    with pytest.raises(ConfigError, match=r"pole B has no example \(A has 3, B has 0\)"):
        _ = DifferenceInMeansFitter().update(torch.ones(3, 2), 0).result
    with pytest.raises(ConfigError, match="pole A has no example"):
        _ = DifferenceInMeansFitter(4).result


def test_other_widths_and_other_poles_are_refused() -> None:
    fitter = DifferenceInMeansFitter(4)
    with pytest.raises(ConfigError, match=r"shape \(3, 5\); activations of this fit are \[n, 4\]"):
        fitter.update(torch.ones(3, 5), 0)
    with pytest.raises(ConfigError, match=r"0 \(A\) or 1 \(B\); found \[2\]"):
        fitter.update(torch.ones(3, 4), torch.tensor([0, 1, 2]))
    for poles in (torch.tensor([0, 1]), torch.tensor([[0], [1], [0]])):
        with pytest.raises(ConfigError, match=r"pole has shape .*; give \[3\], one for each activation, or one number"):
            fitter.update(torch.ones(3, 4), poles)
    for value in (torch.nan, torch.inf):
        with pytest.raises(ConfigError, match="x has values that are NaN or infinite"):
            fitter.update(torch.tensor([[1.0, 2.0, 3.0, value]]), 0)
    assert fitter.n == [0, 0]


def test_equal_means_have_no_direction_and_no_nan() -> None:
    fit = DifferenceInMeansFitter().update(torch.ones(2, 3), torch.tensor([0, 1])).result
    assert fit.direction.tolist() == [0, 0, 0]
    assert fit.norm == 0
