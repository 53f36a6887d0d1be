"""
Convert signed SAEs of other projects to SAELens, without running code in their files.

EleutherAI's ``sae`` (later sparsify) with ``signed: true`` selects per token by magnitude, as ``abstopk``.
``Sae.save_to_disk`` in https://github.com/EleutherAI/sae (``sae/sae.py``, 2024) writes ``cfg.json`` and
``sae.safetensors`` with ``encoder.weight`` [F, D], ``encoder.bias`` [F], ``W_dec`` [F, D], ``b_dec`` [D]; codes are the
k largest magnitudes of (x - b_dec) W^T + b, signs kept. Later versions of sparsify drop the key ``signed``, and
SAELens's own loader makes a ``topk`` SAE with different codes.

The AbsTopK paper's checkpoints (``batchabsolutek``) select over the batch and have no threshold. ``save_checkpoint`` in
the authors' ``src/trainer.py`` (arXiv 2510.00404) writes ``sae_STEP.safetensors`` with ``W_enc`` [D, F], ``W_dec``
[F, D], ``b_dec`` [D] and ``b_enc`` [F], and ``config_STEP.json`` beside it. ``BatchAbsoluteKSAE.forward`` normalises
each token to mean 0 and deviation 1 (``input_unit_norm``), subtracts ``b_dec``, never adds ``b_enc``, and keeps the
k * B largest magnitudes of a batch of B tokens. SAELens's ``layer_norm`` is the same normalisation, to the epsilon.

CompresSAE (arXiv 2505.11388; ``model.py`` in https://github.com/recombee/CompresSAE) compresses embeddings. Its state
dict has ``encoder_w`` [D, F], ``encoder_b`` [F] and ``decoder_w`` [F, D], and not k; codes are the k largest magnitudes
of x / ||x|| @ encoder_w + encoder_b, signs kept, and the output is z @ decoder_w, without a bias.
"""

import re
from pathlib import Path

import torch
from sae_lens import AbsTopKSAE, AbsTopKSAEConfig
from sae_lens.constants import SAE_WEIGHTS_FILENAME, SPARSIFY_WEIGHTS_FILENAME
from sae_lens.saes.sae import SAEMetadata
from sae_lens.util import dtype_to_str

from sae_lens_abstopk.saes.converted_files import PICKLED, read_settings, read_tensors, require_shapes, whole_number
from sae_lens_abstopk.saes.signed_jumprelu import SignedJumpReLUSAE, SignedJumpReLUSAEConfig
from sae_lens_abstopk.saes.threshold import ThresholdFitter, require_activations
from sae_lens_abstopk.system.errors import ConfigError, require_choice, require_range
from sae_lens_abstopk.system.typed_values import typed_value

# options of later versions of sparsify that change the SAE's function
OTHER_COMPUTATIONS = ("transcode", "skip_connection", "multi_topk")
# name of the signed SAE in the reference code
REFERENCE = "batchabsolutek"
BLOCK = 512


def convert(
    source: Path,
    *,
    activations: torch.Tensor | Path | None = None,
    k: int | None = None,
    model_name: str | None = None,
    hook_name: str | None = None,
) -> AbsTopKSAE | SignedJumpReLUSAE:
    """
    Convert a signed SAE of another project to SAELens.

    Args:
        source: A folder of EleutherAI's ``sae`` (sparsify) with ``signed: true``, or a weights file of the AbsTopK
            reference code or of CompresSAE.
        activations: [n, d_in] at the hook, or a file with one such tensor; needed for the reference code's SAEs, which
            select over the batch and have no threshold.
        k: Active latents of a CompresSAE, whose weights file does not say it.
        model_name: Model, for the metadata, if the source does not name it.
        hook_name: Hook, likewise.

    Raises:
        ConfigError: the source has none of these formats or is damaged, or activations or k are missing.
    """
    folder = source if source.is_dir() else source.parent
    if (folder / SAE_WEIGHTS_FILENAME).is_file() and source in (folder, folder / SAE_WEIGHTS_FILENAME):
        raise ConfigError(
            f"{source} is in SAELens's format already and needs no conversion; load it with "
            f"SAE.load_from_disk({str(folder)!r})."
        )
    is_file = source.suffix in (".safetensors", *PICKLED) and not source.is_dir()
    if source.is_dir() and activations is None and k is None:
        sae = _convert_sparsify(source)
    elif is_file and activations is not None and k is None:
        sae = _convert_reference(source, activations)
    elif is_file and activations is None and k is not None:
        sae = _convert_compressae(source, k)
    else:
        raise ConfigError(
            f"{source}: give a folder of sparsify with cfg.json and sae.safetensors, and no other option; or the "
            "sae_STEP.safetensors of the AbsTopK reference code, with --activations FILE, a tensor [n, d_in], to "
            "estimate its threshold; or the state dict of a CompresSAE, with --k N."
        )
    for key, value in (("model_name", model_name), ("hook_name", hook_name)):
        if value is not None:
            sae.cfg.metadata[key] = value
    return sae


