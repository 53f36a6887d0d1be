"""Records of an SAE by itself: what it is, reconstruction, geometry, stability across seeds, examples."""

from typing import Any

from pydantic import Field

from sae_lens_abstopk.evaluation.results.interval import Number, Record


class SAERecord(Record):
    """Identity of an SAE."""

    folder: str = Field(description="Name of its folder, or its Hub release and id.")
    architecture: str
    d_in: int
    d_sae: int
    weights_sha256: str | None
    training: dict[str, Any] = Field(description="Its metadata about training: architecture, tokens, lr, seed, ...")
    group: str | None = Field(default=None, description="Variant of which it is one seed, in a comparison.")


class LossRecord(Record):
    """Next-token loss in nats through the SAE and with the hook ablated."""

    tokens: int
    ce_clean: Number = Field(description="Loss of the unchanged model, nats per token, as are the next three.")
    ce_sae: Number = Field(description="Kept activations replaced by their reconstructions.")
    ce_zero: Number = Field(description="Kept activations replaced by zeros.")
    ce_mean: Number = Field(description="Kept activations replaced by their mean over the evaluated tokens.")
    recovered_zero: Number = Field(
        description="Loss Recovered, (ce_zero - ce_sae) / (ce_zero - ce_clean): 1 is perfect."
    )
    recovered_mean: Number = Field(description="The same with ce_mean in place of ce_zero.")
    kl: float | None = Field(description="Mean KL(clean || with SAE), nats per token.")


class ReconstructionRecord(Record):
    """Losses of an SAE in activations and in the model's predictions."""

    tokens: int = Field(description="Kept tokens behind every number except the loss.")
    mse: Number = Field(description="Mean over tokens of ||x - x_hat||^2, summed over d_in.")
    nmse: Number = Field(description="Mean over tokens of ||x - x_hat||^2 / ||x||^2.")
    fvu: Number = Field(description="sum ||x - x_hat||^2 / sum ||x - mean(x)||^2; 1 minus the explained variance.")
    cosine: Number = Field(description="Mean over tokens of cos(x, x_hat).")
    l0: Number = Field(description="Mean number of non-zero codes per token, of any sign.")
    dead_latents: int = Field(description="Fired on neither side in these tokens.")
    dead_poles: int = Field(description="Live latents whose weaker side holds under 1 % of their firings.")
    live_latents: int
    two_sidedness: Number = Field(description="Mean of min(p+, p-) / (p+ + p-) over live latents.")
    two_sidedness_histogram: list[int] = Field(description="Live latents in ten bins from 0 to 0.5.")
    density_quantiles: dict[str, list[Number]] = Field(
        description="Firings a token of the positive and the negative pole: quantiles 0.05, 0.25, 0.5, 0.75, 0.95."
    )
    loss: LossRecord | None


class GeometryRecord(Record):
    """The decoder by itself."""

    antipodal_pairs: int = Field(description="Pairs of latents with cosine below the threshold.")
    antipodal_threshold: float
    latents_in_antipodal_pairs: int
    decoder_norm_quantiles: list[Number] = Field(description="0.05, 0.25, 0.5, 0.75, 0.95.")


class StabilityRecord(Record):
    """Two seeds of one variant, matched latent by latent by (absolute) cosine."""

    first: str
    second: str
    mean_cosine: Number
    share_above_0_7: Number
    share_above_0_9: Number


class ExampleRecord(Record):
    """One firing of a latent in its text."""

    latent: int
    code: float = Field(description="With its sign: positive pole or negative pole.")
    before: str
    token: str
    after: str
