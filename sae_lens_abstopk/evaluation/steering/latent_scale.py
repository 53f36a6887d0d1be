"""Measure how large the codes of each latent get: the unit of steering strengths."""

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import Any, Self

import torch
from sae_lens import SAE
from torch import nn
from typing_extensions import override

from sae_lens_abstopk.evaluation.steering.steer import require_codes, steering_filter
from sae_lens_abstopk.model.activation_edits import intervene
from sae_lens_abstopk.model.inference import bfloat16_autocast, in_evaluation_mode
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.saes.codec import require_finite_codes
from sae_lens_abstopk.saes.loading import require_all_heads, with_flat_heads
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.shown import Facts, Shown

# of abs(z) over firings
QUANTILE = 0.99
# histogram bins that grow by 2 %, from 1e-12 to about 1e12
_RATIO, _SMALLEST, _BINS = 1.02, 1e-12, 2791


@dataclass(frozen=True, repr=False)
class LatentScales(Shown):
    """99th percentile s of abs(z) of some latents over the tokens on which they fire; call it with a latent."""

    latents: tuple[int, ...]
    values: tuple[float, ...]
    """One per latent, within 1 % of the exact quantile; NaN if the latent did not fire."""
    firings: tuple[int, ...]
    """Tokens on which each latent fired, with either sign."""
    n_tokens: int

    def __call__(self, latent: int) -> float:
        """The scale of ``latent``; a ConfigError if it was not measured or did not fire."""
        value = dict(zip(self.latents, self.values, strict=True)).get(latent)
        if value is None or math.isnan(value):
            why = "was not measured" if value is None else f"did not fire in {self.n_tokens:,} tokens"
            raise ConfigError(f"latent {latent} has no scale: it {why}; measure it on more text, or give scale=NUMBER.")
        return value

    @override
    def _facts(self) -> Facts:
        known = [value for value in self.values if not math.isnan(value)]
        facts = {"latents": f"{len(self.latents):,}", "fired": f"{len(known):,}", "tokens": f"{self.n_tokens:,}"}
        if known:
            facts |= {
                "smallest scale": f"{min(known):.3g}",
                "median": f"{median(known):.3g}",
                "largest": f"{max(known):.3g}",
            }
        return [facts]


class LatentScaleFitter:
    """Streams codes into one histogram of log abs(z) per latent; memory does not grow with the number of tokens."""

    def __init__(self, latents: Sequence[int]) -> None:
        self.latents, self.n_tokens = tuple(latents), 0
        self._counts = torch.zeros(len(self.latents) * _BINS, dtype=torch.int64)

    def update(self, codes: torch.Tensor) -> Self:
        """Add codes [n, d_sae] of n tokens."""
        chosen = codes[:, list(self.latents)].abs().float().cpu()
        _, column = fired = chosen.nonzero(as_tuple=True)
        bins = (torch.log(chosen[fired] / _SMALLEST) / math.log(_RATIO)).floor().clamp(0, _BINS - 1).long()
        self._counts += torch.bincount(column * _BINS + bins, minlength=len(self._counts))
        self.n_tokens += len(codes)
        return self

    @property
    def result(self) -> LatentScales:
        """The scales of all codes so far."""
        counts = self._counts.view(-1, _BINS)
        total = counts.sum(1)
        rank = (QUANTILE * total).ceil().clamp(min=1)
        bins = (counts.cumsum(1) >= rank[:, None]).int().argmax(1)
        # the middle of the bin, in log abs(z)
        values = torch.where(total > 0, _SMALLEST * _RATIO ** (bins.double() + 0.5), torch.nan)
        return LatentScales(self.latents, tuple(values.tolist()), tuple(total.tolist()), self.n_tokens)


@torch.no_grad()
def latent_scale(
    model: nn.Module,
    sae: SAE[Any],
    batches: Iterable[torch.Tensor],
    *,
    latents: Sequence[int],
    token_filter: TokenFilter | None = None,
    autocast: bool = False,
) -> LatentScales:
    """
    Measure the scale s of ``latents``, without running the layers above the hook.

    The model runs in evaluation mode. ``batches`` are token ids [batch, context]; a latent that fires on 1 % of tokens
    has 500 firings in 50,000. The tokens that count are by default those that :func:`steer` steers.

    Raises:
        ConfigError: the SAE reads a single head, its codes are not finite, or the model has no such hook.
    """
    require_all_heads(sae, "the scale to steer by")
    require_codes(sae)
    fitter = LatentScaleFitter(latents)

    def look(activations: torch.Tensor) -> torch.Tensor:
        codes = with_flat_heads(sae).encode(activations.flatten(1).to(sae.W_dec.device))
        require_finite_codes(codes, "the SAE")
        fitter.update(codes.to_dense() if codes.is_sparse else codes)
        raise _SeenError

    token_filter = token_filter or steering_filter(model, sae)
    with in_evaluation_mode(model), intervene(model, sae.cfg.metadata.hook_name, look, token_filter=token_filter):
        for tokens in batches:
            with suppress(_SeenError), bfloat16_autocast(tokens.device, enabled=autocast):
                model(tokens)
    return fitter.result


class _SeenError(Exception):
    """Ends a forward pass after its activations were read."""
