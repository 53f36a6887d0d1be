"""What an architecture is: stated on the config classes of this package, and in one table for SAELens's own."""

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
    """A config class of an architecture has them as ``traits``; subclasses inherit them."""

    signed: bool = False
    """Latents may fire on both sides."""
    k_per: Literal["token", "batch"] | None = None
    """k latents are on in each token, or on average over a batch; None where no k decides."""
    gate: Literal["threshold", "b_gate", "b_enc"] | None = None
    """The parameter that decides whether a latent is on; None where k does."""


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
    """The traits that the config's own class declares; None where a subclass only inherits them."""
    return vars(type(cfg)).get("traits") or SAELENS.get(type(cfg))
