"""The runs that were steered with, and the interventions measured beside them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.study.columns import Line
from sae_lens_abstopk.evaluation.reports.steering_tables import OF_A_LATENT


class Steered(NamedTuple):
    """One way to steer, measured beside one SAE."""

    label: str
    line: Line
    intervention: str
    """Name in the record."""


def steered_lines(lines: Iterable[Line], study: Mapping[str, Any]) -> list[Line]:
    """Return the steered runs, in the order of the study file."""
    found = [line for line in lines if "steering" in line and line["variant"] in study["steered"]]
    return sorted(found, key=lambda line: study["steered"].index(line["variant"]))


def with_doses(lines: Sequence[Line]) -> list[Line]:
    """Return the steered runs with a dose-response; early records have none."""
    return [line for line in lines if all("doses" in found for found in interventions(line).values())]


def interventions(line: Line) -> Mapping[str, Any]:
    """Return the interventions of a steered run, the same for all its tasks."""
    return next(iter(line["steering"].values()))["interventions"]


def all_steered(lines: Sequence[Line]) -> list[Steered]:
    """
    Return the latents, then interventions without a latent, from the first run that has them.

    A star marks an SAE that was trained again for steering, with other weights than in the other tables.
    """
    latents = [
        Steered(f"latent of {line['variant']}{'' if _is_probed(line) else ' *'}", line, "latent") for line in lines
    ]
    others: dict[str, Steered] = {}
    for line in lines:
        for name in interventions(line):
            if name not in OF_A_LATENT:
                others.setdefault(name, Steered(name.replace("_", " "), line, name))
    return [*latents, *others.values()]


def effects(steered: Steered, task: str) -> tuple[float | None, float | None]:
    """Return the changes of the log-odds at matched cost, towards pole A and towards pole B."""
    one = steered.line["steering"][task]["interventions"][steered.intervention]
    return one["towards_a"]["log_odds"]["value"], one["towards_b"]["log_odds"]["value"]


def _is_probed(line: Line) -> bool:
    """Return whether the steered SAE has the weights of the probed one."""
    return line.get("steered_sae", {}).get("weights_sha256") == line["sae"]["weights_sha256"]
