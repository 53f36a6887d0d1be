"""The option that decides how many latents are active: a coefficient, or k."""

from typing import Any

from sae_lens import SAE
from sae_lens.saes.sae import TrainingSAEConfig

from sae_lens_abstopk.system.errors import ConfigError


def sparsity_coefficient(cfg: TrainingSAEConfig | type[TrainingSAEConfig]) -> str | None:
    """Name of the coefficient that decides the L0 of an architecture: ``"l0"``, ``"l1"``, or None where k does."""
    return next((name for name in ("l0", "l1") if hasattr(cfg, f"{name}_coefficient")), None)


def k_of(sae: SAE[Any]) -> int:
    """The k of an SAE that keeps k latents per token; a ConfigError if its config and its activation differ in it."""
    active: int = getattr(sae.activation_fn, "k", sae.cfg.k)
    if active != sae.cfg.k:
        raise ConfigError(
            f"this SAE keeps k={active} latents, and its config says k={sae.cfg.k}; set sae.cfg.k and "
            "sae.activation_fn.k."
        )
    return active
