"""One training step of a sparse-code SAE on the sparse kernels: what SAELens's dense step computes, at less cost."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import torch
from sae_lens import TopKTrainingSAE
from sae_lens.saes.sae import TrainStepInput, TrainStepOutput

from sae_lens_abstopk.sparse import EncoderWeights, SparseCodes, sparse_decode, sparse_encode

if TYPE_CHECKING:
    from sae_lens_abstopk.saes.sparse_training import SparseTrainingSAE


def sparse_training_step(sae: "SparseTrainingSAE", step_input: TrainStepInput) -> TrainStepOutput:
    """
    Encode, select, decode and add up the losses, with gradients only where latents are on.

    Rescaling by decoder norms needs no term of its own here: the norms cancel in the reconstruction, so they matter to
    the selection (and to the codes that are reported) alone.

    Returns:
        As SAELens's step; ``feature_acts`` is a COO tensor [B, F], and ``hidden_pre`` [N] its pre-activations alone.
    """
    # half precision would change which latents are selected
    with torch.autocast(step_input.sae_in.device.type, enabled=False):
        sae_in = sae.hook_sae_input(sae.reshape_fn_in(step_input.sae_in.to(sae.dtype)))
        x_BD = sae.run_time_activation_norm_fn_in(sae_in)
        centre_D = sae.b_dec if sae.cfg.apply_b_dec_to_input else torch.zeros_like(sae.b_dec)
        encoder = sae.encoder()
        codes = sparse_encode(x_BD, centre_D, sae.W_enc, sae.b_enc, sae.select(encoder, x_BD - centre_D.detach()))
        *inner, whole = (decoded + sae.b_dec for decoded in nested_decodes(codes, sae.W_dec, sae.inner_widths))
        recons = sae.hook_sae_recons(whole)
        sae_out = sae.reshape_fn_out(sae.run_time_activation_norm_fn_out(recons), sae.d_head)
        losses = {"mse_loss": (sae_out - step_input.sae_in).square().sum(-1).mean()}
        for width, partial in zip(sae.inner_widths, inner, strict=True):
            losses[f"inner_mse_loss_{width}"] = (partial - step_input.sae_in).square().sum(-1).mean()
        if sae.cfg.aux_loss_coefficient and step_input.dead_neuron_mask is not None:
            losses["auxiliary_reconstruction_loss"] = losses["mse_loss"].new_zeros(())
            if len(dead := step_input.dead_neuron_mask.nonzero().squeeze(1)):
                residual = (step_input.sae_in - sae_out).detach()
                losses["auxiliary_reconstruction_loss"] = dead_latent_loss(
                    sae, x_BD - centre_D, residual, dead, encoder
                )
        detached = codes._replace(values=codes.values.detach())
    return TrainStepOutput(
        sae_in=step_input.sae_in,
        sae_out=sae_out,
        feature_acts=detached.scaled(encoder.scale).to_coo(sae.cfg.d_sae),
        hidden_pre=detached.values,
        loss=torch.stack(list(losses.values())).sum(),
        losses=losses,
    )


def nested_decodes(codes: SparseCodes, W_dec: torch.Tensor, inner_widths: Sequence[int]) -> Iterator[torch.Tensor]:
    """Decodes [B, D] of the latents under each inner width, then of all; each latent is decoded once."""
    if not inner_widths:
        yield sparse_decode(codes, W_dec)
        return
    parts = (codes.between(start, stop) for start, stop in pairwise((0, *inner_widths, len(W_dec))))
    yield from accumulate(sparse_decode(part, W_dec) for part in parts)


def dead_latent_loss(
    sae: TopKTrainingSAE,
    centred_BD: torch.Tensor,
    residual_BD: torch.Tensor,
    dead: torch.Tensor,
    encoder: EncoderWeights,
) -> torch.Tensor:
    """
    SAELens's auxiliary loss (Appendix A.2 of arXiv 2406.04093), computed on the columns of the latents ``dead`` alone.

    A latent counts with its pre-activation as it is, on the side of a closed pole too: one that is only ever there would
    otherwise have no gradient to come back by. Where not all are taken, those come first that are nearest to firing.
    """
    full = residual_BD.shape[-1] // 2
    k = min(full, len(dead))
    # rows of the transposed view: the gradient of columns would be laid out unlike the weights, and be copied twice
    u = centred_BD @ sae.W_enc.T[dead].T + sae.b_enc[dead]
    if k < len(dead):
        best = nearest_to_firing(u.detach(), encoder, dead).topk(k, sorted=False).indices
        u = torch.zeros_like(u).scatter(-1, best, u.gather(-1, best))
    recons = sae.reshape_fn_out(u @ sae.W_dec[dead], sae.d_head)
    loss = (recons - residual_BD).square().sum(-1).mean()
    return sae.cfg.aux_loss_coefficient * min(len(dead) / full, 1.0) * loss


def nearest_to_firing(u: torch.Tensor, encoder: EncoderWeights, latents: torch.Tensor) -> torch.Tensor:
    """What pre-activations [B, n] of ``latents`` would score, below 0 too where they are on the side of a closed pole."""
    score = u if encoder.scale is None else u * encoder.scale[latents]
    if encoder.open_poles is None:
        return score.abs() if encoder.signed else score
    positive, negative = encoder.open_poles[:, latents]
    return torch.maximum(score.masked_fill(~positive, -torch.inf), (-score).masked_fill(~negative, -torch.inf))
