"""Read pairs of texts from files and data sets whose columns are recognised or named."""

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np

from sae_lens_abstopk.pairs.formats import find_columns, named_columns
from sae_lens_abstopk.pairs.labels import understand
from sae_lens_abstopk.pairs.pair_set import PairColumns, PairCounts, PairSet
from sae_lens_abstopk.pairs.turns import Exchange, cut_common_start, exchange
from sae_lens_abstopk.system.errors import ConfigError, errors_in, require_range
from sae_lens_abstopk.system.files import files_sha256
from sae_lens_abstopk.text.documents import Text, first_document, open_dataset, text_errors

# rows read at a time
BATCH = 2048
# share of the pairs that must begin with equal words if that is their prompt
WITH_COMMON_START = 0.9


def read_pairs(
    data: str | Path,
    *,
    columns: str | Mapping[str, str] | None = None,
    name: str | None = None,
    split: str = "train",
    seed: int = 0,
    limit: int | None = None,
) -> PairSet:
    """
    Read pairs of texts, with their prompts and preferences where there are any.

    Recognised columns, in any case: ``chosen, rejected``, where ``prompt`` may be a column or the common start of both
    (TRL's preference formats, plain and conversational, and Anthropic's transcripts); ``response_a, response_b``;
    ``output_1, output_2`` (AlpacaEval); ``conversation_a, conversation_b`` (Chatbot Arena); ``a, b``. The last four may
    have a ``label``, ``preference`` or ``winner``, and a ``prompt`` or ``instruction``. Of labels 0 and 1, 1 prefers
    the first text; where 0 does, name the columns the other way round.
    :func:`~sae_lens_abstopk.pairs.labels.understand` lists all labels, and
    :func:`~sae_lens_abstopk.pairs.turns.exchange` says how conversations are cut.

    Of chosen and rejected texts the seed draws which is A; of others, A is the first. Pairs of equal texts, and those
    with an empty text, are left out and counted.

    Args:
        data: Hub id, a file (.jsonl, .json, .csv, .parquet; also .gz and .zst), a folder of such files, or a folder
            written by ``save_to_disk``.
        columns: Columns by key, ``a=X,b=Y,label=Z,prompt=P,group=G`` or a mapping; ``chosen=X,rejected=Y`` instead of a
            and b if the first was always preferred. Without the two texts, they are recognised.
        name: Configuration of a Hub data set.
        split: Split of a Hub data set, or of one on disk.
        seed: Draws the sides of chosen and rejected texts.
        limit: Read only the first rows, this many; of a Hub data set, no more is downloaded.

    Raises:
        ConfigError: the data cannot be read, its columns are not recognised or missing, a text is neither text nor a
            conversation, a label is not understood, or no pair is left.
    """
    require_range("limit", limit, at_least=1, remedy=", or left out to read all rows")
    require_range("seed", seed, at_least=0)
    path = os.path.expanduser(str(data))
    given = named_columns(columns or {})
    dataset = open_dataset(path, name=name, split=split, streaming=limit is not None and not Path(path).exists())
    found = find_columns(list(first_document(dataset, path)), given, str(data))
    exchanges, labels, groups = _read(dataset, found, path, limit)
    if found.chosen_first and found.prompt is None:
        exchanges = cut_common_start(exchanges, WITH_COMMON_START)
    empty = [not (a.strip() and b.strip()) for _, a, b in exchanges]
    rows = np.array([row for row, (_, a, b) in enumerate(exchanges) if not empty[row] and a != b], dtype=np.int64)
    if not len(rows):
        raise ConfigError(
            f"{data}: none of its {len(exchanges):,} rows is a pair: in {sum(empty):,} a text is empty, in the others "
            "both texts are equal; name the columns of two texts with columns."
        )
    swapped = np.zeros(len(rows), dtype=bool)
    preferred = np.full(len(rows), np.nan)
    if found.chosen_first:
        swapped = np.random.default_rng(seed).random(len(exchanges))[rows] < 0.5
        preferred = np.where(swapped, -1.0, 1.0)
    elif found.label is not None:
        preferred = understand(labels, found, str(data)).preferences(labels)[rows]
    pairs = [exchanges[row] for row in rows]
    sides = [(b, a) if swap else (a, b) for (_, a, b), swap in zip(pairs, swapped, strict=True)]
    n_known = int(np.isfinite(preferred).sum())
    return PairSet(
        name=str(data),
        a=[a for a, _ in sides],
        b=[b for _, b in sides],
        prompts=[pair.prompt for pair in pairs],
        preferred=preferred,
        groups=None if found.group is None else [groups[row] for row in rows],
        rows=rows,
        swapped=swapped,
        counts=PairCounts(
            read=len(exchanges),
            equal=len(exchanges) - sum(empty) - len(rows),
            empty=sum(empty),
            repeated=len(pairs) - len({hash((prompt, frozenset((a, b)))) for prompt, a, b in pairs}),
            ties=int((preferred == 0).sum()),
            unlabelled=len(pairs) - n_known if n_known else 0,
        ),
        columns=found,
        source={
            "dataset_path": path,
            **({} if name is None else {"dataset_name": name}),
            "split": split,
            **({"sha256": files_sha256(Path(path))} if Path(path).exists() else {}),
        },
    )


def _read(
    dataset: Text, columns: PairColumns, path: str, limit: int | None
) -> tuple[list[Exchange], list[Any], list[str]]:
    """Return the texts, labels and groups of all rows; equal texts are one object, since responses often repeat."""
    exchanges: list[Exchange] = []
    labels: list[Any] = []
    groups: list[str] = []
    shared: dict[Any, Any] = {}
    for row, (a, b, prompt, label, group) in enumerate(islice(_rows(dataset, columns, path), limit)):
        with errors_in(f"{path}, row {row} of {columns.a} and {columns.b}: "):
            found = exchange(a, b, prompt)
        exchanges.append(Exchange(*(shared.setdefault(each, each) for each in found)))
        labels.append(label)
        groups.append("" if group is None else str(group))
    return exchanges, labels, groups


def _rows(dataset: Text, columns: PairColumns, path: str) -> Iterator[tuple[Any, ...]]:
    """Yield both texts, prompt, label and group of each row; None without such a column."""
    wanted = (columns.a, columns.b, columns.prompt, columns.label, columns.group)
    selected = dataset.select_columns(list(dict.fromkeys(column for column in wanted if column is not None)))
    with text_errors(path):
        for batch in cast(Iterator[dict[str, list[Any]]], selected.iter(BATCH)):
            n = len(batch[columns.a])
            yield from zip(*([None] * n if column is None else batch[column] for column in wanted), strict=True)
