"""What ``abstopk publish`` is given: folders with or without an id, and what is measured of them on the way."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.evaluation.inspection import inspect_saes
from sae_lens_abstopk.evaluation.loading import load_sae
from sae_lens_abstopk.evaluation.pole_measurement import measure_poles
from sae_lens_abstopk.hub.manifest import Results
from sae_lens_abstopk.hub.results import results_of
from sae_lens_abstopk.saes.derive import SignedSAE
from sae_lens_abstopk.saes.pole_activity import PoleActivity


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


def measure(
    folders: Mapping[str, Path],
    *,
    model_name: str | None = None,
    text: str | None = None,
    n_tokens: int = 51_200,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Results], dict[str, PoleActivity]]:
    """
    Results with contexts of each SAE, and the pole activity of the signed ones; options as for ``measure_poles``.

    Raises:
        ConfigError: an SAE cannot be loaded, or its model or text are unknown.
    """
    results: dict[str, Results] = {}
    poles: dict[str, PoleActivity] = {}
    saes = {sae_id: load_sae(folder) for sae_id, folder in folders.items()}
    together: defaultdict[tuple[object, object], list[str]] = defaultdict(list)
    for sae_id, sae in saes.items():
        together[sae.cfg.metadata.model_name, sae.cfg.metadata.hook_name].append(sae_id)
    for ids in together.values():  # SAEs of one hook share the passes of the model
        inspection = inspect_saes(
            [folders[sae_id] for sae_id in ids],
            model_name=model_name,
            text=text,
            n_tokens=n_tokens,
            on_progress=on_progress,
        )
        results |= dict(zip(ids, results_of(inspection).values(), strict=True))
    for sae_id, sae in saes.items():
        if isinstance(sae, SignedSAE):
            poles[sae_id] = measure_poles(folders[sae_id], model_name=model_name, text=text, n_tokens=n_tokens)
    return results, poles
