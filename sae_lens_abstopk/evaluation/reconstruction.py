"""Reconstruction metrics: what an SAE loses of the activation, and of the language model's predictions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from sae_lens.training.activation_scaler import ActivationScaler
from sae_lens.util import extract_stop_at_layer_from_tlens_hook_name
from torch.nn.functional import cross_entropy
from transformer_lens.HookedRootModule import HookedRootModule

from sae_lens_abstopk.evaluation.token_filter import TokenFilter
from sae_lens_abstopk.saes.poles import PoleStatistics, pole_counts, pole_statistics


class Codec(Protocol):
    """Anything with SAELens's ``encode`` and ``decode``."""

    def encode(self, x: torch.Tensor, /) -> torch.Tensor: ...
    def decode(self, feature_acts: torch.Tensor, /) -> torch.Tensor: ...


@dataclass(frozen=True)
class ScaledCodec:
    """An SAE in training, behind the activation scale that is folded into its weights only at the end."""

    sae: Codec
    scaler: ActivationScaler

    def encode(self, x: torch.Tensor, /) -> torch.Tensor:
        return self.sae.encode(self.scaler.scale(x))

    def decode(self, feature_acts: torch.Tensor, /) -> torch.Tensor:
        return self.scaler.unscale(self.sae.decode(feature_acts))


@dataclass(frozen=True)
class LossRecovered:
    """Next-token cross-entropy (nats) with the hook as it is, through the SAE, and ablated; kept tokens only."""

    n_tokens: int
    """Predicted tokens."""
    ce_clean: float
    ce_sae: float
    ce_zero: float
    """Kept activations replaced by zero."""
    ce_mean: float
    """Kept activations replaced by their mean over the evaluated tokens."""

    @property
    def zero(self) -> float:
        """Share of the loss that zero-ablation adds and the SAE does not: 1 is perfect."""
        return _recovered(self.ce_clean, self.ce_sae, self.ce_zero)

    @property
    def mean(self) -> float:
        """The same against mean-ablation."""
        return _recovered(self.ce_clean, self.ce_sae, self.ce_mean)


@dataclass(frozen=True)
class Reconstruction:
    """What one SAE loses on one set of tokens."""

    n_tokens: int
    """Kept tokens behind every number here but the loss."""
    mse: float
    """Mean over tokens of ||x - x_hat||^2."""
    nmse: float
    """Mean over tokens of ||x - x_hat||^2 / ||x||^2 (the paper's nMSE)."""
    fvu: float
    """Fraction of variance unexplained: sum ||x - x_hat||^2 / sum ||x - mean(x)||^2."""
    l0: float
    """Mean number of non-zero codes a token, of any sign."""
    pole_counts: torch.Tensor
    """Firings of the positive and of the negative pole, int64 [2, d_sae]."""
    loss: LossRecovered | None
    """None where no loss was asked for."""

    @property
    def dead_latents(self) -> int:
        """Latents that fired on neither side in ``n_tokens``."""
        return self.pole_counts.shape[1] - self.poles.live_latents

    @property
    def poles(self) -> PoleStatistics:
        """Dead poles and two-sidedness on these tokens."""
        return pole_statistics(self.pole_counts)


class ReconstructionSums:
    """Running sums for one SAE, in float64: nothing grows with the number of tokens."""

    def __init__(self, d_in: int) -> None:
        self.n_tokens = 0
        self.squared_error = 0.0
        self.relative_error = 0.0
        self.n_active = 0
        self.sum_x = torch.zeros(d_in, dtype=torch.float64)
        self.sum_squared_x = 0.0
        self.counts: torch.Tensor | None = None

    def update(self, x: torch.Tensor, x_hat: torch.Tensor, codes: torch.Tensor | None = None) -> None:
        """Add activations [n, d_in], their reconstructions, and the codes [n, d_sae] if poles are to be counted."""
        # double precision on the sums; products stay in float32, as the data are
        x, x_hat = x.float(), x_hat.float()
        errors = (x - x_hat).square().sum(-1).double()
        squares = x.square().sum(-1).double()
        self.n_tokens += len(x)
        self.squared_error += errors.sum().item()
        self.relative_error += (errors / squares.clamp(min=1e-30)).sum().item()
        self.sum_x += x.sum(0).double().cpu()
        self.sum_squared_x += squares.sum().item()
        if codes is not None:
            counts = pole_counts(codes).cpu()
            self.counts = counts if self.counts is None else self.counts + counts
            self.n_active += int(counts.sum())

    @property
    def mean_x(self) -> torch.Tensor:
        return self.sum_x / max(self.n_tokens, 1)

    def mse(self) -> float:
        return self.squared_error / max(self.n_tokens, 1)

    def nmse(self) -> float:
        return self.relative_error / max(self.n_tokens, 1)

    def fvu(self) -> float:
        variance = self.sum_squared_x - self.n_tokens * self.mean_x.square().sum().item()
        return self.squared_error / variance if variance > 0 else float("nan")

    def result(self, loss: LossRecovered | None) -> Reconstruction:
        assert self.counts is not None
        return Reconstruction(
            n_tokens=self.n_tokens,
            mse=self.mse(),
            nmse=self.nmse(),
            fvu=self.fvu(),
            l0=self.n_active / max(self.n_tokens, 1),
            pole_counts=self.counts,
            loss=loss,
        )


