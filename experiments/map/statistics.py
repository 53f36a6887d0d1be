"""
What in the vectors themselves tells whether signs pay? Statistics of every kind that need no SAE.

    python -m experiments.map.statistics FOLDER

Writes `results/statistics.json`.
"""

import argparse
import json
from pathlib import Path

from experiments.map.kinds import kinds_in, read_kind
from experiments.speed.recording import command
from sae_lens_abstopk.evaluation.results.facts import origin_facts
from sae_lens_abstopk.vectors.sign_statistics import sign_statistics

RECORD = Path(__file__).resolve().parent / "results" / "statistics.json"
ROWS = 50_000
"""Vectors of each kind that are read."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--record", type=Path, default=RECORD)
    args = parser.parse_args()
    found = {}
    for kind in kinds_in(args.folder):
        vectors, source = read_kind(args.folder, kind)
        found[kind] = {"source": source} | sign_statistics(vectors, n_rows=ROWS)._asdict()
        print(kind, found[kind], flush=True)
    record = {"command": command()} | origin_facts("cpu") | {"kinds": found}
    args.record.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
