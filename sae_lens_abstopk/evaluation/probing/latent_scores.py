"""How well each latent by itself tells two poles apart, in one pass over chunks of columns."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sae_lens_abstopk.evaluation.probing.statistics import Floats, column_auroc

# codes that are ranked at once: sorting takes some ten times their bytes
_SORTED_BYTES = 8 * 2**20
# of a latent that fires on no text, in the order of LatentScores
_SILENT = (0.5, 0.5, 0.5, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class LatentScores:
    """Scores of every latent on some texts; [d_sae] each."""

    auroc: Floats
    """AUROC of the code for pole B; below 0.5, its negative side goes with B."""
    positive_auroc: Floats
    """AUROC of max(z, 0)."""
    negative_auroc: Floats
    """AUROC of max(-z, 0)."""
    mean_difference: Floats
    """(mean over B - mean over A) / standard deviation over both; 0 for a latent that never varies."""
    coverage: Floats
    """Pole coverage with the positive side for B."""
    flipped_coverage: Floats
    """Pole coverage with the negative side for B."""

    @property
    def best(self) -> int:
        """The latent of largest |AUROC - 0.5|; among equals, of largest |mean difference|."""
        return int(np.lexsort((np.abs(self.mean_difference), np.abs(self.auroc - 0.5)))[-1])

    def strongest(self, k: int) -> list[int]:
        """The ``k`` latents of largest |mean difference|, strongest first, as in Gurnee et al. (2305.01610)."""
        return np.argsort(-np.abs(self.mean_difference), kind="stable")[:k].tolist()


def score_latents(
    chunks: Iterable[npt.NDArray[np.float32]], labellings: Sequence[npt.NDArray[np.integer]]
) -> list[LatentScores]:
    """
    Scores from ``chunks`` of columns [n, c] of codes, in order, for each of ``labellings``: the poles [n] of the texts.

    All labellings share one pass and one sort.
    """
    width = max(1, _SORTED_BYTES // (4 * len(labellings[0])))
    parts = [
        list(_score(chunk[:, start : start + width], labellings))
        for chunk in chunks
        for start in range(0, chunk.shape[1], width)
    ]
    return [
        LatentScores(*(np.concatenate(column) for column in zip(*part, strict=True)))
        for part in zip(*parts, strict=True)
    ]


def _score(
    codes: npt.NDArray[np.float32], labellings: Sequence[npt.NDArray[np.integer]]
) -> Iterator[tuple[Floats, ...]]:
    fires = np.asarray(codes.any(0))
    fires[:2] = True  # numpy rounds the sums of a single column in another order
    for scores in _score_firing(np.compress(fires, codes, axis=1), labellings):
        whole = [np.full(len(fires), silent) for silent in _SILENT]
        for column, found in zip(whole, scores, strict=True):
            column[fires] = found
        yield tuple(whole)


def _score_firing(
    codes: npt.NDArray[np.float32], labellings: Sequence[npt.NDArray[np.integer]]
) -> Iterator[tuple[Floats, ...]]:
    spread = codes.std(0, dtype=np.float64)
    for labels, aurocs in zip(labellings, column_auroc(codes, labellings), strict=True):
        a, b = codes[labels == 0], codes[labels == 1]
        difference = b.mean(0, dtype=np.float64) - a.mean(0, dtype=np.float64)
        standardised = np.divide(difference, spread, out=np.zeros_like(spread), where=spread > 0)
        coverage = ((a < 0).mean(0) + (b > 0).mean(0)) / 2
        flipped = ((a > 0).mean(0) + (b < 0).mean(0)) / 2
        yield *aurocs, standardised, coverage, flipped
