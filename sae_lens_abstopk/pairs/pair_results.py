"""The record of the axes of a set of pairs: ``pairs.json`` and ``axes.csv``."""

import csv
import io
from typing import Any

from pydantic import Field

from sae_lens_abstopk.evaluation.labelling.labeler import LabelRecord
from sae_lens_abstopk.evaluation.results.fit_record import FitRecord
from sae_lens_abstopk.evaluation.results.records import Interval, Number, OriginRecord, Record

FALSE_DISCOVERIES = 0.05
UNNAMED = "unnamed"
STABLE = 0.5
"""An axis is stable if more than this share of the other seeds has it."""
INTERVAL_COLUMNS = {"": "value", "_low": "low", "_high": "high"}


class PairFitRecord(FitRecord):
    """How well SAEs of one kind reconstruct held-out differences; FVU is the mean over A - B and B - A."""

    not_odd: float = Field(
        description="Share of the error's energy that does not cancel between A - B and B - A; 0 if codes are odd."
    )


class PreferenceRecord(Record):
    """AUC of preferences on held-out pairs, by logistic regressions fitted on training pairs."""

    n_train: int
    n_held_out: int
    auc_codes: Interval
    auc_vector: Interval = Field(description="From all of the difference.")
    auc_length: Interval = Field(description="From the difference of the log lengths only.")
    share_kept: Interval = Field(description="(auc_codes - .5) / (auc_vector - .5).")


class DisagreementRecord(Record):
    """The groups that prefer an axis least and most often."""

    q: float = Field(description="Benjamini-Hochberg over axes of the test that all groups prefer it equally often.")
    groups: tuple[str, str]
    win_rates: tuple[Interval, Interval]

    @property
    def found(self) -> bool:
        """Whether the groups disagree."""
        return self.q <= FALSE_DISCOVERIES


class HistogramRecord(Record):
    """Held-out pairs on which an axis is active, by the code: numbers in equal bins from 0 to the limit."""

    limit: float = Field(description="The largest |code|.")
    positive: list[int]
    negative: list[int]


class AxisRecord(Record):
    """One latent: its positive pole is what A has more of where its code is positive."""

    latent: int
    stability: float | None = Field(description="Share of the other seeds with a latent of |cosine| >= .7.")
    share_active: float = Field(description="Share of the held-out pairs on which it is active.")
    scale: float | None = Field(
        default=None, description="99th percentile of |code| in units of the activation: what a strength of 1 adds."
    )
    name_positive: str | None = Field(description="The text with more of it, by markers or words; from training pairs.")
    name_negative: str | None
    fidelity: Interval | None = Field(
        description="Rank correlation of what the name says with the code, on the held-out pairs on which it is active."
    )
    named: bool = Field(description="The fidelity is above 0 at 5 %, Bonferroni over axes.")
    words_positive: list[str] = Field(
        description="Words and phrases of the training texts with more of it; Benjamini-Hochberg at 5 %."
    )
    words_negative: list[str]
    markers: dict[str, Number] = Field(description="The largest rank correlations of the code with markers.")
    win_rate: Interval | None = Field(
        description="Of the held-out pairs with a preference on which it is active, the share in which the text with "
        "more of it was preferred."
    )
    effect: Interval | None = Field(
        description="Average marginal effect on the probability of being preferred, per standard deviation of the "
        "code, all axes and length held equal; on held-out pairs."
    )
    effect_train: Interval | None = Field(description="The same on training pairs.")
    q: float | None = Field(description="Benjamini-Hochberg over axes of effect_train.")
    confirmed: bool | None = Field(description="q <= .05, and the held-out interval is on the same side of 0.")
    disagreement: DisagreementRecord | None
    examples_positive: list[int] = Field(description="Rows of the data, from the strongest code to the weakest.")
    examples_negative: list[int]
    histogram: HistogramRecord | None = None
    label: LabelRecord | None = Field(default=None, description="Only after `abstopk pairs label`.")

    def pole_names(self) -> tuple[str, str]:
        """Return the names of the positive and the negative pole: labels, or else names that hold on held-out pairs."""
        if self.label:
            return self.label.positive or UNNAMED, self.label.negative or UNNAMED
        if self.named and self.name_positive and self.name_negative:
            return self.name_positive, self.name_negative
        return UNNAMED, UNNAMED

    @property
    def is_named(self) -> bool:
        """Whether its poles have a label, or a name that holds on held-out pairs."""
        return self.named or self.label is not None

    @property
    def is_stable(self) -> bool:
        """Whether most of the other seeds have it, too; true of a single seed."""
        return self.stability is None or self.stability > STABLE

    def order(self) -> tuple[float, ...]:
        """Sort key: named axes that most other seeds have first, then by stability and fidelity, then by activity."""
        fidelity = self.fidelity.value or 0.0 if self.named and self.fidelity else 0.0
        reliable = (self.stability or 0.0) + fidelity
        return (-(self.is_named and self.is_stable), -self.is_named, -reliable, -self.share_active)


class PairResults(OriginRecord):
    """The axes of a set of pairs, with the measurements of a fit."""

    data: str
    columns: dict[str, Any]
    counts: dict[str, int]
    vectors: dict[str, Any] = Field(description="Model, hook and reading, or the arrays.")
    n_pairs: int
    n_train: int
    n_held_out: int
    n_components: int = Field(description="Groups of pairs connected by shared prompts or texts; the split keeps them.")
    seed: int
    d_sae: int
    k: float
    training: dict[str, Any]
    fits: dict[str, PairFitRecord] = Field(description="By kind of SAE; `signed` has these axes.")
    preference: PreferenceRecord | None
    axes: list[AxisRecord]
    judge: str | None = Field(default=None, description="The language model that labelled axes, and its score.")

    @property
    def signed(self) -> PairFitRecord:
        """The fit of the SAEs that have these axes."""
        return self.fits["signed"]

    def csv(self) -> str:
        """Return one line an axis."""
        rows = []
        for axis in self.axes:
            first = ("latent", "name_negative", "name_positive", "named", "stability", "share_active")
            row = {key: getattr(axis, key) for key in first}
            row |= {f"words_{pole}": " ".join(getattr(axis, f"words_{pole}")) for pole in ("positive", "negative")}
            for name in ("fidelity", "win_rate", "effect", "effect_train"):
                found = getattr(axis, name)
                row |= {f"{name}{end}": found and getattr(found, key) for end, key in INTERVAL_COLUMNS.items()}
            row |= {"q": axis.q, "confirmed": axis.confirmed}
            row["disagreement_q"] = axis.disagreement and axis.disagreement.q
            label = axis.label
            row |= {f"label_{pole}": label and getattr(label, pole) for pole in ("positive", "negative")}
            rows.append(row | {"relation": label and label.relation})
        written = io.StringIO()
        table = csv.DictWriter(written, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        return written.getvalue()
