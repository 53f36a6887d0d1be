"""Reconstruction metrics: the loss of an SAE in the activation and in the language model's predictions."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from typing_extensions import override

from sae_lens_abstopk.model.inference import casts_shared
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.saes.codec import Codec
from sae_lens_abstopk.saes.poles import PoleStatistics, pole_counts, pole_statistics
from sae_lens_abstopk.system.ranks import n_ranks, summed
from sae_lens_abstopk.system.shown import Facts, Shown
from sae_lens_abstopk.vectors.rows_as_texts import RowPasses

CLEAN, ZERO, MEAN = "(clean)", "(zero ablation)", "(mean ablation)"


@dataclass(frozen=True)
class LossRecovered:
    """Mean next-token cross-entropy (nats) over all tokens; only the activations of kept tokens are replaced."""

    n_tokens: int
    ce_clean: float
    ce_sae: float
    ce_zero: float
    ce_mean: float
    """Activations replaced by their mean over the evaluated tokens."""
    kl_sae: float | None = None
    """Mean KL(clean || through the SAE), in nats; SAELens's ``kl_div_with_sae`` adds each context's last position."""

    @property
    def zero(self) -> float:
        """Share of the loss that zero-ablation adds and the SAE does not: 1 is perfect."""
        return _recovered(self.ce_clean, self.ce_sae, self.ce_zero)

    @property
    def mean(self) -> float:
        """The same against mean-ablation."""
        return _recovered(self.ce_clean, self.ce_sae, self.ce_mean)


def _recovered(clean: float, sae: float, ablated: float) -> float:
    return (ablated - sae) / (ablated - clean) if ablated != clean else float("nan")


@dataclass(frozen=True, repr=False)
class Reconstruction(Shown):
    """Losses of one SAE on one set of tokens."""

    n_tokens: int
    """Kept tokens that every number except the loss is computed on."""
    mse: float
    """Mean over tokens of ||x - x_hat||^2."""
    nmse: float
    """Mean over tokens with x != 0 of ||x - x_hat||^2 / ||x||^2, the paper's nMSE."""
    fvu: float
    """Fraction of variance unexplained: sum ||x - x_hat||^2 / sum ||x - mean(x)||^2."""
    cosine: float
    """Mean over tokens of cos(x, x_hat); 0 where either is zero."""
    l0: float
    """Mean number of non-zero codes per token, of any sign."""
    pole_counts: torch.Tensor
    """Firings of the positive and of the negative pole, int64 [2, d_sae]."""
    loss: LossRecovered | None

    @property
    def dead_latents(self) -> int:
        """Number of latents that fired on neither side in ``n_tokens``."""
        return self.pole_counts.shape[1] - self.poles.live_latents

    @property
    def density(self) -> torch.Tensor:
        """Share of the tokens on which the positive and the negative pole fired, float64 [2, d_sae]."""
        return self.pole_counts.double() / max(self.n_tokens, 1)

    @property
    def poles(self) -> PoleStatistics:
        """Dead poles and two-sidedness on these tokens."""
        return pole_statistics(self.pole_counts)

    @override
    def _facts(self) -> Facts:
        facts = {"FVU": f"{self.fvu:.4f}", "nMSE": f"{self.nmse:.4f}", "L0": f"{self.l0:.1f}"}
        if self.loss is not None:
            facts |= {
                "loss recovered (zero)": f"{self.loss.zero:.4f}",
                "loss recovered (mean)": f"{self.loss.mean:.4f}",
            }
        silent = f"{self.dead_latents:,} of {self.pole_counts.shape[1]:,} latents"
        return [facts | {f"did not fire on {self.n_tokens:,} tokens": silent}]


