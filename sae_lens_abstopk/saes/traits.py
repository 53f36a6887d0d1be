"""Traits of an architecture: declared by config classes of this package, and in one table for SAELens's own."""

from dataclasses import dataclass
from typing import Any, Literal

from sae_lens import (
    SAE,
    AbsTopKSAEConfig,
    AbsTopKTrainingSAEConfig,
    BatchTopKTrainingSAEConfig,
    GatedSAEConfig,
    JumpReLUSAEConfig,
    JumpReLUTrainingSAEConfig,
    MatchingPursuitSAEConfig,
    StandardSAEConfig,
    TemporalSAEConfig,
    TopKSAEConfig,
    TopKTrainingSAEConfig,
)
from sae_lens.saes.sae import SAEConfig, TrainingSAEConfig

from sae_lens_abstopk.system.errors import require_choice


@dataclass(frozen=True)
class Traits:
    """Traits of an architecture, an attribute of its config class that subclasses inherit."""

    signed: bool = False
    """Whether latents may fire on both sides."""
    k_per: Literal["token", "batch"] | None = None
    """The scope of k: each token, or the average over a batch; None without a k."""
    gate: Literal["threshold", "b_gate", "b_enc"] | None = None
    """The threshold parameter; None where k decides."""


SAELENS: dict[type[SAEConfig], Traits] = {
    AbsTopKSAEConfig: Traits(signed=True, k_per="token"),
    AbsTopKTrainingSAEConfig: Traits(signed=True, k_per="token"),
    TopKSAEConfig: Traits(k_per="token"),
    TopKTrainingSAEConfig: Traits(k_per="token"),
    BatchTopKTrainingSAEConfig: Traits(k_per="batch"),
    JumpReLUSAEConfig: Traits(gate="threshold"),
    JumpReLUTrainingSAEConfig: Traits(gate="threshold"),
    GatedSAEConfig: Traits(gate="b_gate"),
    StandardSAEConfig: Traits(gate="b_enc"),
    MatchingPursuitSAEConfig: Traits(),
    TemporalSAEConfig: Traits(),
}


def declared_traits(cfg: SAEConfig) -> Traits | None:
    """Return the traits that the config's own class declares; None if it only inherits them."""
    return vars(type(cfg)).get("traits") or SAELENS.get(type(cfg))


def sparsity_coefficient(cfg: TrainingSAEConfig | type[TrainingSAEConfig]) -> str | None:
    """Return the name of the coefficient that decides the L0, ``"l0"`` or ``"l1"``; None where k does."""
    return next((name for name in ("l0", "l1") if hasattr(cfg, f"{name}_coefficient")), None)


def k_of(sae: SAE[Any]) -> int:
    """Return the k of a per-token TopK SAE; raise a ConfigError if its config and its activation differ."""
    active: int = getattr(sae.activation_fn, "k", sae.cfg.k)
    require_choice("this SAE: cfg.k", sae.cfg.k, (active,), remedy=", as activation_fn.k is; set both")
    return active


def overridden(sae: object, base: type, methods: tuple[str, ...]) -> list[str]:
    """Return the ``methods`` that ``sae`` overrides, itself or in a subclass of ``base``."""
    mro = type(sae).__mro__
    scopes = [vars(sae), *(vars(each) for each in mro[: mro.index(base)])]
    return [method for method in methods if any(method in scope for scope in scopes)]
