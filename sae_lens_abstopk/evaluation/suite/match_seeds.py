"""Find the seeds of one variant, and match their decoders."""

import itertools
import re
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sae_lens import SAE
from sae_lens.constants import SAE_CFG_FILENAME

from sae_lens_abstopk.evaluation.results.records import StabilityRecord
from sae_lens_abstopk.saes.geometry import match_saes
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.yaml_files import CONFIG_FILENAME, flat_keys, is_run_config, read_yaml

# most latents of the larger SAE of a pair: about 4 GB, and minutes
LARGEST_MATCHED = 16_384
# config keys that may differ between seeds of one variant: the seed, and keys that change no step
MAY_DIFFER = re.compile(
    r"seed|activation_cache|logger|verbose|output_path|device|.*_device|checkpoint.*|save_final_checkpoint|resume_.*|"
    r"perf_.*|prefetch_llm_batches|divergence_factor"
)


def seed_groups(saes: Mapping[str, SAE[Any]], sources: Mapping[str, str]) -> dict[str, str]:
    """
    Return the group of each SAE, by name: runs of a group differ only in the seed and in keys that change no step.

    ``sources`` are the folders; an SAE without the config of its run has no group.
    """
    seeds: dict[tuple[str, ...], dict[str, str]] = {}
    for name, folder in ((name, Path(source)) for name, source in sources.items()):
        run = folder if (folder / CONFIG_FILENAME).is_file() else folder.parent
        if not (folder / SAE_CFG_FILENAME).is_file() or not (run / CONFIG_FILENAME).is_file():
            continue
        with suppress(ConfigError):
            raw = read_yaml(run / CONFIG_FILENAME)
            if not is_run_config(raw):
                continue
            config = flat_keys(raw)
            same = [
                f"{key}={config[key]!r}" for key in sorted(config) if not MAY_DIFFER.fullmatch(key.partition(".")[0])
            ]
            part = (saes[name].cfg.architecture(), str(folder.relative_to(run)))  # a mirror's differs from the run's
            seeds.setdefault((*part, *same), {})[name] = repr(config.get("seed"))
    return {
        name: f"{next(iter(found))} and other seeds"
        for found in seeds.values()
        if 1 < len(found) == len(set(found.values()))
        for name in found
    }


def match_seeds(
    saes: Mapping[str, SAE[Any]],
    groups: Mapping[str, str],
    *,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> list[StabilityRecord]:
    """
    Match the decoders of all pairs of SAEs in a group; skip SAEs with too many latents, with a warning.

    ``on_progress`` is called with (pairs done, pairs in all).
    """
    by_group: dict[str, list[str]] = {}
    for name, group in groups.items():
        by_group.setdefault(group, []).append(name)
    pairs = [pair for names in by_group.values() for pair in itertools.combinations(names, 2)]
    found = []
    for i, (first, second) in enumerate(pairs):
        on_progress(i, len(pairs))
        larger = max(saes[name].cfg.d_sae for name in (first, second))
        if larger > LARGEST_MATCHED:
            why = f"of {larger:,} latents only up to {LARGEST_MATCHED:,} are matched, as time and memory grow"
            warnings.warn(f"the stability of {first} and {second} is not measured: {why}.", stacklevel=2)
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
