import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sae_lens_abstopk.evaluation.probing.logistic_probe import CS, fit_logistic


def data(seed: int, *, d: int = 30, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, n)
    features = generator.normal(size=(n, d)) * np.linspace(0.1, 30, d) + 5
    features[:, 0] += 0.1 * labels
    return features.astype(np.float32), labels


def test_it_is_scikit_learns_pipeline_with_the_penalty_of_lowest_log_loss_on_val() -> None:
    train, val, other = data(0), data(1), data(2)
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
    features, labels = data(0)
    features[:, 3] = 7
    probe = fit_logistic((features, labels), data(1))
    assert probe.weights[3] == pytest.approx(0)
    assert np.isfinite(probe(features)).all()
