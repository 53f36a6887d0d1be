"""Codes as the few latents that are on: encode and decode without [..., d_sae]."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from sae_lens import SAE
from torch import Tensor

from sae_lens_abstopk.saes.batch_selection import BatchSelectionConfig
from sae_lens_abstopk.saes.sparse_step import encoder_of
from sae_lens_abstopk.saes.traits import declared_traits, k_of
from sae_lens_abstopk.sparse import EncoderWeights, SparseCodes, row_norms, select_per_token, sparse_decode
from sae_lens_abstopk.sparse.candidates import bfloat16_is_fast
from sae_lens_abstopk.sparse.codes import even_offsets
from sae_lens_abstopk.system.errors import ConfigError


class TopKCodes(NamedTuple):
    """The non-zero entries of codes [..., d_sae], unordered; missing ones have value 0 at latent 0."""

    values: Float[Tensor, "... K"]
    indices: Int[Tensor, "... K"]
    """Latent indices."""


@torch.no_grad()
def encode_topk(sae: SAE[Any], x: Float[Tensor, "... D"]) -> TopKCodes:
    """
    ``sae.encode(x)`` as values and latents, without gradients: use ``sae.encode`` for attribution.

    Hooks on the codes do not run, and autocast does not lower the precision. Rounding may differ from ``sae.encode`` in
    the last bits, and so may latents near the cut. K is k for ``abstopk`` and ``topk``; for ``signed_jumprelu``,
    ``jumprelu`` and SAEs of this package that select over the batch, the most that any of these tokens keeps.

    Raises:
        ConfigError: ``sae`` is of another architecture, or its k was changed in one of two places.
    """
    traits = declared_traits(sae.cfg)
    over_batch = isinstance(sae.cfg, BatchSelectionConfig)
    if traits is None or not (traits.k_per == "token" or traits.gate == "threshold" or over_batch):
        raise ConfigError(
            f"encode_topk: SAEs of the architecture {sae.cfg.architecture()!r} are not supported; abstopk, topk, "
            "signed_jumprelu, jumprelu and batch SAEs of this package are. SAELens's batchtopk in training becomes a "
            "jumprelu SAE: save it for inference first, with save_inference_model(FOLDER)."
        )
    weights: Any = sae
    with torch.autocast(x.device.type, enabled=False):
        centred = sae.process_sae_in(x)
        flat = centred.reshape(centred.shape[:-1].numel(), centred.shape[-1])
        half_precision = bfloat16_is_fast(flat.device) and flat.dtype == torch.float32
        n_signed = getattr(sae.cfg, "n_signed", sae.cfg.d_sae if traits.signed else 0)
        encoder = encoder_of(sae, n_signed=n_signed, half_precision=half_precision)
        norms = encoder.scale
        if traits.k_per == "token":
            found = _padded(select_per_token(encoder, flat, k_of(sae)).scaled(norms))
        elif traits.gate == "threshold":
            positive, negative = weights.threshold, getattr(sae, "negative_threshold", weights.threshold)
            found = _passing(encoder, lambda u_bF: (u_bF <= positive) & (-u_bF <= negative), flat)
        elif sae.training or weights.topk_threshold == 0:
            found = _padded(weights.select(encoder, flat).scaled(norms))
        else:
            found = _passing(encoder, lambda u_bF: encoder.scores(u_bF) <= weights.topk_threshold, flat)
            found = found if norms is None else TopKCodes(found.values * norms[found.indices], found.indices)
        return TopKCodes(*(part.reshape(*centred.shape[:-1], part.shape[-1]) for part in found))


@torch.no_grad()
def decode_topk(sae: SAE[Any], codes: TopKCodes) -> Float[Tensor, "... D"]:
    """Decode as ``sae.decode``, in the SAE's dtype, without gradients; the values may have any dtype."""
    functions: Any = sae
    *tokens, k = codes.values.shape
    n_tokens = math.prod(tokens)
    values, latents = (part.reshape(n_tokens, k) for part in codes)
    with torch.autocast(values.device.type, enabled=False):
        values = values.to(sae.W_dec.dtype)
        if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
            values = values / row_norms(sae.W_dec)[latents]
        flat = SparseCodes(values.flatten(), latents.flatten(), even_offsets(n_tokens, k, values.device))
        summed = sparse_decode(flat, sae.W_dec)
        recons = sae.hook_sae_recons(summed.view(*tokens, summed.shape[-1]) + sae.b_dec)
        return functions.reshape_fn_out(functions.run_time_activation_norm_fn_out(recons), sae.d_head)


def _passing(
    encoder: EncoderWeights, fails: Callable[[Tensor], Bool[Tensor, "b F"]], x_BD: Float[Tensor, "B D"]
) -> TopKCodes:
    """Return the pre-activations that pass a test, padded to the widest token."""
    parts: list[TopKCodes] = []
    for rows in encoder.row_blocks(len(x_BD)):
        u_bF = torch.addmm(encoder.b_enc, x_BD[rows], encoder.W_enc)
        score_bF = encoder.scores(u_bF)
        score_bF.masked_fill_(fails(u_bF), 0)
        best = score_bF.topk(int((score_bF != 0).sum(1).max()), sorted=False)
        on = best.values != 0
        parts.append(TopKCodes(u_bF.gather(1, best.indices).where(on, 0), best.indices * on))
    if not parts:
        return TopKCodes(x_BD.new_zeros(0, 0), torch.zeros(0, 0, dtype=torch.int64, device=x_BD.device))
    width = max(part.values.shape[1] for part in parts)
    padded = [[torch.nn.functional.pad(x, (0, width - x.shape[1])) for x in part] for part in parts]
    return TopKCodes(*(torch.cat(part) for part in zip(*padded, strict=True)))


def _padded(codes: SparseCodes) -> TopKCodes:
    values, latents, counts = codes.values, codes.latents, codes.offsets.diff()
    width = int(counts.max()) if len(counts) else 0
    if bool((counts == width).all()):
        return TopKCodes(values.view(len(counts), width), latents.view(len(counts), width))
    place = torch.arange(width, device=values.device) < counts[:, None]
    padded = values.new_zeros(len(counts), width), latents.new_zeros(len(counts), width)
    for target, source in zip(padded, (values, latents), strict=True):
        target[place] = source
    return TopKCodes(*padded)
