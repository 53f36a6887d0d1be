"""Convert signed SAEs of other projects to SAELens."""

from pathlib import Path

import torch
from sae_lens import AbsTopKSAE
from sae_lens.constants import SAE_WEIGHTS_FILENAME

from sae_lens_abstopk.saes.converters.checkpoint import PICKLED
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
            select over the batch and have no threshold.
        model_name: Model, for the metadata, if the source does not name it.
        hook_name: Hook, likewise.

    Raises:
        ConfigError: the source has neither format or is damaged, or activations are missing.
    """
    folder = source if source.is_dir() else source.parent
    if (folder / SAE_WEIGHTS_FILENAME).is_file() and source in (folder, folder / SAE_WEIGHTS_FILENAME):
        raise ConfigError(
            f"{source} is in SAELens's format already and needs no conversion; load it with "
            f"SAE.load_from_disk({str(folder)!r})."
        )
    if source.is_dir() and activations is None:
        sae = convert_sparsify(source)
    elif source.suffix in (".safetensors", *PICKLED) and activations is not None:
        sae = convert_reference(source, activations)
    else:
        raise ConfigError(
            f"{source}: give a folder of sparsify with cfg.json and sae.safetensors, without --activations; or the "
            "sae_STEP.safetensors of the AbsTopK reference code, with --activations FILE, a tensor [n, d_in], to "
            "estimate its threshold."
        )
    for key, value in (("model_name", model_name), ("hook_name", hook_name)):
        if value is not None:
            sae.cfg.metadata[key] = value
    return sae
