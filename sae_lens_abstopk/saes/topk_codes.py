"""Codes as the few latents that are on: encode and decode without [..., d_sae]."""

from typing import Any, NamedTuple

import torch
from sae_lens import SAE

from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.sparse import EncoderWeights, select_per_token
from sae_lens_abstopk.sparse.autoencode import weighted_sums
from sae_lens_abstopk.sparse.candidates import bfloat16_is_fast
from sae_lens_abstopk.sparse.codes import even_offsets

PER_TOKEN = {"abstopk": True, "sparse_abstopk": True, "topk": False, "sparse_topk": False}
"""Architectures that keep k latents a token, and whether these are signed."""
THRESHOLD = {"signed_jumprelu": True, "jumprelu": False}
"""Architectures with a threshold for each latent."""


class TopKCodes(NamedTuple):
    """The entries of codes [..., d_sae] that are on, in no order; where a token has fewer, value 0 at latent 0."""

    values: torch.Tensor
    """[..., K]."""
    indices: torch.Tensor
    """Latents, int64 [..., K]."""


@torch.no_grad()
def encode_topk(sae: SAE[Any], x: torch.Tensor) -> TopKCodes:
    """
    What ``sae.encode(x)`` gives, as values and latents; hooks on the codes do not run.

    Args:
        sae: Of an architecture that keeps k latents a token (K is k) or has a threshold (K is the most that any of
            these tokens keeps).
        x: Activations [..., d_in].

    Raises:
        ConfigError: the architecture bounds no token's codes.
    """
    architecture = sae.cfg.architecture()
    weights: Any = sae  # torch's modules do not tell the types of their parameters
    centred = sae.process_sae_in(x)
    flat = centred.reshape(-1, centred.shape[-1])
    if architecture in PER_TOKEN:
        norms = sae.W_dec.norm(dim=-1) if sae.cfg.rescale_acts_by_decoder_norm else None
        half_precision = bfloat16_is_fast(flat.device) and flat.dtype == torch.float32
        encoder = EncoderWeights(sae.W_enc, weights.b_enc, norms, signed=True, half_precision=half_precision)
        if not PER_TOKEN[architecture]:
            encoder = encoder._replace(signed=False)
        codes = select_per_token(encoder, flat, sae.cfg.k)
        values = codes.values if norms is None else codes.values * norms[codes.latents]
        found = _padded(values, codes.latents, codes.offsets)
    elif architecture in THRESHOLD:
        encoder = EncoderWeights(sae.W_enc, weights.b_enc, signed=THRESHOLD[architecture])
        negative_threshold = getattr(sae, "negative_threshold", weights.threshold)
        found = _above_threshold(encoder, weights.threshold, negative_threshold, flat)
    else:
        known = ", ".join([*PER_TOKEN, *THRESHOLD])
        raise ConfigError(f"encode_topk: architecture {architecture!r} has no bound on its codes; known: {known}.")
    return TopKCodes(*(part.reshape(*centred.shape[:-1], -1) for part in found))


@torch.no_grad()
def decode_topk(sae: SAE[Any], codes: TopKCodes) -> torch.Tensor:
    """What ``sae.decode`` gives for the same codes: [..., d_in]."""
    values = codes.values.flatten(0, -2)
    latents = codes.indices.flatten(0, -2)
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        values = values / sae.W_dec.norm(dim=-1)[latents]
    n_tokens, k = values.shape
    offsets = even_offsets(n_tokens, k, values.device) if k else latents.new_zeros(n_tokens + 1)
    summed = weighted_sums(sae.W_dec, latents.flatten(), offsets, values.flatten())
    recons = sae.hook_sae_recons(summed.view(*codes.values.shape[:-1], -1) + sae.b_dec)
    return sae.reshape_fn_out(sae.run_time_activation_norm_fn_out(recons), sae.d_head)


def _above_threshold(
    encoder: EncoderWeights, threshold_F: torch.Tensor, negative_threshold_F: torch.Tensor, x_BD: torch.Tensor
) -> TopKCodes:
    parts = []
    for rows in encoder.row_blocks(len(x_BD)):
        u_bF = torch.addmm(encoder.b_enc, x_BD[rows], encoder.W_enc)
        score_bF = encoder.scores(u_bF)
        score_bF *= (u_bF > threshold_F) | (-u_bF > negative_threshold_F)
        most = int((score_bF != 0).sum(1).max()) if len(score_bF) else 0
        best = score_bF.topk(most, sorted=False)
        on = best.values != 0
        parts.append(TopKCodes(u_bF.gather(1, best.indices) * on, best.indices * on))
    width = max((part.values.shape[1] for part in parts), default=0)
    padded = [[torch.nn.functional.pad(x, (0, width - x.shape[1])) for x in part] for part in parts]
    if not padded:
        return TopKCodes(x_BD.new_zeros(0, 0), torch.zeros(0, 0, dtype=torch.int64, device=x_BD.device))
    return TopKCodes(*(torch.cat(part) for part in zip(*padded, strict=True)))


def _padded(values: torch.Tensor, latents: torch.Tensor, offsets: torch.Tensor) -> TopKCodes:
    counts = offsets.diff()
    width = int(counts.max()) if len(counts) else 0
    if bool((counts == width).all()):
        return TopKCodes(values.view(len(counts), width), latents.view(len(counts), width))
    place = torch.arange(width, device=values.device) < counts[:, None]
    padded = values.new_zeros(len(counts), width), latents.new_zeros(len(counts), width)
    for target, source in zip(padded, (values, latents), strict=True):
        target[place] = source
    return TopKCodes(*padded)
