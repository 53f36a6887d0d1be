"""
Train signed and one-sided SAEs on the differences of real pairs, and measure them on held-out prompts.

    python -m experiments.pairs.study pairs.jsonl --model HuggingFaceTB/SmolLM2-135M-Instruct --layer 15 --name gpt4

Writes `results/NAME.json`: for each F and k, FVU and the AUC of preferences from the codes of each SAE, over five
seeds, and the axes of the first place (`abstopk pairs` with its own defaults).

`--choose` sets no record. It trains on four fifths of the training pairs and prints the FVU of the last fifth for each
`--vary KEY=VALUE,VALUE` of the config: the preset `pairs` was chosen so.
"""

import argparse
import itertools
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from rich.console import Console
from sae_lens import SAE

from experiments.recording import arguments, command
from sae_lens_abstopk.evaluation.results.facts import origin_facts
from sae_lens_abstopk.pairs import fitting
from sae_lens_abstopk.pairs.axes import PairAxes
from sae_lens_abstopk.pairs.logistic import fit_cross_validated
from sae_lens_abstopk.pairs.measuring import errors_of, fit_record
from sae_lens_abstopk.pairs.pair_set import PairSet
from sae_lens_abstopk.pairs.pair_vectors import TextVectors, differences_of_texts
from sae_lens_abstopk.pairs.prediction import turned_auroc
from sae_lens_abstopk.pairs.preferences import Preferences
from sae_lens_abstopk.pairs.reading import read_pairs
from sae_lens_abstopk.pairs.split import components, held_out_rows
from sae_lens_abstopk.system.files import without_path
from sae_lens_abstopk.training.config.config_file import load_config
from sae_lens_abstopk.training.train import train
from sae_lens_abstopk.vectors.differences import Differences

RESULTS = Path(__file__).resolve().parent / "results"
PLACES = ("32,4", "64,8")


def differences_of(pairs: PairSet, args: argparse.Namespace, test: Bool[np.ndarray, " n"]) -> Differences:
    """Read all texts of ``pairs`` once."""
    vectors = TextVectors.of(args.model, layer=args.layer, max_tokens=args.max_tokens)
    return differences_of_texts(pairs, vectors, test, unit=args.unit, console=Console(stderr=True))


def measured(
    pairs: PairSet, differences: Differences, group: Int[np.ndarray, " n"], place: str, seeds: int
) -> dict[str, Any]:
    """Train the SAEs of one F and k, and measure them."""
    d_sae, k = (int(number) for number in place.split(","))
    with tempfile.TemporaryDirectory() as folder:
        sizes: dict[str, Any] = {"d_sae": d_sae, "k": k, "n_seeds": seeds, "baselines": True, "seed": 0}
        cfg = fitting.config_of(differences, Path(folder) / "run", device="cpu", **sizes)
        saes = fitting.train_axes(cfg, differences, console=Console(stderr=True))
    held_out = differences.held_out.numpy()
    x = torch.cat(list(differences.blocks())).numpy()
    found: dict[str, Any] = {"d_sae": d_sae, "k": k, "steps": cfg.total_training_steps}
    for kind, of_kind in saes.items():
        found[kind] = fit_record(of_kind, differences, group, k=k).model_dump()
        found[kind]["auc"] = [codes_auc(*both_parts(pairs, odd_codes(sae, x), group, held_out)) for sae in of_kind]
    return found


@torch.no_grad()
def odd_codes(sae: SAE[Any], x: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n F"]:
    """Return z(x) - z(-x), which is 2 z(x) where codes are odd, so that no SAE can tell which text is A."""
    device = next(sae.parameters()).device
    both = (sae.encode(torch.from_numpy(sign * x).to(device)).float().cpu().numpy() for sign in (1, -1))
    return next(both) - next(both)


def both_parts(
    pairs: PairSet, codes: Float[np.ndarray, "n F"], group: Int[np.ndarray, " n"], held_out: Bool[np.ndarray, " n"]
) -> tuple[Preferences, Preferences]:
    """Return the training and the held-out pairs with a preference."""
    train, test = (
        Preferences.of(pairs.preferred, codes=codes, log_length=np.zeros(len(pairs)), components=group, among=part)
        for part in (~held_out, held_out)
    )
    return train, test


def codes_auc(train: Preferences, test: Preferences) -> float:
    """Fit preferences on the codes of training pairs, and return their AUC on held-out ones."""
    margins = test.codes @ fit_cross_validated(train.codes, train.components)
    return float(turned_auroc(margins)(np.ones((1, len(test))))[0])


def choose(differences: Differences, group: Int[np.ndarray, " n"], args: argparse.Namespace) -> None:
    """Print the FVU of a fifth of the training pairs for each combination of the varied keys."""
    train_rows = (~differences.held_out).nonzero().squeeze(1)
    within = held_out_rows(np.unique(group[train_rows.numpy()], return_inverse=True)[1], share=0.2, seed=1)
    part = replace(
        differences, a=differences.a[train_rows], b=differences.b[train_rows], held_out=torch.from_numpy(within)
    )
    keys = [each.partition("=")[0] for each in args.vary]
    for values in itertools.product(*(each.partition("=")[2].split(",") for each in args.vary)):
        changes = dict(zip(keys, map(json.loads, values), strict=True))
        found = [_fvu(part, changes, seed) for seed in range(args.seeds)]
        print(changes, f"FVU {np.mean(found):.4f}", np.round(found, 4).tolist(), flush=True)


def _fvu(part: Differences, changes: dict[str, Any], seed: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        fixed = {"device": "cpu", "seed": seed, "output_path": f"{folder}/run"}
        cfg = load_config("pairs", fixed | changes, vectors=part)
        (sae,) = train(cfg, vectors=part, console=Console(quiet=True)).saes.values()
        return errors_of(sae, part, part.held_out.nonzero().squeeze(1)).fvu


def main(argv: Sequence[str] | None = None) -> None:
    """Run the study, or ``--choose``."""
    parser = arguments(__doc__)
    parser.add_argument("data", help="pairs, as for `abstopk pairs`")
    parser.add_argument("--model", required=True)
    parser.add_argument("--layer", type=int)
    parser.add_argument("--max-tokens", type=int, default=1024)
    parser.add_argument("--unit", action="store_true", help="scale all differences to one length")
    parser.add_argument("--places", nargs="+", default=PLACES, metavar="F,K")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--vary", nargs="+", default=[], metavar="KEY=VALUE,VALUE")
    parser.add_argument("--name", help="name of the record")
    args = parser.parse_args(argv)
    pairs = read_pairs(args.data)
    group = components(pairs)
    test = held_out_rows(group)
    differences = differences_of(pairs, args, test)
    if args.choose:
        choose(differences, group, args)
        return
    places = [measured(pairs, differences, group, place, args.seeds) for place in args.places]
    d_sae, k = (int(number) for number in args.places[0].split(","))
    sizes: dict[str, Any] = {"d_sae": d_sae, "k": k, "seeds": args.seeds, "baselines": False}
    axes = PairAxes.fit(
        pairs, model=args.model, layer=args.layer, max_tokens=args.max_tokens, console=Console(stderr=True), **sizes
    )
    record = {
        **origin_facts("cpu"),
        "command": command(),
        "data": without_path(args.data),
        "vectors": axes.results.vectors | {"max_tokens": args.max_tokens, "unit": args.unit},
        "n_pairs": len(pairs),
        "n_held_out": int(test.sum()),
        "n_components": int(group.max()) + 1,
        "places": places,
        "axes": axes.results.model_dump(mode="json") | {"command": command()},
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{args.name}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
