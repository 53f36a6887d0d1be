"""Statistics of the activations: SAELens's numbers, from one pass that holds no batch longer than it must."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from sae_lens.training.activation_scaler import ActivationScaler

from sae_lens_abstopk.training.metrics import step_metrics
from sae_lens_abstopk.training.trainers import estimate_scales

D_IN, N_BATCHES = 6, 20
NORM, WHITENING = "expected_average_only_in", "covariance_whitening"


def trainer(normalisation: str) -> Any:
    """As much of a trainer as is looked at."""
    cfg = SimpleNamespace(normalize_activations=normalisation, d_in=D_IN)
    return SimpleNamespace(sae=SimpleNamespace(cfg=cfg), activation_scaler=ActivationScaler())


def batches() -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    while True:
        yield torch.randn(32, D_IN, generator=generator) * 3 + 1


@pytest.mark.parametrize("kinds", [[NORM], [WHITENING], [NORM, WHITENING, "none", NORM, WHITENING]])
def test_estimates_are_those_of_saelens_and_take_as_many_batches(kinds: list[str]) -> None:
    trainers, stream, expected = [trainer(kind) for kind in kinds], batches(), ActivationScaler()
    expected.estimate_scaling_factor(D_IN, batches(), N_BATCHES)
    expected.estimate_whitening(D_IN, batches(), N_BATCHES)
    estimate_scales(trainers, stream, n_batches=N_BATCHES)
    for each in trainers:
        kind, scaler = each.sae.cfg.normalize_activations, each.activation_scaler
        assert scaler.scaling_factor == (expected.scaling_factor if kind == NORM else None)
        assert (scaler.whitening is not None) == (kind == WHITENING)
        for name in ("mean", "matrix", "inverse_matrix") if kind == WHITENING else ():
            assert torch.equal(getattr(scaler.whitening, name), getattr(expected.whitening, name))
    again = batches()
    for _ in range(N_BATCHES):
        next(again)
    assert torch.equal(next(stream), next(again))


@pytest.mark.parametrize("kind", ["none", NORM, WHITENING])
def test_the_metrics_of_a_step_are_in_the_units_of_the_raw_activations(kind: str) -> None:
    each = trainer(kind)
    estimate_scales([each], stream := batches(), n_batches=N_BATCHES)
    x, noise = next(stream), next(stream)
    scale = each.activation_scaler.scale
    output: Any = SimpleNamespace(
        sae_in=scale(x),
        sae_out=scale(x + noise),
        feature_acts=torch.ones(32, 4),
        loss=torch.tensor(1.0),
        losses={"mse_loss": torch.tensor(1.0)},
        metrics={"own": lambda: torch.tensor(0.25), "two_sidedness": 0.75},
    )
    vars(each).update(n_training_samples=32, dead_neurons=torch.zeros(4))
    each.optimizer = SimpleNamespace(param_groups=[{"lr": 1.0}])
    metrics, error = step_metrics(each, output), noise.square().sum()
    assert (metrics["losses/mse_loss"], metrics["metrics/own"]) == (1.0, 0.25)
    assert "metrics/two_sidedness" not in metrics, "it is a column"
    assert metrics["mse"] == pytest.approx(float(error / 32), rel=1e-4)
    assert metrics["fvu"] == pytest.approx(float(error / (x - x.mean(0)).square().sum()), rel=1e-4)
