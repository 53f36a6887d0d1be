"""Print new records of the benchmarks beside those of ``experiments/speed/results``, with the ratio of each number.

    python -m experiments.speed.beside build/bench

Of repeated measurements it prints the median.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).parent / "results"


def measures(record: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Return the numbers of a record by path; the median of repeated measurements."""
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
    """Compare each number of the records in ``folder`` with the recorded one: both, and their ratio."""
    for path in sorted(folder.glob("*.json")):
        old = RESULTS / path.name
        recorded = dict(measures(json.loads(old.read_text()))) if old.is_file() else {}
        yield path.stem
        for name, now in measures(json.loads(path.read_text())):
            before = recorded.get(name)
            note = f"recorded {before:.4g}, ratio {now / before:.2f}" if before else "not recorded"
            yield f"  {name}: {now:.4g} ({note})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="new records, under the names that they have in results")
    print("\n".join(beside(parser.parse_args().folder)))
