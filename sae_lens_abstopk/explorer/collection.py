"""One streaming pass over a text that collects the firings of one or several SAEs, with bounded memory."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE

from sae_lens_abstopk.explorer.firing_statistics import CofiringSample, GrowingHistograms, LogHistograms
from sae_lens_abstopk.explorer.pass_cache import PassCache, Passes
from sae_lens_abstopk.model.contexts import CodeBatch, GroupTop, PoleContexts
from sae_lens_abstopk.model.inference import casts_shared
from sae_lens_abstopk.model.reconstruction import ReconstructionSums
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.saes.codec import require_finite_codes
from sae_lens_abstopk.system.terminal import PassProgress

SECONDS_BETWEEN_SAVES = 300.0


@dataclass(frozen=True)
class CollectionSettings:
    """How much to keep of each latent; with d_sae, these bound the memory."""

    strongest: int = 8
    """Strongest contexts of each pole, at most one per text row."""
    sampled: int = 12
    """Contexts of each pole drawn uniformly from its firings."""
    before: int = 20
    after: int = 8
    tokens_sampled: int = 32
    """Firings of each pole, drawn uniformly, for its top tokens."""
    bins: int = 32
    """Histogram bins per pole; even."""
    cofiring_tokens: int = 20_000
    """Most tokens for counts of joint firings."""
    cofiring_one_in: int = 8
    """One token in so many is counted, so that they come from all over the text."""
    reconstruction_tokens: int = 50_000
    """Tokens for the measurement of reconstruction; only these are decoded."""
    seed: int = 0


class Collector:
    """Everything collected about one SAE's latents."""

    def __init__(self, d_sae: int, settings: CollectionSettings) -> None:
        window = {"before": settings.before, "after": settings.after}
        self.d_sae, self.seed = d_sae, settings.seed
        self.n_batches = 0
        self.strongest = PoleContexts(d_sae, settings.strongest, **window)
        self.sampled = PoleContexts(d_sae, settings.sampled, **window)
        kept = {"token": ((), torch.int32), "code": ((), torch.float32)}
        self.tokens = GroupTop(2 * d_sae, settings.tokens_sampled, kept)
        self.histograms = GrowingHistograms(d_sae, settings.bins)
        self.strengths = LogHistograms(d_sae)
        self.cofiring = CofiringSample(d_sae, settings.cofiring_tokens, one_in=settings.cofiring_one_in)
        self.sums = ReconstructionSums()

    @property
    def pole_counts(self) -> torch.Tensor:
        """Firings of the positive and of the negative pole, int64 [2, d_sae]."""
        return self.strongest.fires

    @property
    def n_tokens(self) -> int:
        return self.strongest.n_tokens

    def update(self, codes: torch.Tensor, where: torch.Tensor, tokens: torch.Tensor) -> None:
        """Add codes [n, d_sae] of the tokens at ``where`` [n, 2] (row and position) in ``tokens`` [batch, context]."""
        # seeded by the batch number, so that a resumed pass draws the same sample
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.n_batches)
        batch = CodeBatch(codes, where, tokens)
        firings, poles = batch.firings, batch.firings.poles
        priority = torch.rand(len(firings.values), generator=generator)
        self.strongest.add(batch)
        self.sampled.add(batch, priority)
        self.tokens.update(
            poles * self.d_sae + firings.latents,
            priority,
            lambda chosen: {"token": batch.token_ids(chosen), "code": firings.values[chosen]},
        )
        for histograms in (self.histograms, self.strengths):
            histograms.add(poles, firings.latents, firings.values.abs())
        self.cofiring.add(batch, generator)
        self.n_batches += 1


@torch.no_grad()
@casts_shared()
def collect(
    passes: Passes,
    saes: Mapping[str, SAE[Any]],
    batches: Sequence[torch.Tensor],
    *,
    token_filter: TokenFilter,
    settings: CollectionSettings,
    checkpoint: Path | None = None,
    on_progress: PassProgress | None = None,
) -> dict[str, Collector]:
    """
    Run ``batches`` of token ids [batch, context] once and collect for each of ``saes``, all at one hook.

    The pass is saved in the folder ``checkpoint`` every five minutes and at its end, and resumed from there.

    Raises:
        ConfigError: activations or codes are NaN or infinite, or the filter keeps no token.
    """
    collectors = {name: Collector(sae.cfg.d_sae, settings) for name, sae in saes.items()}
    cache = PassCache(checkpoint, passes, saes, token_filter, settings) if checkpoint else None
    done = cache.restore(collectors, batches) if cache else 0
    saved_at = time.monotonic()
    for number, tokens in enumerate(batches[done:], start=done + 1):
        activations = passes.activations(tokens)
        kept, x = token_filter.mask_and_rows(tokens, activations, passes.hook_name)
        where = kept.nonzero()
        for name, sae in saes.items():
            codes = sae.encode(x)
            require_finite_codes(codes, f"SAE {name!r}")
            sums = collectors[name].sums
            if sums.n_tokens < settings.reconstruction_tokens:
                sums.update(x, sae.decode(codes).float())
            collectors[name].update(codes, where, tokens)
            del codes  # free the codes before the next SAE makes its own
        if cache and (number == len(batches) or time.monotonic() - saved_at >= SECONDS_BETWEEN_SAVES):
            cache.save(collectors, batches[:number])
            saved_at = time.monotonic()
        if on_progress is not None:
            on_progress(number, len(batches))
    token_filter.require_any(next(iter(collectors.values())).n_tokens)
    return collectors
