"""What ``abstopk publish`` is given: folders with or without an id, and what is measured of them on the way."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import torch

from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.evaluation.dictionary.contexts import PoleContexts
from sae_lens_abstopk.evaluation.dictionary.examples import CONTEXTS
from sae_lens_abstopk.evaluation.dictionary.reconstruction import evaluate_reconstruction
from sae_lens_abstopk.evaluation.loading import load_sae, open_subjects
from sae_lens_abstopk.evaluation.passes.hook_places import read_by
from sae_lens_abstopk.evaluation.text_results import text_results
from sae_lens_abstopk.hub.manifest import PublishedResults
from sae_lens_abstopk.hub.results import results_of
from sae_lens_abstopk.saes.pole_activity import PoleActivity, PoleActivitySums
from sae_lens_abstopk.saes.signed import SignedSAE


def named_folders(arguments: Sequence[str]) -> dict[str, Path]:
    """
    Folders by SAE id from arguments ``FOLDER`` or ``ID=FOLDER``; the id of the first form is the folder's name.

    Raises:
        ConfigError: two have the same id, or a folder has no name.
    """
    found: dict[str, Path] = {}
    for argument in arguments:
        sae_id, equals, folder = argument.partition("=")
        path = Path(folder if equals else argument)
        sae_id = sae_id if equals else path.resolve().name
        if not sae_id:
            raise ConfigError(f"{argument!r} names no SAE; give FOLDER or ID=FOLDER.")
        if sae_id in found:
            raise ConfigError(f"{found[sae_id]} and {path} would both be {sae_id!r}; give ids, as in ID=FOLDER.")
        found[sae_id] = path
    return found


def with_measured(
    results: Mapping[str, PublishedResults], measured: Mapping[str, PublishedResults]
) -> dict[str, PublishedResults]:
    """``results``, with what was ``measured`` of SAEs that they do not tell of, and contexts where they have none."""
    names = {found.weights_sha256: name for name, found in results.items() if found.weights_sha256 is not None}
    combined = dict(results)
    for sae_id, found in measured.items():
        name = names.get(found.weights_sha256 or "", sae_id)
        if name not in results:
            combined[sae_id] = found
        elif not results[name].examples:
            combined[name] = replace(results[name], examples=found.examples)
    return combined


def measure(
    folders: Mapping[str, Path],
    *,
    model_name: str | None = None,
    text: str | None = None,
    n_tokens: int = 51_200,
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
    together: defaultdict[str, list[str]] = defaultdict(list)
    for sae_id, folder in folders.items():
        sae = load_sae(folder)
        told = [
            sae.cfg.metadata[key] for key in ("model_name", "prepend_bos", "seqpos_slice", "exclude_special_tokens")
        ]
        together[repr([read_by(sae), *told, sae.cfg.metadata.max_activation_norm is None])].append(sae_id)
    for ids in together.values():  # SAEs of one hook and kind of token share the passes of the model
        found, activity = _measured_together(
            {sae_id: folders[sae_id] for sae_id in ids},
            model_name=model_name,
            text=text,
            n_tokens=n_tokens,
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
    on_progress: Callable[[int, int], None] | None,
) -> tuple[dict[str, PublishedResults], dict[str, PoleActivity]]:
    subjects = open_subjects(folders, model_name=model_name, text=text)
    batches = subjects.batches(n_tokens)
    contexts = {sae_id: PoleContexts(sae.cfg.d_sae, CONTEXTS) for sae_id, sae in subjects.saes.items()}
    sums = {
        sae_id: PoleActivitySums(sae.cfg.d_sae) for sae_id, sae in subjects.saes.items() if isinstance(sae, SignedSAE)
    }
    done = count(1)

    def observe(sae_id: str, codes: torch.Tensor, where: torch.Tensor, tokens: torch.Tensor) -> None:
        contexts[sae_id].update(codes, where, tokens)
        if sae_id in sums:
            sums[sae_id].update(codes)

    found = evaluate_reconstruction(
        subjects.passes,
        subjects.saes,
        batches,
        token_filter=subjects.token_filter,
        with_loss=False,
        observer=observe,
        on_pass=lambda: on_progress(next(done), len(batches)) if on_progress else None,
    )
    document = text_results(subjects, found, contexts, suite="publish", settings={"tokens": n_tokens})
    return results_of(document), {sae_id: each.result for sae_id, each in sums.items()}
