"""
Convert the AbsTopK paper's checkpoints (``batchabsolutek``), which select over the batch and have no threshold.

The format is that of ``save_checkpoint`` in the authors' ``src/trainer.py`` (arXiv 2510.00404):
``sae_STEP.safetensors`` with ``W_enc`` [D, F], ``W_dec`` [F, D], ``b_dec`` [D] and ``b_enc`` [F], and
``config_STEP.json`` beside it. ``BatchAbsoluteKSAE.forward`` normalises each token to mean 0 and deviation 1
(``input_unit_norm``), subtracts ``b_dec``, never adds ``b_enc``, and keeps the k * B largest magnitudes of a batch of B
tokens. SAELens's ``layer_norm`` is the same normalisation, to the epsilon.
"""

from pathlib import Path
from typing import Any

import torch
from sae_lens.saes.sae import SAEMetadata
from sae_lens.util import dtype_to_str

from sae_lens_abstopk.saes.converters.checkpoint import read_settings, read_tensors, require_shapes, setting
from sae_lens_abstopk.saes.signed_jumprelu import SignedJumpReLUSAE, SignedJumpReLUSAEConfig
from sae_lens_abstopk.saes.threshold import ThresholdFitter, require_activations
from sae_lens_abstopk.system.errors import ConfigError

SAE_NAME = "batchabsolutek"
BLOCK = 512


@torch.no_grad()
def convert_reference(weights: Path, activations: torch.Tensor | Path) -> SignedJumpReLUSAE:
    """
    Convert the SAE in ``weights`` to ``signed_jumprelu``, with one threshold estimated on ``activations`` [n, d_in].

    The threshold is the magnitude that on average k pre-activations a token exceed, as with batch selection over one
    large batch; a few thousand tokens are enough. ``weights`` is ``sae_STEP.safetensors``, or the same state dict in a
    ``.pt`` file, beside ``config_STEP.json``.
    """
    settings = weights.with_name(weights.stem.replace("sae_", "config_", 1) + ".json")
    found = read_settings(settings)
    if found.get("sae_name") != SAE_NAME:
        raise ConfigError(
            f"{settings}: sae_name={found.get('sae_name')!r} is not {SAE_NAME!r}, the signed SAE of that trainer."
        )
    d_in, d_sae, k = (setting(found, key, settings) for key in ("act_size", "dict_size", "k"))
    tensors = read_tensors(weights)
    shapes = {"W_enc": (d_in, d_sae), "b_enc": (d_sae,), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    require_shapes(tensors, shapes, weights)
    if isinstance(activations, Path):
        file, held = activations, list(read_tensors(activations).values())
        if len(held) != 1:
            raise ConfigError(f"{file} holds {len(held)} tensors; give a file with one, [n, {d_in}].")
        activations = held[0]
    require_activations(activations, d_in)
    cfg = SignedJumpReLUSAEConfig(
        d_in=d_in,
        d_sae=d_sae,
        dtype=dtype_to_str(tensors["W_dec"].dtype),
        normalize_activations="layer_norm" if found.get("input_unit_norm", False) else "none",
        metadata=_metadata(found, len(activations)),
    )
    sae = SignedJumpReLUSAE(cfg)
    none = torch.zeros_like(tensors["b_enc"])  # the training forward pass never added the bias
    sae.load_state_dict(tensors | {"b_enc": none, "threshold": none})
    fitter = ThresholdFitter(k)
    for start in range(0, len(activations), BLOCK):
        x = activations[start : start + BLOCK]
        fitter.update((sae.process_sae_in(x) @ sae.W_enc).abs())
    sae.threshold.fill_(fitter.result)
    return sae


def _metadata(found: dict[str, Any], n_tokens: int) -> SAEMetadata:
    keys = ("model_name", "hook_point", "dataset", "seq_len")
    names = ("model_name", "hook_name", "dataset_path", "context_size")
    facts = {name: found[key] for name, key in zip(names, keys, strict=True) if key in found}
    facts |= {"training_architecture": SAE_NAME, "training_architecture_details": {"k": found["k"]}}
    facts |= {"converted_from": "AbsTopK reference code", "threshold_tokens": n_tokens}
    return SAEMetadata(**facts, model_class_name="HookedTransformer")
