"""Several results files as one: the content of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sae_lens_abstopk.evaluation.results.sae_records import (
    GeometryRecord,
    ReconstructionRecord,
    SAERecord,
    StabilityRecord,
)
from sae_lens_abstopk.evaluation.results.schema import Results
from sae_lens_abstopk.evaluation.results.steering_records import SteeringRecord
from sae_lens_abstopk.evaluation.results.task_records import SAETaskRecord, TaskRecord
from sae_lens_abstopk.system.errors import ConfigError


@dataclass(frozen=True)
class MergedSAE:
    """An SAE under the name that the report uses."""

    name: str
    variant: str
    """The variant of which it is one seed, at its hook; its own name outside a comparison."""
    curve: str
    """The variant without its k."""
    model: str
    hook: str
    measured_on: str
    """Text and tokens behind its reconstruction."""
    record: SAERecord
    reconstruction: ReconstructionRecord | None
    geometry: GeometryRecord | None


@dataclass(frozen=True)
class MergedTask:
    """One task on one hook, and every SAE that was measured on it."""

    name: str
    record: TaskRecord
    """Of the first result that has it; its ``saes`` are those of that result only."""
    saes: Mapping[str, SAETaskRecord]
    """By the report's name of the SAE."""
    steering: Mapping[str, SteeringRecord]


@dataclass(frozen=True)
class MergedResults:
    """The content of a report."""

    results: tuple[Results, ...]
    saes: tuple[MergedSAE, ...]
    tasks: tuple[MergedTask, ...]
    stability: tuple[StabilityRecord, ...]
    concept_cosines: tuple[Mapping[str, Mapping[str, float]], ...]
    """One matrix for each set of activations that has one."""
    variants: tuple[str, ...]
    """Of all SAEs, also of those that :meth:`only` leaves out: figures take colours from this order."""

    @property
    def names(self) -> list[str]:
        """Of the SAEs, in the order of the report."""
        return [sae.name for sae in self.saes]

    def only(self, *, tasks: Sequence[str] = (), saes: Sequence[str] = ()) -> "MergedResults":
        """
        The results of these tasks and these SAEs; of all where none are named.

        Raises:
            ConfigError: a name is not in the results.
        """
        known = [task.name for task in self.tasks]
        for kind, asked, there in (("task", tasks, known), ("sae", saes, self.names)):
            for name in asked:
                if name not in there:
                    found = ", ".join(there) or "none"
                    raise ConfigError(f"{kind}={name!r} is not in these results; they have {found}.")
        chosen = saes or self.names
        return replace(
            self,
            saes=tuple(sae for sae in self.saes if sae.name in chosen),
            tasks=tuple(
                replace(
                    task,
                    saes={name: found for name, found in task.saes.items() if name in chosen},
                    steering={name: found for name, found in task.steering.items() if name in chosen},
                )
                for task in self.tasks
                if not tasks or task.name in tasks
            ),
        )
