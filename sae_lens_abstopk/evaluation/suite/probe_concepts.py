"""Probe every SAE on one task of a suite."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from sae_lens import SAE

from sae_lens_abstopk.evaluation.probing.activation_probes import concept_pca
from sae_lens_abstopk.evaluation.probing.code_probes import CodeProbes
from sae_lens_abstopk.evaluation.probing.method_names import DIFFERENCE_IN_MEANS
from sae_lens_abstopk.evaluation.probing.probe_task import TaskProber, TaskProbes
from sae_lens_abstopk.evaluation.probing.untrained import untrained_sae
from sae_lens_abstopk.evaluation.results.records import LatentRecord, SAETaskRecord, TaskRecord
from sae_lens_abstopk.evaluation.subjects.measured import Measured
from sae_lens_abstopk.evaluation.suite.suite import rows_of_both_poles
from sae_lens_abstopk.evaluation.tasks.task import Task
from sae_lens_abstopk.system.terminal import StageProgress

# tokens that centre the untrained SAEs and set their L0
UNTRAINED_TOKENS = 4096
PCA_TEXTS = 200


class ProbedTask(BaseModel):
    """The record of a probed task, and the latents and direction to steer by."""

    record: TaskRecord
    candidates: dict[str, list[int]]
    """Best latents on train, by SAE."""
    direction: list[float]
    """mean(B) - mean(A) of the activations on train, [d_in]."""


def probe_on_task(
    subjects: Measured,
    task: Task,
    *,
    untrained: Mapping[str, SAE[Any]],
    seed: int,
    on_progress: StageProgress,
) -> ProbedTask:
    """Probe every SAE on one task; ``untrained`` are the controls of :func:`untrained_saes`, or none."""
    saes, name, labels = subjects.saes, task.name, task.labels
    controls = {f"{sae}, untrained": fresh for sae, fresh in untrained.items()}
    reading = partial(on_progress, f"{name}: texts")
    with subjects.represent({**saes, **controls}, task, reading) as representations:
        prober = TaskProber(representations, labels, task.split(seed), groups=task.groups, seed=seed)
        probes: dict[str, TaskProbes] = {}
        for i, sae in enumerate(saes, 1):
            probes[sae] = prober.probe(sae, untrained_name=f"{sae}, untrained" if controls else None)
            on_progress(f"{name}: probes", i, len(saes))
        first = next(iter(probes.values()))
        means = first.activations.difference_in_means
        read_at = first.activations.scores[DIFFERENCE_IN_MEANS].read
        read = np.setdiff1d(np.arange(len(labels)), representations.left_out)
        rows = read[rows_of_both_poles(labels[read], PCA_TEXTS // 2, seed)]
        pca = concept_pca(representations.x(read_at, rows), labels[rows])
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
            saes={sae: _record(found, saes[sae].W_dec) for sae, found in probes.items()},
            pca=pca,
        ),
        candidates={sae: _candidates(found.codes) for sae, found in probes.items()},
        direction=(means.direction * means.norm).tolist(),
    )


def untrained_saes(subjects: Measured, seed: int) -> dict[str, SAE[Any]]:
    """Return the controls with fresh weights, the same for every task."""
    x = subjects.sample(UNTRAINED_TOKENS)
    return {name: untrained_sae(sae, x, seed=seed) for name, sae in subjects.saes.items()}


def _record(probes: TaskProbes, W_dec: torch.Tensor) -> SAETaskRecord:
    """Return the record of one SAE with the decoder ``W_dec`` [d_sae, d_in]."""
    direction = probes.activations.difference_in_means.direction

    def with_cosine(found: LatentRecord) -> LatentRecord:
        row = W_dec[found.latent].detach().cpu().double()
        cosine = torch.nn.functional.cosine_similarity(row, direction, dim=0).item()
        return found.model_copy(update={"direction_cosine": cosine})

    return SAETaskRecord(
        probes=probes.scores(),
        latent=with_cosine(probes.codes.single),
        pair=probes.codes.pair,
        best_coverage=with_cosine(probes.codes.best_coverage),
        coverage_controls=probes.coverage_controls(),
    )


def _candidates(codes: CodeProbes) -> list[int]:
    """Return the best latents on train, best first."""
    # at 0.5 it is one of many one-sided latents, all as good
    both_sided = [codes.best_coverage.latent] if codes.train_coverage > 0.5 else []
    return list(dict.fromkeys([codes.single.latent, *both_sided, *codes.strongest]))
