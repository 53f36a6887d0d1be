"""The files of the differences between two models: ``diff.json`` and ``contexts.json``."""

from pathlib import Path
from typing import NamedTuple, Self

from sae_lens_abstopk.diffs.diff_results import DiffContexts, DiffResults
from sae_lens_abstopk.system.files import reading, write_whole

RESULTS, CONTEXTS, SAE_FOLDER = "diff.json", "contexts.json", "sae"


class Diff(NamedTuple):
    """Measurements and text of one comparison."""

    results: DiffResults
    contexts: DiffContexts

    def write(self, folder: Path) -> None:
        """Write ``diff.json`` and ``contexts.json``."""
        write_whole(folder / RESULTS, self.results.model_dump_json(indent=1) + "\n")
        write_whole(folder / CONTEXTS, self.contexts.model_dump_json() + "\n")  # a number a line would be long

    @classmethod
    def read(cls, folder: Path) -> Self:
        """
        Read what :meth:`write` wrote.

        Raises:
            ConfigError: a file is missing or damaged.
        """
        with reading(f"the comparison of two models in {folder}", "make it with `abstopk diff`"):
            results, contexts = ((folder / name).read_text(encoding="utf-8") for name in (RESULTS, CONTEXTS))
            return cls(DiffResults.model_validate_json(results), DiffContexts.model_validate_json(contexts))
