"""
At which share of two-sided features does a sign pay? Sparse sums of known features, some of which take both signs.

    python -m experiments.map.synthetic

Feature vectors are random; on average 5 are on in a vector, with normal magnitudes around 1. A share p of
them takes either sign; p, the number of features for each dimension (superposition) and F / D vary. SAEs with no, all
and a share p of signed latents train as in `run.py`. Appends lines to `results/synthetic.jsonl`: FVU, and recovery, the
mean |cosine| of a one-to-one match of features and latents (SAELens's mean correlation coefficient).
"""

import argparse
import itertools
import json
import tempfile
from pathlib import Path

import torch
from jaxtyping import Float
from sae_lens.synthetic import ActivationGenerator, FeatureDictionary, mean_correlation_coefficient
from torch import Tensor

from experiments.map.kinds import REPORTED, KindVectors
from experiments.map.run import Cell, chosen_saes, measure
from experiments.speed.recording import command
from sae_lens_abstopk.evaluation.results.facts import origin_facts

RECORD = Path(__file__).resolve().parent / "results" / "synthetic.jsonl"
D, ROWS, ACTIVE = 64, 60_000, 5
"""Width, number of vectors, and features that are on in a vector, on average."""
TWO_SIDED = (0.0, 0.25, 0.5, 1.0)
"""Shares of the features that take both signs."""
SUPERPOSITION = (1, 4)
"""Features for each dimension."""
WIDTHS = (0.5, 1, 4)
"""F / D."""


def made(two_sided: float, features: int, seed: int) -> tuple[KindVectors, Float[Tensor, "g d"]]:
    """Make vectors, and the features that they are sums of."""
    torch.manual_seed(seed)
    dictionary = FeatureDictionary(features, D, initializer=None, seed=seed)
    takes_both = torch.arange(features) < two_sided * features

    generator = ActivationGenerator(features, ACTIVE / features, std_firing_magnitudes=0.5)
    with torch.no_grad():
        codes = generator.sample(ROWS)
        # not by the generator's own modifiers, after which it clamps codes at 0
        codes = torch.where(takes_both & (torch.rand_like(codes) < 0.5), -codes, codes)
        x = dictionary(codes)
    vectors = KindVectors(f"{two_sided:g} two-sided", (x.half(),), document=torch.arange(ROWS))
    return vectors, dictionary.feature_vectors.detach()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--record", type=Path, default=RECORD)
    args = parser.parse_args()
    args.record.parent.mkdir(parents=True, exist_ok=True)
    for superposition, f_over_d, two_sided in itertools.product(SUPERPOSITION, WIDTHS, TWO_SIDED):
        vectors, features = made(two_sided, superposition * D, seed=0)
        cell = Cell(vectors.name, "batch", f_over_d, ACTIVE)
        with tempfile.TemporaryDirectory() as folder:
            members, saes, rates = chosen_saes(cell, vectors, sorted({0.0, two_sided, 1.0}), args.seeds, Path(folder))
        found = [
            member._asdict()
            | measure(sae, vectors, vectors.numbers(REPORTED))
            | {"recovery": mean_correlation_coefficient(sae.W_dec.detach(), features)}
            for member, sae in zip(members, saes, strict=True)
        ]
        place = {"two_sided": two_sided, "superposition": superposition, "f_over_d": f_over_d, "k": ACTIVE}
        line = place | origin_facts("cpu") | {"saes": found, "rates": rates, "command": command()}
        with args.record.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(place, flush=True)


if __name__ == "__main__":
    main()
