"""From a folder with a signed SAE to a folder with its mirror."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sae_lens import JumpReLUSAE, TopKSAE

from sae_lens_abstopk.equivalents.mirror import mirror
from sae_lens_abstopk.evaluation.subjects.pole_measurement import measure_poles
from sae_lens_abstopk.model.run_record import CONFIG_FILENAME
from sae_lens_abstopk.saes.load_note import write_load_note
from sae_lens_abstopk.saes.loading import load_sae
from sae_lens_abstopk.saes.pole_activity import POLE_ACTIVITY_FILENAME, PoleActivity
from sae_lens_abstopk.saes.signed import require_signed
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.files import require_empty


def mirror_folder(
    source: Path,
    out: Path,
    *,
    prune_dead_poles: bool = False,
    model_name: str | None = None,
    text: str | None = None,
    n_tokens: int | None = None,
    device: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> TopKSAE | JumpReLUSAE:
    """
    Write :func:`sae_lens_abstopk.mirror` of the SAE in ``source`` into ``out``, and return it.

    To prune, the firings are measured as ``model_name``, ``text``, ``n_tokens`` and ``device`` say (see ``measure_poles``).
    Where none of these is given they come from the ``pole_activity.safetensors`` beside the weights; without such a file they are
    measured on the text of the run. The run's ``config.yaml`` goes along, so that ``abstopk inspect`` finds model and
    text.

    Raises:
        ConfigError: ``source`` holds no signed SAE, ``out`` is not empty, the firings cannot be had, or it is said how to
            measure them and nothing is pruned.
    """
    given = {"model_name": model_name, "text": text, "n_tokens": n_tokens, "device": device}
    measure: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if measure and not prune_dead_poles:
        raise ConfigError(
            f"{', '.join(f'{key}={value!r}' for key, value in measure.items())}: firings are measured only to leave out dead "
            "poles; add prune_dead_poles=True (--prune-dead-poles), or leave out model, text, tokens and device."
        )
    require_empty(out)
    sae = require_signed(load_sae(source), "mirror")
    counts = None
    if prune_dead_poles and not measure and (source / POLE_ACTIVITY_FILENAME).is_file():
        counts = PoleActivity.load(source).counts
    elif prune_dead_poles:
        counts = measure_poles(source, **measure, on_progress=on_progress).counts
    mirrored = mirror(sae, prune_dead_poles=prune_dead_poles, pole_counts=counts)
    mirrored.save_model(out)
    write_load_note(out, mirrored.cfg.architecture())
    for config in (source / CONFIG_FILENAME, source.parent / CONFIG_FILENAME):
        if config.is_file():
            shutil.copyfile(config, out / CONFIG_FILENAME)
            break
    return mirrored
