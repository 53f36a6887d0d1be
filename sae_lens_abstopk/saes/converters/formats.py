"""Detect the format of an SAE and convert it."""

from pathlib import Path

import torch
from sae_lens import AbsTopKSAE
from sae_lens.constants import SAE_WEIGHTS_FILENAME

from sae_lens_abstopk.saes.converters.checkpoint import PICKLED, read_tensors
from sae_lens_abstopk.saes.converters.reference import convert_reference
from sae_lens_abstopk.saes.converters.sparsify import convert_sparsify
from sae_lens_abstopk.saes.signed_jumprelu import SignedJumpReLUSAE
from sae_lens_abstopk.system.errors import ConfigError


def convert(
    source: Path,
    *,
    activations: torch.Tensor | Path | None = None,
    model_name: str | None = None,
    hook_name: str | None = None,
) -> AbsTopKSAE | SignedJumpReLUSAE:
    """
    Convert a signed SAE of another project to SAELens.

    Args:
        source: A folder of EleutherAI's ``sae`` (sparsify) with ``signed: true``, or a weights file of the AbsTopK
            reference code.
        activations: [n, d_in] at the hook, or a file with one such tensor; needed for the reference code's SAEs, which
            have no threshold.
        model_name: Model, for the metadata, if the source does not name it.
        hook_name: Hook, likewise.

    Raises:
        ConfigError: the source has neither format, is damaged or needs no conversion, or activations are missing.
    """
    folder = source if source.is_dir() else source.parent
    if (folder / SAE_WEIGHTS_FILENAME).is_file() and source in (folder, folder / SAE_WEIGHTS_FILENAME):
        raise ConfigError(
            f"{source} is in SAELens's format already and needs no conversion; load it with "
            f"SAE.load_from_disk({str(folder)!r})."
        )
    if source.is_dir():
        if activations is not None:
            raise ConfigError(f"{source}: SAEs of sparsify need no activations; leave out --activations.")
        return convert_sparsify(source, model_name=model_name, hook_name=hook_name)
    if source.suffix not in (".safetensors", *PICKLED):
        raise ConfigError(
            f"{source}: no such format; give a folder of sparsify with cfg.json and sae.safetensors, or the "
            "sae_STEP.safetensors of the AbsTopK reference code."
        )
    if activations is None:
        raise ConfigError(
            f"{source}: the reference code selects over the batch and keeps no threshold; give activations of the hook "
            "to estimate it (--activations FILE, a tensor [n, d_in])."
        )
    if isinstance(activations, Path):
        tensors = read_tensors(activations)
        if len(tensors) != 1:
            raise ConfigError(f"{activations} holds {len(tensors)} tensors; give a file with one, [n, d_in].")
        (activations,) = tensors.values()
    sae = convert_reference(source, activations)
    for key, value in (("model_name", model_name), ("hook_name", hook_name)):
        if value is not None:
            sae.cfg.metadata[key] = value
    return sae
