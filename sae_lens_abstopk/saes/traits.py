"""Traits of an architecture: declared by config classes of this package, and in one table for SAELens's own."""

from dataclasses import dataclass
from typing import Literal

from sae_lens import (
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
from sae_lens.saes.sae import SAEConfig


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
