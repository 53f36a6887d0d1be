"""Run an evaluation suite: reconstruction, geometry, probing and steering of SAEs at one hook, into one file."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from sae_lens import SAE

from sae_lens_abstopk.evaluation.results.facts import (
    CONTEXTS,
    TextRecords,
    config_facts,
    geometry_record,
    read_text,
    run_facts,
    sae_record,
)
from sae_lens_abstopk.evaluation.results.records import GeometryRecord, StabilityRecord, SteeringRecord
from sae_lens_abstopk.evaluation.results.schema import Results
from sae_lens_abstopk.evaluation.subjects.measured import Measured, load_measured
from sae_lens_abstopk.evaluation.subjects.subjects import Subjects
from sae_lens_abstopk.evaluation.subjects.vector_subjects import VectorSubjects
from sae_lens_abstopk.evaluation.suite.label_tasks import tasks_of_labels
from sae_lens_abstopk.evaluation.suite.match_seeds import match_seeds, seed_groups
from sae_lens_abstopk.evaluation.suite.probe_concepts import ProbedTask, probe_on_task, untrained_saes
from sae_lens_abstopk.evaluation.suite.results_folder import (
    RESULTS_FILENAME,
    FinishedParts,
    identity_of,
    refuse_overwriting,
)
from sae_lens_abstopk.evaluation.suite.steer_concepts import check_prompts, check_steering, steer_on_task
from sae_lens_abstopk.evaluation.suite.suite import Suite, load_suite, task_key, tasks_of_suite
from sae_lens_abstopk.evaluation.tasks.task import Task
from sae_lens_abstopk.model.inference import casts_shared
from sae_lens_abstopk.model.language_model import load_tokenizer
from sae_lens_abstopk.model.model_shape import read_model_config
from sae_lens_abstopk.system.errors import ConfigError, require_choice
from sae_lens_abstopk.system.folder_lock import run_folder_lock
from sae_lens_abstopk.system.provenance import CODE_DIGEST, environment
from sae_lens_abstopk.system.terminal import PrintableConsole, StageProgress, stages_bar
from sae_lens_abstopk.system.typed_values import one_or_more


def evaluate(
    saes: str | Path | Sequence[str | Path] | Mapping[str, str | Path],
    *,
    suite: str | Path | Suite | None = None,
    out: str | Path,
    model_name: str | None = None,
    text: str | None = None,
    data: str | Path | None = None,
    labels: str | None = None,
    show: str | None = None,
    local: Mapping[str, str | Path] | None = None,
    groups: Mapping[str, str] | None = None,
    seed: int = 0,
    float32: bool = False,
    device: str = "auto",
    console: Console | None = None,
    on_progress: StageProgress | None = None,
) -> Results:
    """
    Run a suite on SAEs that read one hook of one model, or vectors; write ``results.json`` and its reports.

    Finished parts in ``out`` are reused, unless the SAEs, the model, the text, the task, the suite's settings, the
    code, the versions of libraries or the device have changed. Only results of the same SAEs, tasks, model, text and
    seed, or of more SAEs and tasks, overwrite those in ``out``.

    Args:
        saes: One or several folders, or ``RELEASE:SAE_ID``; a mapping gives them names.
        suite: Name, YAML file, or a :class:`Suite`; by default ``full``, and ``vectors`` for SAEs of vectors.
        out: Folder of the results.
        model_name: Model to run instead of the recorded one.
        text: Dataset or file to read instead of the run's held-out text: ``PATH``, or
            ``PATH,name=CONFIGURATION,split=SPLIT,column=COLUMN`` with any of these.
        data: Of SAEs of vectors: file or data set to read instead of the vectors of the run, written like ``text``.
        labels: Of SAEs of vectors: column whose values to probe (see :func:`~.label_tasks.tasks_of_labels`).
        show: Of SAEs of vectors: column with the texts of rows.
        local: Files or folders that replace Hub data sets, by task.
        groups: The variant of each SAE, shared by seeds; by default from :func:`~.match_seeds.seed_groups`.
        seed: Seed of splits, samples and intervals.
        float32: Read texts in float32, also where bfloat16 is faster.
        device: Device of the model; ``"auto"`` is CUDA if available, else the CPU.
        console: Shows progress; or ``on_progress`` is called with (stage, done, total).

    Raises:
        ConfigError: before anything runs, if a suite, a task, an SAE, the model or the text cannot be used, ``out`` has
            results of other SAEs, tasks, model, text or seed, or another process evaluates into it.
    """
    if any(isinstance(source, SAE) for source in (saes.values() if isinstance(saes, Mapping) else one_or_more(saes))):
        raise ConfigError("evaluate reads SAEs from folders; save the one in memory by save_model(FOLDER).")
    out = Path(out)
    options: dict[str, Any] = {"data": data, "show": show, "labels": labels, "float32": float32, "device": device}
    loaded = load_measured(saes, model=model_name, text=text, **options)
    if isinstance(loaded, VectorSubjects):
        suite, tasks = _suite_of_vectors(loaded, load_suite(suite or "vectors"), labels, local, seed)
    else:
        suite = load_suite(suite or "full")
        tasks = tasks_of_suite(suite, local=local, seed=seed)
    for name in groups or ():
        require_choice("groups: SAE", name, loaded.saes)
    groups = seed_groups(loaded.saes, loaded.sources) if groups is None else groups
    measured_on = {"model": loaded.model_name, "text": loaded.text_name, "held_out": loaded.held_out, "seed": seed}
    refuse_overwriting(out, loaded.sources.values(), suite, measured_on)
    with run_folder_lock(out, key="out"):
        subjects = loaded.with_model(reads="float32" if float32 else "fast")
        if suite.steering and isinstance(subjects, Subjects):
            check_steering(subjects, tasks, suite.steering)
        progress = (
            stages_bar(console or PrintableConsole(stderr=True)) if on_progress is None else nullcontext(on_progress)
        )
        with progress as stage, casts_shared():
            results = _measure(subjects, suite, tasks, out, groups, seed, stage, show=show)
        # check again: some file systems do not share locks with other machines
        refuse_overwriting(out, loaded.sources.values(), suite, measured_on)
        results.write(out / RESULTS_FILENAME)
        # late import: nothing else needs matplotlib
        from sae_lens_abstopk.evaluation.reports.report_files import write_reports

        write_reports([out / RESULTS_FILENAME], out)
    return results


def _suite_of_vectors(
    subjects: VectorSubjects, suite: Suite, labels: str | None, local: Mapping[str, Any] | None, seed: int
) -> tuple[Suite, dict[str, Task]]:
    """Return ``suite`` with the tasks of the column ``labels``."""
    if suite.tasks or local:
        raise ConfigError(
            f"the tasks of the suite {suite.name!r} are texts for a language model, and these SAEs were trained on "
            "vectors; leave --suite and --local out, and probe a column of the vectors with --labels COLUMN."
        )
    tasks = {} if labels is None else tasks_of_labels(subjects, labels, per_pole=suite.texts_per_pole, seed=seed)
    return suite.model_copy(update={"tasks": tuple(tasks)}), tasks


def check_suite(suite: Suite, model_name: str, loaded_with: Mapping[str, Any] | None = None) -> None:
    """Check, before training, that a suite can run on SAEs of a model that is loaded with these options."""
    tasks = tasks_of_suite(suite)
    if suite.steering:
        read_model_config(model_name, loaded_with)
        check_prompts(load_tokenizer(model_name, loaded_with), tasks, suite.steering)


def _measure(
    subjects: Measured,
    suite: Suite,
    tasks: Mapping[str, Task],
    out: Path,
    groups: Mapping[str, str],
    seed: int,
    on_progress: StageProgress,
    *,
    show: str | None,
) -> Results:
    """Measure the parts that are not in ``out``, or are of other inputs."""
    saes = subjects.saes.items()
    parts = FinishedParts(
        out / "parts",
        {
            # every part depends on the text: it centres the controls and scales steering
            "activations": subjects.activation_facts(),
            "part": subjects.part,
            "seed": seed,
            # in order: settings come from the first
            "saes": [[name, identity_of(subjects.sources[name]), config_facts(sae)] for name, sae in saes],
            "code": [CODE_DIGEST, environment(subjects.device)],
        },
    )

    def read() -> TextRecords:
        tokens, on_pass = suite.reconstruction.tokens, partial(on_progress, "reconstruction")
        return read_text(subjects, tokens, contexts=CONTEXTS, on_progress=on_pass).records(subjects.text_of)

    def measure_decoders() -> dict[str, GeometryRecord]:
        found = {}
        for i, (name, sae) in enumerate(saes, 1):
            found[name] = geometry_record(sae)
            on_progress("geometry", i, len(saes))
        return found

    on_text = parts.get("reconstruction", TextRecords, [suite.reconstruction.model_dump(), show], read)
    geometry = parts.get("geometry", dict[str, GeometryRecord], [], measure_decoders)
    stability = parts.get(
        "stability",
        list[StabilityRecord],
        dict(groups),
        lambda: match_seeds(subjects.saes, groups, on_progress=partial(on_progress, "stability")),
    )
    # made for the first task that is not on disk
    untrained = cache(lambda: untrained_saes(subjects, seed) if suite.untrained else {})
    probed: dict[str, ProbedTask] = {}
    for name, task in tasks.items():
        probed[name] = parts.get(
            f"task-{name}",
            ProbedTask,
            [_facts(task), suite.untrained, suite.texts_per_pole],
            lambda task=task: probe_on_task(subjects, task, untrained=untrained(), seed=seed, on_progress=on_progress),
        )
        for sae_name, sae in probed[name].record.saes.items():
            for latent in (sae.latent, sae.best_coverage):
                latent.density = on_text.density[sae_name][latent.latent]
    untrained.cache_clear()  # steering needs the memory
    steering: dict[str, dict[str, SteeringRecord]] = {}
    options = suite.steering
    for name in map(task_key, options.tasks) if options else ():
        task, found = tasks[name], probed[name]
        assert options is not None
        assert task.steering is not None
        assert isinstance(subjects, Subjects)  # vectors have no tasks to steer
        steering[name] = parts.get(
            f"steering-{name}",
            dict[str, SteeringRecord],
            [_facts(task), asdict(task.steering), options.model_dump(exclude={"tasks"}), found.candidates],
            partial(steer_on_task, subjects, name, task, found, options, seed=seed, on_progress=on_progress),
        )
    return Results(
        **run_facts(subjects),
        suite=suite.name,
        settings=suite.model_dump(exclude={"name"}),
        seed=seed,
        saes={name: sae_record(sae, subjects.sources[name], group=groups.get(name)) for name, sae in saes},
        reconstruction=on_text.reconstruction,
        geometry=geometry,
        examples=on_text.examples,
        stability=stability,
        concept_cosines=_cosines({name: found.direction for name, found in probed.items()}),
        tasks={name: found.record for name, found in probed.items()},
        steering=steering,
    )


def _facts(task: Task) -> list[Any]:
    """Everything in a task that probes depend on."""
    return [task.digest, task.reads, task.poles, task.source, task.licence]


def _cosines(directions: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    if not directions:
        return {}
    vectors = torch.tensor(list(directions.values()))
    matrix = torch.nn.functional.cosine_similarity(vectors[:, None], vectors[None], dim=-1)
    return {
        name: dict(zip(directions, row.tolist(), strict=True)) for name, row in zip(directions, matrix, strict=True)
    }
