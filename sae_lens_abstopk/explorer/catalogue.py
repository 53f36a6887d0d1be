"""The latents of one SAE, assembled from a collection, the decoder and the model's unembedding."""

import copy
import math
import operator
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import torch
from sae_lens import SAE
from typing_extensions import override

from sae_lens_abstopk.evaluation.labelling.labeler import LabelRecord
from sae_lens_abstopk.explorer.collection import Collector
from sae_lens_abstopk.explorer.directions import AxisMatches
from sae_lens_abstopk.explorer.labels import CLOSED, WORDS, TopToken, label_of, top_tokens
from sae_lens_abstopk.explorer.latents import Cofiring, Effect, Latent, Neighbour, Pole, ShownContext, SteeredText
from sae_lens_abstopk.explorer.row_words import RowWords
from sae_lens_abstopk.explorer.verdicts import (
    BOTH,
    COVERS,
    LEAST_FIRINGS,
    ONE,
    SILENT,
    UNCLEAR,
    WordControl,
    own_coverage,
    rank,
    usual_words,
)
from sae_lens_abstopk.model.contexts import Context
from sae_lens_abstopk.model.logit_lens import TokenEffects
from sae_lens_abstopk.saes.geometry import NearestDecoders, nearest_decoders
from sae_lens_abstopk.saes.signed import open_poles
from sae_lens_abstopk.system.shown import Facts, Shown
from sae_lens_abstopk.text.token_text import TokenText
from sae_lens_abstopk.vectors.rows_as_texts import RowText

NEIGHBOURS = 6
# quantiles of strength of the shown samples
SHOWN_QUANTILES = (0.95, 0.75, 0.5, 0.25, 0.05)
# a steering strength of 1 is a code of this quantile
SCALE_QUANTILE = 0.99


