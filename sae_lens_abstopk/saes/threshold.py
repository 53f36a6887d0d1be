"""Fit the threshold for a target mean number of active latents, from streaming magnitudes."""

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Float
from sae_lens import SAE
from torch import Tensor

from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.ranks import summed

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

    def over_ranks(self) -> "ThresholdFitter":
        """Return the fitter of the magnitudes of all ranks of a training run."""
        total = ThresholdFitter(self.k)
        counts = summed(torch.cat([self._bins, torch.tensor([self._n_tokens])]))
        total._bins, total._n_tokens = counts[:-1], int(counts[-1])
        return total

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


@torch.no_grad()
def at_l0(sae: SAE[Any], blocks: Iterable[Float[Tensor, "n D"]], k: float) -> SAE[Any]:
    """
    Return a copy of ``sae`` that lets pass ``k`` codes a row of ``blocks`` on average, or fewer where fewer are on.

    This is selection over all rows as one batch: all thresholds are multiplied by one number. SAEs whose thresholds let
    pass different numbers of codes cannot be compared by their errors. An SAE without thresholds is returned as it is.
    """
    names = [name for name in ("threshold", "negative_threshold") if hasattr(sae, name)]
    if not names:
        return sae
    moved: Any = deepcopy(sae)
    learned = {name: getattr(moved, name).clone() for name in names}
    for name, threshold in learned.items():
        getattr(moved, name).copy_(torch.where(threshold.isfinite(), 0.0, threshold))  # a closed pole stays closed
    scale = torch.where(learned["threshold"] > 0, learned["threshold"], 1.0)
    fitter = ThresholdFitter(k)
    for x in blocks:
        fitter.update(moved.encode(x.to(scale)).abs() / scale)
    for name, threshold in learned.items():
        getattr(moved, name).copy_(torch.where(threshold.isfinite(), scale * fitter.result, threshold))
    return moved
