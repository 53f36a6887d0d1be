"""Codes of differences, and how well SAEs reconstruct those that are held out."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from sae_lens_abstopk.evaluation.results.bootstrap import ratio_estimates
from sae_lens_abstopk.pairs.pair_results import PairFitRecord
from sae_lens_abstopk.saes.threshold import at_l0
from sae_lens_abstopk.vectors.differences import Differences

# held-out differences measured at a time, in both directions
ROWS = 4096


class Errors(NamedTuple):
    """Squared errors of one SAE on n differences, each the mean over A - B and B - A."""

    whole: Float[np.ndarray, " n"]
    not_odd: Float[np.ndarray, " n"]
    """The part that does not cancel in the sum of both errors."""
    energy: Float[np.ndarray, " n"]
    """Squared norms of the differences."""
    l0: float

    @property
    def fvu(self) -> float:
        """Share of the energy that is not reconstructed."""
        return float(self.whole.sum() / self.energy.sum())


@torch.no_grad()
def codes_of(sae: SAE[Any], differences: Differences) -> Float[np.ndarray, "n F"]:
    """Encode all differences."""
    device = next(sae.parameters()).device
    return np.concatenate([encoded(sae, x.to(device)).float().cpu().numpy() for x in differences.blocks()])


def encoded(sae: SAE[Any], x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n F"]:
    """Encode differences. Two equal vectors have codes of 0: an SAE that scales to one norm would divide 0 by 0."""
    return torch.where((x != 0).any(1, keepdim=True), sae.encode(x), 0)


def fit_record(
    saes: Sequence[SAE[Any]], differences: Differences, components: Int[np.ndarray, " N"], *, k: float, seed: int = 0
) -> PairFitRecord:
    """
    Measure SAEs of several seeds on the held-out pairs, at an L0 of ``k``; intervals resample components.

    The FVU of differences has no mean to subtract: which text is A means nothing, so the mean is 0.
    """
    rows = differences.held_out.nonzero().squeeze(1)
    own = [errors_of(sae, differences, rows) for sae in saes]
    found = [errors_of(at_l0(sae, both_ways(differences, rows), k), differences, rows) for sae in saes]
    whole = np.mean([each.whole for each in found], axis=0)
    energy, groups = found[0].energy, components[rows.numpy()].tolist()
    return PairFitRecord(
        d_sae=saes[0].cfg.d_sae,
        fvu=ratio_estimates(whole[:, None], energy[:, None], groups=groups, seed=seed)[0],
        l0=float(np.mean([each.l0 for each in found])),
        fvu_seeds=[each.fvu for each in found],
        fvu_at_threshold=float(np.mean([each.fvu for each in own])),
        l0_at_threshold=float(np.mean([each.l0 for each in own])),
        not_odd=float(np.mean([each.not_odd.sum() / each.whole.sum() for each in found])),
    )


@torch.no_grad()
def errors_of(sae: SAE[Any], differences: Differences, rows: Int[Tensor, " n"]) -> Errors:
    """Measure one SAE on the pairs ``rows``, in both directions."""
    device, active = next(sae.parameters()).device, 0
    whole: list[np.ndarray] = []
    even: list[np.ndarray] = []
    energy: list[np.ndarray] = []
    for part in rows.split(ROWS):
        x = differences.rows(part).to(device)
        codes = encoded(sae, torch.cat([x, -x]))
        error, back = (sae.decode(codes) - torch.cat([x, -x])).chunk(2)
        whole.append(_squared_norm(error) / 2 + _squared_norm(back) / 2)
        even.append(_squared_norm((error + back) / 2))
        energy.append(_squared_norm(x))
        active += int((codes != 0).sum())
    parts = (np.concatenate(each) for each in (whole, even, energy))
    return Errors(*parts, l0=active / (2 * len(rows)))


def both_ways(differences: Differences, rows: Int[Tensor, " n"]) -> Iterator[Float[Tensor, "m d_in"]]:
    """Yield A - B and B - A of the pairs ``rows``, some at a time."""
    for part in rows.split(ROWS):
        x = differences.rows(part)
        yield torch.cat([x, -x])


def _squared_norm(rows: Float[Tensor, "n d_in"]) -> Float[np.ndarray, " n"]:
    return rows.square().sum(1, dtype=torch.float64).cpu().numpy()
