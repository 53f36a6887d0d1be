"""The latents of one SAE, each put together from a collection, the decoder and the model's unembedding."""

import copy
import math
import operator
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import torch
from sae_lens import SAE

from sae_lens_abstopk.dictionary.contexts import Context
from sae_lens_abstopk.dictionary.geometry import NearestDecoders, nearest_decoders
from sae_lens_abstopk.explorer.axes import AxisMatches
from sae_lens_abstopk.explorer.cofiring import Cofiring
from sae_lens_abstopk.explorer.collection import Collector
from sae_lens_abstopk.explorer.labels import CLOSED, TopToken, label_of, top_tokens
from sae_lens_abstopk.explorer.latents import Effect, Judgement, Latent, Neighbour, Pole, ShownContext
from sae_lens_abstopk.explorer.logit_lens import TokenEffects
from sae_lens_abstopk.explorer.steered import SteeredText
from sae_lens_abstopk.saes.signed import open_poles
from sae_lens_abstopk.text.token_text import TokenText

# of the sampled contexts, those at these quantiles of the sample's strength are shown
SHOWN_QUANTILES = (0.95, 0.75, 0.5, 0.25, 0.05)
# the strength that steering counts in
SCALE_QUANTILE = 0.99


class Catalogue:
    """
    The latents of one SAE; each is put together when it is asked for.

    ``neighbours`` bounds how many aligned, opposed and co-firing latents each has; which they are is found on first use.
    """

    def __init__(
        self,
        name: str,
        sae: SAE[Any],
        collected: Collector,
        text_of: TokenText,
        *,
        source: str,
        neighbours: int,
        effects: TokenEffects | None = None,
        compared_with: str | None = None,
        matches: AxisMatches | None = None,
        steered: Mapping[int, tuple[SteeredText, ...]] | None = None,
    ) -> None:
        self.name, self.collected, self.source = name, collected, source
        self.architecture, self.d_sae = sae.cfg.architecture(), sae.cfg.d_sae
        self.compared_with, self.matches = compared_with, matches
        self.scale = collected.strengths.quantile(SCALE_QUANTILE)
        self.pole_scale = torch.stack([collected.strengths.quantile(SCALE_QUANTILE, pole) for pole in (0, 1)])
        """That of each pole alone, the positive ones first: [2, d_sae]."""
        self.closed = ~open_poles(sae).cpu() & (collected.pole_counts == 0)
        """Which poles cannot fire, bool [2, d_sae]."""
        self.W_dec = sae.W_dec.detach().float().cpu()
        self.norms = self.W_dec.norm(dim=1)
        """Norm of what a code of 1 writes: [d_sae]."""
        if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):  # such an SAE decodes with rows of norm 1
            self.norms = torch.ones_like(self.norms)
        self._text_of, self._effects, self._steered = text_of, effects, steered or {}
        self._neighbours, self._device = neighbours, sae.W_dec.device
        self.judgements: Mapping[int, Judgement] = {}

    @cached_property
    def _nearest(self) -> NearestDecoders:
        return nearest_decoders(self.W_dec.to(self._device), self._neighbours)

    @cached_property
    def _cofiring(self) -> list[list[Cofiring]]:
        return list(self.collected.cofiring.top(self._neighbours))

    @property
    def fires_negatively(self) -> bool:
        """Whether any latent fired on its negative side."""
        return bool(self.collected.pole_counts[1].any())

    @property
    def closed_poles(self) -> int:
        """Live latents of which one side is closed; :func:`pole_statistics` counts these sides as dead ones."""
        return int((self.closed.any(0) & (self.collected.pole_counts.sum(0) > 0)).sum())

    def __len__(self) -> int:
        return self.d_sae

    def __getitem__(self, index: int) -> Latent:
        """
        One latent.

        Raises:
            IndexError: there is none of this number.
            ConfigError: the decoder has too few rows for the neighbours asked for, or one that is not finite.
        """
        index = operator.index(index)  # of a tensor too, which would be no key below
        if not 0 <= index < self.d_sae:
            raise IndexError(f"latent {index} is not one of the {self.d_sae} of {self.name}, 0 to {self.d_sae - 1}.")
        counts = self.collected.pole_counts[:, index]
        total = int(counts.sum())
        near, cosines = self._nearest, (self._nearest.nearest_cosine[index], self._nearest.opposed_cosine[index])
        return Latent(
            index=index,
            positive=self.pole(index, 0),
            negative=self.pole(index, 1),
            two_sidedness=int(counts.min()) / total if total else math.nan,
            scale=float(self.scale[index]),
            limit=float(self.collected.histograms.limit[index]),
            norm=float(self.norms[index]),
            aligned=_neighbours(near.nearest[index], cosines[0]),
            opposed=_neighbours(near.opposed[index], cosines[1]),
            cofiring=tuple(self._cofiring[index]),
            steered=self._steered.get(index, ()),
            relation=self.relation(index),
        )

    def judged(self, judgements: Mapping[int, Judgement]) -> Self:
        """The same latents under the names that a judge gave them."""
        renamed = copy.copy(self)
        renamed.judgements = {**self.judgements, **judgements}
        return renamed

    def relation(self, index: int) -> str | None:
        """How the poles of a latent relate, where a judge was asked."""
        return self.judgements[index].relation if index in self.judgements else None

    def label(self, index: int, pole: int, tokens: Sequence[TopToken]) -> str:
        """The judge's name of a pole, or the words among its ``tokens``, as :meth:`pole_tokens` has them."""
        if index in self.judgements and int(self.collected.pole_counts[pole, index]) > 0:
            judgement = self.judgements[index]
            if name := (judgement.positive, judgement.negative)[pole]:
                return name
        return CLOSED if self.closed[pole, index] else label_of(tokens)

    def pole_tokens(self, index: int, pole: int) -> list[TopToken]:
        """What one pole fires on, from a uniform sample of its firings."""
        kept, group = self.collected.tokens, pole * self.d_sae + index
        there = kept.scores[group] > -torch.inf
        tokens, codes = kept.payload["token"][group][there].tolist(), kept.payload["code"][group][there].tolist()
        return top_tokens((self._text_of(token), code) for token, code in zip(tokens, codes, strict=True))

    def pole(self, index: int, pole: int) -> Pole:
        """One side of a latent, 0 the positive and 1 the negative, without what is known of the latent as a whole."""
        fires = int(self.collected.pole_counts[pole, index])
        tokens = self.pole_tokens(index, pole)
        promoted, demoted = self._effects_of(index, pole)
        sampled = sorted(self.collected.sampled.of(index, pole), key=lambda context: -abs(context.code))
        shown = sorted({round((1 - q) * (len(sampled) - 1)) for q in SHOWN_QUANTILES}) if sampled else []
        return Pole(
            label=self.label(index, pole, tokens),
            closed=bool(self.closed[pole, index]),
            fires=fires,
            density=fires / max(self.collected.n_tokens, 1),
            scale=float(self.pole_scale[pole, index]),
            tokens=tuple(tokens[:8]),
            sampled_firings=sum(token.firings for token in tokens),
            strongest=tuple(self._shown(index, pole, c) for c in self.collected.strongest.of(index, pole)),
            sampled=tuple(self._shown(index, pole, sampled[i]) for i in shown),
            histogram=tuple(self.collected.histograms.counts[pole, index].tolist()),
            promoted=promoted,
            demoted=demoted,
            match=self._match(index, pole),
        )

    def _shown(self, index: int, pole: int, context: Context) -> ShownContext:
        pieces = self._text_of.pieces((*context.before, context.token, *context.after))
        codes = [
            context.codes[there[0]] if len(there) == 1 else max((context.codes[i] for i in there), key=_strength)
            for _, there in pieces
        ]
        at = next(i for i, (_, there) in enumerate(pieces) if len(context.before) in there)
        codes[at] = context.code
        return ShownContext(
            tokens=tuple(text for text, _ in pieces),
            codes=tuple(codes),
            at=at,
            share_below=self.collected.strengths.share_below(pole, index, abs(context.code)),
        )

    def _effects_of(self, index: int, pole: int) -> tuple[tuple[Effect, ...], tuple[Effect, ...]]:
        if self._effects is None:
            return (), ()
        effects, sign = self._effects, 1 if pole == 0 else -1
        up = zip(effects.promoted[index].tolist(), effects.promoted_by[index].tolist(), strict=True)
        down = zip(effects.demoted[index].tolist(), effects.demoted_by[index].tolist(), strict=True)
        both = [tuple(Effect(self._text_of(token), sign * by) for token, by in side) for side in (up, down)]
        return (both[0], both[1]) if pole == 0 else (both[1], both[0])

    def _match(self, index: int, pole: int) -> Neighbour | None:
        if self.matches is None:
            return None
        latent, at, cosine = (part[pole, index].item() for part in self.matches)
        return Neighbour(latent=int(latent), cosine=float(cosine), pole=int(at))


def _strength(code: float) -> float:
    return -1.0 if math.isnan(code) else abs(code)


def _neighbours(latents: torch.Tensor, cosines: torch.Tensor) -> tuple[Neighbour, ...]:
    pairs = zip(latents.tolist(), cosines.tolist(), strict=True)
    return tuple(Neighbour(latent, cosine) for latent, cosine in pairs if latent >= 0)
