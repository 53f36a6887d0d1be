"""Cost of a reconstruction for the language model: next-token loss and divergence, against ablations."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LossRecovered:
    """
    Mean next-token cross-entropy (nats) over all predicted tokens: clean, through the SAE, and ablated.

    Only activations of kept tokens are replaced; the others stay as they are in every pass.
    """

    n_tokens: int
    ce_clean: float
    ce_sae: float
    ce_zero: float
    """Kept activations replaced by zero."""
    ce_mean: float
    """Kept activations replaced by their mean over the evaluated tokens."""
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
