"""Merged results files: the content of a report."""

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
    """An SAE under its name in the report."""

    name: str
    variant: str
    """Its variant at its hook, shared by all seeds; its own name outside a comparison."""
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
    """Record of the first result that has the task; its ``saes`` are only that result's."""
    saes: Mapping[str, SAETaskRecord]
    """Records by the SAE's name in the report."""
    steering: Mapping[str, SteeringRecord]


@dataclass(frozen=True)
class MergedResults:
    """The content of a report."""

    results: tuple[Results, ...]
    saes: tuple[MergedSAE, ...]
    tasks: tuple[MergedTask, ...]
    stability: tuple[StabilityRecord, ...]
    concept_cosines: tuple[Mapping[str, Mapping[str, float]], ...]
    """Cosine matrices, one for each set of activations that has one."""
    variants: tuple[str, ...]
    """Groups of all SAEs, including those that :meth:`only` leaves out; this order decides colours."""

    @property
    def names(self) -> list[str]:
        """Names of the SAEs, in the order of the report."""
        return [sae.name for sae in self.saes]

    def only(self, *, tasks: Sequence[str] = (), saes: Sequence[str] = ()) -> "MergedResults":
        """
        Return the results of these tasks and SAEs; None selects all.

        Raises:
            ConfigError: a name is not in the results.
        """
        known = [task.name for task in self.tasks]
        for kind, wanted, there in (("task", tasks, known), ("sae", saes, self.names)):
            for name in wanted:
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
