"""The records of a results file, down to a number with its interval; their descriptions are in the published schema."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

Number = Annotated[
    float,
    BeforeValidator(lambda value: float("nan") if value is None else value),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "null"}]}),
]
"""A measured number: JSON has no NaN, so an undefined one is null in the file and NaN in Python."""

FEW_GROUPS = 10
"""With fewer groups, a missing interval is due to their number."""
_Defined = Annotated[float | None, BeforeValidator(lambda value: None if value != value else value)]


class Record(BaseModel):
    """Part of a results file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=True, ser_json_inf_nan="null")


class OriginRecord(Record):
    """The origin of the numbers in a file; see :func:`~.facts.origin_facts`."""

    created: str
    command: str
    commit: str | None
    environment: dict[str, str]


class Interval(Record):
    """A number with its 95 % bootstrap interval; null where there is none."""

    value: _Defined
    low: _Defined
    high: _Defined
    n_units: int = Field(description="Groups (templates, documents, prompts) that were resampled.")

    def as_range(self) -> str:
        """Return the text of a mean with the range of what was averaged in place of an interval."""
        if self.value is None or self.low is None or self.high is None:
            return "-" if self.value is None else f"{self.value:.3f}"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"

    def __str__(self) -> str:
        if self.value is None:
            return "-"
        if self.low is None or self.high is None:
            return f"{self.value:.3f} ({'few groups' if self.n_units < FEW_GROUPS else 'no spread'})"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


class SAERecord(Record):
    """Identity of an SAE."""

    folder: str = Field(description="Name of its folder, or its Hub release and id.")
    architecture: str
    d_in: int
    d_sae: int
    weights_sha256: str | None
    training: dict[str, Any] = Field(description="Its metadata about training: architecture, tokens, lr, seed, ...")
    group: str | None = Field(default=None, description="Variant of which it is one seed, in a comparison.")
    dead_latents: int | None = Field(
        default=None, description="Did not fire on the last `dead_latents_tokens` training tokens; null if unrecorded."
    )
    dead_latents_tokens: int | None = Field(default=None, description="Training tokens behind `dead_latents`.")


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
    fvu_at_lowest_l0: float | None = Field(None, description="Of vectors, if L0 differs: FVU at the lowest L0.")
    dead_latents: int = Field(description="Did not fire on these tokens; `saes` has the count of training.")
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


class ProbeRecord(Record):
    """One way to tell the poles of a task apart, on test."""

    read: str = Field(description="Read position, chosen on val.")
    auroc: Interval
    accuracy: Interval | None = Field(
        default=None, description="At the threshold that is right most often on train; null in files that lack it."
    )
    train_auroc: Number
    val_auroc: Number


class LatentRecord(Record):
    """A latent that was chosen on train: by AUROC, or by pole coverage."""

    latent: int
    orientation: int = Field(description="+1 if its positive side goes with pole B.")
    coverage: Interval = Field(description="Pole coverage on test.")
    direction_cosine: float | None = Field(
        default=None, description="Of its decoder row with mean(B) - mean(A) of the activations; positive is towards B."
    )
    density: float | None = Field(
        default=None, description="Share of the tokens of the reconstruction on which it fires, on either side."
    )


class PairRecord(Record):
    """The best pair of sides, one a pole, chosen on train."""

    latent_a: int
    sign_a: int
    latent_b: int
    sign_b: int
    coverage: Interval


class SAETaskRecord(Record):
    """One SAE on one task."""

    probes: dict[str, ProbeRecord] = Field(
        description="By method; controls end in ', permuted' (mean and range over permutations) or ', untrained SAE'."
    )
    latent: LatentRecord
    pair: PairRecord
    best_coverage: LatentRecord = Field(description="The latent of largest pole coverage on train.")
    coverage_controls: dict[str, Interval] = Field(
        default_factory=dict,
        description="Its coverage where poles were shuffled ('permuted', mean and range) and of an 'untrained SAE'.",
    )


class PCARecord(Record):
    """Texts of a task in the first two principal components of the activations."""

    coordinates: list[tuple[float, float]]
    labels: list[int]
    explained: list[Number]


