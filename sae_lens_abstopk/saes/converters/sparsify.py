"""
Convert EleutherAI's ``sae`` (later sparsify) with ``signed: true``: per-token magnitude selection, as ``abstopk``.

The format is that of ``Sae.save_to_disk`` in https://github.com/EleutherAI/sae (``sae/sae.py``, 2024): ``cfg.json`` and
``sae.safetensors`` with ``encoder.weight`` [F, D], ``encoder.bias`` [F], ``W_dec`` [F, D], ``b_dec`` [D]; codes are the
k largest magnitudes of (x - b_dec) W^T + b, signs kept. Later versions of sparsify drop the key ``signed``, and
SAELens's own loader makes a ``topk`` SAE with different codes.
"""

import re
from pathlib import Path
from typing import Any

from sae_lens import AbsTopKSAE, AbsTopKSAEConfig
from sae_lens.constants import SPARSIFY_WEIGHTS_FILENAME
from sae_lens.saes.sae import SAEMetadata
from sae_lens.util import dtype_to_str

from sae_lens_abstopk.saes.converters.checkpoint import read_settings, read_tensors, require_shapes, setting
from sae_lens_abstopk.system.errors import ConfigError

SETTINGS_FILENAME = "cfg.json"
# options of later versions that change the SAE's function
OTHER_COMPUTATIONS = ("transcode", "skip_connection", "multi_topk")


def convert_sparsify(folder: Path, *, model_name: str | None = None, hook_name: str | None = None) -> AbsTopKSAE:
    """
    Convert the SAE in ``folder``, with equal codes and reconstructions.

    Args:
        folder: Has ``cfg.json`` and ``sae.safetensors``; EleutherAI names it after the module, such as ``layers.5``.
        model_name: Model, for the metadata; the folder does not name it.
        hook_name: Hook; by default a folder name like ``layers.5`` gives ``model.layers.5``, the output of the block in
            most models of ``transformers``.

    Raises:
        ConfigError: the folder has another format, is not signed, or is damaged.
    """
    path = folder / SETTINGS_FILENAME
    settings = read_settings(path)
    if settings.get("signed") is not True:
        raise ConfigError(
            f"{path} does not say signed: true; SAELens loads it: "
            "SAE.load_from_disk(FOLDER, converter=sparsify_disk_loader)."
        )
    if other := [key for key in OTHER_COMPUTATIONS if settings.get(key)]:
        raise ConfigError(f"{path}: {', '.join(other)} changes what the SAE computes; SAELens has no form for it.")
    d_in, k = setting(settings, "d_in", path), setting(settings, "k", path)
    by_factor = not settings.get("num_latents")
    d_sae = d_in * setting(settings, "expansion_factor", path) if by_factor else setting(settings, "num_latents", path)
    if k > d_sae:
        raise ConfigError(f"{path}: k={k} is more than the {d_sae} latents.")
    weights = folder / SPARSIFY_WEIGHTS_FILENAME
    tensors = read_tensors(weights)
    shapes = {"encoder.weight": (d_sae, d_in), "encoder.bias": (d_sae,), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    require_shapes(tensors, shapes, weights)
    dtype = dtype_to_str(tensors["W_dec"].dtype)
    metadata = _metadata(folder, model_name, hook_name)
    sae = AbsTopKSAE(AbsTopKSAEConfig(d_in=d_in, d_sae=d_sae, k=k, dtype=dtype, metadata=metadata))
    sae.load_state_dict(
        {
            "W_enc": tensors["encoder.weight"].T,
            "b_enc": tensors["encoder.bias"],
            "W_dec": tensors["W_dec"],
            "b_dec": tensors["b_dec"],
        }
    )
    return sae


def _metadata(folder: Path, model_name: str | None, hook_name: str | None) -> SAEMetadata:
    layer = re.fullmatch(r"layers[._](\d+)", folder.resolve().name)
    if hook_name is None and layer is not None:
        hook_name = f"model.layers.{layer[1]}"
    facts: dict[str, Any] = {"converted_from": "sparsify, signed", "model_name": model_name, "hook_name": hook_name}
    return SAEMetadata(**{key: value for key, value in facts.items() if value is not None})
