"""Pairs with a preference, turned so that the preferred text comes first."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array

from sae_lens_abstopk.evaluation.results.bootstrap import ratio_estimates
from sae_lens_abstopk.evaluation.results.records import Interval

RESAMPLES = 2000


@dataclass(frozen=True, eq=False)
class Preferences:
    """
    The n pairs with a preference, turned: differences are the preferred text minus the other.

    A pair with A and B swapped has the negative code and the negative preference, so here it is the same pair, to the
    bit. Statistics of turned pairs cannot depend on which text is A.
    """

    codes: Float[np.ndarray, "n F"]
    """Above 0 where the preferred text has more of the axis, below 0 where the other has."""
    log_length: Float[np.ndarray, " n"]
    """Difference of the log lengths."""
    components: Int[np.ndarray, " n"]
    """Component of shared prompts and texts; intervals resample components."""
    rows: Int[np.ndarray, " n"]
    """Number of each pair among all pairs."""
    signs: Float[np.ndarray, " n"]
    """1 where A was preferred, -1 where B was."""

    @classmethod
    def of(
        cls,
        preferred: Float[np.ndarray, " N"],
        *,
        codes: Float[np.ndarray, "N F"],
        log_length: Float[np.ndarray, " N"],
        components: Int[np.ndarray, " N"],
        among: Bool[np.ndarray, " N"] | None = None,
    ) -> "Preferences":
        """
        Turn the pairs whose ``preferred`` is 1 (A) or -1 (B).

        ``codes`` and ``log_length`` are of A minus B. ``among`` selects pairs, such as those held out.
        """
        rows = np.flatnonzero((np.abs(preferred) == 1) & (True if among is None else among))
        signs = preferred[rows].astype(np.float64)
        return cls(codes[rows] * signs[:, None], log_length[rows] * signs, components[rows], rows, signs)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def n_components(self) -> int:
        """Number of components."""
        return len(np.unique(self.components))

    def evenly(self, most: int) -> "Preferences":
        """Return at most ``most`` pairs, evenly spaced."""
        kept = np.arange(len(self)) if len(self) <= most else np.linspace(0, len(self) - 1, most).astype(int)
        fields = (self.codes, self.log_length, self.components, self.rows, self.signs)
        return Preferences(*(field[kept] for field in fields))

    def by_component(self, values: np.ndarray) -> Float[np.ndarray, "components columns"]:
        """Return the sums of ``values`` [n, columns] over each component."""
        unit = np.unique(self.components, return_inverse=True)[1]
        return csr_array((np.ones(len(unit)), (unit, np.arange(len(unit))))) @ values

    def win_rates(self, *, resamples: int = RESAMPLES, seed: int = 0) -> list[Interval]:
        """Return for each axis how often the text with more of it won, among the pairs on which it is active."""
        groups = self.components.tolist()
        return ratio_estimates(self.codes > 0, self.codes != 0, groups=groups, resamples=resamples, seed=seed)
