"""
Are the names of axes right? On pairs of which it is known how they differ, and on features that a language model named.

    python -m experiments.pairs.names kinds pairs.jsonl --model HuggingFaceTB/SmolLM2-135M-Instruct --layer 15
    python -m experiments.pairs.names features features.jsonl
    python -m experiments.pairs.names fidelity pairs.jsonl --model sentence-transformers/all-MiniLM-L6-v2 --limit 3000

``kinds`` reads pairs ``changed``, ``base`` of several ``bias``es, mixed, and takes the signed axis of each kind, chosen
on its training pairs, measured on held-out ones, beside one-sided latents and the mean difference. ``features`` reads
features with a ``name`` and about ten ``pairs``, and compares names made of these pairs with `known_names.py`.
``fidelity`` counts the names of a fit that hold on held-out pairs. Each writes its part of `results/names.json`.
"""

import argparse
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from rich.console import Console

from experiments.pairs.known_names import known_markers
from experiments.pairs.study import RESULTS, differences_of
from experiments.recording import arguments, command
from sae_lens_abstopk.evaluation.results.facts import origin_facts
from sae_lens_abstopk.pairs.axes import PairAxes
from sae_lens_abstopk.pairs.fit_axes import fit_axes
from sae_lens_abstopk.pairs.naming import Name, choose_name, marker_candidates
from sae_lens_abstopk.pairs.pair_results import STABLE
from sae_lens_abstopk.pairs.reading import read_pairs
from sae_lens_abstopk.pairs.split import components, held_out_rows
from sae_lens_abstopk.pairs.tables import ordered
from sae_lens_abstopk.pairs.telling_apart import auroc, best_latent, both_codes
from sae_lens_abstopk.system.files import without_path
from sae_lens_abstopk.text.markers.measure import MARKERS, measure

SIZES: dict[str, Any] = {"d_sae": 32, "k": 4, "seeds": 5}
ENDS = {name: (key, sign) for key, marker in MARKERS.items() for name, sign in ((marker.more, 1), (marker.less, -1))}


def kinds(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the best axis of each kind of difference."""
    pairs = read_pairs(args.data, columns={"a": "changed", "b": "base", "group": "bias", "prompt": "prompt"})
    group = components(pairs)
    test = held_out_rows(group)
    differences = differences_of(pairs, args, test)
    console = Console(stderr=True)
    fitted = fit_axes(
        pairs, differences, group, **SIZES, baselines=True, seed=0, origin={}, device="cpu", console=console
    )
    of_seeds = {kind: [both_codes(sae, differences) for sae in saes] for kind, saes in fitted.saes.items()}
    signed = np.stack([fitted.codes, -fitted.codes])
    x = torch.cat(list(differences.blocks())).float().numpy()
    found = {}
    for kind in sorted(set(pairs.groups or [])):
        of_kind = np.array(pairs.groups) == kind
        train, held_out = of_kind & ~test, of_kind & test
        best = best_latent(signed, train, held_out)
        axis = fitted.results.axes[best.latent]
        ends = (axis.name_positive, axis.name_negative)
        found[kind] = {
            **best.model_dump(),
            **dict(zip(("name", "other_end"), ends[:: best.sign], strict=True)),
            "named": axis.named,
            "fidelity": axis.fidelity and axis.fidelity.model_dump(),
            "stability": axis.stability,
            "place": [each.latent for each in ordered(fitted.results.axes)].index(best.latent),
            "mean_difference": _mean_difference(x, train, held_out),
        }
        for sae, codes in of_seeds.items():
            latents = [best_latent(each, train, held_out) for each in codes]
            found[kind][sae] = {key: mean(getattr(each, key) for each in latents) for key in ("auroc", "coverage")}
    return {"n_pairs": len(pairs), "n_held_out": int(test.sum()), "max_tokens": args.max_tokens, "kinds": found}


def features(args: argparse.Namespace) -> dict[str, Any]:
    """Name features by their pairs, and compare the names with those of a language model."""
    opened = gzip.open if Path(args.data).suffix == ".gz" else open
    with opened(args.data, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    known = [(row, markers) for row in rows if (markers := known_markers(row["name"]))]
    right, contradicted, named = [], [], 0
    for row, markers in known:
        name = _name_of(row["pairs"])
        named += name is not None
        ends = [ENDS[part.positive] for part in name.parts if part.positive] if name else []
        said = [sign == markers[key] for key, sign in ends if key in markers]
        right.append(any(said))
        contradicted.append(bool(said) and not all(said))
    return {
        "n_features": len(rows),
        "in_list": len(known),
        "named": named,
        "right": mean(right),
        "not_contradicted": 1 - sum(contradicted) / named,
    }


def fidelity(args: argparse.Namespace) -> dict[str, Any]:
    """Fit pairs, and count the names that hold."""
    pairs = read_pairs(args.data, limit=args.limit)
    fitted = PairAxes.fit(
        pairs, model=args.model, layer=args.layer, max_tokens=args.max_tokens, baselines=False, **SIZES
    )
    axes = fitted.results.axes
    stable = [axis for axis in axes if (axis.stability or 0) > STABLE]
    return {
        "n_pairs": len(pairs),
        "vectors": fitted.results.vectors,
        "named": sum(axis.named for axis in axes),
        "stable": len(stable),
        "stable_unnamed": sum(not axis.named for axis in stable),
        "axes": [
            {key: getattr(axis, key) for key in ("name_negative", "name_positive", "named", "stability")}
            | {"fidelity": axis.fidelity and axis.fidelity.value}
            for axis in ordered(axes)
        ],
    }


def _name_of(pairs: Sequence[dict[str, Any]]) -> Name | None:
    of_a, of_b = (measure([pair[side] for pair in pairs]) for side in "ab")
    code = np.array([pair["activation"] for pair in pairs])
    return choose_name(code, marker_candidates(of_a - of_b), doubtful=True)


def _mean_difference(x: Float[np.ndarray, "n D"], train: Bool[np.ndarray, " n"], test: Bool[np.ndarray, " n"]) -> float:
    projected = (x[test] @ x[train].mean(0))[:, None]
    return float(auroc(np.stack([projected, -projected]))[0])


def main(argv: Sequence[str] | None = None) -> None:
    """Measure one part, and write it into the record."""
    parser = arguments(__doc__)
    parser.add_argument("part", choices=("kinds", "features", "fidelity"))
    parser.add_argument("data")
    parser.add_argument("--model")
    parser.add_argument("--layer", type=int)
    parser.add_argument("--max-tokens", type=int, default=1024)
    parser.add_argument("--limit", type=int)
    args = parser.parse_args(argv)
    args.unit = False
    found = {"kinds": kinds, "features": features, "fidelity": fidelity}[args.part](args)
    path = RESULTS / "names.json"
    record = json.loads(path.read_text()) if path.exists() else {}
    record[args.part] = {**origin_facts("cpu"), "command": command(), "data": without_path(args.data), **found}
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(found, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
