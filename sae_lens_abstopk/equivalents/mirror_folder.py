"""Write the mirror of a signed SAE from one folder to another."""

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from sae_lens import JumpReLUSAE, TopKSAE

from sae_lens_abstopk.equivalents.mirror import mirror
from sae_lens_abstopk.saes.load_note import write_load_note
from sae_lens_abstopk.saes.loading import load_sae
from sae_lens_abstopk.saes.pole_activity import PoleActivity
from sae_lens_abstopk.saes.signed import require_signed
from sae_lens_abstopk.system.files import require_empty
from sae_lens_abstopk.system.yaml_files import CONFIG_FILENAME


def mirror_folder(
    source: Path,
    out: Path,
    *,
    prune_dead_poles: bool = False,
    count_firings: Callable[[], torch.Tensor] | None = None,
) -> TopKSAE | JumpReLUSAE:
    """
    Write :func:`sae_lens_abstopk.mirror` of the SAE in ``source`` into ``out``, and return it.

    The run's ``config.yaml`` goes along, so that ``abstopk inspect`` finds model and text.

    Args:
        source: Folder of a signed SAE.
        out: An empty or a new folder.
        prune_dead_poles: As in :func:`sae_lens_abstopk.mirror`.
        count_firings: Measures the firings [2, d_sae] to prune by; by default those in the
            ``pole_activity.safetensors`` beside the weights.

    Raises:
        ConfigError: ``source`` holds no signed SAE, ``out`` is not empty, or there are no firings to prune by.
    """
    require_empty(out)
    sae = require_signed(load_sae(source), "mirror")
    counts = None
    if prune_dead_poles:
        counts = count_firings() if count_firings is not None else PoleActivity.load(source).counts
    mirrored = mirror(sae, prune_dead_poles=prune_dead_poles, pole_counts=counts)
    mirrored.save_model(out)
    write_load_note(out, mirrored.cfg.architecture())
    for config in (source / CONFIG_FILENAME, source.parent / CONFIG_FILENAME):
        if config.is_file():
            shutil.copyfile(config, out / CONFIG_FILENAME)
            break
    return mirrored
