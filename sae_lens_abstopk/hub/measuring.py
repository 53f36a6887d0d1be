"""What ``abstopk publish --measure`` measures of SAEs on the way."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from sae_lens_abstopk.evaluation.results.examples import CONTEXTS
from sae_lens_abstopk.evaluation.results.text_measurement import read_text, text_results
from sae_lens_abstopk.evaluation.subjects.subjects import open_subjects, weights_of
from sae_lens_abstopk.hub.manifest import PublishedResults
from sae_lens_abstopk.hub.results import results_of
from sae_lens_abstopk.model.token_filter import TokenSelection
from sae_lens_abstopk.saes.heads import read_by
from sae_lens_abstopk.saes.loading import load_sae
from sae_lens_abstopk.saes.pole_activity import PoleActivity, PoleActivitySums
from sae_lens_abstopk.saes.signed import is_signed


def measure(
    folders: Mapping[str, Path],
    *,
    model_name: str | None = None,
    text: str | None = None,
    n_tokens: int = 51_200,
    device: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, PublishedResults], dict[str, PoleActivity]]:
    """
    Results with contexts of each SAE, and the pole activity of the signed ones, from one pass up to the hook.

    The layers above the hook are not run, so there is no Loss Recovered: `abstopk eval` measures that, with everything
    else that takes long. Options as for ``measure_poles``.

    Raises:
        ConfigError: an SAE cannot be loaded, or its model or text are unknown.
    """
    results: dict[str, PublishedResults] = {}
    poles: dict[str, PoleActivity] = {}
    together: defaultdict[tuple[object, ...], list[str]] = defaultdict(list)
    for sae_id, folder in folders.items():
        sae = load_sae(folder)
        model, limit = sae.cfg.metadata.model_name, sae.cfg.metadata.max_activation_norm
        weights = repr(weights_of(sae))
        together[read_by(sae), model, weights, TokenSelection.of_sae(sae), limit is None].append(sae_id)
    for ids in together.values():  # SAEs of one hook, model and kind of token share the passes of the model
        found, activity = _measured_together(
            {sae_id: folders[sae_id] for sae_id in ids},
            model_name=model_name,
            text=text,
            n_tokens=n_tokens,
            device=device,
            on_progress=on_progress,
        )
        results |= found
        poles |= activity
    return results, poles


def _measured_together(
    folders: Mapping[str, Path],
    *,
    model_name: str | None,
    text: str | None,
    n_tokens: int,
    device: str,
    on_progress: Callable[[int, int], None] | None,
) -> tuple[dict[str, PublishedResults], dict[str, PoleActivity]]:
    subjects = open_subjects(folders, model_name=model_name, text=text, device=device)
    sums = {sae_id: PoleActivitySums(sae.cfg.d_sae) for sae_id, sae in subjects.saes.items() if is_signed(sae)}

    def observe(sae_id: str, codes: torch.Tensor, *_: torch.Tensor) -> None:
        if sae_id in sums:
            sums[sae_id].update(codes)

    found = read_text(subjects, n_tokens, contexts=CONTEXTS, with_loss=False, observer=observe, on_progress=on_progress)
    document = text_results(subjects, found, suite="publish", settings={"tokens": n_tokens})
    return results_of(document), {sae_id: each.result for sae_id, each in sums.items()}
