"""What an evaluation asks of an SAE: to encode and to decode, by itself or behind the scale of its training."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from sae_lens import SAE, BatchTopKTrainingSAE
from sae_lens.training.activation_scaler import ActivationScaler

from sae_lens_abstopk.saes.batch_selection import BatchSelectionSAE
from sae_lens_abstopk.system.errors import ConfigError


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
        scaled, sae = self.scaler.scale(x.to(self.sae.W_dec.device)), self.sae
        if isinstance(sae, BatchTopKTrainingSAE) and not isinstance(sae, BatchSelectionSAE) and not sae.training:
            # SAELens's own selects over whatever batch it is given, until it is saved with its threshold
            codes, hidden_pre = sae.encode_with_hidden_pre(scaled)
            threshold = sae.topk_threshold
            return torch.where(hidden_pre <= threshold, 0.0, hidden_pre) if threshold > 0 else codes
        return sae.encode(scaled)

    def decode(self, feature_acts: torch.Tensor, /) -> torch.Tensor:
        return self.scaler.unscale(self.sae.decode(feature_acts))


def require_finite_codes(codes: torch.Tensor, of: str) -> None:
    """
    Refuse codes that cannot be counted or compared.

    Args:
        codes: Dense or sparse.
        of: What to call the SAE.

    Raises:
        ConfigError: one is NaN or infinite.
    """
    values = codes._values() if codes.is_sparse else codes
    if not bool(values.sum(dtype=torch.float32).isfinite()):
        raise ConfigError(f"{of} gives codes that are NaN or infinite; check its weights, and load it in float32.")
