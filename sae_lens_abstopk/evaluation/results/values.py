"""What the records of a results file are made of: numbers that JSON can hold, and intervals."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from sae_lens_abstopk.evaluation.results.intervals import Estimate

Number = Annotated[
    float,
    BeforeValidator(lambda value: float("nan") if value is None else value),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "null"}]}),
]
"""A measured number: JSON has no NaN, so one that is not defined is null in the file and NaN in Python."""


class Record(BaseModel):
    """Part of a results file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=True, ser_json_inf_nan="null")


class Interval(Record):
    """A number with its 95 % bootstrap interval; null where there is none."""

    value: float | None
    low: float | None
    high: float | None
    n_units: int = Field(description="Groups (templates, documents, prompts) that were resampled.")

    @classmethod
    def of(cls, estimate: Estimate) -> "Interval":
        """From an estimate; NaN becomes null."""
        value, low, high = (None if x != x else x for x in (estimate.value, estimate.low, estimate.high))
        return cls(value=value, low=low, high=high, n_units=estimate.n_units)

    def as_range(self) -> str:
        """For a mean whose "interval" is the range of what was averaged."""
        return str(self).replace("[", "(").replace(", ", " to ").replace("]", ")")

    def __str__(self) -> str:
        if self.value is None:
            return "-"
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"
