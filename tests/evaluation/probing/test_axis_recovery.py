"""SAEs trained on known axes that are used with both signs: how many axes one latent, or a pair, finds."""

from typing import Any

import pytest
import torch
from sae_lens.synthetic import ActivationGenerator, FeatureDictionary, train_toy_sae
from typing_extensions import override

from sae_lens_abstopk import AbsTopKTrainingSAE, AbsTopKTrainingSAEConfig
from sae_lens_abstopk.evaluation.probing.statistics import score_latents, single_coverage
from sae_lens_abstopk.evaluation.results.bootstrap import bootstrap
from sae_lens_abstopk.saes.geometry import unit_rows
from sae_lens_abstopk.saes.poles import live_poles, pole_counts
from sae_lens_abstopk.saes.topk import SparseTopKTrainingSAE, SparseTopKTrainingSAEConfig

N_AXES = 64


class SignedActivations(ActivationGenerator):
    """SAELens's generator, whose codes are never negative, with a random sign on each."""

    @override
    @torch.no_grad()
    def sample(self, batch_size: int) -> torch.Tensor:
        codes = super().sample(batch_size)
        return codes * (2 * torch.randint(2, codes.shape) - 1)


def axes_found(W_dec: torch.Tensor, axes: torch.Tensor, codes: torch.Tensor) -> tuple[float, float, float]:
    """Share of the axes that one latent finds on both sides, share that two find together, share of all sides found."""
    cosine, live = unit_rows(axes) @ unit_rows(W_dec).T, live_poles(pole_counts(codes))
    along, against = cosine > 0.9, cosine < -0.9
    # [axis, latent, side]: a live pole that points along a side of an axis finds it
    finds = torch.stack([along & live[0] | against & live[1], along & live[1] | against & live[0]], dim=-1)
    one, both, sides = finds.all(-1).any(1), finds.any(1).all(1), finds.any(1)
    return one.double().mean().item(), (both & ~one).double().mean().item(), sides.double().mean().item()


def coverage_of_best_latents(codes: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Pole coverage of the best latent for each axis, chosen on half of the samples and measured on the others."""
    found = []
    for axis in true.T:
        on = codes[axis != 0].numpy()
        pole = (axis[axis != 0] > 0).long().numpy()
        half = len(pole) // 2
        (scores,) = score_latents([on[:half]], [pole[:half]])
        orientation = 1 if scores.auroc[scores.best] >= 0.5 else -1
        coverage = single_coverage(on[half:, scores.best], orientation, pole[half:])
        found.append(bootstrap(coverage, len(pole) - half, resamples=1).value)
    return torch.tensor(found)


@pytest.mark.slow
def test_a_signed_latent_holds_an_axis_and_a_non_negative_one_half_of_it() -> None:
    torch.manual_seed(0)
    axes = FeatureDictionary(N_AXES, N_AXES, seed=0)
    codes = SignedActivations(N_AXES, 0.04, std_firing_magnitudes=0.3)
    options: dict[str, Any] = {"d_in": N_AXES, "k": 4}  # 2.6 axes are on at a time
    found, coverage = {}, {}
    for name, sae in (
        ("abstopk", AbsTopKTrainingSAE(AbsTopKTrainingSAEConfig(d_sae=N_AXES, **options))),
        ("topk", SparseTopKTrainingSAE(SparseTopKTrainingSAEConfig(d_sae=N_AXES, **options))),
        ("topk at 2F", SparseTopKTrainingSAE(SparseTopKTrainingSAEConfig(d_sae=2 * N_AXES, **options))),
    ):
        train_toy_sae(sae, axes, codes, training_samples=1_024_000, batch_size=512, lr=3e-3, lr_decay_steps=700)
        true = codes.sample(20_000)
        encoded = sae.eval().encode(axes(true)).detach()
        found[name] = axes_found(sae.W_dec.data, axes.feature_vectors.data, encoded)
        coverage[name] = coverage_of_best_latents(encoded, true)

    one_latent, _, _ = found["abstopk"]
    assert one_latent >= 0.95
    assert coverage["abstopk"].mean() > 0.9
    one_latent, pair, sides = found["topk"]
    assert (one_latent, pair <= 0.5, 0.4 <= sides <= 0.5) == (0, True, True)  # a latent for half of the sides
    one_latent, pair, _ = found["topk at 2F"]
    assert (one_latent, pair >= 0.85) == (0, True)
    assert max(coverage["topk"].max(), coverage["topk at 2F"].max()) <= 0.5
