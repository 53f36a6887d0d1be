"""The encode and decode interface of evaluations, for SAEs and for SAEs in training with an activation scale."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float
from sae_lens import SAE, BatchTopKTrainingSAE
from sae_lens.training.activation_scaler import ActivationScaler
from torch import Tensor

from sae_lens_abstopk.saes.batch_selection import BatchSelectionSAE
from sae_lens_abstopk.system.errors import ConfigError


class Codec(Protocol):
    """Anything with SAELens's ``encode`` and ``decode``."""

    def encode(self, x: Float[Tensor, "... D"], /) -> Float[Tensor, "... F"]: ...
    def decode(self, feature_acts: Float[Tensor, "... F"], /) -> Float[Tensor, "... D"]: ...


@dataclass(frozen=True)
class ScaledCodec:
    """An SAE in training with its activation scale, not yet folded into the weights; accepts any device."""

    sae: SAE[Any]
    scaler: ActivationScaler

    def encode(self, x: Float[Tensor, "... D"], /) -> Float[Tensor, "... F"]:
        scaled, sae = self.scaler.scale(x.to(self.sae.W_dec.device)), self.sae
        if isinstance(sae, BatchTopKTrainingSAE) and not isinstance(sae, BatchSelectionSAE) and not sae.training:
            # SAELens's own SAE selects over the given batch until it is saved with its threshold
            codes, hidden_pre = sae.encode_with_hidden_pre(scaled)
            threshold = sae.topk_threshold
            return torch.where(hidden_pre <= threshold, 0.0, hidden_pre) if threshold > 0 else codes
        return sae.encode(scaled)

    def decode(self, feature_acts: Float[Tensor, "... F"], /) -> Float[Tensor, "... D"]:
        return self.scaler.unscale(self.sae.decode(feature_acts))


def require_finite_codes(codes: Float[Tensor, "... F"], of: str) -> None:
    """Raise a ConfigError if codes, dense or sparse, are not finite; ``of`` names their SAE."""
    values = codes.coalesce().values() if codes.is_sparse else codes
    if not bool(values.sum(dtype=torch.float32).isfinite()):
        raise ConfigError(f"{of} gives codes that are NaN or infinite; check its weights, and load it in float32.")