class Catalogue(Shown):
    """The latents of one SAE, each assembled on access; pole 0 is positive, 1 negative."""

    def __init__(
        self,
        name: str,
        sae: SAE[Any],
        collected: Collector,
        text_of: TokenText | RowText,
        *,
        source: str,
        effects: TokenEffects | None = None,
        compared_with: str | None = None,
        matches: AxisMatches | None = None,
    ) -> None:
        self.name, self.collected, self.source = name, collected, source
        self.architecture, self.d_sae = sae.cfg.architecture(), sae.cfg.d_sae
        metadata = sae.cfg.metadata
        self.dead_latents, self.dead_latents_tokens = metadata.dead_latents, metadata.dead_latents_tokens
        """Latents that did not fire on the last training tokens, and how many these were; None if unrecorded."""
        self.compared_with, self.matches = compared_with, matches
        self.scale = collected.strengths.quantile(SCALE_QUANTILE)
        self.pole_scale = torch.stack([collected.strengths.quantile(SCALE_QUANTILE, pole) for pole in (0, 1)])
        self.closed = ~open_poles(sae).cpu() & (collected.pole_counts == 0)
        """Poles that cannot fire, bool [2, d_sae]."""
        self.W_dec = sae.W_dec.detach().float().cpu()
        self.norms = self.W_dec.norm(dim=1)
        """Norm of the vector that a code of 1 adds to the activation: [d_sae]."""
        if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):  # such an SAE decodes with unit rows
            self.norms = torch.ones_like(self.norms)
        self._text_of, self._effects = text_of, effects
        self._steered: Mapping[int, tuple[SteeredText, ...]] = {}
        self._words = RowWords(text_of) if isinstance(text_of, RowText) else None
        self._neighbours, self._device = min(NEIGHBOURS, self.d_sae - 1), sae.W_dec.device
        self.judgements: Mapping[int, LabelRecord] = {}
        self.covered: Mapping[int, str] = {}
        """Concepts that a latent covers better than the controls of an evaluation."""

    @override
    def _facts(self) -> Facts:
        counts, tokens = self.collected.pole_counts, self.collected.n_tokens
        facts = {"SAE": self.name, "FVU": f"{self.collected.sums.fvu():.4f}"}
        facts["L0"] = f"{int(counts.sum()) / max(tokens, 1):.1f}"
        facts[f"did not fire on {tokens:,} tokens"] = f"{int((counts.sum(0) == 0).sum()):,} of {len(self):,} latents"
        return [facts]

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

    @cached_property
    def clarity(self) -> list[tuple[float, float]]:
        """
        How far each pole of each latent is above the control; a pole above 0 is clear.

        The :func:`own_coverage` less the coverage of as many random firings; of rows, 1 if they share words.
        """
        if self._words is not None:  # these words are already compared with random rows
            return [
                (float(bool(self.pole_tokens(i, 0))), float(bool(self.pole_tokens(i, 1)))) for i in range(len(self))
            ]
        control = WordControl(usual_words(self.collected, self._text_of))
        found = []
        for i in range(len(self)):
            words = [[self._text_of(token) for token, _ in self._sampled_firings(i, pole)] for pole in (0, 1)]
            positive, negative = (
                share - control.coverage(len(own)) if len(own) >= LEAST_FIRINGS else -1.0
                for own, share in zip(words, own_coverage(words), strict=True)
            )
            found.append((positive, negative))
        return found

    def verdict(self, index: int) -> str:
        """Return the judge's relation of a latent's poles, a concept that it covers, or which poles are clear."""
        if relation := self.relation(index):
            return relation
        if index in self.covered:
            return COVERS + self.covered[index]
        if not self.collected.pole_counts[:, index].any():
            return SILENT
        return (UNCLEAR, ONE, BOTH)[sum(share > 0 for share in self.clarity[index])]

    def suggested(self, n: int) -> list[int]:
        """
        Return the ``n`` latents to look at first.

        Ordered by verdict, by the clarity of the less clear pole, and by :meth:`PoleContexts.suggested`.
        """

        by_strength = self.collected.strongest.suggested(len(self))
        return sorted(by_strength, key=lambda index: (rank(self.verdict(index)), -min(self.clarity[index])))[:n]

    def __len__(self) -> int:
        return self.d_sae

    def __getitem__(self, index: int) -> Latent:
        """Return one latent; IndexError if there is none with this index."""
        index = operator.index(index)  # a 0-d tensor would not work as a key
        if not 0 <= index < self.d_sae:
            raise IndexError(f"latent {index} is not one of the {self.d_sae} of {self.name}, 0 to {self.d_sae - 1}.")
        counts = self.collected.pole_counts[:, index]
        total, near = int(counts.sum()), self._nearest
        return Latent(
            index=index,
            poles=(self.pole(index, 0), self.pole(index, 1)),
            two_sidedness=int(counts.min()) / total if total else math.nan,
            scale=float(self.scale[index]),
            limit=float(self.collected.histograms.limit[index]),
            norm=float(self.norms[index]),
            aligned=_neighbours(near.nearest[index], near.nearest_cosine[index]),
            opposed=_neighbours(near.opposed[index], near.opposed_cosine[index]),
            cofiring=tuple(self._cofiring[index]),
            steered=self._steered.get(index, ()),
            relation=self.relation(index),
        )

    def steered(self, texts: Mapping[int, tuple[SteeredText, ...]]) -> Self:
        """Return the same latents with steered texts."""
        found = copy.copy(self)
        found._steered = texts
        return found

    def judged(self, judgements: Mapping[int, LabelRecord]) -> Self:
        """Return the same latents with a judge's names."""
        renamed = copy.copy(self)
        renamed.judgements = {**self.judgements, **judgements}
        return renamed

    def relation(self, index: int) -> str | None:
        """Return the judged relation of a latent's poles, if any."""
        return self.judgements[index].relation if index in self.judgements else None

    def label(self, index: int, pole: int, tokens: Sequence[TopToken]) -> str:
        """Return the judge's name of a pole, or a label from its :meth:`pole_tokens`."""
        fires = bool(self.collected.pole_counts[pole, index])
        found = self.judgements.get(index) if fires else None
        judged = (found.positive, found.negative)[pole] if found else ""
        if judged or self.closed[pole, index]:
            return judged or CLOSED
        if self._words is None or not fires:
            return label_of(tokens)
        shared = " · ".join(word.text for word in tokens[:WORDS])
        return shared or self._words.beginning(self.collected.strongest.of(index, pole)[0].token)

    def pole_tokens(self, index: int, pole: int) -> list[TopToken]:
        """Return the top tokens of a pole, or the words that its rows share, from a uniform sample of its firings."""
        firings = self._sampled_firings(index, pole)
        if self._words is not None:
            return self._words.top(firings)
        return top_tokens((self._text_of(token), code) for token, code in firings)

    def _sampled_firings(self, index: int, pole: int) -> list[tuple[int, float]]:
        """Return the token, or the number of the row, and the code of each firing in the sample."""
        kept, group = self.collected.tokens, pole * self.d_sae + index
        there = kept.scores[group] > -torch.inf
        tokens, codes = kept.payload["token"][group][there].tolist(), kept.payload["code"][group][there].tolist()
        return list(zip(tokens, codes, strict=True))

    def pole(self, index: int, pole: int) -> Pole:
        """Return one side of a latent."""
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
            sampled_firings=len(self._sampled_firings(index, pole)),
            strongest=tuple(self._shown(index, pole, c) for c in self.collected.strongest.of(index, pole)),
            sampled=tuple(self._shown(index, pole, sampled[i]) for i in shown),
            histogram=tuple(self.collected.histograms.counts[pole, index].tolist()),
            promoted=promoted,
            demoted=demoted,
            match=self._match(index, pole),
        )

    def _shown(self, index: int, pole: int, context: Context) -> ShownContext:
        pieces = self._text_of.pieces((*context.before, context.token, *context.after))
        # the strongest code of the tokens of one character; NaN only if all were left out
        codes = [
            context.codes[there[0]] if len(there) == 1 else max((context.codes[i] for i in there), key=_strength)
            for _, there in pieces
        ]
        at = next(i for i, (_, there) in enumerate(pieces) if len(context.before) in there)
        codes[at] = context.code
        below = self.collected.strengths.share_below(pole, index, abs(context.code))
        return ShownContext(tuple(text for text, _ in pieces), tuple(codes), at, below)

    def _effects_of(self, index: int, pole: int) -> tuple[tuple[Effect, ...], tuple[Effect, ...]]:
        """Return the tokens that a pole's direction promotes, and those it demotes."""
        if self._effects is None:
            return (), ()
        sign, (tokens, by) = 1 - 2 * pole, (part[:, index].tolist() for part in self._effects)
        up, down = (
            tuple(Effect(self._text_of(token), sign * effect) for token, effect in zip(*side, strict=True))
            for side in zip(tokens, by, strict=True)
        )
        return (up, down) if pole == 0 else (down, up)

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