class TaskRecord(Record):
    """One task and every SAE on it."""

    poles: tuple[str, str]
    digest: str = Field(description="sha256 of the examples.")
    source: str
    licence: str
    texts: tuple[int, int, int] = Field(description="In train, val and test, as they were probed.")
    test_groups: int
    majority: Number = Field(description="Accuracy of always predicting the larger pole of test.")
    fallbacks: dict[str, int] = Field(
        default={},
        description="Texts that could not be read as intended, by reason: truncated, no kept token, or (counted, "
        "but no longer among texts) marked at a token that is left out.",
    )
    saes: dict[str, SAETaskRecord]
    pca: PCARecord | None = None


class DoseRecord(Record):
    """One strength of one intervention, means over test prompts."""

    strength: float
    log_odds: Number = Field(description="log p(B's tokens) - log p(A's tokens).")
    score: float | None = Field(description="Of generated text, by the task's scorer.")
    generated_nll: Number = Field(description="Unsteered model's nats per token of the generated text.")
    neutral_nll: Number = Field(description="Steered model's nats per token of neutral text.")
    text: str = Field(description="The first text generated after the first test prompt.")


class PoleEffectRecord(Record):
    """One direction at its matched strength, on test prompts."""

    strength: float
    reached: bool = Field(
        description="True if it costs the budget; else it is the largest tried, or 0 where a clamp to 0 costs more."
    )
    log_odds: Interval = Field(description="Change of the log-odds, counted towards this pole.")
    score: Interval | None = Field(description="Change of the score of generated text, counted towards this pole.")
    generated_cost: Interval = Field(description="Rise of the unsteered model's NLL of generated text, nats per token.")
    neutral_cost: Interval = Field(description="Rise of the steered model's NLL of neutral text, nats per token.")
    log_odds_area: Interval = Field(
        description="Mean change of the log-odds over costs from 0 to the budget, towards this pole."
    )


class InterventionRecord(Record):
    """One way to steer."""

    doses: list[DoseRecord] = Field(description="By rising strength; positive is towards pole B.")
    towards_a: PoleEffectRecord
    towards_b: PoleEffectRecord
    symmetry: Interval = Field(description="min(|effect+|, |effect-|) / max of the log-odds.")

    @property
    def log_odds_symmetry(self) -> Interval:
        """Another name of ``symmetry``."""
        return self.symmetry


class BehaviourRecord(Record):
    """Behaviour of the model under one intervention at one strength, or under none."""

    strength: float
    reached: bool = Field(
        default=True, description="True if the strength costs the budget; else others here may cost more or less."
    )
    refused_harmful: Interval = Field(description="Share of instructions to refuse that are refused.")
    refused_harmless: Interval = Field(description="Share of instructions to follow that are refused.")
    multiple_choice: Interval | None = Field(description="Share of general-knowledge questions answered correctly.")
    multiple_choice_change: Interval | None = Field(
        default=None, description="That minus the unsteered model's share, on the same questions."
    )
    answer: str = Field(description="To the first instruction that should be refused.")


class SteeringRecord(Record):
    """Steering one concept with one SAE."""

    latent: int
    orientation: int = Field(description="+1 if its positive side leads to pole B.")
    scale: Number = Field(description="Code that a strength of 1 adds.")
    latent_chosen_by: str
    strength_chosen_by: str
    prompts: tuple[int, int] = Field(description="In val and test.")
    text_prompt: str = Field(description="The prompt that the texts of the doses continue.")
    samples: int
    baseline_log_odds: Number
    baseline_generated_nll: Number
    baseline_neutral_nll: Number
    interventions: dict[str, InterventionRecord]
    behaviour: dict[str, list[BehaviourRecord]] = Field(
        default={}, description="By intervention, towards pole A and towards pole B; 'unsteered' has one."
    )

    def split_random(self) -> tuple[dict[str, InterventionRecord], dict[str, InterventionRecord]]:
        """Return the interventions that are compared, and the random directions they are compared with."""
        random = {name: found for name, found in self.interventions.items() if name.startswith("random")}
        return {name: found for name, found in self.interventions.items() if name not in random}, random


def shown_name(intervention: str) -> str:
    """Return the name of an intervention in tables and legends."""
    return intervention.replace("_", " ")
