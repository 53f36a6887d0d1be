"""One task of a suite, probed on every SAE."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from sae_lens import SAE

from sae_lens_abstopk.evaluation.probing.concept_pca import concept_pca
from sae_lens_abstopk.evaluation.probing.probe_task import TaskProber, TaskProbes
from sae_lens_abstopk.evaluation.probing.untrained import untrained_sae
from sae_lens_abstopk.evaluation.results.task_records import PCARecord, TaskRecord
from sae_lens_abstopk.evaluation.subjects.subjects import Subjects
from sae_lens_abstopk.evaluation.suite.as_records import sae_task_record
from sae_lens_abstopk.evaluation.suite.suite_tasks import rows_of_both_poles
from sae_lens_abstopk.evaluation.tasks.task import Task
from sae_lens_abstopk.model.representations import represent
from sae_lens_abstopk.system.progress import StageProgress

# text that untrained SAEs are centred on and given their L0 by
UNTRAINED_TOKENS = 4096
PCA_TEXTS = 200


class ProbedTask(BaseModel):
    """A task that was probed, and what steering takes from it."""

    record: TaskRecord
    candidates: dict[str, list[int]]
    """Best latents on train, by SAE."""
    direction: list[float]
    """mean(B) - mean(A) of the activations on train, [d_in]."""


def probe_on_task(
    subjects: Subjects,
    task: Task,
    *,
    untrained: Mapping[str, SAE[Any]],
    seed: int,
    on_progress: StageProgress,
) -> ProbedTask:
    """Probe every SAE on one task; ``untrained`` are those of :func:`untrained_saes`, or none where there is no control."""
    saes, name = subjects.saes, task.name
    labels, split = task.labels, task.split(seed)
    controls = {f"{sae}, untrained": fresh for sae, fresh in untrained.items()}
    with represent(
        subjects.passes,
        subjects.tokenizer,
        {**saes, **controls},
        task.texts,
        reads=task.reads,
        markers=task.markers,
        rules=subjects.rules,
        on_progress=lambda done, total: on_progress(f"{name}: texts", done, total),
    ) as representations:
        probes: dict[str, TaskProbes] = {}
        prober = TaskProber(representations, labels, split, groups=task.groups, seed=seed)
        for i, sae in enumerate(saes, 1):
            probes[sae] = prober.probe(sae, untrained_name=f"{sae}, untrained" if controls else None)
            on_progress(f"{name}: probes", i, len(saes))
        first = next(iter(probes.values()))
        means = first.activations.difference_in_means
        read = np.setdiff1d(np.arange(len(labels)), representations.left_out)
        rows = read[rows_of_both_poles(labels[read], PCA_TEXTS // 2, seed)]
        pca = concept_pca(
            torch.from_numpy(representations.x(means.score.read, rows)),
            torch.from_numpy(labels[rows]),
        )
    return ProbedTask(
        record=TaskRecord(
            poles=task.poles,
            digest=task.digest,
            source=task.source,
            licence=task.licence,
            texts=first.n,
            test_groups=first.n_test_groups,
            majority=first.majority,
            fallbacks=representations.fallbacks._asdict(),
            saes={sae: sae_task_record(found, saes[sae].W_dec) for sae, found in probes.items()},
            pca=PCARecord(
                coordinates=[(float(x), float(y)) for x, y in pca.coordinates],
                labels=labels[rows].tolist(),
                explained=pca.explained_variance_ratio.tolist(),
            ),
        ),
        candidates={sae: _candidates(found) for sae, found in probes.items()},
        direction=(np.array(means.direction) * means.norm).tolist(),
    )


@torch.no_grad()
def untrained_saes(subjects: Subjects, seed: int) -> dict[str, SAE[Any]]:
    """The controls with fresh weights, which are the same for every task."""
    tokens = subjects.batches(UNTRAINED_TOKENS)
    kept = []
    for batch in tokens:
        activations = subjects.passes.activations(batch)
        kept.append(subjects.token_filter.mask_and_rows(batch, activations, subjects.passes.hook_name)[1])
    x = torch.cat(kept)
    return {name: untrained_sae(sae, x, seed=seed) for name, sae in subjects.saes.items()}


def _candidates(probes: TaskProbes) -> list[int]:
    """Latents that do well on train, the best first."""
    covering = probes.codes.best_coverage
    # latents with one side all come to 0.5 at best, and the first of them is as good as any
    both_sided = [covering.latent] if covering.train_coverage > 0.5 else []
    return list(dict.fromkeys([probes.codes.single.latent, *both_sided, *probes.codes.sparse[-1].latents]))
