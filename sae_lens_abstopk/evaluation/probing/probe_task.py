"""Bidirectional probing: does one latent tell two poles apart, with a side for each? See ``docs/protocols.md``."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from sae_lens_abstopk.evaluation.probing.activation_probes import ActivationProbes, probe_activations
from sae_lens_abstopk.evaluation.probing.code_probes import CodeProbes, probe_codes
from sae_lens_abstopk.evaluation.probing.method_names import PERMUTED, UNTRAINED
from sae_lens_abstopk.evaluation.probing.probe_score import Labelled
from sae_lens_abstopk.evaluation.results.records import Interval, ProbeRecord
from sae_lens_abstopk.evaluation.tasks.task import TaskSplit
from sae_lens_abstopk.model.representations import Representations

PERMUTATIONS = 5


@dataclass(frozen=True)
class TaskProbes:
    """One SAE, one pair of poles: every probe and its controls."""

    n: tuple[int, int, int]
    """Texts in train, val and test, without those that were left out."""
    n_test_groups: int
    majority: float
    """Share of the larger pole on test: the accuracy of always saying the same."""
    codes: CodeProbes
    activations: ActivationProbes
    permuted_codes: tuple[CodeProbes, ...]
    """Control: the same procedure after the poles were shuffled within train, val and test; without intervals."""
    permuted_activations: tuple[ActivationProbes, ...]
    untrained: CodeProbes | None
    """Control: the same procedure on the codes of an SAE with fresh weights."""

    def scores(self) -> dict[str, ProbeRecord]:
        """Every method by name, controls last, for tables."""
        found = self.codes.scores | self.activations.scores
        permuted = [c.scores | a.scores for c, a in zip(self.permuted_codes, self.permuted_activations, strict=True)]
        for name in list(found):
            found[name + PERMUTED] = _over_permutations([scores[name] for scores in permuted])
        if self.untrained is not None:
            found |= {name + UNTRAINED: score for name, score in self.untrained.scores.items()}
        return found

    def coverage_controls(self) -> dict[str, Interval]:
        """Coverage on test of the latent of best coverage, in each control."""
        found = {"permuted": _spread([codes.best_coverage.coverage.value for codes in self.permuted_codes])}
        if self.untrained is not None:
            found["untrained SAE"] = self.untrained.best_coverage.coverage
        return found


class TaskProber:
    """
    Probes SAEs for one pair of poles; the probes on x and the permutations are the same for all of them.

    Latents, thresholds and weights come from the rows ``split.train``; read positions and penalties from val; test is
    used once, to measure. Texts that the representations leave out are taken from all three.

    Args:
        representations: Of the texts, by :func:`~.representations.represent`.
        labels: 0 (pole A) or 1 (pole B) of each text.
        split: Rows of each part.
        groups: Template or document of each text: parts must not share one, and intervals resample them.
        seed: Of the permutations and the resampling.

    Raises:
        ConfigError: a part of the split lacks a pole, or shares a group with another.
    """

    def __init__(
        self,
        representations: Representations,
        labels: Sequence[int] | npt.NDArray[np.integer],
        split: TaskSplit,
        *,
        groups: Sequence[Hashable] | None = None,
        seed: int = 0,
    ) -> None:
        kept = (rows[~np.isin(rows, representations.left_out)] for rows in map(np.asarray, split))
        data = Labelled(np.asarray(labels, dtype=np.int64), TaskSplit(*kept), groups, seed)
        data.check()
        self._representations, self._data = representations, data
        self._shuffled = [data.permuted(number) for number in range(PERMUTATIONS)]

    @cached_property
    def _activations(self) -> list[ActivationProbes]:
        return [probe_activations(self._representations, each) for each in (self._data, *self._shuffled)]

    def probe(self, sae_name: str, *, untrained_name: str | None = None) -> TaskProbes:
        """Probe one of the represented SAEs; ``untrained_name`` is its control (:func:`~.untrained.untrained_sae`)."""
        data, representations = self._data, self._representations
        codes, *permuted_codes = probe_codes(representations, [data, *self._shuffled], sae_name)
        activations, *permuted_activations = self._activations
        train, val, test = data.split
        share_b = data.labels[test].mean()
        return TaskProbes(
            n=(len(train), len(val), len(test)),
            n_test_groups=len(set(data.test_groups or test.tolist())),
            majority=float(max(share_b, 1 - share_b)),
            codes=codes,
            activations=activations,
            permuted_codes=tuple(permuted_codes),
            permuted_activations=tuple(permuted_activations),
            untrained=probe_codes(representations, [data], untrained_name)[0] if untrained_name else None,
        )


def _spread(values: Sequence[float | None]) -> Interval:
    """Mean of the values, with their range in place of an interval."""
    known = [value for value in values if value is not None]
    return Interval(value=float(np.mean(known)), low=min(known), high=max(known), n_units=len(known))


def _over_permutations(scores: Sequence[ProbeRecord]) -> ProbeRecord:
    return ProbeRecord(
        read=" or ".join(sorted({score.read for score in scores})),
        train_auroc=float(np.mean([score.train_auroc for score in scores])),
        val_auroc=float(np.mean([score.val_auroc for score in scores])),
        auroc=_spread([score.auroc.value for score in scores]),
        accuracy=_spread([score.accuracy.value for score in scores if score.accuracy]),
    )
