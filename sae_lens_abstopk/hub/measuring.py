"""Measurements of ``abstopk publish --measure``."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from sae_lens_abstopk.evaluation.results.facts import CONTEXTS
from sae_lens_abstopk.evaluation.results.text_measurement import read_text, text_results
from sae_lens_abstopk.evaluation.subjects.same_activations import weights_of
from sae_lens_abstopk.evaluation.subjects.subjects import open_subjects
from sae_lens_abstopk.hub.manifest import PublishedResults
from sae_lens_abstopk.hub.results import results_of
from sae_lens_abstopk.model.token_filter import TokenSelection
from sae_lens_abstopk.saes.loading import load_sae
from sae_lens_abstopk.saes.measurable import read_by
from sae_lens_abstopk.saes.poles import PoleActivity, PoleActivitySums
from sae_lens_abstopk.saes.signed import is_signed


def measure(
    folders: Mapping[str, Path],
    *,
    model_name: str | None,
    text: str | None,
    n_tokens: int,
    device: str,
    on_progress: Callable[[int, int], None] | None,
) -> tuple[dict[str, PublishedResults], dict[str, PoleActivity]]:
    """
    Measure results with contexts of each SAE, and the pole activity of the signed ones, by SAE id.

    The layers above the hook do not run, so there is no Loss Recovered. Options as in ``measure_poles``.

    Raises:
        ConfigError: an SAE cannot be loaded, or its model or text is unknown.
    """
    results: dict[str, PublishedResults] = {}
    poles: dict[str, PoleActivity] = {}
    # SAEs with the same model, hook and token selection share LM passes
    groups: defaultdict[tuple[object, ...], dict[str, Path]] = defaultdict(dict)
    for sae_id, folder in folders.items():
        sae = load_sae(folder)
        metadata, weights = sae.cfg.metadata, repr(weights_of(sae))
        has_limit = metadata.max_activation_norm is not None
        groups[read_by(sae), metadata.model_name, weights, TokenSelection.of_sae(sae), has_limit][sae_id] = folder
    for group in groups.values():
        subjects = open_subjects(group, model_name=model_name, text=text, device=device)
        sums = {sae_id: PoleActivitySums(sae.cfg.d_sae) for sae_id, sae in subjects.saes.items() if is_signed(sae)}

        def observe(
            sae_id: str, codes: torch.Tensor, *_: torch.Tensor, sums: dict[str, PoleActivitySums] = sums
        ) -> None:
            if sae_id in sums:
                sums[sae_id].update(codes)

        found = read_text(
            subjects, n_tokens, contexts=CONTEXTS, with_loss=False, observer=observe, on_progress=on_progress
        )
        results |= results_of(text_results(subjects, found, suite="publish", settings={"tokens": n_tokens}))
        poles |= {sae_id: each.result for sae_id, each in sums.items()}
    return results, poles
