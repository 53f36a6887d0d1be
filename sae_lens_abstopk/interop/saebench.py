"""SAEBench's evaluations on a signed SAE, through its mirror."""

import json
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from glob import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from sae_lens import SAE

from sae_lens_abstopk.equivalents.mirror import MIRROR_END, mirror
from sae_lens_abstopk.evaluation.results.sae_facts import weights_sha256
from sae_lens_abstopk.evaluation.subjects.subject_config import evaluation_config
from sae_lens_abstopk.evaluation.tasks.load_task import load_task
from sae_lens_abstopk.interop.class_sets import ClassSet, class_set, joined
from sae_lens_abstopk.interop.saebench_runners import CONTEXT, RUNNERS, BenchInput
from sae_lens_abstopk.interop.saebench_session import require_saebench, saebench_session
from sae_lens_abstopk.model.hook_places import find_place
from sae_lens_abstopk.model.language_model import load_language_model
from sae_lens_abstopk.saes.heads import require_all_heads
from sae_lens_abstopk.saes.loading import load_sae
from sae_lens_abstopk.saes.signed import SignedSAE
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.one_or_more import one_or_more
from sae_lens_abstopk.text.documents import load_text
from sae_lens_abstopk.training.config.checks import require_devices
from sae_lens_abstopk.training.source.lm_source import saelens_notes_off

DEFAULT_EVALS = ("core", "sparse_probing", "tpp")
MISREAD = ("core", "tpp", "absorption", "autointerp", "unlearning", "mdl")
"""Evaluations that lose half of the signed codes, or count them against the others: docs/saebench.md says how."""
HINDRANCES = {
    "autointerp": "it calls a paid OpenAI model with your API key; run `python -m sae_bench.evals.autointerp.main` on the "
    "mirror",
    "ravel": "its hook wants the tuple that layers of transformers 4 return, and it finds the layers of Gemma 2 and "
    "GPT-NeoX alone",
    "unlearning": "it needs a forget corpus that is given out on request",
    "mdl": "it needs CUDA and a global of its own script, so it runs as that script alone",
}
"""Why :func:`run_saebench` does not run an evaluation."""
LOG_FILENAME = "saebench.log"
SAEBENCH_ID = "custom_sae"
"""What SAEBench calls every SAE that is given as an object."""


