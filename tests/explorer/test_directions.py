"""The nearest directions of another dictionary."""

import torch

from sae_lens_abstopk.explorer.directions import axis_matches


def test_the_nearest_direction_of_either_sign_is_found() -> None:
    generator = torch.Generator().manual_seed(0)
    ours, theirs = torch.randn(30, 6, generator=generator), torch.randn(50, 6, generator=generator)
    unit = torch.nn.functional.normalize(ours) @ torch.nn.functional.normalize(theirs).T
    all_of, third = torch.ones(50).bool(), torch.arange(50) % 3 == 0
    for fires in ((all_of, ~all_of), (all_of, all_of), (all_of, third), (third, ~third)):
        found = axis_matches(ours, theirs, fires=torch.stack(fires))
        for side, sign in enumerate((1, -1)):
            cosines = torch.stack([sign * unit, -sign * unit], dim=-1)  # by pole of the other
            cosines[:, ~torch.stack(fires, dim=-1)] = -2
            best = cosines.flatten(1).max(1)
            assert torch.allclose(found.cosine[side], best.values)
            assert found.latent[side].tolist() == (best.indices // 2).tolist()
            assert found.pole[side].tolist() == (best.indices % 2).tolist()
