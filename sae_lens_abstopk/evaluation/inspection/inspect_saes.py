"""A first look at trained SAEs: reconstruction numbers and the strongest contexts of both poles."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sae_lens_abstopk.evaluation.results.schema import Results, read_results
from sae_lens_abstopk.evaluation.results.text_measurement import OnText, read_text, text_results
from sae_lens_abstopk.evaluation.subjects.subjects import open_subjects
from sae_lens_abstopk.saes.loading import Source
from sae_lens_abstopk.system.errors import ConfigError

# contexts of each pole of each latent
CONTEXTS = 3
INSPECTION = "inspect"
"""Name of the suite in the results."""


class Inspection(NamedTuple):
    """Several SAEs on the same tokens of the same model."""

    results: Results
    """The results file."""
    on_text: OnText
    """Counts and contexts of every latent, by SAE."""
    tokenizer: Any


def inspect_saes(
    saes: Source | Sequence[Source] | Mapping[str, Source],
    *,
    model_name: str | None = None,
    text: str | None = None,
    n_tokens: int = 51_200,
    device: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
) -> Inspection:
    """
    Measure SAEs that read one hook of one model, on held-out text if their run has any.

    Args:
        saes: One or several SAEs, as in :func:`~.subjects.open_subjects`.
        model_name: Model to run instead of the recorded one.
        text: Dataset or file to read instead of the run's held-out text.
        n_tokens: Tokens to evaluate on, rounded up to whole batches.
        device: Device of the model; ``"auto"`` is CUDA if available, else the CPU.
        on_progress: Called with (passes done, passes in all).

    Raises:
        ConfigError: an SAE cannot be loaded, the SAEs read different hooks, or model or text is unknown.
    """
    subjects = open_subjects(saes, model_name=model_name, text=text, device=device)
    found = read_text(subjects, n_tokens, contexts=CONTEXTS, on_progress=on_progress)
    results = text_results(subjects, found, suite=INSPECTION, settings={"tokens": n_tokens})
    return Inspection(results, found, subjects.tokenizer)


def refuse_to_write_over(path: Path) -> None:
    """
    Raise if ``path`` is a file, but not an earlier inspection.

    Raises:
        ConfigError: ``path`` is the results file of an evaluation, or no results file.
    """
    if not path.exists():
        return
    try:
        suite = read_results(path).suite
    except ConfigError as error:
        raise ConfigError(f"{error} Move that file away, or name another.") from None
    if suite != INSPECTION:
        raise ConfigError(
            f"{path} has the results of the suite {suite!r}, which would be written over; name another file."
        )
