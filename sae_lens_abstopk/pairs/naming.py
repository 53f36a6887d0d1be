"""
Names of axes: what the texts of either end have, chosen on training pairs and tested on held-out ones.

Markers of the texts and groups of words compete to predict the code of A minus B. A name has one or two of them; its
fidelity is the rank correlation of what it says with the code.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from sae_lens_abstopk.evaluation.results.records import Interval
from sae_lens_abstopk.pairs.rank_correlation import (
    correlation_interval,
    correlations,
    signed_ranks,
    without,
)
from sae_lens_abstopk.pairs.words import AxisWords, phrases_of
from sae_lens_abstopk.text.markers.grammar import FORMS
from sae_lens_abstopk.text.markers.measure import MARKERS

LEVEL = 0.05
PARTS = 2
"""Most parts of a name."""
GAIN = 0.03
"""Least that a second part adds to the correlation on training pairs."""
GROUP = 3
"""Most words of a part that is words."""
FEWEST_PAIRS = 8
"""An axis that is active on fewer training pairs has no name, and none of fewer held-out ones a fidelity."""


HANDICAP = 0.1
"""How much more a marker of the form of words has to explain than one of what a text does."""


class Candidate(NamedTuple):
    """Something that a name may say."""

    positive: str | None
    """The end with more of it; None if only the other end has something."""
    negative: str | None
    difference: Float[np.ndarray, " n"]
    """How much more of it A has than B, by pair."""
    n_tested: int
    """Number of candidates among which it was found."""
    handicap: float = 0.0

    def turned(self) -> "Candidate":
        """Return its opposite."""
        return self._replace(positive=self.negative, negative=self.positive, difference=-self.difference)


class Name(NamedTuple):
    """The name of an axis, by one or two parts."""

    positive: str
    negative: str
    said: Float[np.ndarray, " n"]
    """For each pair, above 0 if A has more of the positive end."""
    parts: tuple[Candidate, ...]
    """Turned, so that the positive end has more of each."""


class AxisName(NamedTuple):
    """The fields of an :class:`~.pair_results.AxisRecord` that name it."""

    name_positive: str | None = None
    name_negative: str | None = None
    fidelity: Interval | None = None
    named: bool = False


def name_axes(
    codes: Float[np.ndarray, "n F"],
    markers: Float[np.ndarray, "n markers"],
    words: Sequence[AxisWords],
    a: Sequence[str],
    b: Sequence[str],
    *,
    held_out: Bool[np.ndarray, " n"],
    prompts: Int[np.ndarray, " n"],
    components: Int[np.ndarray, " n"],
    seed: int = 0,
) -> list[AxisName]:
    """
    Name each axis on training pairs, and measure the fidelity of the name on held-out ones.

    Args:
        codes: Of A minus B.
        markers: Differences of the markers.
        words: Words of the poles, from training pairs only.
        prompts: Number of the prompt of each pair; a prompt is one piece of evidence.
        components: Intervals resample components.
    """
    columns = word_differences(words, a, b)
    chosen: list[Name | None] = []
    for code, of_axis in zip(codes.T, words, strict=True):
        candidates = [*marker_candidates(markers), *word_candidates(of_axis, columns)]
        chosen.append(choose_name(code, candidates, among=~held_out, units=prompts))
    found = []
    for code, name in zip(codes.T, chosen, strict=True):
        rows = np.flatnonzero((code != 0) & held_out)
        if name is None:
            found.append(AxisName())
        elif len(rows) < FEWEST_PAIRS:
            found.append(AxisName(name.positive, name.negative))
        else:
            fidelity, p = correlation_interval(code[rows], name.said[rows], components[rows], seed=seed)
            true = fidelity.value is not None and fidelity.value > 0 and p <= LEVEL / codes.shape[1]
            found.append(AxisName(name.positive, name.negative, fidelity, true))
    return found


def choose_name(
    code: Float[np.ndarray, " n"],
    candidates: Sequence[Candidate],
    *,
    among: Bool[np.ndarray, " n"] | None = None,
    units: Int[np.ndarray, " n"] | None = None,
    doubtful: bool = False,
) -> Name | None:
    """
    Choose greedily the one or two candidates that predict the code; the first candidate is the length.

    A candidate scores the lower of two correlations, as it is and with length and earlier parts held equal, less the
    largest correlation that chance would find among as many: its error times sqrt(2 ln n_tested). None if no score is
    above 0, unless a ``doubtful`` name is wanted.

    Args:
        among: Which pairs to choose on.
        units: The unit of each pair, such as its prompt; each pair is one by default.
    """
    rows = np.flatnonzero((code != 0) & (True if among is None else among))
    if len(rows) < FEWEST_PAIRS:
        return None
    unit = np.unique(rows if units is None else units[rows], return_inverse=True)[1]
    y = signed_ranks(code[rows].astype(np.float64))
    ranks = np.column_stack([signed_ranks(each.difference[rows].astype(np.float64)) for each in candidates])
    ranks /= np.maximum(np.linalg.norm(ranks, axis=0), 1e-12)
    by_chance = np.sqrt(2 * np.log([max(each.n_tested, 2) for each in candidates]))
    handicap = np.array([each.handicap for each in candidates])
    raw = correlations(y, ranks, unit).rho
    parts: list[int] = []
    reached = 0.0
    while len(parts) < PARTS:
        score = _scores(y, ranks, raw, unit, by_chance, parts) - handicap
        score[parts] = -np.inf
        best = int(score.argmax())
        together = ranks[:, [*parts, best]] @ np.sign(raw[[*parts, best]])
        new = float(correlations(y, signed_ranks(together)[:, None], unit).rho[0])
        enough = score[best] > 0 or (doubtful and not parts and np.isfinite(score[best]))
        if not enough or (parts and new < reached + GAIN):
            break
        parts.append(best)
        reached = new
    if not parts:
        return None
    turned = [candidates[part] if raw[part] > 0 else candidates[part].turned() for part in parts]
    return _name(turned, _said(turned, rows))


def _scores(
    y: Float[np.ndarray, " n"],
    ranks: Float[np.ndarray, "n M"],
    raw: Float[np.ndarray, " M"],
    unit: Int[np.ndarray, " n"],
    by_chance: Float[np.ndarray, " M"],
    parts: list[int],
) -> Float[np.ndarray, " M"]:
    length, others = ranks[:, [0]], ranks[:, parts]
    held = np.column_stack([length, others])
    partial = correlations(without(y[:, None], held)[:, 0], without(ranks, held), unit)
    rho, error = partial.rho.copy(), partial.error.copy()
    of_length = correlations(
        without(y[:, None], others)[:, 0] if parts else y, without(length, others) if parts else length, unit
    )
    rho[0], error[0] = of_length.rho[0], of_length.error[0]
    # a column of few differences has, by luck, an error that is too small
    error = np.maximum(error, len(np.unique(unit)) ** -0.5)
    agree = np.sign(rho) == np.sign(raw)
    score = np.where(agree, np.minimum(np.abs(rho), np.abs(raw)), 0) - error * by_chance
    return np.where(raw == 0, -np.inf, score)


def _said(parts: Sequence[Candidate], rows: Int[np.ndarray, " m"]) -> Float[np.ndarray, " n"]:
    """Add the parts, each as its place among the absolute differences of the pairs ``rows``."""
    total = np.zeros(len(parts[0].difference))
    for part in parts:
        known = np.sort(np.abs(part.difference[rows]))
        place = sum(np.searchsorted(known, np.abs(part.difference), side=side) for side in ("left", "right")) / 2
        ranks = np.sign(part.difference) * place
        total += ranks / max(float(np.sqrt((ranks[rows] ** 2).mean())), 1e-12)
    return total


def _name(parts: Sequence[Candidate], said: Float[np.ndarray, " n"]) -> Name:
    ends = [[each.positive for each in parts], [each.negative for each in parts]]
    texts = []
    for end, other in (ends, ends[::-1]):
        names = [each for each in end if each]
        having = [each for each in names if not each.startswith(_LACKING)]
        texts.append(", ".join(having or names) or f"no {next(each for each in other if each)}")
    return Name(texts[0], texts[1], said, tuple(parts))


_LACKING = ("no ", "not ", "nothing ", "does not ", "few ")


def marker_candidates(differences: Float[np.ndarray, "n markers"]) -> list[Candidate]:
    """Return each marker as a candidate, the length first."""
    return [
        Candidate(marker.more, marker.less, column, len(MARKERS), HANDICAP * (key in FORMS))
        for (key, marker), column in zip(MARKERS.items(), differences.T, strict=True)
    ]


def word_candidates(words: AxisWords, columns: dict[str, Float[np.ndarray, " n"]]) -> list[Candidate]:
    """Return the first words of either pole, and of both, as candidates."""
    poles = [_distinct([each.word for each in pole]) for pole in (words.positive, words.negative)]
    found: list[Candidate] = []
    for size in range(1, GROUP + 1):
        groups = [pole[:size] if len(pole) >= size else [] for pole in poles]
        sums = [sum((columns[word] for word in group), np.zeros(1)) for group in groups]
        more, less = (f"“{', '.join(group)}”" if group else None for group in groups)
        if more:
            found.append(Candidate(more, None, sums[0], words.n_tested))
        if less:
            found.append(Candidate(None, less, -sums[1], words.n_tested))
        if more and less:
            found.append(Candidate(more, less, sums[0] - sums[1], words.n_tested))
    return found


def _distinct(words: Sequence[str]) -> list[str]:
    """Return the first words that have no word in common."""
    found: list[str] = []
    seen: set[str] = set()
    for word in words:
        if seen.isdisjoint(word.split()) and len(found) < GROUP:
            found.append(word)
            seen |= set(word.split())
    return found


def word_differences(
    words: Sequence[AxisWords], a: Sequence[str], b: Sequence[str]
) -> dict[str, Float[np.ndarray, " n"]]:
    """Return for each first word of a pole 1 where only A has it, -1 where only B has it, and 0 elsewhere."""
    needed = {each for of_axis in words for pole in of_axis[:2] for each in _distinct([word.word for word in pole])}
    number = {word: place for place, word in enumerate(sorted(needed))}
    present: dict[str, Int[np.ndarray, " m"]] = {}
    found = np.zeros((len(number), len(a)), dtype=np.int8)
    if not needed:
        return {}
    for sign, side in ((1, a), (-1, b)):
        for row, text in enumerate(side):
            if text not in present:
                present[text] = np.array([number[word] for word in phrases_of(text) & needed], dtype=np.int64)
            found[present[text], row] += sign
    return {word: found[place] for word, place in number.items()}