class ReconstructionSums:
    """Running sums for one SAE, in float64; memory does not grow with the number of tokens."""

    def __init__(self) -> None:
        self.n_tokens = self.n_nonzero = 0  # tokens with x != 0 are those of nMSE
        self.squared_error = self.relative_error = self.cosines = self.sum_squared_x = 0.0
        self.sum_x: torch.Tensor | float = 0.0
        self.counts: torch.Tensor | None = None

    def update(self, x: torch.Tensor, x_hat: torch.Tensor, codes: torch.Tensor | None = None) -> None:
        """Add activations [n, d_in], their reconstructions, and the codes [n, d_sae] if poles are to be counted."""
        # sums in double precision, products in float32, as the data are
        x, x_hat = x.float(), x_hat.float()
        errors = (x - x_hat).square().sum(-1).cpu().double()
        squares = x.square().sum(-1).cpu().double()
        nonzero = squares > 0
        norms = (squares * x_hat.square().sum(-1).cpu().double()).sqrt()
        self.n_tokens += len(x)
        self.cosines += ((x * x_hat).sum(-1).cpu().double() / norms.clamp(min=1e-30)).sum().item()
        self.squared_error += errors.sum().item()
        self.relative_error += (errors[nonzero] / squares[nonzero]).sum().item()
        self.n_nonzero += int(nonzero.sum())
        sum_x = x.sum(0, dtype=torch.float64).cpu()
        self.sum_x = self.sum_x + sum_x
        # float32 squares about a mean: those of x itself would round away a variance that is small beside it
        centre = (sum_x / max(len(x), 1)).to(x)
        about = (x - centre).square().sum(dtype=torch.float64).item()
        centre = centre.cpu().double()
        self.sum_squared_x += about + ((2 * sum_x - len(x) * centre) @ centre).item()
        if codes is not None:
            counts = pole_counts(codes).cpu()
            self.counts = counts if self.counts is None else self.counts + counts

    def over_ranks(self) -> "ReconstructionSums":
        """Return the sums over all ranks of a training run, which count no poles."""
        if n_ranks() == 1:
            return self
        scalars = ("n_tokens", "n_nonzero", "squared_error", "relative_error", "cosines", "sum_squared_x")
        values = [float(getattr(self, name)) for name in scalars]
        both = torch.cat([torch.tensor(values, dtype=torch.float64), self.mean_x])
        both[len(scalars) :] *= self.n_tokens
        summed(both)
        total = ReconstructionSums()
        for name, value in zip(scalars, both.tolist(), strict=False):
            setattr(total, name, value)
        total.n_tokens, total.n_nonzero, total.sum_x = int(both[0]), int(both[1]), both[len(scalars) :]
        return total

    @property
    def mean_x(self) -> torch.Tensor:
        return torch.as_tensor(self.sum_x, dtype=torch.float64) / max(self.n_tokens, 1)

    def mse(self) -> float:
        return self.squared_error / self.n_tokens if self.n_tokens else math.nan

    def nmse(self) -> float:
        return self.relative_error / self.n_nonzero if self.n_nonzero else math.nan

    def cosine(self) -> float:
        return self.cosines / self.n_tokens if self.n_tokens else math.nan

    def fvu(self) -> float:
        variance = self.sum_squared_x - self.n_tokens * self.mean_x.square().sum().item()
        # rounding leaves less than that of activations that are all equal
        return self.squared_error / variance if variance > 1e-12 * self.sum_squared_x else math.nan

    def result(self, loss: LossRecovered | None) -> Reconstruction:
        assert self.counts is not None
        l0 = int(self.counts.sum()) / max(self.n_tokens, 1)
        measured = (self.mse(), self.nmse(), self.fvu(), self.cosine())
        return Reconstruction(self.n_tokens, *measured, l0, self.counts, loss)


Observer = Callable[[str, torch.Tensor, torch.Tensor, torch.Tensor], None]
"""Called with an SAE's name and codes [n, d_sae], their rows and positions [n, 2], and the batch of tokens."""


