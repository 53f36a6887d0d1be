"""Queries, documents and relevance judgements in BEIR's format, from files or from the Hub."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from datasets import Dataset
from rich.console import Console

from sae_lens_abstopk.embeddings.ranking_metrics import Relevant
from sae_lens_abstopk.evaluation.subjects.sae_specs import text_keys
from sae_lens_abstopk.evaluation.tasks.task_rows import ENDINGS, column, file_rows
from sae_lens_abstopk.system.errors import ConfigError, require_distinct, require_given, require_same_width
from sae_lens_abstopk.text.documents import open_dataset
from sae_lens_abstopk.vectors.embedding import embedded_texts, require_sentence_transformers
from sae_lens_abstopk.vectors.texts import Texts, open_texts
from sae_lens_abstopk.vectors.vector_spec import VectorSpec
from sae_lens_abstopk.vectors.vectors import Vectors, column_of, open_vectors, require_finite

ID, TITLE = "_id", "title"
QUERY, DOCUMENT, SCORE = ("query-id", "corpus-id", "score")
# configuration and split of BEIR's data sets on the Hub
ON_THE_HUB = {
    "queries": {"dataset_name": "queries", "split": "queries"},
    "documents": {"dataset_name": "corpus", "split": "corpus"},
    "qrels": {"split": "test"},
}


@dataclass(frozen=True)
class RetrievalSet:
    """Vectors of queries and documents, and the documents that answer each query."""

    queries: npt.NDArray[np.float32]
    """Queries with a relevant document, [n_queries, d]."""
    documents: Vectors
    relevant: Sequence[Relevant]
    """Relevant documents of each query, by number."""
    left_out: Mapping[str, int]
    """Numbers of queries without a relevant document, and of judgements of unknown queries or documents."""


class _Rows(NamedTuple):
    """Queries or documents, opened, but not embedded yet."""

    numbers: Mapping[str, int]
    """Row by id."""
    vectors: Callable[[], Vectors]


def open_retrieval_set(
    queries: str,
    documents: str,
    qrels: str,
    *,
    model: str | None = None,
    device: str = "auto",
    widths: Mapping[str, int],
    console: Console | None = None,
) -> RetrievalSet:
    """
    Read a retrieval set; each source is a file or a Hub id, with ``,name=``, ``,split=`` or ``,column=`` where needed.

    Args:
        queries: Rows with ``_id``, and ``text`` or vectors. On the Hub, configuration and split are ``queries``.
        documents: Rows with ``_id``, and ``text`` with an optional ``title``, or vectors. On the Hub, configuration and
            split are ``corpus``.
        qrels: Rows with ``query-id``, ``corpus-id`` and ``score``; a score above 0 is relevant. On the Hub, the split
            is ``test``.
        model: The sentence-transformers model that embeds the texts; None if the rows have vectors.
        device: Device of the model.
        widths: ``d_in`` of the SAEs, by name.
        console: Shows the progress of embedding.

    Raises:
        ConfigError: a file, column or value is missing, an id occurs twice, no judgement is of a known query and
            document, no query has a relevant document, or widths differ. Nothing is embedded before ids and judgements
            are checked, and no document before widths are.
    """
    asked, answers = (
        _open_rows(name, source, model, device, console)
        for name, source in (("queries", queries), ("documents", documents))
    )
    relevant, unknown = _relevant(qrels, asked.numbers, answers.numbers)
    kept = sorted(relevant)
    vectors = asked.vectors()
    for name, width in widths.items():
        require_same_width(vectors.name, vectors.d_in, f"the SAE {name}", width)
    found = answers.vectors()
    require_same_width(vectors.name, vectors.d_in, found.name, found.d_in)
    found.require_sound()
    rows = vectors.rows(torch.tensor(kept))
    require_finite(rows, vectors.name, 0)
    left_out = {"queries": len(asked.numbers) - len(kept), "judgements": unknown}
    return RetrievalSet(rows.numpy(), found, [relevant[number] for number in kept], left_out)


def _keys(name: str, source: str) -> dict[str, Any]:
    keys = text_keys(name, source)
    return keys if Path(keys["dataset_path"]).exists() else ON_THE_HUB[name] | keys


def _open_rows(name: str, source: str, model: str | None, device: str, console: Console | None) -> _Rows:
    spec = VectorSpec(**_keys(name, source))
    if model is None:
        vectors = open_vectors(spec)
        return _Rows(_numbers(vectors.table, vectors.name), lambda: vectors)
    require_sentence_transformers()
    texts = _with_titles(open_texts(spec))
    return _Rows(
        _numbers(texts.table, texts.name), lambda: embedded_texts(texts, model, device=device, console=console)
    )


def _with_titles(texts: Texts) -> Texts:
    """Put the title, where there is one, before the text, as BEIR's models read documents."""
    if TITLE not in texts.table.column_names:
        return texts
    column = texts.column

    def joined(row: dict[str, Any]) -> dict[str, str]:
        return {column: f"{row[TITLE] or ''} {row[column] or ''}".strip()}

    return replace(texts, table=texts.table.map(joined))


def _numbers(table: Dataset | None, where: str) -> dict[str, int]:
    found = list(map(str, column_of(table, ID, where)))
    require_distinct(f"{where}: the id", found)
    return {each: row for row, each in enumerate(found)}


def _relevant(
    qrels: str, queries: Mapping[str, int], documents: Mapping[str, int]
) -> tuple[dict[int, dict[int, float]], int]:
    """Return the relevant documents by query, both as numbers, and the number of judgements of unknown ones."""
    keys = _keys("qrels", qrels)
    path = Path(keys["dataset_path"])
    where = f"qrels={qrels!r}"
    if path.exists() or path.suffix in ENDINGS:
        rows = file_rows(path)
    else:
        rows = open_dataset(str(path), name=keys.get("dataset_name"), split=keys["split"], streaming=False)
    found: dict[int, dict[int, float]] = {}
    unknown = 0
    for number, row in enumerate(rows):
        asked, answer, score = (column(row, name, f"{where}, row {number}") for name in (QUERY, DOCUMENT, SCORE))
        try:
            score = float(score)
        except ValueError:
            raise ConfigError(f"{where}, row {number}: the score {score!r} is not a number.") from None
        query, document = queries.get(str(asked)), documents.get(str(answer))
        if query is None or document is None:
            unknown += 1
        elif score > 0:
            found.setdefault(query, {})[document] = score
    remedy = f"{unknown:,} judgements are of ids that are in no column {ID}, and no other score is above 0"
    return require_given(f"{where}: a relevant document of any query", found, remedy), unknown
