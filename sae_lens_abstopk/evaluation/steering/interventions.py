"""What is compared in a dose-response: a latent, the same latent clamped, and directions added at equal norm."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from sae_lens import SAE

from sae_lens_abstopk.evaluation.steering.steer import checked_latent, steering_edit, written_by
from sae_lens_abstopk.model.activation_edits import Edit


@dataclass(frozen=True)
class Intervention:
    """A way to steer, of which only the strength is open; positive strengths go towards pole B."""

    name: str
    operator: Literal["add", "clamp"]
    scale: float
    """s: what a strength of 1 is, as a code (latent) or as an added norm (direction)."""
    latent: int | None = None
    orientation: Literal[1, -1] = 1
    """1 where positive codes, or the direction, point to pole B."""
    direction: torch.Tensor | None = field(default=None, repr=False, compare=False)
    """[d_in], of any norm; None for a latent."""
    by_gain: bool = False
    """Whether a direction is added times the gain of each activation, as a latent is by an SAE that normalises as it runs."""

    def edit(self, sae: SAE[Any], strength: float) -> Edit:
        """The edit at ``strength``."""
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
    The latent (``add`` and ``clamp``), the difference in means, and random directions.

    All that add do so with the norm alpha s norm(d_j), times the activation's gain where the SAE normalises as it runs.
    What ``clamp`` changes depends on the code that a token has.

    Args:
        sae: The SAE.
        latent: j.
        scale: s of the latent, or :class:`LatentScales`, which give it.
        orientation: 1 where positive codes are pole B, else -1.
        difference_in_means: mean(B) - mean(A) at the hook, [d_in]; left out where None.
        n_random: Random directions, isotropic.
        seed: Of the random directions.

    Raises:
        ConfigError: ``sae`` has no such latent.
    """
    latent = checked_latent(latent, sae)
    scale = scale(latent) if callable(scale) else scale
    norm = scale * written_by(sae, latent).norm().item()
    found = [
        Intervention("latent", "add", scale, latent, orientation),
        Intervention("clamp", "clamp", scale, latent, orientation),
    ]
    if difference_in_means is not None:
        found.append(Intervention("difference_in_means", "add", norm, direction=difference_in_means, by_gain=True))
    generator = torch.Generator().manual_seed(seed)
    found += [
        Intervention(f"random_{i}", "add", norm, direction=torch.randn(sae.cfg.d_in, generator=generator), by_gain=True)
        for i in range(n_random)
    ]
    return tuple(found)
