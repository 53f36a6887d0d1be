"""Records of one task: its texts, and the probes of every SAE on it."""

from pydantic import Field

from sae_lens_abstopk.evaluation.results.interval import Interval, Number, Record


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
