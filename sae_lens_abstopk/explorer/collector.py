"""Statistics, contexts and samples of one SAE's latents, gathered batch by batch."""

from dataclasses import dataclass

import torch

from sae_lens_abstopk.dictionary.code_batch import CodeBatch
from sae_lens_abstopk.dictionary.contexts import PoleContexts
from sae_lens_abstopk.dictionary.group_top import GroupTop
from sae_lens_abstopk.dictionary.reconstruction import ReconstructionSums
from sae_lens_abstopk.explorer.cofiring import CofiringSample
from sae_lens_abstopk.explorer.histograms import GrowingHistograms, LogHistograms


@dataclass(frozen=True)
class CollectionSettings:
    """How much to keep of each latent; with d_sae, these bound the memory."""

    strongest: int = 8
    """Strongest contexts of each pole, at most one per text row."""
    sampled: int = 12
    """Contexts of each pole drawn uniformly from its firings; the pages show some by strength."""
    before: int = 20
    """Tokens shown before the firing."""
    after: int = 8
    tokens_sampled: int = 32
    """Firings of each pole, drawn uniformly, for its top tokens."""
    bins: int = 32
    """Histogram bins per pole; even."""
    cofiring_tokens: int = 20_000
    """Most tokens for counts of joint firings: an eighth of each batch."""
    reconstruction_tokens: int = 50_000
    """Tokens for the measurement of reconstruction; only these are decoded."""
    seed: int = 0


class Collector:
    """Everything collected about one SAE's latents, with bounded memory."""

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
        self.cofiring = CofiringSample(d_sae, settings.cofiring_tokens)
        self.sums = ReconstructionSums()

    @property
    def pole_counts(self) -> torch.Tensor:
        """Firings of the positive and of the negative pole, int64 [2, d_sae]."""
        return self.strongest.fires

    @property
    def n_tokens(self) -> int:
        """Tokens seen, without those filtered out."""
        return self.strongest.n_tokens

    def suggested(self, n: int) -> list[int]:
        """Return the ``n`` latents to look at first, ranked by :meth:`PoleContexts.suggested`."""
        return self.strongest.suggested(n)

    def update(self, codes: torch.Tensor, where: torch.Tensor, tokens: torch.Tensor) -> None:
        """Add codes [n, d_sae] of the tokens at ``where`` [n, 2] (row and position) in ``tokens`` [batch, context]."""
        # seeded by the batch number, so that a resumed pass draws the same sample
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.n_batches)
        batch = CodeBatch.of(codes, where, tokens)
        firings = batch.firings
        priority = torch.rand(len(firings.values), generator=generator)
        self.strongest.add(batch)
        self.sampled.add(batch, priority)
        self.tokens.update(
            firings.poles * self.d_sae + firings.latents,
            priority,
            lambda chosen: {"token": batch.token_ids(chosen), "code": firings.values[chosen]},
        )
        self.histograms.add(firings.poles, firings.latents, firings.values.abs())
        self.strengths.add(firings.poles, firings.latents, firings.values.abs())
        self.cofiring.add(batch, generator)
        self.n_batches += 1
