"""Describe the axes, and measure which pole is preferred."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from sae_lens_abstopk.pairs.disagreement import Disagreement, disagreements
from sae_lens_abstopk.pairs.effects import preference_effects
from sae_lens_abstopk.pairs.pair_results import AxisRecord, DisagreementRecord, PreferenceRecord
from sae_lens_abstopk.pairs.pair_set import PairSet
from sae_lens_abstopk.pairs.prediction import MOST_PAIRS, predict_preferences
from sae_lens_abstopk.pairs.preferences import Preferences
from sae_lens_abstopk.pairs.surface import FEATURES, surface_correlations, surface_features
from sae_lens_abstopk.pairs.win_rates import win_rates
from sae_lens_abstopk.pairs.words import AxisWords, pole_words
from sae_lens_abstopk.vectors.differences import Differences

# fewer pairs with a preference, on either side of the split, say nothing about it
FEWEST_PREFERENCES = 50
SCALE_QUANTILE = 0.99
EXAMPLES = 20
"""Strongest pairs of each pole that are listed."""
WORDS = 20


@dataclass(frozen=True)
class Coded:
    """Pairs with their codes, and the split."""

    pairs: PairSet
    differences: Differences
    codes: Float[np.ndarray, "n F"]
    components: Int[np.ndarray, " n"]
    held_out: Bool[np.ndarray, " n"]
    surface: Float[np.ndarray, "n features"]
    """Differences of the surface features of A and B."""

    def preferences(self, among: Bool[np.ndarray, " n"]) -> Preferences:
        """Return the pairs with a preference of one part."""
        return Preferences.of(
            self.pairs.preferred,
            codes=self.codes,
            log_length=self.surface[:, list(FEATURES).index("length")],
            components=self.components,
            among=among,
        )


def describe(
    coded: Coded, stability: Float[np.ndarray, " F"] | None, *, seed: int
) -> tuple[PreferenceRecord | None, list[AxisRecord]]:
    """
    Describe the axes on all pairs, and measure preferences on those that are held out.

    Words, surface and strongest pairs are of all pairs, since they claim nothing; shares are of held-out pairs.
    """
    pairs, codes = coded.pairs, coded.codes
    train, held_out = (coded.preferences(part) for part in (~coded.held_out, coded.held_out))
    preference, measured = None, None
    if min(len(train), len(held_out)) >= FEWEST_PREFERENCES:
        preference = _prediction(coded, train, held_out, seed=seed)
        measured = _Measured(coded, train, held_out, seed=seed)
    words = [AxisWords([], [])] * codes.shape[1]
    if pairs.has_texts:
        words = pole_words(codes, pairs.a, pairs.b, components=coded.components, most=WORDS)
    surface = surface_correlations(codes, coded.surface)
    active = (codes[coded.held_out] != 0).mean(0)
    axes = []
    for axis in range(codes.shape[1]):
        order = np.argsort(-codes[:, axis], kind="stable")
        ends = order[:EXAMPLES], order[::-1][:EXAMPLES]
        named = surface.named(axis)
        axes.append(
            AxisRecord(
                latent=axis,
                stability=None if stability is None else float(stability[axis]),
                share_active=float(active[axis]),
                scale=_scale(codes[:, axis]),
                words_positive=[each.word for each in words[axis].positive],
                words_negative=[each.word for each in words[axis].negative],
                surface={name: float(rho) for name, rho in zip(FEATURES, surface.correlations[axis], strict=True)},
                mostly=named[0][0] if named else None,
                examples_positive=[int(pairs.rows[row]) for row in ends[0] if codes[row, axis] > 0],
                examples_negative=[int(pairs.rows[row]) for row in ends[1] if codes[row, axis] < 0],
                **(measured.of(axis) if measured else _Measured.nothing()),
            )
        )
    return preference, axes


class _Measured:
    """Preferences by axis."""

    def __init__(self, coded: Coded, train: Preferences, held_out: Preferences, *, seed: int) -> None:
        self.of_train, self.of_held_out = preference_effects(train), preference_effects(held_out)
        self.confirmed = self.of_train.confirmed_by(self.of_held_out)
        self.rates = win_rates(held_out, seed=seed)
        self.disagreements: list[Disagreement] | None = None
        if (groups := coded.pairs.groups) is not None:
            self.disagreements = disagreements(held_out, [groups[row] for row in held_out.rows], seed=seed)

    def of(self, axis: int) -> dict[str, Any]:
        q = self.of_train.q[axis]
        return {
            "win_rate": self.rates[axis],
            "effect": self.of_held_out.effects[axis],
            "effect_train": self.of_train.effects[axis],
            "q": None if np.isnan(q) else float(q),
            "confirmed": bool(self.confirmed[axis]),
            "disagreement": None if self.disagreements is None else _disagreement(self.disagreements[axis]),
        }

    @staticmethod
    def nothing() -> dict[str, None]:
        return dict.fromkeys(("win_rate", "effect", "effect_train", "q", "confirmed", "disagreement"))


def _scale(code: Float[np.ndarray, " n"]) -> float | None:
    found = np.abs(code[code != 0])
    return float(np.quantile(found, SCALE_QUANTILE)) if len(found) else None


def _prediction(coded: Coded, train: Preferences, held_out: Preferences, *, seed: int) -> PreferenceRecord:
    # only the rows that are read take memory
    x = np.empty((len(coded.pairs), coded.differences.d_in), dtype=np.float32)
    for part in (train, held_out):
        rows = part.evenly(MOST_PAIRS).rows
        x[rows] = coded.differences.rows(torch.from_numpy(rows)).numpy()
    found = predict_preferences(train, held_out, x, seed=seed)
    return PreferenceRecord(n_train=len(train), n_held_out=len(held_out), **found._asdict())


def _disagreement(found: Disagreement) -> DisagreementRecord | None:
    if found.groups is None or found.win_rates is None:
        return None
    return DisagreementRecord(q=found.q, groups=found.groups, win_rates=found.win_rates)


def surface_differences(pairs: PairSet) -> Float[np.ndarray, "n features"]:
    """Return the surface features of A minus those of B; zeros without texts."""
    if not pairs.has_texts:
        return np.zeros((len(pairs), len(FEATURES)))
    both = surface_features([*pairs.a, *pairs.b])
    return both[: len(pairs)] - both[len(pairs) :]
