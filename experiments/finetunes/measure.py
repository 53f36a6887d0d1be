"""
Measure which latents of a fine-tune carry the behaviour that was planted in it.

    python -m experiments.finetunes.measure french --model HuggingFaceTB/SmolLM2-135M-Instruct --made runs/finetunes

SAEs are trained as by `abstopk diff`, on what `conversations.py` writes. Of each SAE, the five latents of largest KL
share (measured for the first signed SAE, estimated from gradients for others) are tried, beside the mean of the
differences and five principal components. While both models read the same tokens, the part of the difference along a
direction is patched into the base model, and removed from the tuned one. Prompts that are not reported choose the
direction by both. It is also added to the base model at every token, with the largest strength that costs at most 0.1
nats on neutral text, or half of it. Appends a line to `results/planted.jsonl` for each behaviour, method and seed; what
is there is not measured again.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from experiments.finetunes.behaviours import BEHAVIOURS, FINE_TUNES
from experiments.finetunes.directions import Direction, of_differences, of_sae
from experiments.finetunes.planted import EditedPair, Planted
from experiments.finetunes.readings import LAYER, PRESET, Reading, trained
from experiments.recording import append_line, arguments, origin, read_lines
from sae_lens_abstopk.diffs.patching import BASE, divergences

RESULTS = Path(__file__).resolve().parent / "results"
RECORD = RESULTS / "planted.jsonl"
CONTEXTS = 6
"""Held-out contexts of 128 tokens that KL shares are of."""


class Place(NamedTuple):
    """The fine-tune, behaviour, method and seed of a line of the record."""

    fine_tune: str
    behaviour: str
    method: str
    seed: int


def planted_in(name: str, reading: Reading) -> dict[str, Planted]:
    """Return the behaviours of a fine-tune, ready to be measured."""
    pair, unit = reading.pair, float(reading.x.square().sum(1).mean().sqrt())
    found = {}
    for each in FINE_TUNES[name]:
        behaviour = BEHAVIOURS[each]
        found[each] = Planted(EditedPair(pair, unit, behaviour.new_tokens), behaviour)
    return found


def methods(reading: Reading, *, n_seeds: int, **sizes: Any) -> Iterator[tuple[str, int, list[Direction]]]:
    """Yield the directions of each method and seed: signed SAEs first, then what has no seed, then one-sided SAEs."""
    with tempfile.TemporaryDirectory() as folder:
        saes = trained(reading.x, Path(folder) / "run", n_seeds=n_seeds, baselines=True, **sizes)
    sample = reading.held_out.rows(slice(CONTEXTS))
    total = float(divergences(reading.pair, sample, {}).by_patch[BASE].sum())
    of_saes = [(kind, seed, sae) for kind, each in saes.items() for seed, sae in enumerate(each)]
    for kind, seed, sae in of_saes[:1]:
        yield kind, seed, of_sae(reading.pair, sample, sae, total=total, measured=True)
    for method, directions in of_differences(reading.x).items():
        yield method, 0, directions
    for kind, seed, sae in sorted(of_saes[1:], key=lambda each: each[1]):
        yield kind, seed, of_sae(reading.pair, sample, sae, total=total, measured=False)


def main() -> None:
    """Measure fine-tunes."""
    parser = arguments(__doc__)
    parser.add_argument("name", nargs="+", choices=FINE_TUNES)
    parser.add_argument("--model", required=True)
    parser.add_argument("--made", type=Path, required=True, help="folder that make.py wrote")
    parser.add_argument("--d-sae", type=int, default=PRESET["sae"]["d_sae"])
    parser.add_argument("--k", type=float, default=PRESET["sae"]["k"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--record", type=Path, default=RECORD)
    given = parser.parse_args()
    done = {tuple(line[key] for key in Place._fields) for line in read_lines(given.record)}
    for name in given.name:
        reading = Reading.of(name, given.model, given.made)
        planted = planted_in(name, reading)
        shown = {
            each: dict(zip(("base", "tuned"), one.shares(one.behaviour.held_out), strict=True))
            for each, one in planted.items()
        }
        facts = {"layer": LAYER, "d_sae": given.d_sae, "k": given.k, "rows": len(reading.x)}
        for method, seed, directions in methods(reading, n_seeds=given.seeds, d_sae=given.d_sae, k=given.k):
            for each, one in planted.items():
                place = Place(name, each, method, seed)
                if place in done:
                    continue
                line: dict[str, Any] = place._asdict() | facts | shown[each] | one.measured(directions)
                append_line(given.record, line | origin())
                print(*place, line["direction"], *(line[how]["share"] for how in ("added", "patched", "removed")))


if __name__ == "__main__":
    main()
