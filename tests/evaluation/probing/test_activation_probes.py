"""Difference in means, logistic regression and principal components of activations, against other implementations."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sae_lens_abstopk import ConfigError, DifferenceInMeansFitter
from sae_lens_abstopk.evaluation.probing.activation_probes import concept_pca
from sae_lens_abstopk.evaluation.probing.probe_score import CS, fit_logistic


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
    torch.testing.assert_close(fit.direction, difference / difference.norm())
    assert fit.norm == pytest.approx(difference.norm().item())
    assert fit.n == (int((pole == 0).sum()), int((pole == 1).sum()))
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
    with pytest.raises(ConfigError, match="an example of pole B is missing"):
        _ = fitter.update(torch.ones(3, 4), 0).result


def test_equal_means_have_no_direction_and_no_nan() -> None:
    fit = DifferenceInMeansFitter().update(torch.ones(2, 3), torch.tensor([0, 1])).result
    assert fit.direction.tolist() == [0, 0, 0]
    assert fit.norm == 0


def features_and_poles(seed: int, *, d: int = 30, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, n)
    features = generator.normal(size=(n, d)) * np.linspace(0.1, 30, d) + 5
    features[:, 0] += 0.1 * labels
    return features.astype(np.float32), labels


def test_it_is_scikit_learns_pipeline_with_the_penalty_of_lowest_log_loss_on_val() -> None:
    train, val, other = features_and_poles(0), features_and_poles(1), features_and_poles(2)
    probe = fit_logistic(train, val)
    pipelines = {
        C: make_pipeline(StandardScaler(), LogisticRegression(C=C, tol=1e-8, max_iter=5000)).fit(*train) for C in CS
    }
    losses = {C: log_loss(val[1], pipeline.predict_proba(val[0])) for C, pipeline in pipelines.items()}
    assert min(losses, key=lambda C: losses[C]) == probe.C
    assert min(CS) < probe.C < max(CS)
    expected = pipelines[probe.C].decision_function(other[0])
    np.testing.assert_allclose(probe(other[0]), expected, atol=1e-2)


def test_features_that_never_vary_are_harmless() -> None:
    features, labels = features_and_poles(0)
    features[:, 3] = 7
    probe = fit_logistic((features, labels), features_and_poles(1))
    assert probe.weights[3] == pytest.approx(0)
    assert np.isfinite(probe(features)).all()


def test_components_are_scikit_learns_with_pole_b_above_pole_a() -> None:
    generator = np.random.default_rng(0)
    axis = generator.normal(size=16)
    axis /= np.linalg.norm(axis)
    pole = np.arange(60) % 2
    x = (10 + 0.3 * generator.normal(size=(60, 16)) + np.outer(6 * pole - 3, axis)).astype(np.float32)
    found, theirs = concept_pca(x, pole), PCA(2).fit(x.astype(np.float64))
    coordinates = np.array(found.coordinates)
    np.testing.assert_allclose(found.explained, theirs.explained_variance_ratio_)
    np.testing.assert_allclose(abs(coordinates), abs(theirs.transform(x.astype(np.float64))))
    assert coordinates[pole == 1, 0].min() > coordinates[pole == 0, 0].max()
    assert (coordinates[pole == 1].mean(0) > coordinates[pole == 0].mean(0)).all()
