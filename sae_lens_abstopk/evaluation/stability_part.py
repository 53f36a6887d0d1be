"""Seeds of one variant, matched with each other."""

import itertools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from sae_lens import SAE

from sae_lens_abstopk.dictionary.stability import LARGEST_MATCHED, match_saes
from sae_lens_abstopk.evaluation.results import StabilityRecord


def match_seeds(
    saes: Mapping[str, SAE[Any]],
    groups: Mapping[str, str],
    *,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> list[StabilityRecord]:
    """
    Match the decoders of each two SAEs of one group; those of too many latents are left out, with a warning.

    Args:
        saes: By name.
        groups: By SAE, the variant that it is one seed of.
        on_progress: Called with (pairs done, pairs in all).
    """
    by_group: dict[str, list[str]] = {}
    for name, group in groups.items():
        by_group.setdefault(group, []).append(name)
    pairs = [pair for names in by_group.values() for pair in itertools.combinations(names, 2)]
    found = []
    for i, (first, second) in enumerate(pairs, 1):
        on_progress(i - 1, len(pairs))
        larger = max(saes[name].cfg.d_sae for name in (first, second))
        if larger > LARGEST_MATCHED:
            warnings.warn(
                f"the stability of {first} and {second} is not measured: with {larger:,} latents it would take hours and "
                f"much memory; up to {LARGEST_MATCHED:,} are matched.",
                stacklevel=2,
            )
            continue
        match = match_saes(saes[first], saes[second])
        found.append(
            StabilityRecord(
                first=first,
                second=second,
                mean_cosine=match.mean_matched_cosine,
                share_above_0_7=match.share_above(0.7),
                share_above_0_9=match.share_above(0.9),
            )
        )
    if pairs:
        on_progress(len(pairs), len(pairs))
    return found
