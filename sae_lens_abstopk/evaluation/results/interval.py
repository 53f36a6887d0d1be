"""A number with its bootstrap interval, and the base of all records in a results file."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

Number = Annotated[
    float,
    BeforeValidator(lambda value: float("nan") if value is None else value),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "null"}]}),
]
"""A measured number: JSON has no NaN, so an undefined one is null in the file and NaN in Python."""

_Defined = Annotated[float | None, BeforeValidator(lambda value: None if value != value else value)]


class Record(BaseModel):
    """Part of a results file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=True, ser_json_inf_nan="null")


class Interval(Record):
    """A number with its 95 % bootstrap interval; null where there is none."""

    value: _Defined
    low: _Defined
    high: _Defined
    n_units: int = Field(description="Groups (templates, documents, prompts) that were resampled.")

    def as_range(self) -> str:
        """Return the text of a mean with the range of what was averaged in place of an interval."""
        return str(self).replace("[", "(").replace(", ", " to ").replace("]", ")")

    def __str__(self) -> str:
        if self.value is None:
            return "-"
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"