@torch.no_grad()
def evaluate_reconstruction(
    model: HookedRootModule,
    saes: Mapping[str, Codec],
    batches: Sequence[torch.Tensor],
    *,
    hook_name: str,
    token_filter: TokenFilter,
    with_loss: bool = True,
    autocast: bool = False,
    on_codes: Callable[[str, torch.Tensor, torch.Tensor, torch.Tensor], None] | None = None,
    on_batch: Callable[[], None] | None = None,
) -> dict[str, Reconstruction]:
    """
    Measure several SAEs that read one hook on the same tokens.

    Args:
        model: Language model, as SAELens loads it.
        saes: Name to SAE.
        batches: Token ids [batch, context] each; at least 50,000 tokens in all for a Loss Recovered to be reported.
        hook_name: Where the SAEs read.
        token_filter: Tokens left out here keep their activation when the others are replaced.
        with_loss: Also run the model with every SAE and both ablations (2 + number of SAEs more forward passes).
        autocast: Run the model in bfloat16.
        on_codes: Called with (name, codes [n, d_sae], batch index and position [n, 2], tokens [batch, context]).
        on_batch: Called after each pass over a batch, for progress.

    Returns:
        Name to result.
    """
    clean_losses: list[torch.Tensor] = []
    sums: dict[str, ReconstructionSums] = {}
    for tokens in batches:
        if with_loss:
            seen: list[torch.Tensor] = []
            clean_losses.append(_loss(model, tokens, hook_name, seen.append, autocast))
            activations = seen[0]
        else:
            activations = _activations(model, tokens, hook_name, autocast)
        kept = token_filter.keep(tokens, activations).to(activations.device)
        x = activations[kept].float()
        for name, sae in saes.items():
            codes = sae.encode(x)
            sums.setdefault(name, ReconstructionSums(x.shape[-1])).update(x, sae.decode(codes), codes)
            if on_codes is not None:
                on_codes(name, codes, kept.nonzero(), tokens)
        if on_batch is not None:
            on_batch()
    if not with_loss:
        return {name: total.result(None) for name, total in sums.items()}

    mean_x = next(iter(sums.values())).mean_x
    replacements: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "zero ablation": torch.zeros_like,
        "mean ablation": lambda x: mean_x.to(x).expand_as(x),
        **{name: lambda x, sae=sae: sae.decode(sae.encode(x)) for name, sae in saes.items()},
    }
    losses = {
        name: torch.cat(
            [_replaced_loss(model, tokens, hook_name, token_filter, replace, autocast, on_batch) for tokens in batches]
        )
        for name, replace in replacements.items()
    }
    clean = torch.cat(clean_losses)
    results = {}
    for name, total in sums.items():
        loss = LossRecovered(
            n_tokens=clean.numel(),
            ce_clean=clean.mean().item(),
            ce_sae=losses[name].mean().item(),
            ce_zero=losses["zero ablation"].mean().item(),
            ce_mean=losses["mean ablation"].mean().item(),
        )
        results[name] = total.result(loss)
    return results


def _replaced_loss(
    model: HookedRootModule,
    tokens: torch.Tensor,
    hook_name: str,
    token_filter: TokenFilter,
    replace: Callable[[torch.Tensor], torch.Tensor],
    autocast: bool,
    on_batch: Callable[[], None] | None,
) -> torch.Tensor:
    def hook(activations: torch.Tensor) -> torch.Tensor:
        kept = token_filter.keep(tokens, activations).to(activations.device)
        replaced = activations.clone()
        replaced[kept] = replace(activations[kept].float()).to(activations.dtype)
        return replaced

    loss = _loss(model, tokens, hook_name, hook, autocast)
    if on_batch is not None:
        on_batch()
    return loss


def _loss(
    model: HookedRootModule,
    tokens: torch.Tensor,
    hook_name: str,
    replace: Callable[[torch.Tensor], torch.Tensor | None],
    autocast: bool,
) -> torch.Tensor:
    """Loss of each predicted token (flat, float64) with ``replace`` on the activation [batch, context, d_in]."""

    def hook(activations: torch.Tensor, hook: Any) -> torch.Tensor | None:  # noqa: ARG001  # TransformerLens's signature
        replaced = replace(activations.flatten(2))
        return None if replaced is None else replaced.view_as(activations)

    with torch.autocast(tokens.device.type, dtype=torch.bfloat16, enabled=autocast):
        logits = model.run_with_hooks(tokens, return_type="logits", fwd_hooks=[(hook_name, hook)])
    targets = tokens[:, 1:].to(logits.device)
    losses = cross_entropy(logits[:, :-1].flatten(0, 1).float(), targets.flatten(), reduction="none")
    return losses.double().cpu()


def _activations(model: HookedRootModule, tokens: torch.Tensor, hook_name: str, autocast: bool) -> torch.Tensor:
    """Activations [batch, context, d_in], without running the layers above the hook."""
    with torch.autocast(tokens.device.type, dtype=torch.bfloat16, enabled=autocast):
        _, cache = model.run_with_cache(
            tokens,
            names_filter=[hook_name],
            stop_at_layer=extract_stop_at_layer_from_tlens_hook_name(hook_name),
            prepend_bos=False,
        )
    return cache[hook_name].flatten(2)


def _recovered(clean: float, sae: float, ablated: float) -> float:
    return (ablated - sae) / (ablated - clean) if ablated != clean else float("nan")
