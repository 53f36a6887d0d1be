"""From a folder with a signed SAE to a folder with its mirror."""

import shutil
from collections.abc import Callable
from pathlib import Path

from sae_lens import JumpReLUSAE, TopKSAE

from sae_lens_abstopk.evaluation.loading import load_sae
from sae_lens_abstopk.evaluation.pole_measurement import measure_poles
from sae_lens_abstopk.new_folder import require_empty
from sae_lens_abstopk.saes.derive import require_signed
from sae_lens_abstopk.saes.load_note import write_load_note
from sae_lens_abstopk.saes.mirror import mirror
from sae_lens_abstopk.saes.pole_activity import POLE_ACTIVITY_FILENAME, PoleActivity
from sae_lens_abstopk.training.resume import CONFIG_FILENAME


def mirror_folder(
    source: Path,
    out: Path,
    *,
    prune_dead_poles: bool = False,
    model_name: str | None = None,
    text: str | None = None,
    n_tokens: int = 51_200,
    on_progress: Callable[[int, int], None] | None = None,
) -> TopKSAE | JumpReLUSAE:
    """
    Write :func:`sae_lens_abstopk.mirror` of the SAE in ``source`` into ``out``, and return it.

    To prune, the firings come from the ``pole_activity.safetensors`` beside the weights, or are measured on the text
    of the run (``model_name``, ``text``, ``n_tokens`` as for ``measure_poles``). The run's ``config.yaml`` goes along,
    so that ``abstopk inspect`` finds model and text.

    Raises:
        ConfigError: ``source`` holds no signed SAE, ``out`` is not empty, or the firings cannot be had.
    """
    sae = require_signed(load_sae(source), "mirror")
    require_empty(out)
    counts = None
    if prune_dead_poles and (source / POLE_ACTIVITY_FILENAME).is_file():
        counts = PoleActivity.load(source).counts
    elif prune_dead_poles:
        measured = measure_poles(source, model_name=model_name, text=text, n_tokens=n_tokens, on_progress=on_progress)
        counts = measured.counts
    mirrored = mirror(sae, prune_dead_poles=prune_dead_poles, pole_counts=counts)
    mirrored.save_model(out)
    write_load_note(out, mirrored.cfg.architecture())
    for config in (source / CONFIG_FILENAME, source.parent / CONFIG_FILENAME):
        if config.is_file():
            shutil.copyfile(config, out / CONFIG_FILENAME)
            break
    return mirrored
