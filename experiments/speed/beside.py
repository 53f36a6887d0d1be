"""Prints new records of the benchmarks beside those of ``experiments/speed/results``, with the ratio of each number.

    python experiments/speed/beside.py build/bench

Of several numbers that measure the same thing it prints the median.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).parent / "results"


def measures(record: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Numbers of a record with where they stand; of several that measure the same thing, the median."""
    if isinstance(record, dict) and "median" in record:
        yield name, record["median"]
    elif isinstance(record, dict):
        for key, part in record.items():
            if key != "environment":
                yield from measures(part, f"{name} / {key}" if name else key)
    elif isinstance(record, list) and record and all(isinstance(part, int | float) for part in record):
        yield name, median(record)
    elif isinstance(record, list):
        for n, part in enumerate(record, start=1):
            yield from measures(part, f"{name} {n}")
    elif isinstance(record, int | float) and not isinstance(record, bool):
        yield name, record


def beside(folder: Path) -> Iterator[str]:
    """Each number of the records in ``folder``, with the recorded one and the ratio of the two."""
    for path in sorted(folder.glob("*.json")):
        there = RESULTS / path.name
        recorded = dict(measures(json.loads(there.read_text()))) if there.is_file() else {}
        yield path.stem
        for name, now in measures(json.loads(path.read_text())):
            before = recorded.get(name)
            told = f"recorded {before:.4g}, ratio {now / before:.2f}" if before else "not recorded"
            yield f"  {name}: {now:.4g} ({told})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="new records, named as those of results")
    print("\n".join(beside(parser.parse_args().folder)))


if __name__ == "__main__":
    main()
