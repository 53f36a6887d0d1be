"""What an evaluation writes: one JSON document, whose schema is published in ``evals/results.schema.json``."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from sae_lens_abstopk.evaluation.results.values import Interval, Number, Record
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.files import write_whole

SCHEMA_VERSION = 1


class SAERecord(Record):
    """Which SAE a name stands for."""

    folder: str = Field(description="Name of its folder, or its Hub release and id.")
    architecture: str
    d_in: int
    d_sae: int
    weights_sha256: str | None
    training: dict[str, Any] = Field(
        description="What its metadata say of its training: architecture, tokens, lr, seed, ..."
    )
    group: str | None = Field(default=None, description="Variant that it is one seed of, in a comparison.")


class LossRecord(Record):
    """Next-token loss in nats through the SAE and with the hook ablated."""

    tokens: int
    ce_clean: Number = Field(description="Of the model as it is, nats per token; the same for the three below.")
    ce_sae: Number = Field(description="Kept activations replaced by their reconstructions.")
    ce_zero: Number = Field(description="Kept activations replaced by zeros.")
    ce_mean: Number = Field(description="Kept activations replaced by their mean over the evaluated tokens.")
    recovered_zero: Number = Field(
        description="Loss Recovered, (ce_zero - ce_sae) / (ce_zero - ce_clean): 1 is perfect."
    )
    recovered_mean: Number = Field(description="The same with ce_mean in place of ce_zero.")
    kl: float | None = Field(description="Mean KL(clean || with SAE), nats per token.")


class ReconstructionRecord(Record):
    """What an SAE loses of activations, and of the model's predictions."""

    tokens: int = Field(description="Kept tokens behind every number here but the loss.")
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
    majority: Number = Field(description="Accuracy of always naming the larger pole of test.")
    fallbacks: dict[str, int] = Field(
        default={},
        description="Texts that could not be read as they are meant to be, by reason: cut, no kept token, or (in number, "
        "and no longer among texts) marked at a token that is left out.",
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
        description="Whether the strength costs the budget; if not, it is the largest tried, or 0 where a clamp to 0 costs more."
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


class BehaviourRecord(Record):
    """What the model does under one intervention at one strength, or under none."""

    strength: float
    reached: bool = Field(
        default=True, description="Whether the strength costs the budget; if not, others here may cost more or less."
    )
    refused_harmful: Interval = Field(description="Share of instructions to refuse that are refused.")
    refused_harmless: Interval = Field(description="Share of instructions to follow that are refused.")
    multiple_choice: Interval | None = Field(description="Share of general-knowledge questions answered rightly.")
    multiple_choice_change: Interval | None = Field(
        default=None, description="That minus the unsteered model's share, on the same questions."
    )
    answer: str = Field(description="To the first instruction that should be refused.")


class ExampleRecord(Record):
    """One firing of a latent in its text."""

    latent: int
    code: float = Field(description="With its sign, which says the pole.")
    before: str
    token: str
    after: str


class SteeringRecord(Record):
    """Steering one concept with one SAE."""

    latent: int
    orientation: int = Field(description="+1 if its positive side leads to pole B.")
    scale: Number = Field(description="Code that a strength of 1 adds.")
    latent_chosen_by: str
    strength_chosen_by: str
    prompts: tuple[int, int] = Field(description="In val and test.")
    text_prompt: str = Field(description="The prompt that the texts of the doses go on from.")
    samples: int
    baseline_log_odds: Number
    baseline_generated_nll: Number
    baseline_neutral_nll: Number
    interventions: dict[str, InterventionRecord]
    behaviour: dict[str, list[BehaviourRecord]] = Field(
        default={}, description="By intervention, towards pole A and towards pole B; 'unsteered' has one."
    )


class Results(Record):
    """A results file."""

    schema_version: Literal[1] = SCHEMA_VERSION
    created: str
    command: str
    commit: str | None
    environment: dict[str, str]
    model: str
    hook: str
    text: str
    held_out: bool = Field(description="Whether the text was kept from the SAEs in training.")
    kept_tokens: str | None = Field(
        default=None,
        description="Which tokens every number is about: with a BOS or not, positions, ids left out, norms.",
    )
    suite: str
    settings: dict[str, Any] = Field(description="Everything that the suite sets.")
    seed: int
    saes: dict[str, SAERecord]
    reconstruction: dict[str, ReconstructionRecord]
    geometry: dict[str, GeometryRecord]
    examples: dict[str, list[ExampleRecord]] = Field(
        default={}, description="By SAE: strongest firings of some latents, the positive pole of each first."
    )
    stability: list[StabilityRecord] = Field(default=[])
    concept_cosines: dict[str, dict[str, Number]] = Field(
        default={}, description="Cosines between the difference-in-means directions of the tasks."
    )
    tasks: dict[str, TaskRecord]
    steering: dict[str, dict[str, SteeringRecord]] = Field(description="By task, then by SAE.")

    def write(self, path: str | Path) -> None:
        """As JSON; the file is there whole or not at all."""
        write_whole(Path(path), self.model_dump_json(indent=1) + "\n")


def read_results(path: str | Path) -> Results:
    """
    A results file.

    Raises:
        ConfigError: it is missing, no JSON, or not in this format, of which the first key that is wrong is named; or it
            has measurements of an SAE or a task that it does not list.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such results file; `abstopk eval` writes one as results.json, `abstopk inspect --json` a short one."
        )
    try:
        document = Results.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise ConfigError(
            f"{path} is no results file of this version: {where}: {first['msg'].lower()}; write it again with `abstopk eval`."
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not a text file; give a results file of `abstopk eval`.") from None
    _refuse_unknown_names(path, document)
    return document


def _refuse_unknown_names(path: Path, document: Results) -> None:
    named = {
        "reconstruction": document.reconstruction.keys(),
        "geometry": document.geometry.keys(),
        "stability": {name for pair in document.stability for name in (pair.first, pair.second)},
        **{f"tasks.{task}.saes": record.saes.keys() for task, record in document.tasks.items()},
        **{f"steering.{task}": found.keys() for task, found in document.steering.items()},
    }
    for where, names in named.items():
        for name in names - document.saes.keys():
            raise ConfigError(
                f"{path} is inconsistent: {where} has the SAE {name!r}, which is not among its `saes` "
                f"({', '.join(document.saes)}); write it again with `abstopk eval`."
            )
    for task in document.steering.keys() - document.tasks.keys():
        raise ConfigError(
            f"{path} is inconsistent: steering has the task {task!r}, which is not among its `tasks` "
            f"({', '.join(document.tasks)}); write it again with `abstopk eval`."
        )


def schema() -> str:
    """The JSON schema of a results file."""
    return json.dumps(Results.model_json_schema(), indent=1) + "\n"
