"""A results file: one JSON document, whose schema is published in ``evals/results.schema.json``."""

import json
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from typing_extensions import override

from sae_lens_abstopk.evaluation.results.records import (
    ExampleRecord,
    GeometryRecord,
    Number,
    ReconstructionRecord,
    Record,
    SAERecord,
    StabilityRecord,
    SteeringRecord,
    TaskRecord,
)
from sae_lens_abstopk.system.errors import require_choice
from sae_lens_abstopk.system.files import reading, write_whole
from sae_lens_abstopk.system.shown import Facts, Shown
from sae_lens_abstopk.vectors.rows_as_texts import RowPasses

SCHEMA_VERSION = 1
OF_VECTORS = RowPasses.hook_name


class Results(Shown, Record):
    """A results file."""

    schema_version: Literal[1] = SCHEMA_VERSION
    created: str
    command: str
    commit: str | None
    environment: dict[str, str]
    model: str = Field(description="Empty for SAEs of vectors.")
    hook: str = Field(description="'vectors' for SAEs of vectors.")
    text: str = Field(description="Data set or file of the text, or of the vectors.")
    held_out: bool = Field(description="Whether the text was kept from the SAEs in training.")
    precision: str | None = Field(
        default=None, description="In which tasks and other texts were read; null is that of training, or unknown."
    )
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

    @model_validator(mode="after")
    def _names_are_listed(self) -> Self:
        of_saes = {
            "reconstruction": self.reconstruction,
            "geometry": self.geometry,
            "stability": [name for pair in self.stability for name in (pair.first, pair.second)],
            **{f"tasks.{task}.saes": record.saes for task, record in self.tasks.items()},
            **{f"steering.{task}": found for task, found in self.steering.items()},
        }
        for where, names in of_saes.items():
            for name in names:
                require_choice(f"{where}: sae", name, self.saes)
        for name in self.steering:
            require_choice("steering: task", name, self.tasks)
        return self

    @property
    def unit(self) -> str:
        """What numbers are counts and means of: tokens, or rows of vectors."""
        return "rows" if self.hook == OF_VECTORS else "tokens"

    @property
    def place(self) -> str:
        """Model and hook, or just that the SAEs are of vectors."""
        return f"{self.model}, {self.hook}" if self.model else self.hook

    @property
    def kept_from_training(self) -> str:
        """Whether the text was held out, in words."""
        return "kept from training" if self.held_out else "perhaps seen in training"

    @override
    def _facts(self) -> Facts:
        rows = []
        for name, sae in self.saes.items():
            facts: dict[str, object] = {"SAE": name, "latents": f"{sae.d_sae:,}"}
            if (found := self.reconstruction.get(name)) is not None:
                facts |= {"FVU": f"{found.fvu:.4f}", "L0": f"{found.l0:.1f}", "tokens": f"{found.tokens:,}"}
            facts["concepts probed"] = sum(name in task.saes for task in self.tasks.values())
            rows.append(facts | {"steered": sum(name in found for found in self.steering.values())})
        return rows

    def write(self, path: str | Path) -> None:
        """Write the file atomically as JSON."""
        write_whole(Path(path), self.model_dump_json(indent=1) + "\n")


def read_results(path: str | Path) -> Results:
    """
    Read a results file.

    Raises:
        ConfigError: it is missing, has a wrong key (the first is named), or measures an SAE or a task that it does not
            list.
    """
    with reading(path, "`abstopk eval` writes results.json, and `abstopk inspect --out` a short one"):
        return Results.model_validate_json(Path(path).read_bytes())


def schema() -> str:
    """Return the JSON schema of a results file."""
    return json.dumps(Results.model_json_schema(), indent=1) + "\n"
