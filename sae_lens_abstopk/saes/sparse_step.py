"""One training step on the sparse kernels: the result of SAELens's dense step at less cost."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from sae_lens.saes.sae import TrainStepInput, TrainStepOutput
from torch import Tensor

from sae_lens_abstopk.sparse import EncoderWeights, SparseCodes, row_norms, sparse_decode, sparse_encode

if TYPE_CHECKING:
    from sae_lens_abstopk.saes.sparse_training import SparseTrainingSAE


# CompresSAE's loss adds that of a code with 4 k latents, at this weight (arXiv 2505.11388)
WIDER, WEIGHT_OF_WIDER = 4, 1 / 8


def sparse_training_step(sae: "SparseTrainingSAE", step_input: TrainStepInput) -> TrainStepOutput:
    """
    Encode, select, decode and sum the losses, with gradients only where latents are on.

    The result is that of SAELens's step, but ``feature_acts`` is a COO tensor [B, F], with pre-activations
    ``hidden_pre`` [N]. Decoder norms cancel in the reconstruction: they matter only to selection and reported codes.
    """
    functions: Any = sae  # SAELens does not type the functions that it sets on an SAE
    # half precision would change the selection
    with torch.autocast(step_input.sae_in.device.type, enabled=False):
        sae_in = sae.hook_sae_input(sae.reshape_fn_in(step_input.sae_in.to(sae.dtype)))
        x_BD: Tensor = functions.run_time_activation_norm_fn_in(sae_in)
        centre_D = sae.b_dec if sae.cfg.apply_b_dec_to_input else torch.zeros_like(sae.b_dec)
        encoder = sae.encoder()
        codes = sparse_encode(x_BD, centre_D, sae.W_enc, sae.b_enc, sae.select(encoder, x_BD - centre_D.detach()))
        *inner, whole = (decoded + sae.b_dec for decoded in nested_decodes(codes, sae.W_dec, sae.inner_widths))
        recons = sae.hook_sae_recons(whole)
        sae_out: Tensor = functions.reshape_fn_out(functions.run_time_activation_norm_fn_out(recons), sae.d_head)
        kind = sae.cfg.reconstruction_loss
        # SAELens can undo a normalisation of tokens once per step, and a cosine needs no lengths
        x, x_hat = (step_input.sae_in, sae_out) if kind == "mse" else (x_BD, recons)
        losses = {f"{kind}_loss": ERRORS[kind](x_hat, x).mean()}
        for width, partial in zip(sae.inner_widths, inner, strict=True):
            losses[f"inner_{kind}_loss_{width}"] = ERRORS[kind](partial, x).mean()
        if kind == "cosine":
            wider = sae.select(encoder, x_BD - centre_D.detach(), multiple=WIDER)
            wider_hat = sparse_decode(sparse_encode(x_BD, centre_D, sae.W_enc, sae.b_enc, wider), sae.W_dec) + sae.b_dec
            losses[f"cosine_loss_{WIDER}k"] = WEIGHT_OF_WIDER * cosine_distance(wider_hat, x).mean()
        if sae.cfg.aux_loss_coefficient and step_input.dead_neuron_mask is not None:
            losses["auxiliary_reconstruction_loss"] = losses["mse_loss"].new_zeros(())
            if len(dead := step_input.dead_neuron_mask.nonzero().squeeze(1)):
                residual = (step_input.sae_in - sae_out).detach()
                loss = dead_latent_loss(sae, x_BD - centre_D, residual, dead, encoder)
                losses["auxiliary_reconstruction_loss"] = loss
        detached = codes._replace(values=codes.values.detach())
    return TrainStepOutput(
        sae_in=step_input.sae_in,
        sae_out=sae_out,
        feature_acts=detached.scaled(encoder.scale).to_coo(sae.cfg.d_sae),
        hidden_pre=detached.values,
        loss=torch.stack(list(losses.values())).sum(),
        losses=losses,
    )


def squared_error(x_hat: Float[Tensor, "B D"], x: Float[Tensor, "B D"]) -> Float[Tensor, " B"]:
    """Return ||x_hat - x||^2 of each token."""
    return (x_hat - x).square().sum(-1)


def cosine_distance(x_hat: Float[Tensor, "B D"], x: Float[Tensor, "B D"]) -> Float[Tensor, " B"]:
    """Return 1 - cos(x_hat, x) of each token."""
    return 1 - torch.cosine_similarity(x_hat, x, dim=-1)


ERRORS = {"mse": squared_error, "cosine": cosine_distance}


def encoder_of(sae: SAE[Any], *, n_signed: int, half_precision: bool) -> EncoderWeights:
    """Return the weights of ``sae`` for a selection, without gradients."""
    norms = row_norms(sae.W_dec.detach()) if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False) else None
    return EncoderWeights(sae.W_enc.detach(), sae.get_parameter("b_enc").detach(), norms, n_signed, half_precision)


def nested_decodes(
    codes: SparseCodes, W_dec: Float[Tensor, "F D"], inner_widths: Sequence[int]
) -> Iterator[Float[Tensor, "B D"]]:
    """Return the decode of the latents below each inner width, then of all; each latent is decoded once."""
    if not inner_widths:
        yield sparse_decode(codes, W_dec)
        return
    ranges = pairwise((0, *inner_widths, len(W_dec)))
    parts = (codes.where((codes.latents >= start) & (codes.latents < stop)) for start, stop in ranges)
    yield from accumulate(sparse_decode(part, W_dec) for part in parts)


def dead_latent_loss(
    sae: "SparseTrainingSAE",
    centred_BD: Float[Tensor, "*B D"],
    residual_BD: Float[Tensor, "*B D"],
    dead: Int[Tensor, " n"],
    encoder: EncoderWeights,
) -> Float[Tensor, ""]:
    """
    SAELens's auxiliary loss (Appendix A.2 of arXiv 2406.04093), computed on the columns of the ``dead`` latents only.

    Pre-activations on a closed side count too, or a latent that stays there would get no gradient. Those nearest to
    firing come first.
    """
    full = residual_BD.shape[-1] // 2
    k = min(full, len(dead))
    # rows of the transposed view: a gradient of columns would differ from the weights in layout and be copied twice
    u = centred_BD @ sae.W_enc.T[dead].T + sae.b_enc[dead]
    if k < len(dead):
        score = u.detach() if encoder.scale is None else u.detach() * encoder.scale[dead]
        nearest = score if encoder.n_signed is None else score.abs().where(dead < encoder.n_signed, score)
        best = nearest.topk(k, sorted=False).indices
        u = torch.zeros_like(u).scatter(-1, best, u.gather(-1, best))
    functions: Any = sae
    recons: Tensor = functions.reshape_fn_out(u @ sae.W_dec[dead], sae.d_head)
    loss = (recons - residual_BD).square().sum(-1).mean()
    return sae.cfg.aux_loss_coefficient * min(len(dead) / full, 1.0) * loss
