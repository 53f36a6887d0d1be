"""The files of the differences between two models: ``diff.json`` and ``contexts.json``."""

from pathlib import Path
from typing import NamedTuple, Self

from sae_lens_abstopk.diffs.diff_results import DiffContexts, DiffResults
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.files import write_whole

RESULTS, CONTEXTS = "diff.json", "contexts.json"


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
        try:
            results, contexts = ((folder / name).read_text(encoding="utf-8") for name in (RESULTS, CONTEXTS))
            return cls(DiffResults.model_validate_json(results), DiffContexts.model_validate_json(contexts))
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"{folder} holds no comparison of two models that can be read ({reason}); make it with `abstopk diff`."
            ) from None
