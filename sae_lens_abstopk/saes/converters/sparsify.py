"""
Convert EleutherAI's ``sae`` (later sparsify) with ``signed: true``: per-token magnitude selection, as ``abstopk``.

The format is that of ``Sae.save_to_disk`` in https://github.com/EleutherAI/sae (``sae/sae.py``, 2024): ``cfg.json`` and
``sae.safetensors`` with ``encoder.weight`` [F, D], ``encoder.bias`` [F], ``W_dec`` [F, D], ``b_dec`` [D]; codes are the
k largest magnitudes of (x - b_dec) W^T + b, signs kept. Later versions of sparsify drop the key ``signed``, and
SAELens's own loader makes a ``topk`` SAE with different codes.
"""

import re
from pathlib import Path

from sae_lens import AbsTopKSAE, AbsTopKSAEConfig
from sae_lens.constants import SPARSIFY_WEIGHTS_FILENAME
from sae_lens.saes.sae import SAEMetadata
from sae_lens.util import dtype_to_str

from sae_lens_abstopk.saes.converters.checkpoint import read_settings, read_tensors, require_shapes, setting
from sae_lens_abstopk.system.errors import ConfigError, require_range

# options of later versions that change the SAE's function
OTHER_COMPUTATIONS = ("transcode", "skip_connection", "multi_topk")


def convert_sparsify(folder: Path) -> AbsTopKSAE:
    """
    Convert the SAE in ``folder``, with equal codes and reconstructions.

    A folder name like ``layers.5`` gives the hook ``model.layers.5``, the output of the block in most models of
    ``transformers``.
    """
    path = folder / "cfg.json"
    settings = read_settings(path)
    other = [key for key in OTHER_COMPUTATIONS if settings.get(key)]
    if settings.get("signed") is not True or other:
        raise ConfigError(
            f"{path} does not say signed: true, or says {', '.join(OTHER_COMPUTATIONS)}, which change the function. "
            "SAELens loads unsigned SAEs: SAE.load_from_disk(FOLDER, converter=sparsify_disk_loader)."
        )
    d_in, k = setting(settings, "d_in", path), setting(settings, "k", path)
    by_factor = not settings.get("num_latents")
    d_sae = d_in * setting(settings, "expansion_factor", path) if by_factor else setting(settings, "num_latents", path)
    require_range(f"{path}: k", k, at_most=d_sae, remedy=", the number of latents")
    weights = folder / SPARSIFY_WEIGHTS_FILENAME
    tensors = read_tensors(weights)
    shapes = {"encoder.weight": (d_sae, d_in), "encoder.bias": (d_sae,), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    require_shapes(tensors, shapes, weights)
    dtype = dtype_to_str(tensors["W_dec"].dtype)
    metadata = SAEMetadata(converted_from="sparsify, signed")
    if layer := re.fullmatch(r"layers[._](\d+)", folder.resolve().name):
        metadata.hook_name = f"model.layers.{layer[1]}"
    sae = AbsTopKSAE(AbsTopKSAEConfig(d_in=d_in, d_sae=d_sae, k=k, dtype=dtype, metadata=metadata))
    encoder = {"W_enc": tensors["encoder.weight"].T, "b_enc": tensors["encoder.bias"]}
    sae.load_state_dict(encoder | {"W_dec": tensors["W_dec"], "b_dec": tensors["b_dec"]})
    return sae
