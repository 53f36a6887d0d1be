"""Recorded lines of the study of embeddings by set, F / D and k, and the numbers in them."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any, NamedTuple

from scipy.stats import ttest_rel

Line = Mapping[str, Any]
"""One line of the record: three SAEs of one seed."""
SIGNED, ONE_SIDED, TWICE = SAES = ("signed", "one-sided", "one-sided 2F")
SIMILARITY = "cosine"
"""Scores that are reported."""


class Place(NamedTuple):
    """Settings that the seeds of a mean share."""

    set: str
    f_over_d: float
    k: int
    change: str
    """Other selection or loss than in the main runs, which select per vector and train on squared error; else empty."""


class Difference(NamedTuple):
    """Mean over seeds, and half the width of its 95 % interval by Student's t; None for one seed."""

    mean: float
    margin: float | None

    @property
    def is_lower(self) -> bool:
        """Whether the whole interval is below 0."""
        return self.margin is not None and self.mean + self.margin < 0

    @property
    def text(self) -> str:
        """The number in percent, with its margin."""
        return f"{100 * self.mean:+.1f}" + ("" if self.margin is None else f" ± {100 * self.margin:.1f}")

    def __str__(self) -> str:
        """Format for a cell of a table, which is not broken."""
        return self.text.replace(" ", "&nbsp;")


def by_place(lines: Sequence[Line]) -> dict[Place, list[Line]]:
    """Group lines, the main runs first; the seeds of a place are ascending."""
    found: dict[Place, list[Line]] = {}
    for line in sorted(
        lines, key=lambda line: (change(line), *(line[key] for key in ("set", "f_over_d", "k", "seed")))
    ):
        found.setdefault(Place(line["set"], line["f_over_d"], line["k"], change(line)), []).append(line)
    return found


def main_runs(found: Mapping[Place, list[Line]]) -> dict[Place, list[Line]]:
    """Return the places of the main runs."""
    return {place: lines for place, lines in found.items() if not place.change}


def change(line: Line) -> str:
    """Name the selection or loss of a run if it is not that of the main runs."""
    selection, loss = line["selection"], line.get("loss", "mse")
    return ", ".join([f"`{selection}`"] * (selection != "vector") + [f"`{loss}`"] * (loss != "mse"))


def fvu(lines: Sequence[Line], sae: str) -> list[float]:
    """Return the held-out FVU by seed."""
    return [line["held_out"][sae]["fvu"] for line in lines]


def l0(lines: Sequence[Line], sae: str) -> list[float]:
    """Return the mean number of active latents of held-out vectors where FVU is measured, by seed."""
    return [line["held_out"][sae]["l0"] for line in lines]


def l0_of_codes(lines: Sequence[Line], sae: str) -> list[float]:
    """Return the mean number of active latents with the saved thresholds, if an SAE has any, by seed."""
    return [line["held_out"][sae].get("l0_at_threshold", line["held_out"][sae]["l0"]) for line in lines]


def rows(line: Line, method: str, sae: str | None = None) -> list[Line]:
    """Return the rows of retrieval by one method, in the order of their bytes."""
    found = (row for row in line["retrieval"][SIMILARITY] if (row["method"], row["sae"]) == (method, sae))
    return sorted(found, key=lambda row: row["bytes"])


def ndcg(lines: Sequence[Line], method: str, sae: str | None = None) -> float:
    """Return the mean nDCG@10 of a method; of PCA, of the one with the most bytes, which are those of signed codes."""
    return mean(rows(line, method, sae)[-1]["ndcg_at_10"]["value"] for line in lines)


def stored_bytes(lines: Sequence[Line], method: str, sae: str | None = None) -> float:
    """Return the mean bytes of a document, as :func:`ndcg`."""
    return mean(rows(line, method, sae)[-1]["bytes"] for line in lines)


def relative(lines: Sequence[Line], against: str) -> Difference:
    """Compare the FVU of the signed SAE to that of another, seed by seed: -0.1 means 10 % lower."""
    return seed_by_seed(fvu(lines, SIGNED), fvu(lines, against))


def seed_by_seed(of: Sequence[float], against: Sequence[float]) -> Difference:
    """Compare numbers of the same seeds: -0.1 means 10 % lower."""
    ratios = [a / b for a, b in zip(of, against, strict=True)]
    if len(ratios) < 2:
        return Difference(ratios[0] - 1, None)
    low, high = ttest_rel(ratios, [1.0] * len(ratios)).confidence_interval()
    return Difference(mean(ratios) - 1, float(high - low) / 2)
