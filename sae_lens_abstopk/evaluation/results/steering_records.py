"""Records of steering one concept with one SAE."""

from pydantic import Field

from sae_lens_abstopk.evaluation.results.interval import Interval, Number, Record


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
