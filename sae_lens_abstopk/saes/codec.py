"""What an evaluation asks of an SAE: to encode and to decode, by itself or behind the scale of its training."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from sae_lens import SAE
from sae_lens.training.activation_scaler import ActivationScaler


class Codec(Protocol):
    """Anything with SAELens's ``encode`` and ``decode``."""

    def encode(self, x: torch.Tensor, /) -> torch.Tensor: ...
    def decode(self, feature_acts: torch.Tensor, /) -> torch.Tensor: ...


@dataclass(frozen=True)
class ScaledCodec:
    """An SAE in training, behind the activation scale that is folded into its weights only at the end; takes any device."""

    sae: SAE[Any]
    scaler: ActivationScaler

    def encode(self, x: torch.Tensor, /) -> torch.Tensor:
        return self.sae.encode(self.scaler.scale(x.to(self.sae.W_dec.device)))

    def decode(self, feature_acts: torch.Tensor, /) -> torch.Tensor:
        return self.scaler.unscale(self.sae.decode(feature_acts))
