import numpy as np
import torch

from sae_lens_abstopk.pairs.axis_match import axis_stability


def test_axes_are_found_in_other_seeds_in_any_order_and_sign() -> None:
    axes = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)))[0]
    near = 0.8 * axes[2] + 0.6 * axes[7]
    far = 0.6 * axes[2] + 0.8 * axes[6]
    seeds = [axes[:3], torch.stack([-5 * axes[1], axes[0], near]), torch.stack([0 * axes[0], axes[1], far])]
    found = axis_stability(torch.stack(seeds))
    assert found.found.tolist() == [[0.5, 1, 0.5], [1, 0.5, 0.5], [0, 1, 0]]
    assert found.best_seed == 0


def test_one_seed_has_no_stability() -> None:
    found = axis_stability(torch.eye(3)[None])
    assert np.isnan(found.found).all()
    assert found.best_seed == 0
