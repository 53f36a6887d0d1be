import numpy as np
import torch

from sae_lens_abstopk.saes.seed_stability import seed_stability, share_found


def test_latents_are_found_in_other_seeds_in_any_order_and_sign() -> None:
    axes = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)))[0]
    near = 0.8 * axes[2] + 0.6 * axes[7]
    far = 0.6 * axes[2] + 0.8 * axes[6]
    seeds = [axes[:3], torch.stack([-5 * axes[1], axes[0], near]), torch.stack([0 * axes[0], axes[1], far])]
    found = seed_stability(torch.stack(seeds))
    assert found.found.tolist() == [[0.5, 1, 0.5], [1, 0.5, 0.5], [0, 1, 0]]
    assert found.best_seed == 0


def test_one_seed_has_no_stability() -> None:
    found = seed_stability(torch.eye(3)[None])
    assert np.isnan(found.found).all()
    assert found.best_seed == 0


def test_one_sided_latents_are_not_found_in_opposite_ones() -> None:
    axes = torch.eye(3)
    assert share_found(axes, [-axes, axes[:1]]).tolist() == [1, 0.5, 0.5]
    assert share_found(axes, [-axes, axes[:1]], signed=False).tolist() == [0.5, 0, 0]
