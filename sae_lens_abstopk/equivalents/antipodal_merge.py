"""Merge each antipodal pair of latents of a non-negative SAE into one signed latent."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from sae_lens import SAE, TopKSAE, TrainingSAE

from sae_lens_abstopk.equivalents.mirror import MIRROR_END
from sae_lens_abstopk.model.reconstruction import ReconstructionSums
from sae_lens_abstopk.saes.derive import derive, metadata_of_other_latents
from sae_lens_abstopk.saes.geometry import ANTIPODAL, AntipodalPairs, antipodal_pairs
from sae_lens_abstopk.saes.signed_jumprelu import SignedJumpReLUSAE, SignedJumpReLUSAEConfig
from sae_lens_abstopk.saes.threshold import ThresholdFitter, require_activations
from sae_lens_abstopk.system.errors import ConfigError, require_given

BLOCK = 512


class Quality(NamedTuple):
    """Reconstruction error of an SAE on the given activations."""

    fvu: float
    """sum ||x - x_hat||^2 / sum ||x - mean(x)||^2."""
    l0: float
    """Mean number of non-zero codes per token."""


class MergedPair(NamedTuple):
    """Two latents of the old SAE and the signed latent that replaces them."""

    latent: int
    """Index in the signed SAE."""
    positive: int
    """Index in the old SAE."""
    negative: int
    decoder_cosine: float
    """Cosine of the decoder rows; -1 is opposite."""
    encoder_cosine: float
    """Cosine of the encoder columns; far from -1, one linear map cannot stand for both."""
    coactivation: float | None
    """Share of both firing among the tokens on which either fires; None without activations, NaN if none fires."""


@dataclass(frozen=True, eq=False)
class AntipodalMerge:
    """Result of :func:`merge_antipodal` and what the merge costs."""

    sae: SignedJumpReLUSAE
    """The signed SAE; ``d_sae`` is the old one less the number of pairs."""
    pairs: tuple[MergedPair, ...] = field(repr=False)
    """The pairs, most opposed first."""
    sources: torch.Tensor
    """Old latent of the positive and of the negative pole of each new latent, int64 [2, d_sae]; -1 without one."""
    before: Quality | None
    """Quality of the old SAE; None without activations."""
    after: Quality | None
    """Quality of the signed SAE; None without activations."""


class _Latents(NamedTuple):
    """A non-negative SAE written as z_j = u_j * 1[u_j > theta_j], in float32."""

    W_enc: torch.Tensor
    b_enc: torch.Tensor
    W_dec: torch.Tensor
    threshold: torch.Tensor


@torch.no_grad()
def merge_antipodal(
    sae: SAE[Any], *, threshold: float = ANTIPODAL, activations: torch.Tensor | None = None
) -> AntipodalMerge:
    """
    Fold each antipodal pair of a ReLU, JumpReLU or TopK SAE into one signed latent of a ``signed_jumprelu`` SAE.

    With rows scaled to unit decoder norm, latents i and j become u = ((w_i - w_j) . x + b_i - b_j) / 2 on the direction
    d_i - d_j, on where either was: where u > theta_i - (b_i + b_j) / 2, or -u > theta_j - (b_i + b_j) / 2, with
    negative thresholds set to 0. That is exact for a mirrored SAE, and an approximation elsewhere. All other latents
    stay as they are, one-sided. A latent in several pairs goes to the most opposed one.

    Args:
        sae: ``standard``, ``jumprelu`` or ``topk``, from a release or a folder.
        threshold: Decoder cosine below which two latents are a pair, between -1 and 0; -0.7 by default.
        activations: [n, d_in]. With them, the direction of each pair is scaled to fit what the two wrote (least
            squares), and the report has coactivation and both reconstructions. A ``topk`` SAE needs them: its threshold
            is the one at which as many latents are on.

    Raises:
        ConfigError: another kind of SAE, a threshold out of range, or activations missing, of another shape or not
            finite.
    """
    if isinstance(sae, TrainingSAE) or sae.cfg.architecture() not in ("standard", "jumprelu", "topk"):
        raise ConfigError(
            f"merge_antipodal needs a standard, jumprelu or topk SAE for inference, and this is "
            f"{sae.cfg.architecture()!r}; a signed SAE has both poles in one latent already."
        )
    if activations is not None:
        require_activations(activations, sae.cfg.d_in)
    old = _threshold_form(sae, activations)
    first, second, cosine = _disjoint(antipodal_pairs(old.W_dec, threshold=threshold))
    positive = torch.tensor(sorted({*range(sae.cfg.d_sae)} - {*second.tolist()}))
    latent = torch.searchsorted(positive, first)
    negative = torch.full_like(positive, -1)
    negative[latent] = second
    made = _signed(sae, old, positive, negative)
    coactivation: list[float | None] = [None] * len(first)
    before = after = None
    if activations is not None:
        coactivation, scale = _on_activations(sae, old, made, activations, first, second, latent)
        made.W_dec[latent] *= scale[:, None].to(made.W_dec)
        before, after = (_quality(one, activations) for one in (sae, made))
    encoder_cosine = torch.cosine_similarity(old.W_enc[:, first], old.W_enc[:, second], dim=0)
    columns = (part.tolist() for part in (latent, first, second, cosine, encoder_cosine))
    pairs = tuple(MergedPair(*pair) for pair in zip(*columns, coactivation, strict=True))
    return AntipodalMerge(made, pairs, torch.stack([positive, negative]), before, after)


def _threshold_form(sae: SAE[Any], activations: torch.Tensor | None) -> _Latents:
    state = {name: weight.float() for name, weight in sae.state_dict().items()}
    W_enc, b_enc, W_dec = state["W_enc"], state["b_enc"], state["W_dec"]
    if not isinstance(sae, TopKSAE):
        # a negative threshold does nothing behind the ReLU
        return _Latents(W_enc, b_enc, W_dec, state.get("threshold", torch.zeros_like(b_enc)).clamp(min=0))
    remedy = "give them [n, d_in] to estimate a threshold, which a topk SAE lacks and signed_jumprelu needs"
    activations = require_given("the array of activations", activations, remedy)
    if sae.cfg.rescale_acts_by_decoder_norm:
        norms = W_dec.norm(dim=-1).clamp(min=1e-8)
        W_enc, b_enc, W_dec = W_enc * norms, b_enc * norms, W_dec / norms[:, None]
    fitter = ThresholdFitter(_quality(sae, activations).l0)
    for x in _blocks(sae, activations):
        fitter.update((sae.process_sae_in(x).float() @ W_enc + b_enc).relu())
    return _Latents(W_enc, b_enc, W_dec, torch.full_like(b_enc, fitter.result))


def _disjoint(found: AntipodalPairs) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Choose pairs that share no latent, most opposed first; return indices [n], [n] and cosines [n]."""
    taken: set[int] = set()
    chosen: list[int] = []
    for number, pair in enumerate(zip(found.first.tolist(), found.second.tolist(), strict=True)):
        if not taken & set(pair):
            taken |= set(pair)
            chosen.append(number)
    return found.first[chosen], found.second[chosen], found.cosine[chosen]


