"""Write a data set of pairs anew, with the preference of some rows flipped, or without them."""

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from datasets import Dataset
from jaxtyping import Bool

from sae_lens_abstopk.pairs.labels import understand
from sae_lens_abstopk.pairs.pair_rows import ENDINGS, Row, row_writer, source_rows, values_of, with_values
from sae_lens_abstopk.pairs.pair_set import PairSet
from sae_lens_abstopk.system.errors import ConfigError, require_choice
from sae_lens_abstopk.system.files import require_new, whole_file
from sae_lens_abstopk.text.documents import open_dataset

Change = Literal["flip", "drop"]
# rows read and written at a time
BATCH = 2048


class Curated(NamedTuple):
    """A data set that was written anew."""

    n_rows: int
    """Rows of the new file."""
    n_changed: int
    """Rows that were flipped or dropped."""
    out: Path
    log: Path
    """A line of JSON for each of them: ``row`` (its number in the source, from 0), ``change`` and ``reason``."""


def curate(pairs: PairSet, change: Change, chosen: Bool[np.ndarray, " n"], out: Path, *, reason: str) -> Curated:
    """
    Flip the preference of the ``chosen`` pairs, or drop them, and write all other rows of their data set as they are.

    Flipping swaps the chosen and the rejected text, or mirrors the label (1 and 2, A and B, 1.2 and 1.8); ties and
    missing labels stay. Other columns stay too, scores of the chosen text among them. Rows keep their order; from
    .jsonl to .jsonl, unchanged lines are copied. The source is only read.

    Args:
        pairs: Pairs read from a data set.
        change: ``flip`` or ``drop``.
        chosen: Which of the n pairs to change.
        out: New file; its ending decides the format: .jsonl, .json, .csv or .parquet.
        reason: Text for the log, a file named as ``out`` with ``.changes.jsonl`` added.

    Raises:
        ConfigError: ``out`` or its log exists or has another ending, the data have no preferences to flip or have
            become shorter, or the format cannot hold a column.
    """
    log = out.with_name(f"{out.name}.changes.jsonl")
    require_choice("change", change, ("flip", "drop"))
    require_new(out, *ENDINGS)
    require_new(log, log.suffix)
    path = pairs.source["dataset_path"]
    split = pairs.source.get("split", "train")
    dataset = open_dataset(path, name=pairs.source.get("dataset_name"), split=split, streaming=False)
    assert isinstance(dataset, Dataset)
    changed = _flipper(pairs, dataset) if change == "flip" else None
    numbers = set(pairs.rows[chosen].tolist())
    out.parent.mkdir(parents=True, exist_ok=True)
    n_read = n_written = n_changed = 0
    with (
        whole_file(out) as new,
        whole_file(log) as notes,
        row_writer(new, out.suffix, dataset) as write,
        notes.open("w", encoding="utf-8") as noted,
    ):
        rows = source_rows(path, dataset, out.suffix)
        while batch := list(islice(rows, BATCH)):
            kept: list[Row] = []
            for number, row in enumerate(batch, start=n_read):
                new_row = row if number not in numbers else None if changed is None else changed(row)
                if new_row is not row:
                    noted.write(json.dumps({"row": number, "change": change, "reason": reason}) + "\n")
                    n_changed += 1
                if new_row is not None:
                    kept.append(new_row)
            if kept:
                write(kept)
            n_read, n_written = n_read + len(batch), n_written + len(kept)
    return Curated(n_written, n_changed, out, log)


def _flipper(pairs: PairSet, dataset: Dataset) -> Callable[[Row], Row]:
    """Return a function that flips the preference of a row; it returns the row itself if there is none."""
    a, b, label = pairs.columns.a, pairs.columns.b, pairs.columns.label
    if pairs.columns.chosen_first:

        def swap(row: Row) -> Row:
            values = values_of(row)
            return with_values(row, values | {a: values[b], b: values[a]})

        return swap
    if label is None:
        raise ConfigError(f"{pairs.name} has no labels, so no preference can be flipped; pairs can only be dropped.")
    labels = understand(dataset[label][: pairs.counts.read], pairs.columns, pairs.name)

    def mirror(row: Row) -> Row:
        values = values_of(row)
        old = values.get(label)
        new = labels.mirrored(old)
        return row if new is old else with_values(row, values | {label: new})

    return mirror
