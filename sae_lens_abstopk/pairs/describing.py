"""Describe the axes, and measure which pole is preferred."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from sae_lens_abstopk.pairs.disagreement import disagreements
from sae_lens_abstopk.pairs.effects import preference_effects
from sae_lens_abstopk.pairs.pair_results import AxisRecord, PreferenceRecord
from sae_lens_abstopk.pairs.pair_set import PairSet
from sae_lens_abstopk.pairs.prediction import predict_preferences
from sae_lens_abstopk.pairs.preferences import Preferences
from sae_lens_abstopk.pairs.surface import FEATURES, main_feature, surface_correlations, surface_features
from sae_lens_abstopk.pairs.words import AxisWords, pole_words
from sae_lens_abstopk.vectors.differences import Differences

# fewer pairs with a preference, on either side of the split, say nothing about it
FEWEST_PREFERENCES = 50
SCALE_QUANTILE = 0.99
EXAMPLES = 20
"""Strongest pairs of each pole that are listed."""
WORDS = 20


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

    Words, surface and strongest pairs are of all pairs, since they claim nothing; shares are of held-out pairs.
    """
    n_axes, of_held_out = codes.shape[1], differences.held_out.numpy()
    of_surface = _surface_differences(pairs)
    length = of_surface[:, list(FEATURES).index("length")]
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
    words = [AxisWords([], [])] * n_axes
    if pairs.has_texts:
        words = pole_words(codes, pairs.a, pairs.b, components=components, most=WORDS)
    surface = surface_correlations(codes, of_surface)
    active = (codes[of_held_out] != 0).mean(0)
    axes, units = [], differences.units().cpu().numpy()
    for axis, code in enumerate(codes.T):
        order = np.argsort(-code, kind="stable")
        strength = np.abs(code * units)[code != 0]
        axes.append(
            AxisRecord(
                latent=axis,
                stability=None if stability is None else float(stability[axis]),
                share_active=float(active[axis]),
                scale=float(np.quantile(strength, SCALE_QUANTILE)) if len(strength) else None,
                words_positive=[each.word for each in words[axis].positive],
                words_negative=[each.word for each in words[axis].negative],
                surface=dict(zip(FEATURES, surface[axis].tolist(), strict=True)),
                mostly=main_feature(surface[axis]),
                examples_positive=[int(pairs.rows[row]) for row in order[:EXAMPLES] if code[row] > 0],
                examples_negative=[int(pairs.rows[row]) for row in order[::-1][:EXAMPLES] if code[row] < 0],
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


def _surface_differences(pairs: PairSet) -> Float[np.ndarray, "n features"]:
    """Return the surface features of A minus those of B; zeros without texts."""
    if not pairs.has_texts:
        return np.zeros((len(pairs), len(FEATURES)))
    both = surface_features([*pairs.a, *pairs.b])
    return both[: len(pairs)] - both[len(pairs) :]