@torch.no_grad()
@casts_shared()
def evaluate_reconstruction(
    passes: ModelPasses | RowPasses,
    saes: Mapping[str, Codec],
    batches: Sequence[torch.Tensor],
    *,
    token_filter: TokenFilter,
    with_loss: bool = True,
    with_kl: bool = False,
    reference: LossRecovered | None = None,
    observer: Observer | None = None,
    on_pass: Callable[[], None] | None = None,
) -> dict[str, Reconstruction]:
    """
    Measure several SAEs that read one hook on the same batches of token ids [batch, context].

    Args:
        passes: Rows of vectors only without the loss.
        batches: Read twice with ablations: for the mean as well.
        token_filter: Tokens left out here keep their activation when the others are replaced.
        with_loss: Also run the model with every SAE and both ablations.
        with_kl: With the loss and no ``reference``, also measure how far the predictions move.
        reference: The loss of any SAE on these batches with this model, hook and filter: its clean and ablated losses
            are not measured again.
        observer: Called with every code.
        on_pass: Called after each pass of the model over a batch: ``2 + len(saes)`` times a batch and once more for
            the mean ablation; with a ``reference``, ``1 + len(saes)`` times.

    Raises:
        ConfigError: an activation is NaN or infinite, or the filter keeps no token.
    """
    ablates = with_loss and reference is None
    model = cast(ModelPasses, passes)  # with_loss runs the model
    sums = {name: ReconstructionSums() for name in saes}
    losses: defaultdict[str, list[torch.Tensor]] = defaultdict(list)
    divergences: defaultdict[str, list[torch.Tensor]] = defaultdict(list)
    left_alone: list[tuple[torch.Tensor, torch.Tensor]] = []
    tick = on_pass or (lambda: None)
    for tokens in batches:
        logits = None
        if ablates:
            clean_losses, activations, logits = model.clean(tokens, keep_logits=with_kl)
            losses[CLEAN].append(clean_losses)
        else:
            activations = passes.activations(tokens)
        tick()
        kept, x = token_filter.mask_and_rows(tokens, activations, passes.hook_name)
        replacements = {ZERO: torch.zeros_like(x)} if ablates else {}
        for name, sae in saes.items():
            codes = sae.encode(x)
            replacements[name] = sae.decode(codes).to(x)
            sums[name].update(x, replacements[name], codes)
            if observer is not None:
                observer(name, codes, kept.nonzero(), tokens)
            del codes  # before the next SAE makes its own
        if with_loss:
            others = activations[~kept]
            left_alone.append((kept, others))
            for name, x_hat in replacements.items():
                compared = None if name == ZERO else logits
                replaced = model.replaced(tokens, _spliced(kept, x_hat, others), clean_logits=compared)
                losses[name].append(replaced.losses)
                if replaced.divergences is not None:
                    divergences[name].append(replaced.divergences)
                tick()
        del logits  # before the next clean pass makes its own
    for total in sums.values():
        token_filter.require_any(total.n_tokens)
    if ablates:
        # the mean is known only now; this pass needs only the activations that were not kept
        mean_x = next(iter(sums.values())).mean_x
        for tokens, (kept, others) in zip(batches, left_alone, strict=True):
            constant = mean_x.to(others).expand(int(kept.sum()), -1)
            losses[MEAN].append(model.replaced(tokens, _spliced(kept, constant, others)).losses)
            tick()
    ce, kl = (
        {name: torch.cat(values).mean().item() for name, values in found.items()} for found in (losses, divergences)
    )

    def loss(name: str) -> LossRecovered | None:
        if not with_loss:
            return None
        if reference is not None:
            return replace(reference, ce_sae=ce[name], kl_sae=None)
        n_predicted = sum(len(values) for values in losses[CLEAN])
        return LossRecovered(n_predicted, ce[CLEAN], ce[name], ce[ZERO], ce[MEAN], kl.get(name))

    return {name: total.result(loss(name)) for name, total in sums.items()}


def _spliced(kept: torch.Tensor, replaced: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return activations [batch, context, d_in] from those of the kept tokens and those of the others."""
    whole = replaced.new_empty(*kept.shape, replaced.shape[-1])
    whole[kept] = replaced
    whole[~kept] = others.to(replaced.dtype)
    return whole
