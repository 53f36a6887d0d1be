"""A first look at trained SAEs: reconstruction numbers and the strongest contexts of both poles."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae_lens_abstopk.evaluation.dictionary.contexts import PoleContexts
from sae_lens_abstopk.evaluation.dictionary.reconstruction import Reconstruction
from sae_lens_abstopk.evaluation.loading import open_subjects
from sae_lens_abstopk.evaluation.results import Results
from sae_lens_abstopk.evaluation.text_results import read_text, text_results

# kept of each pole of each latent
CONTEXTS = 3


@dataclass(frozen=True)
class Inspected:
    """What :func:`inspect_saes` found out about one SAE."""

    name: str
    architecture: str
    d_sae: int
    reconstruction: Reconstruction
    contexts: PoleContexts


@dataclass(frozen=True)
class Inspection:
    """Several SAEs on the same tokens of the same model."""

    saes: list[Inspected]
    tokenizer: Any
    model_name: str
    hook_name: str
    text: str
    held_out: bool
    """Whether the text was kept from the SAEs in training."""
    results: Results
    """The same as a results file."""


def inspect_saes(
    folders: str | Path | Sequence[str | Path],
    *,
    model_name: str | None = None,
    text: str | None = None,
    n_tokens: int = 51_200,
    device: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
) -> Inspection:
    """
    Measure SAEs that read one hook of one model, on text that they were not trained on where the run kept some back.

    Args:
        folders: One or several SAE folders; run settings come from the ``config.yaml`` in the first or in the folder above it.
        model_name: Model to run instead of the one recorded.
        text: Dataset or file to read instead of the run's held-out text.
        n_tokens: Tokens to evaluate on, rounded up to whole batches.
        device: For the model; ``"auto"`` takes CUDA where there is one, else the CPU.
        on_progress: Called with (passes done, passes in all).

    Raises:
        ConfigError: an SAE cannot be loaded, the SAEs read different hooks, or model or text are unknown.
    """
    subjects = open_subjects(folders, model_name=model_name, text=text, device=device)
    found = read_text(subjects, n_tokens, contexts=CONTEXTS, on_progress=on_progress)
    inspected = [
        Inspected(name, sae.cfg.architecture(), sae.cfg.d_sae, found.reconstruction[name], found.contexts[name])
        for name, sae in subjects.saes.items()
    ]
    return Inspection(
        saes=inspected,
        tokenizer=subjects.tokenizer,
        model_name=subjects.model_name,
        hook_name=subjects.cfg.hook_name,
        text=subjects.cfg.dataset_path,
        held_out=subjects.held_out,
        results=text_results(subjects, found, suite="inspect", settings={"tokens": n_tokens}),
    )
