"""
Bidirectional probing: does one latent tell two opposite poles apart, and with a side for each?

Everything is chosen on train and val and measured once on test; the formulas are in ``docs/protocols.md``.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.evaluation.intervals import Estimate
from sae_lens_abstopk.evaluation.probing.activation_probes import ActivationProbes, probe_activations
from sae_lens_abstopk.evaluation.probing.code_probes import CodeProbes, probe_codes
from sae_lens_abstopk.evaluation.probing.probe_score import Labelled, ProbeScore, over_permutations, spread
from sae_lens_abstopk.evaluation.tasks.task import TaskSplit
from sae_lens_abstopk.model.representations import Representations

# how many times the control is run, each with other poles
PERMUTATIONS = 5


@dataclass(frozen=True)
class TaskProbes:
    """One SAE, one pair of poles: every probe and its controls."""

    sae_name: str
    reads: tuple[str, ...]
    """Read positions that val could choose from."""
    seed: int
    digest: str
    """sha256 of poles and split."""
    n: tuple[int, int, int]
    """Texts in train, val and test, without those that were left out."""
    n_test_groups: int
    majority: float
    """Share of the larger pole on test: the accuracy of always saying the same."""
    codes: CodeProbes
    activations: ActivationProbes
    permuted_codes: tuple[CodeProbes, ...]
    """
    Control: the same procedure after the poles were shuffled within train, val and test; 0.5 is expected of the mean.
    Without intervals, as the range over the permutations is told.
    """
    permuted_activations: tuple[ActivationProbes, ...]
    untrained: CodeProbes | None
    """Control: the same procedure on the codes of an SAE with fresh weights."""

    def scores(self) -> dict[str, ProbeScore]:
        """Every method by name, controls last, for tables."""
        found = _by_name(self.codes, self.activations)
        permuted = [
            _by_name(codes, activations)
            for codes, activations in zip(self.permuted_codes, self.permuted_activations, strict=True)
        ]
        for name in permuted[0]:
            found[f"{name}, permuted"] = over_permutations([scores[name] for scores in permuted])
        if self.untrained is not None:
            found |= {f"{name}, untrained SAE": score for name, score in _by_name(self.untrained, None).items()}
        return found

    def coverage_controls(self) -> dict[str, Estimate]:
        """Coverage on test of the latent of best coverage, in each control."""
        found = {"permuted": spread([codes.best_coverage.coverage.value for codes in self.permuted_codes])}
        if self.untrained is not None:
            found["untrained SAE"] = self.untrained.best_coverage.coverage
        return found


def probe_task(
    representations: Representations,
    labels: Sequence[int] | npt.NDArray[np.integer],
    split: TaskSplit,
    sae_name: str,
    *,
    groups: Sequence[Hashable] | None = None,
    untrained_name: str | None = None,
    activations: TaskProbes | None = None,
    seed: int = 0,
) -> TaskProbes:
    """
    Probe one SAE for one pair of poles.

    Args:
        representations: Of the texts, by :func:`~.representations.represent`.
        labels: 0 (pole A) or 1 (pole B) of each text.
        split: Rows of ``train``, ``val`` and ``test``. Latents and weights come from train; read positions
            and penalties from val; test is measured on, once. Texts that the representations leave out are taken from
            all three.
        sae_name: Which of the represented SAEs.
        groups: Template or document of each text: parts must not share one, and intervals resample them.
        untrained_name: The represented SAE with fresh weights (see :func:`~.untrained.untrained_sae`).
        activations: Result for another SAE on the same texts, split and seed, to take the probes on x from.
        seed: Of the permutations and the resampling.

    Raises:
        ConfigError: an unknown SAE, or labels, groups and split that do not fit (see :meth:`~.probe_score.Labelled.check`).
    """
    reads = representations.reads
    for name in filter(None, (sae_name, untrained_name)):
        representations.codes(name, reads[0])  # says what is there, if it is not
    split = TaskSplit(
        *(rows[~np.isin(rows, representations.left_out)] for rows in (split.train, split.val, split.test))
    )
    data = Labelled(np.asarray(labels, dtype=np.int64), split, groups, seed)
    data.check(representations.n)
    if activations is not None:
        asked, held = (data.digest, seed, reads), (activations.digest, activations.seed, activations.reads)
        if held != asked:
            of = [f"poles and split {d[:8]}, seed {s}, reads {r}" for d, s, r in (held, asked)]
            raise ConfigError(f"activations= holds probes of {of[0]}; these are {of[1]}: leave it out.")
    shuffled = [data.permuted(number) for number in range(PERMUTATIONS)]
    test = data.of(split.test)
    codes, *permuted_codes = probe_codes(representations, [data, *shuffled], sae_name, reads=reads)
    return TaskProbes(
        sae_name=sae_name,
        reads=reads,
        seed=seed,
        digest=data.digest,
        n=(len(split.train), len(split.val), len(split.test)),
        n_test_groups=len(set(data.test_groups or split.test.tolist())),
        majority=float(max(test.mean(), 1 - test.mean())),
        codes=codes,
        activations=activations.activations if activations else probe_activations(representations, data, reads=reads),
        permuted_codes=tuple(permuted_codes),
        permuted_activations=activations.permuted_activations
        if activations
        else tuple(probe_activations(representations, each, reads=reads) for each in shuffled),
        untrained=probe_codes(representations, [data], untrained_name, reads=reads)[0] if untrained_name else None,
    )


def _by_name(codes: CodeProbes, activations: ActivationProbes | None) -> dict[str, ProbeScore]:
    found = {"single latent": codes.single.score, "pair": codes.pair.score}
    found |= {f"{probe.k}-sparse": probe.score for probe in codes.sparse}
    if activations is not None:
        found |= {
            "difference in means": activations.difference_in_means.score,
            "logistic regression": activations.dense.score,
        }
    return found
