"""The option that decides how many latents are active: a coefficient, or k."""

from sae_lens.saes.sae import TrainingSAEConfig


def sparsity_coefficient(cfg: TrainingSAEConfig | type[TrainingSAEConfig]) -> str | None:
    """Name of the coefficient that decides the L0 of an architecture: ``"l0"``, ``"l1"``, or None where k does."""
    return next((name for name in ("l0", "l1") if hasattr(cfg, f"{name}_coefficient")), None)
