"""Fit the threshold for a target mean number of active latents, from streaming magnitudes."""

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lens_abstopk.system.errors import ConfigError

# positive floats sort like their bits; sign, exponent and 12 bits of mantissa are exact to 1 part in 4,096
DROPPED_BITS = 11
N_BINS = 2 ** (31 - DROPPED_BITS)


def require_activations(x: Float[Tensor, "n ..."], d_in: int) -> None:
    """Raise a ConfigError unless ``x`` holds finite activations of the width ``d_in``."""
    if x.ndim < 2 or len(x) == 0 or x[0].numel() != d_in or not x.isfinite().all():
        raise ConfigError(
            f"activations have the shape {list(x.shape)}; this SAE needs [n, {d_in}], without rows that are NaN or "
            "infinite."
        )


class ThresholdFitter:
    """Fits the threshold that on average ``k`` magnitudes a token exceed, or fewer: exact to 1 part in 4,096."""

    def __init__(self, k: float) -> None:
        self.k = k
        self._bins = torch.zeros(N_BINS, dtype=torch.int64)
        self._n_tokens = 0

    def update(self, magnitudes: Float[Tensor, "n F"]) -> "ThresholdFitter":
        """Add finite magnitudes; those of 0 or below do not count."""
        values = magnitudes.detach().float()
        positive = values[values > 0]
        places = positive.view(torch.int32).long() >> DROPPED_BITS
        self._bins += torch.bincount(places, minlength=N_BINS).cpu()
        self._n_tokens += len(values)
        return self

    @property
    def result(self) -> float:
        """The threshold theta; 0 if there are fewer than ``k`` positive magnitudes a token."""
        wanted = int(self.k * self._n_tokens)
        at_least = self._bins.flip(0).cumsum(0).flip(0)
        if at_least[0] <= wanted:
            return 0.0
        # the lowest bin with no more than the target in it and above
        lowest = int((at_least <= wanted).nonzero()[0])
        edge = torch.tensor(lowest << DROPPED_BITS, dtype=torch.int32).view(torch.float32)
        # values at the edge itself shall be on
        return torch.nextafter(edge, torch.tensor(0.0)).item()
