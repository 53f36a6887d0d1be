"""Describe the axes, and measure which pole is preferred."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from sae_lens_abstopk.pairs.disagreement import disagreements
from sae_lens_abstopk.pairs.effects import preference_effects
from sae_lens_abstopk.pairs.examples import example_pairs
from sae_lens_abstopk.pairs.naming import AxisName, name_axes
from sae_lens_abstopk.pairs.pair_results import AxisRecord, HistogramRecord, PreferenceRecord
from sae_lens_abstopk.pairs.pair_set import PairSet
from sae_lens_abstopk.pairs.prediction import predict_preferences
from sae_lens_abstopk.pairs.preferences import Preferences
from sae_lens_abstopk.pairs.rank_correlation import correlations, signed_ranks
from sae_lens_abstopk.pairs.words import AxisWords, pole_words
from sae_lens_abstopk.text.markers.measure import MARKERS, measure
from sae_lens_abstopk.vectors.differences import Differences

# fewer pairs with a preference, on either side of the split, say nothing about it
FEWEST_PREFERENCES = 50
SCALE_QUANTILE = 0.99
BINS = 20
"""Bins of the histogram of a pole."""
WORDS = 20
MOST_MARKERS = 12
"""Markers of an axis that are recorded."""


def describe(
    pairs: PairSet,
    differences: Differences,
    codes: Float[np.ndarray, "n F"],
    components: Int[np.ndarray, " n"],
    stability: Float[np.ndarray, " F"] | None,
    *,
    seed: int,
) -> tuple[PreferenceRecord | None, list[AxisRecord]]:
    """
    Describe the axes on all pairs, and measure preferences on those that are held out.

    Example pairs and correlations with markers are of all pairs, since they claim nothing; shares and histograms are of
    held-out pairs. Names and words are of training pairs.
    """
    n_axes, of_held_out = codes.shape[1], differences.held_out.numpy()
    markers = _marker_differences(pairs)
    length = markers[:, list(MARKERS).index("length")]
    train, held_out = (
        Preferences.of(pairs.preferred, codes=codes, log_length=length, components=components, among=part)
        for part in (~of_held_out, of_held_out)
    )
    preference, measured = None, [NOT_MEASURED] * n_axes
    # weights are chosen by components that are left out
    if min(len(train), len(held_out)) >= FEWEST_PREFERENCES and train.n_components > 1:
        preference = predict_preferences(
            train, held_out, lambda rows: differences.rows(torch.from_numpy(rows)).cpu().numpy(), seed=seed
        )
        measured = _measured(train, held_out, pairs.groups, seed=seed)
    words, names = [AxisWords([], [], 0)] * n_axes, [AxisName()] * n_axes
    prompts = pairs.prompt_numbers()
    if pairs.has_texts:
        words = pole_words(codes * ~of_held_out[:, None], pairs.a, pairs.b, prompts=prompts, most=WORDS)
        parts: dict[str, Any] = {"held_out": of_held_out, "prompts": prompts, "components": components, "seed": seed}
        names = name_axes(codes, markers, words, pairs.a, pairs.b, **parts)
    active = (codes[of_held_out] != 0).mean(0)
    axes, units = [], differences.units().cpu().numpy()
    for axis, code in enumerate(codes.T):
        positive, negative = example_pairs(code, prompts, pairs.groups)
        strength = np.abs(code * units)[code != 0]
        axes.append(
            AxisRecord(
                latent=axis,
                stability=None if stability is None else float(stability[axis]),
                share_active=float(active[axis]),
                scale=float(np.quantile(strength, SCALE_QUANTILE)) if len(strength) else None,
                **names[axis]._asdict(),
                words_positive=[each.word for each in words[axis].positive],
                words_negative=[each.word for each in words[axis].negative],
                markers=_strongest_markers(code, markers),
                examples_positive=pairs.rows[positive].tolist(),
                examples_negative=pairs.rows[negative].tolist(),
                histogram=_histogram(code[of_held_out]),
                **measured[axis],
            )
        )
    return preference, axes


NOT_MEASURED = dict.fromkeys(("win_rate", "effect", "effect_train", "q", "confirmed", "disagreement"))
"""Fields of an :class:`AxisRecord` that need preferences."""


def _measured(
    train: Preferences, held_out: Preferences, groups: list[str] | None, *, seed: int
) -> list[dict[str, Any]]:
    """Measure the fields of ``NOT_MEASURED`` for each axis; ``groups`` are of all pairs."""
    of_train, of_held_out = preference_effects(train), preference_effects(held_out)
    columns = (
        held_out.win_rates(seed=seed),
        of_held_out.effects,
        of_train.effects,
        [None if np.isnan(q) else q for q in of_train.q.tolist()],
        of_train.confirmed_by(of_held_out).tolist(),
        [None] * len(of_train.q)
        if groups is None
        else disagreements(held_out, [groups[row] for row in held_out.rows], seed=seed),
    )
    return [dict(zip(NOT_MEASURED, each, strict=True)) for each in zip(*columns, strict=True)]


def _marker_differences(pairs: PairSet) -> Float[np.ndarray, "n markers"]:
    """Return the markers of A minus those of B; zeros without texts."""
    if not pairs.has_texts:
        return np.zeros((len(pairs), len(MARKERS)))
    both = measure([*pairs.a, *pairs.b])
    return both[: len(pairs)] - both[len(pairs) :]


def _strongest_markers(code: Float[np.ndarray, " n"], markers: Float[np.ndarray, "n markers"]) -> dict[str, float]:
    """Return the largest rank correlations of a code with markers, on the pairs on which it is active."""
    rows = np.flatnonzero(code)
    rho = correlations(signed_ranks(code[rows]), signed_ranks(markers[rows]), np.arange(len(rows))).rho
    names = list(MARKERS)
    return {names[n]: float(rho[n]) for n in np.argsort(-np.abs(rho), kind="stable")[:MOST_MARKERS] if rho[n]}


def _histogram(code: Float[np.ndarray, " n"]) -> HistogramRecord | None:
    """Count the codes of each pole; None if the axis is never active."""
    limit = float(np.abs(code).max(initial=0))
    if limit == 0:
        return None
    positive, negative = (
        np.histogram(side[side > 0], bins=BINS, range=(0, limit))[0].tolist() for side in (code, -code)
    )
    return HistogramRecord(limit=limit, positive=positive, negative=negative)