def _convert_sparsify(folder: Path) -> AbsTopKSAE:
    """Convert the SAE in ``folder``; a folder name like ``layers.5`` gives the hook ``model.layers.5``."""
    path = folder / "cfg.json"
    settings = read_settings(path)
    other = [key for key in OTHER_COMPUTATIONS if settings.get(key)]
    if settings.get("signed") is not True or other:
        raise ConfigError(
            f"{path} does not say signed: true, or says {', '.join(OTHER_COMPUTATIONS)}, which change the function. "
            "SAELens loads unsigned SAEs: SAE.load_from_disk(FOLDER, converter=sparsify_disk_loader)."
        )
    d_in, k = whole_number(settings, "d_in", path), whole_number(settings, "k", path)
    key, unit = ("num_latents", 1) if settings.get("num_latents") else ("expansion_factor", d_in)
    d_sae = unit * whole_number(settings, key, path)
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


@torch.no_grad()
def _convert_reference(weights: Path, activations: torch.Tensor | Path) -> SignedJumpReLUSAE:
    """
    Convert the SAE in ``weights`` to ``signed_jumprelu``, with one threshold estimated on ``activations`` [n, d_in].

    The threshold is the magnitude that on average k pre-activations a token exceed, as with batch selection over one
    large batch; a few thousand tokens are enough. ``weights`` is ``sae_STEP.safetensors``, or the same state dict in a
    ``.pt`` file, beside ``config_STEP.json``.
    """
    settings = weights.with_name(weights.stem.replace("sae_", "config_", 1) + ".json")
    found = read_settings(settings)
    require_choice(f"{settings}: sae_name", found.get("sae_name"), (REFERENCE,))
    d_in, d_sae, k = (whole_number(found, key, settings) for key in ("act_size", "dict_size", "k"))
    tensors = read_tensors(weights)
    shapes = {"W_enc": (d_in, d_sae), "b_enc": (d_sae,), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    require_shapes(tensors, shapes, weights)
    if isinstance(activations, Path):
        file, held = activations, list(read_tensors(activations).values())
        require_choice(f"{file}: tensors", len(held), (1,), remedy=f", [n, {d_in}]")
        activations = held[0]
    require_activations(activations, d_in)
    keys = ("model_name", "hook_point", "dataset", "seq_len")
    names = ("model_name", "hook_name", "dataset_path", "context_size")
    facts = {name: found[key] for name, key in zip(names, keys, strict=True) if key in found}
    facts |= {"training_architecture": REFERENCE, "training_architecture_details": {"k": found["k"]}}
    facts |= {"converted_from": "AbsTopK reference code", "threshold_tokens": len(activations)}
    cfg = SignedJumpReLUSAEConfig(
        d_in=d_in,
        d_sae=d_sae,
        dtype=dtype_to_str(tensors["W_dec"].dtype),
        normalize_activations="layer_norm" if found.get("input_unit_norm", False) else "none",
        metadata=SAEMetadata(**facts, model_class_name="HookedTransformer"),
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


def _convert_compressae(weights: Path, k: int) -> AbsTopKSAE:
    """
    Convert the CompresSAE in ``weights``, a state dict.

    ``constant_norm_rescale`` gives inputs the norm sqrt(d_in), so the encoder is divided by that. The output has the
    length of the input, where CompresSAE's is for the input of norm 1; ``decode`` therefore needs the inputs that were
    encoded last, as with all SAEs of this normalisation.
    """
    tensors = read_tensors(weights)
    if getattr(tensors.get("encoder_w"), "ndim", None) != 2:
        raise ConfigError(f"{weights} is not the state dict of a CompresSAE: it lacks encoder_w [d_in, d_sae].")
    d_in, d_sae = tensors["encoder_w"].shape
    shapes = {"encoder_w": (d_in, d_sae), "encoder_b": (d_sae,), "decoder_w": (d_sae, d_in)}
    require_shapes(tensors, shapes, weights)
    require_range("k", typed_value("k", k, int), at_least=1, at_most=d_sae, remedy=", the number of latents")
    cfg = AbsTopKSAEConfig(
        d_in=d_in,
        d_sae=d_sae,
        k=k,
        dtype=dtype_to_str(tensors["decoder_w"].dtype),
        normalize_activations="constant_norm_rescale",  # type: ignore[arg-type]  # SAELens takes it
        metadata=SAEMetadata(converted_from="CompresSAE"),
    )
    sae = AbsTopKSAE(cfg)
    W_enc, W_dec = tensors["encoder_w"] / d_in**0.5, tensors["decoder_w"] * d_in**0.5
    b_dec = torch.zeros_like(sae.b_dec)
    sae.load_state_dict({"W_enc": W_enc, "b_enc": tensors["encoder_b"], "W_dec": W_dec, "b_dec": b_dec})
    return sae
