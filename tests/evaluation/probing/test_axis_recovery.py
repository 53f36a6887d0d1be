"""Dictionaries scored by hand, and SAEs trained on axes that are used with both signs."""

from typing import Any

import pytest
import torch
from sae_lens import TrainingSAE
from sae_lens.synthetic import ActivationGenerator, FeatureDictionary, train_toy_sae
from typing_extensions import override

from sae_lens_abstopk import AbsTopKTrainingSAE, AbsTopKTrainingSAEConfig
from sae_lens_abstopk.evaluation.probing.latent_scores import score_latents
from sae_lens_abstopk.evaluation.probing.pole_coverage import pole_coverage, single_fires
from sae_lens_abstopk.evaluation.results.bootstrap import bootstrap
from sae_lens_abstopk.saes import SparseTopKTrainingSAE, SparseTopKTrainingSAEConfig
from sae_lens_abstopk.saes.poles import pole_counts
from tests.evaluation.probing.axis_recovery import axis_recovery

N_AXES = 64


def test_each_axis_is_scored_by_the_poles_that_point_along_it() -> None:
    axes = torch.eye(6)[:4]
    tilted = torch.tensor([[0.0, 0, 0, 1, 1, 0]])  # 45 degrees off the last axis
    rows = torch.cat([-2 * axes[:1], axes[1:2], -0.1 * axes[1:2], axes[2:3], tilted])
    #                          latent 0 fires on both sides, the others on their positive one
    counts = torch.tensor([[60, 100, 100, 100, 100], [40, 0, 0, 0, 100]])
    found = axis_recovery(rows, 3 * axes, counts)
    assert (found.one_latent, found.pair, found.one_side, found.none) == (0.25, 0.25, 0.25, 0.25)
    assert found.sides == 5 / 8
    assert found.latents_per_axis == 1.5
    assert axis_recovery(rows, axes, counts, threshold=0.7).none == 0


def test_a_pole_that_hardly_fires_finds_nothing() -> None:
    rows, axes = torch.eye(2), torch.eye(2)
    found = axis_recovery(rows, axes, torch.tensor([[999, 0], [9, 0]]))
    assert (found.one_latent, found.one_side, found.none) == (0, 0.5, 0.5)
    assert torch.tensor(found.latents_per_axis).isnan()


class SignedActivations(ActivationGenerator):
    """SAELens's generator, whose codes are never negative, with a random sign on each."""

    @override
    @torch.no_grad()
    def sample(self, batch_size: int) -> torch.Tensor:
        codes = super().sample(batch_size)
        return codes * (2 * torch.randint(2, codes.shape) - 1)


def trained(sae: TrainingSAE[Any], axes: FeatureDictionary, codes: ActivationGenerator) -> TrainingSAE[Any]:
    train_toy_sae(sae, axes, codes, training_samples=1_024_000, batch_size=512, lr=3e-3, lr_decay_steps=700)
    return sae.eval()


def coverage_of_best_latents(codes: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Pole coverage of the best latent for each axis, chosen on half of the samples and measured on the others."""
    found = []
    for axis in true.T:
        on = codes[axis != 0].numpy()
        pole = (axis[axis != 0] > 0).long().numpy()
        half = len(pole) // 2
        (scores,) = score_latents([on[:half]], [pole[:half]])
        orientation = 1 if scores.auroc[scores.best] >= 0.5 else -1
        fires = single_fires(on[half:, scores.best], orientation)
        found.append(bootstrap(pole_coverage(*fires, pole[half:]), len(pole) - half, resamples=1).value)
    return torch.tensor(found)


@pytest.mark.slow
def test_a_signed_latent_holds_an_axis_and_a_non_negative_one_half_of_it() -> None:
    torch.manual_seed(0)
    axes = FeatureDictionary(N_AXES, N_AXES, seed=0)
    codes = SignedActivations(N_AXES, 0.04, std_firing_magnitudes=0.3)
    options: dict[str, Any] = {"d_in": N_AXES, "k": 4}  # 2.6 axes are on at a time
    topk = SparseTopKTrainingSAE, SparseTopKTrainingSAEConfig
    found, coverage = {}, {}
    for name, (make, config), d_sae in (
        ("abstopk", (AbsTopKTrainingSAE, AbsTopKTrainingSAEConfig), N_AXES),
        ("topk", topk, N_AXES),
        ("topk at 2F", topk, 2 * N_AXES),
    ):
        sae = trained(make(config(d_sae=d_sae, **options)), axes, codes)  # type: ignore[arg-type]
        true = codes.sample(20_000)
        encoded = sae.encode(axes(true)).detach()
        found[name] = axis_recovery(sae.W_dec.data, axes.feature_vectors.data, pole_counts(encoded))
        coverage[name] = coverage_of_best_latents(encoded, true)

    assert found["abstopk"].one_latent >= 0.95
    assert coverage["abstopk"].mean() > 0.9
    assert found["topk"].one_latent == 0
    assert 0.4 <= found["topk"].sides <= 0.5  # it has a latent for half of the sides
    assert found["topk"].pair <= 0.5
    assert found["topk at 2F"].one_latent == 0
    assert found["topk at 2F"].pair >= 0.85
    assert found["topk at 2F"].latents_per_axis == 2
    assert max(coverage["topk"].max(), coverage["topk at 2F"].max()) <= 0.5
