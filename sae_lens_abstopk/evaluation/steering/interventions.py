"""The interventions that a dose-response compares: a latent, the same latent clamped, and directions of equal norm."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from sae_lens import SAE

from sae_lens_abstopk.evaluation.steering.steer import steering_edit, written_by
from sae_lens_abstopk.model.activation_edits import Edit


@dataclass(frozen=True)
class Intervention:
    """A way to steer at any strength; positive strengths lead towards pole B."""

    name: str
    operator: Literal["add", "clamp"]
    scale: float
    """s: a strength of 1 as a code (latent) or as an added norm (direction)."""
    latent: int | None = None
    orientation: Literal[1, -1] = 1
    """1 where positive codes, or the direction, point to pole B."""
    direction: torch.Tensor | None = field(default=None, repr=False, compare=False)
    """[d_in], of any norm; None for a latent."""
    by_gain: bool = False
    """Whether a direction is multiplied by each activation's gain, as the latents of an SAE that normalises are."""

    def edit(self, sae: SAE[Any], strength: float) -> Edit:
        return steering_edit(
            sae,
            latent=self.latent,
            direction=self.direction,
            strength=self.orientation * strength,
            operator=self.operator,
            scale=self.scale,
            by_gain=self.by_gain,
        )


def equal_norm_interventions(
    sae: SAE[Any],
    *,
    latent: int,
    scale: float | Callable[[int], float],
    orientation: Literal[1, -1] = 1,
    difference_in_means: torch.Tensor | None = None,
    n_random: int = 3,
    seed: int = 0,
) -> tuple[Intervention, ...]:
    """
    The latent (``add`` and ``clamp``), the difference in means [d_in] if given, and isotropic random directions.

    All that add use the norm alpha s norm(d_j), times the activation's gain if the SAE normalises as it runs. What
    ``clamp`` changes depends on the code of each token. ``orientation`` is 1 if positive codes are pole B; ``seed``
    draws the random directions.
    """
    scale = scale(latent) if callable(scale) else scale
    norm = scale * written_by(sae, latent).norm().item()
    generator = torch.Generator().manual_seed(seed)
    directions = {} if difference_in_means is None else {"difference_in_means": difference_in_means}
    directions |= {f"random_{i}": torch.randn(sae.cfg.d_in, generator=generator) for i in range(n_random)}
    return (
        Intervention("latent", "add", scale, latent, orientation),
        Intervention("clamp", "clamp", scale, latent, orientation),
        *(Intervention(name, "add", norm, direction=each, by_gain=True) for name, each in directions.items()),
    )
