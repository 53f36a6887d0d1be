"""
Compute statistics of the vectors of every kind that may predict whether signs pay; they need no SAE.

    python -m experiments.map.statistics FOLDER

Writes `results/statistics.json`.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from experiments.map.kinds import kinds_in, read_kind
from experiments.speed.recording import command
from sae_lens_abstopk.evaluation.results.facts import origin_facts
from sae_lens_abstopk.vectors.vectors import Vectors

RECORD = Path(__file__).resolve().parent / "results" / "statistics.json"
ROWS = 50_000
"""Vectors of each kind that are read, evenly spaced."""
DIRECTIONS = 64
"""Principal directions whose two sides are compared."""


class SignStatistics(NamedTuple):
    """Each is between 0 and 1, or a number without a unit."""

    weaker_side: float
    """
    Share of the energy along a principal direction that is on its weaker side, at most 1/2.

    The mean over the leading directions, weighted by their energy. Of vectors that are symmetric about their mean, 1/2.
    """
    skewness: float
    """Mean absolute skewness of the projections on these directions, weighted in the same way."""
    effective_rank: float
    """Exponential of the entropy of the spectrum, as a share of the width."""
    mean_energy: float
    """Share of the energy of the vectors that is that of their mean."""
    whitened_kurtosis: float
    """Mean excess kurtosis of whitened leading projections: above 0, they are sparse."""


def sign_statistics(vectors: Vectors) -> SignStatistics:
    """Compute :class:`SignStatistics` of at most ``ROWS`` rows."""
    rows = torch.linspace(0, len(vectors) - 1, min(ROWS, len(vectors))).long()
    x = vectors.rows(rows).double()
    mean = x.mean(0)
    centred = x - mean
    variance, directions = torch.linalg.eigh(centred.T @ centred / len(x))
    variance, directions = variance.flip(0).clamp(min=0), directions.flip(1)
    spectrum = variance / variance.sum()
    n = min(DIRECTIONS, int((spectrum > 1e-9).sum()))
    projections: Float[Tensor, "rows n"] = centred @ directions[:, :n]
    weight = variance[:n] / variance[:n].sum()
    energy = projections.square()
    positive = (energy * (projections > 0)).sum(0) / energy.sum(0)
    unit = projections / variance[:n].sqrt()
    return SignStatistics(
        weaker_side=float(weight @ torch.minimum(positive, 1 - positive)),
        skewness=float(weight @ unit.pow(3).mean(0).abs()),
        effective_rank=float(torch.exp(-(spectrum * spectrum.clamp(min=1e-300).log()).sum()) / x.shape[1]),
        mean_energy=float(mean.square().sum() / x.square().sum(1).mean()),
        whitened_kurtosis=float((unit.pow(4).mean(0) - 3).mean()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--record", type=Path, default=RECORD)
    args = parser.parse_args()
    found = {}
    for kind in kinds_in(args.folder):
        vectors, source = read_kind(args.folder, kind)
        found[kind] = {"source": source} | sign_statistics(vectors)._asdict()
        print(kind, found[kind], flush=True)
    record = origin_facts("cpu") | {"command": command(), "kinds": found}
    args.record.parent.mkdir(parents=True, exist_ok=True)
    args.record.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
