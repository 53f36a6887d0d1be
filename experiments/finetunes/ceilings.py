"""
Measure how much of a fine-tune each layer can show: the KL that the difference itself recovers there.

    python -m experiments.finetunes.ceilings french --model HuggingFaceTB/SmolLM2-135M-Instruct --made runs/finetunes

Appends a line to `results/ceilings.jsonl` for each fine-tune and layer.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from sae_lens.util import get_special_token_ids

from experiments.finetunes.behaviours import FINE_TUNES
from experiments.finetunes.measure import RESULTS
from experiments.finetunes.readings import load_pair
from experiments.speed.recording import command
from sae_lens_abstopk.diffs.fit_measures import recovered
from sae_lens_abstopk.diffs.held_out import HeldOut
from sae_lens_abstopk.diffs.patching import BASE, CEILING, MEAN, divergences
from sae_lens_abstopk.evaluation.results.facts import origin_facts
from sae_lens_abstopk.model.token_filter import TokenFilter

RECORD = RESULTS / "ceilings.jsonl"
TOKENS = 1024


def measured(name: str, model: str, made: Path, layer: int) -> dict[str, Any]:
    """Return the KL that the difference and its mean recover at one layer."""
    pair, text = load_pair(name, model, made, layer)
    kept = TokenFilter((1, None), tuple(get_special_token_ids(pair.tokenizer)))
    held_out = HeldOut.read(pair, text, TOKENS, token_filter=kept, d_sae=1)
    shares = recovered(divergences(pair, held_out, {}).by_patch, BASE, held_out, seed=0)
    return {"ceiling": shares[CEILING].model_dump(), "mean_difference": shares[MEAN].model_dump()}


def main() -> None:
    """Measure fine-tunes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="+", choices=FINE_TUNES)
    parser.add_argument("--model", required=True)
    parser.add_argument("--made", type=Path, required=True, help="folder that make.py wrote")
    parser.add_argument("--layers", type=int, nargs="+", default=(10, 20, 25, 28))
    parser.add_argument("--record", type=Path, default=RECORD)
    given = parser.parse_args()
    given.record.parent.mkdir(parents=True, exist_ok=True)
    for name in given.name:
        for layer in given.layers:
            line = {"fine_tune": name, "layer": layer} | measured(name, given.model, given.made, layer)
            with given.record.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line | origin_facts() | {"command": command()}) + "\n")
            print(name, layer, line["ceiling"]["value"], line["mean_difference"]["value"], flush=True)


if __name__ == "__main__":
    main()
