"""Run a comparison: train variants on the same activations and evaluate them together."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from sae_lens_abstopk.evaluation.results.schema import Results
from sae_lens_abstopk.evaluation.suite.evaluate import check_suite, evaluate
from sae_lens_abstopk.evaluation.suite.results_folder import refuse_overwriting
from sae_lens_abstopk.evaluation.suite.suite import Suite, load_suite
from sae_lens_abstopk.model.language_model import require_tokenizer
from sae_lens_abstopk.system.terminal import PrintableConsole
from sae_lens_abstopk.system.typed_values import one_or_more
from sae_lens_abstopk.training.sweeps.comparison import load_comparison, run_comparison


def compare(
    source: str | Path,
    overrides: str | Sequence[str] = (),
    *,
    out: str | Path,
    suite: str | Path | Suite | None = None,
    console: Console | None = None,
) -> Results:
    """
    Train the variants of a comparison for each k and seed, in one pass over the activations, and evaluate them.

    An interrupted comparison resumes; finished runs and measurements are kept.

    Args:
        source: A YAML file, or the name of one in ``training_configs/comparisons``.
        overrides: One or several ``key=value`` changes to the training config, such as ``"lr=1e-3"``.
        out: Folder of the runs; the results are in ``results/results.json``, with reports beside it.
        suite: Replaces the suite named in the file.
        console: Shows progress; by default the terminal.

    Raises:
        ConfigError: a config, the suite or a task is invalid, or ``out`` has results of other SAEs, tasks or text.
        TrainingStopped: at the end, naming the runs that failed.
    """
    console, out = console or PrintableConsole(stderr=True), Path(out)
    comparison = load_comparison(str(source), one_or_more(overrides), out=out)
    chosen = load_suite(suite or comparison.suite)
    cfg = comparison.runs[0].config
    # check the evaluation before training
    require_tokenizer(cfg.model_spec, cfg.text_spec)
    check_suite(chosen, cfg.model_name, cfg.model_from_pretrained_kwargs)
    saes, groups = comparison.saes_and_groups()
    refuse_overwriting(out / "results", map(str, saes.values()), chosen)
    run_comparison(comparison, console=console)
    return evaluate(saes, suite=chosen, out=out / "results", groups=groups, console=console)