class SaeBenchResult(NamedTuple):
    """What one evaluation gave."""

    evaluation: str
    file: Path
    """In SAEBench's own format."""
    metrics: dict[str, dict[str, float]]
    """Group to metric to value; what was not computed is left out."""


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

    A signed SAE is mirrored first; a non-negative one is taken as it is. Decoder norms are folded, as SAEBench does for
    releases. Where the SAE was trained without position 0 and without a BOS, ``core`` reads contexts with a BOS in front,
    since special tokens are all that SAEBench can leave out; labelled texts get one from TransformerLens in any case.

    Args:
        source: Folder of an SAE, or ``RELEASE:SAE_ID``.
        out: Folder; results of an earlier run on the same SAE in it are replaced.
        evals: One or several of core, sparse_probing, sparse_probing_sae_probes, tpp, scr and absorption.
        as_is: Take a signed SAE as it is, without the mirror; refused where the evaluation misreads signed codes.
        model_name: Model to run instead of the one recorded.
        text: Text for ``core`` instead of the run's held-out text.
        tasks: One or several tasks whose texts replace SAEBench's data sets in sparse probing and TPP.
        n_tokens: Tokens for ``core``.
        seed: SAEBench's seed.
        device: For the SAE and the model; ``"auto"`` takes CUDA where there is one, else the CPU.
        on_eval: Called with the name of each evaluation before it runs.

    Raises:
        ConfigError: SAEBench is not installed, an evaluation is unknown, cannot be run from here or would misread the
            codes, ``out`` is a file, or the SAE, the model or a task cannot be had.
    """
    out, evals, tasks = Path(out), one_or_more(evals), one_or_more(tasks)
    _check(evals, as_is=as_is, tasks=tasks)
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; give a folder for the results with --out.")
    require_saebench()
    own = tuple(class_set(load_task(task)) for task in tasks)
    names = [one.name for one in own]
    if len(set(names)) < len(names):
        raise ConfigError(f"a task is given twice: {', '.join(names)}; name each once, and under a name of its own.")
    sets = (*own, joined(own)) if "tpp" in evals and own else own
    subject = _open(
        source,
        as_is=as_is,
        model_name=model_name,
        text=text if "core" in evals else text or "no text",  # which nothing reads
        reads_text="core" in evals,
        own=own,
        n_tokens=n_tokens,
        seed=seed,
        device=device,
    )
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    results = []
    with (
        (out / LOG_FILENAME).open("w", encoding="utf-8") as log,
        TemporaryDirectory() as artifacts,
        saelens_notes_off(),
        saebench_session(subject.model, class_sets=sets),
    ):
        warnings.filterwarnings("ignore", message="'penalty' was deprecated", category=FutureWarning)
        for name in evals:
            if on_eval is not None:
                on_eval(name)
            # into a folder of its own, so that an earlier result stays until there is a new one
            with TemporaryDirectory(prefix=f".{name}-", dir=out) as fresh:
                with redirect_stdout(log):
                    RUNNERS[name](subject, Path(fresh), Path(artifacts))
                file = _moved(Path(fresh), out / name, result_pattern(subject.name))
            if file is None:
                raise ConfigError(f"{name} gave no result for {subject.model_name}; what it said is in {log.name}.")
            results.append(SaeBenchResult(name, file, _metrics(file)))
    return results


def _moved(fresh: Path, folder: Path, pattern: str) -> Path | None:
    """The result in ``fresh``, moved with what lies beside it into ``folder`` in place of earlier ones; None if there is none."""
    made = next(fresh.rglob(pattern), None)
    if made is None:
        return None
    result = folder / made.relative_to(fresh)
    for path in filter(Path.is_file, fresh.rglob("*")):
        target = folder / path.relative_to(fresh)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    for old in folder.rglob(pattern):
        if old != result:
            old.unlink()
    return result


def result_pattern(name: str) -> str:
    """Glob of the file in which SAEBench leaves the result of the SAE ``name``, and of no other whose name begins so."""
    return escape(f"{name}_{SAEBENCH_ID}_eval_results.json".replace("/", "_"))


def _check(evals: Sequence[str], *, as_is: bool, tasks: Sequence[str | Path]) -> None:
    for name in evals:
        if name in HINDRANCES:
            raise ConfigError(f"{name} cannot be run from here: {HINDRANCES[name]} (docs/saebench.md has its verdict).")
        if name not in RUNNERS:
            raise ConfigError(f"SAEBench has no evaluation {name!r} here; there are {', '.join(RUNNERS)}.")
        if as_is and name in MISREAD:
            raise ConfigError(f"{name} misreads signed codes (docs/saebench.md says how), so leave out --as-is.")
    if not evals:
        raise ConfigError(f"name at least one evaluation: {', '.join(RUNNERS)}.")
    if tasks and "scr" in evals:
        raise ConfigError(
            "scr needs texts with two correlated attributes, which tasks do not have; leave out scr or the tasks."
        )
    if tasks and not {"sparse_probing", "tpp"} & set(evals):
        raise ConfigError("tasks are read by sparse_probing and tpp alone; add one of them to the evaluations.")


def _open(
    source: str | Path,
    *,
    as_is: bool,
    model_name: str | None,
    text: str | None,
    reads_text: bool = True,
    own: tuple[ClassSet, ...],
    n_tokens: int,
    seed: int,
    device: str = "auto",
) -> BenchInput:
    sae = load_sae(source)
    require_all_heads(sae, "SAEBench")
    cfg = evaluation_config(Path(source), sae, model_name=model_name, text=text, device=device)
    require_devices(cfg)
    if reads_text:
        load_text(cfg, "all" if text else "held_out")  # what cannot be read is told before anything runs
    name = _name(source, sae)
    if isinstance(sae, SignedSAE) and not as_is:
        sae, name = mirror(sae), f"{name}{MIRROR_END}"
    sae.to(device=cfg.device, dtype=torch.float32)
    # an SAE that selects without decoder norms would select other latents with them folded in
    with suppress(NotImplementedError):
        sae.fold_W_dec_norm()
    if cfg.model_class_name == "AutoModelForCausalLM":
        cfg.model_class_name = "TransformerBridge"  # SAEBench wants the hooks of TransformerLens
    model: Any = load_language_model(cfg)
    metadata = sae.cfg.metadata
    metadata.hook_name = find_place(model, metadata.hook_name).name
    metadata.context_size = metadata.context_size or CONTEXT
    skips_first = bool(metadata.seqpos_slice and (metadata.seqpos_slice[0] or 0) > 0)
    metadata.prepend_bos = skips_first or metadata.prepend_bos is not False
    # its name, not its path: SAEBench makes folders of it, and would write into that of the model
    shown = Path(cfg.model_name).name if Path(cfg.model_name).exists() else cfg.model_name
    metadata.model_name = model.cfg.model_name = shown
    return BenchInput(name, sae, model, shown, cfg, text, own, n_tokens, seed)


def _name(source: str | Path, sae: SAE[Any]) -> str:
    """What to call an SAE in one folder with others, which may have its label."""
    digest = weights_sha256(source)
    if digest is None:
        return str(source).replace(":", "_")
    return f"{sae.cfg.metadata.label or Path(source).name}_{digest[:8]}"


def _metrics(file: Path) -> dict[str, dict[str, float]]:
    groups = json.loads(file.read_text(encoding="utf-8"))["eval_result_metrics"]
    return {
        group: {name: value for name, value in metrics.items() if value is not None}
        for group, metrics in groups.items()
        if any(value is not None for value in metrics.values())
    }
