"""The records of the fine-tunes, read for the page and its figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.recording import read_lines

RESULTS = Path(__file__).resolve().parent / "results"
METHODS = {
    "signed": "signed",
    "one_sided_F": "one-sided F",
    "one_sided_2F": "one-sided 2F",
    "mean": "mean difference",
    "pca": "PCA",
}
"""Names of the methods in tables."""
TITLES = {
    "french": "answers in French",
    "cooking": "refuses cooking",
    "question": "ends with a question",
    "past": "never past tense",
}
"""Names of behaviours."""
HALF = 0.5
"""Least share of the shift that a found direction brings, and takes away."""
Line = dict[str, Any]


def lines(name: str) -> list[Line]:
    """Return the lines of a record."""
    return read_lines(RESULTS / f"{name}.jsonl")


def brought(line: Line) -> float:
    """Return the share of the behaviour's shift that adding the direction to the base model brings."""
    return (line["added"]["share"] - line["base"]) / (line["tuned"] - line["base"])


def patched(line: Line) -> float:
    """Return the share of the shift that the direction brings if the tuned model's part along it is patched in."""
    return (line["patched"]["share"] - line["base"]) / (line["tuned"] - line["base"])


def taken(line: Line) -> float:
    """Return the share of the shift that removing the direction takes from the tuned model."""
    return (line["tuned"] - line["removed"]["share"]) / (line["tuned"] - line["base"])


def of_method(record: Sequence[Line], place: tuple[str, str], method: str) -> list[Line]:
    """Return the lines of a behaviour of a fine-tune by one method, a seed each."""
    return [each for each in record if (each["fine_tune"], each["behaviour"], each["method"]) == (*place, method)]


def places(record: Sequence[Line]) -> list[tuple[str, str]]:
    """Return the fine-tunes and behaviours of a record, in its order."""
    return list(dict.fromkeys((each["fine_tune"], each["behaviour"]) for each in record))


def percent(share: float) -> str:
    """Format a share."""
    return f"{share:.0%}".replace("%", " %")
