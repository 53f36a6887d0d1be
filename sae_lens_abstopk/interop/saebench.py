"""SAEBench's evaluations on a signed SAE, through its mirror."""

import json
import shutil
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from glob import escape
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from sae_lens_abstopk.evaluation.tasks.load_task import load_task
from sae_lens_abstopk.interop.saebench_evals import EVALS, saebench_patches
from sae_lens_abstopk.interop.saebench_input import class_set, joined, open_input
from sae_lens_abstopk.system.errors import ConfigError, require_distinct, require_range
from sae_lens_abstopk.system.files import require_no_file
from sae_lens_abstopk.system.typed_values import one_or_more

DEFAULT_EVALS = ("core", "sparse_probing", "tpp")
MISREAD = ("core", "tpp", "absorption", "autointerp", "unlearning", "mdl")
"""Evaluations that drop or misread half of the signed codes; see docs/saebench.md."""
NOT_RUN = {
    "autointerp": "it calls a paid model; run `python -m sae_bench.evals.autointerp.main` on the mirror yourself",
    "ravel": "its hook needs the tuple that layers of transformers 4 return, and knows only Gemma 2 and GPT-NeoX",
    "unlearning": "it needs a forget corpus that is given out on request",
    "mdl": "it needs CUDA and a global of its own script",
}
"""Evaluations that :func:`run_saebench` does not run, with the reason."""


class SaeBenchResult(NamedTuple):
    """The result of one evaluation."""

    evaluation: str
    file: Path
    """Results file in SAEBench's format."""
    metrics: dict[str, dict[str, float]]
    """Values by group and metric; those not computed are left out."""


def run_saebench(
    source: str | Path,
    *,
    out: str | Path,
    evals: str | Sequence[str] = DEFAULT_EVALS,
    as_is: bool = False,
    model_name: str | None = None,
    text: str | None = None,
    tasks: str | Path | Sequence[str | Path] = (),
    n_tokens: int = 51_200,
    seed: int = 42,
    device: str = "auto",
    on_eval: Callable[[str], None] | None = None,
) -> list[SaeBenchResult]:
    """
    Run evaluations of SAEBench on an SAE and write their results, in SAEBench's format, below ``out``.

    A signed SAE is mirrored into a stock one first. Decoder norms are folded, as SAEBench does for releases. For an SAE
    trained without position 0, ``core`` starts contexts with BOS, because SAEBench leaves out special tokens only.

    Args:
        out: Folder of the results; earlier ones of the same SAE are replaced.
        evals: One or several of core, sparse_probing, sparse_probing_sae_probes, tpp, scr and absorption.
        as_is: Use a signed SAE without the mirror; not for evaluations that misread signed codes.
        text: Text for ``core`` instead of the run's held-out text.
        tasks: One or several tasks whose texts replace SAEBench's data sets in sparse probing and TPP.
        n_tokens: Tokens for ``core``.
        device: Device of the SAE and the model; ``"auto"`` is CUDA if available, else the CPU.
        on_eval: Called with the name of each evaluation before it runs.

    Raises:
        ConfigError: SAEBench is not installed, an evaluation cannot be run or would misread the codes, ``out`` is a
            file, or the SAE, the model, the text or a task cannot be loaded.
    """
    out, evals, tasks = Path(out), one_or_more(evals), one_or_more(tasks)
    _check(out, evals, as_is=as_is, with_tasks=bool(tasks))
    own = tuple(class_set(load_task(task)) for task in tasks)
    names = [one.name for one in own]
    require_distinct("--task", names)
    if names and "tpp" in evals:
        require_range("the number of tasks for tpp", len(names), at_least=2)
    sets = (*own, joined(own)) if "tpp" in evals and own else own
    subject = open_input(
        source,
        as_is=as_is,
        model_name=model_name,
        text=text,
        reads_text="core" in evals,
        tasks=own,
        n_tokens=n_tokens,
        seed=seed,
        device=device,
    )
    out = out.resolve()  # an evaluation may change the working directory
    out.mkdir(parents=True, exist_ok=True)
    results = []
    with (
        (out / "saebench.log").open("w", encoding="utf-8") as log,
        TemporaryDirectory() as artifacts,
        warnings.catch_warnings(),
        saebench_patches(subject.model, sets),
    ):
        warnings.filterwarnings("ignore", message="'penalty' was deprecated", category=FutureWarning)
        warnings.filterwarnings("ignore", message="Dataset is not tokenized")
        for name in evals:
            if on_eval is not None:
                on_eval(name)
            # keep an earlier result until there is a new one
            with TemporaryDirectory(prefix=f".{name}-", dir=out) as fresh:
                with redirect_stdout(log):
                    EVALS[name](subject, Path(fresh), Path(artifacts))
                file = replace_result(Path(fresh), out / name, subject.name)
            if file is None:
                raise ConfigError(f"{name} gave no result for {subject.model_name}; its output is in {log.name}.")
            groups = json.loads(file.read_text(encoding="utf-8"))["eval_result_metrics"]
            found = {
                group: {key: value for key, value in of.items() if value is not None} for group, of in groups.items()
            }
            results.append(SaeBenchResult(name, file, {group: metrics for group, metrics in found.items() if metrics}))
    return results


def replace_result(fresh: Path, folder: Path, name: str) -> Path | None:
    """Replace the result of the SAE ``name`` in ``folder``, and the files beside it, by those in ``fresh``."""
    # SAEBench calls every SAE in memory custom_sae
    pattern = escape(f"{name}_custom_sae_eval_results.json".replace("/", "_"))
    made = next(fresh.rglob(pattern), None)
    if made is None:
        return None
    for old in folder.rglob(pattern):
        old.unlink()
    shutil.copytree(fresh, folder, dirs_exist_ok=True)
    return folder / made.relative_to(fresh)


def _check(out: Path, evals: Sequence[str], *, as_is: bool, with_tasks: bool) -> None:
    """Raise if something is wrong before any work."""
    for name in evals:
        why = NOT_RUN.get(name)
        if as_is and name in MISREAD:
            why = why or "it misreads signed codes; leave out --as-is"
        if name not in EVALS:
            why = why or f"there are {', '.join(EVALS)}"
        if why:
            raise ConfigError(f"SAEBench's {name!r} cannot be run from here: {why} (see docs/saebench.md).")
    if with_tasks and ("scr" in evals or not {"sparse_probing", "tpp"} & set(evals)):
        raise ConfigError("--task is for sparse_probing and tpp; scr needs texts with two correlated attributes.")
    require_no_file(out)
    if find_spec("sae_bench") is None:
        raise ConfigError(
            "SAEBench is not installed. It needs numpy below 2 and datasets below 4, so install this package and "
            "'sae-bench==0.6.*' in a separate environment, and run this command there."
        )
