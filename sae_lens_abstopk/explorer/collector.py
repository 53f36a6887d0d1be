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
    """Contexts of each pole drawn uniformly from its firings; the pages show some of them, by strength."""
    before: int = 20
    """Tokens shown before the one at which the latent fired."""
    after: int = 8
    tokens_sampled: int = 32
    """Firings of each pole, drawn uniformly, whose tokens tell what the pole fires on most."""
    bins: int = 32
    """Histogram bins per pole; even."""
    cofiring_tokens: int = 20_000
    """Most tokens on which joint firings are counted: an eighth of each batch until there are that many."""
    reconstruction_tokens: int = 50_000
    """Tokens on which the reconstruction is measured; codes are decoded only for this."""
    seed: int = 0


class Collector:
    """Everything collected about one SAE's latents; its size is fixed once every pole is full."""

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
        """Tokens seen, without the ones that were filtered out."""
        return self.strongest.n_tokens

    def suggested(self, n: int) -> list[int]:
        """The ``n`` latents to look at first, as :meth:`PoleContexts.suggested` ranks them."""
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