def _signed(sae: SAE[Any], old: _Latents, positive: torch.Tensor, negative: torch.Tensor) -> SignedJumpReLUSAE:
    paired = negative >= 0
    W_enc, b_enc, W_dec = old.W_enc[:, positive].clone(), old.b_enc[positive], old.W_dec[positive].clone()
    above = old.threshold[positive].clone()
    below = torch.full_like(above, torch.inf)
    i, j = positive[paired], negative[paired]
    norm_i, norm_j = (old.W_dec[latents].norm(dim=-1).clamp(min=1e-8) for latents in (i, j))
    bias_i, bias_j = old.b_enc[i] * norm_i, old.b_enc[j] * norm_j
    W_enc[:, paired] = (old.W_enc[:, i] * norm_i - old.W_enc[:, j] * norm_j) / 2
    b_enc[paired] = (bias_i - bias_j) / 2
    direction = old.W_dec[i] / norm_i[:, None] - old.W_dec[j] / norm_j[:, None]
    W_dec[paired] = direction / direction.norm(dim=-1, keepdim=True)
    shift = (bias_i + bias_j) / 2
    above[paired] = (old.threshold[i] * norm_i - shift).clamp(min=0)
    below[paired] = (old.threshold[j] * norm_j - shift).clamp(min=0)
    weights = {"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec, "b_dec": sae.b_dec}
    weights |= {"threshold": above, "negative_threshold": below}
    label = sae.cfg.metadata.label
    metadata = metadata_of_other_latents(sae.cfg.metadata, label=label and label.removesuffix(MIRROR_END))
    metadata["merged_antipodal_pairs"] = int(paired.sum())
    cfg: dict[str, Any] = {"d_sae": len(positive), "pole_thresholds": True, "metadata": metadata}
    return derive(SignedJumpReLUSAE, SignedJumpReLUSAEConfig, sae, weights, **cfg)


def _on_activations(
    sae: SAE[Any],
    old: _Latents,
    made: SignedJumpReLUSAE,
    activations: torch.Tensor,
    first: torch.Tensor,
    second: torch.Tensor,
    latent: torch.Tensor,
) -> tuple[list[float | None], torch.Tensor]:
    """Return the coactivation of each pair and the factor that fits its direction to what the pair wrote."""
    both, either, product, square = torch.zeros(4, len(first))
    direction = made.W_dec[latent].float()
    on_first, on_second = ((old.W_dec[latents] * direction).sum(-1) for latents in (first, second))
    for x in _blocks(sae, activations):
        codes, signed = sae.encode(x).float(), made.encode(x)[:, latent].float()
        # rescaled topk codes are in units of rows of norm 1, which old.W_dec then has
        z_first, z_second = codes[:, first], codes[:, second]
        wrote = z_first * on_first + z_second * on_second
        both += ((z_first > 0) & (z_second > 0)).sum(0).cpu()
        either += ((z_first > 0) | (z_second > 0)).sum(0).cpu()
        product += (wrote * signed).sum(0).cpu()
        square += signed.square().sum(0).cpu()
    # a pair that never fired keeps its direction
    scale = torch.where(product > 0, product / square.clamp(min=1e-30), 1.0)
    return (both / either).tolist(), scale


def _quality(sae: SAE[Any], activations: torch.Tensor) -> Quality:
    sums = ReconstructionSums()
    active = 0
    for x in _blocks(sae, activations):
        codes = sae.encode(x)
        active += int((codes != 0).sum())
        sums.update(x.flatten(1), sae.decode(codes).flatten(1))
    return Quality(fvu=sums.fvu(), l0=active / len(activations))


def _blocks(sae: SAE[Any], activations: torch.Tensor) -> Iterator[torch.Tensor]:
    return (block.to(sae.W_dec.device) for block in activations.split(BLOCK))
