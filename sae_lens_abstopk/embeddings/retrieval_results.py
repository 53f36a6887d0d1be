"""The record of a retrieval measurement, and its table on the screen and as CSV."""

import csv
import io
from typing import Literal

from pydantic import Field
from rich.table import Table
from rich.text import Text

from sae_lens_abstopk.embeddings.compressed import Method
from sae_lens_abstopk.evaluation.results.records import Interval, OriginRecord, Record, SAERecord

Similarity = Literal["cosine", "dot"]
LEFT_OUT = {"queries": "without a relevant document", "judgements": "of unknown queries or documents"}
MEASURES = ("ndcg_at_10", "recall_at_100", "mrr_at_10")


class RetrievalRow(Record):
    """One way to store the documents."""

    method: Method
    sae: str | None = Field(default=None, description="Name of the SAE whose codes are stored.")
    bytes: float = Field(description="Mean bytes of a stored document; see `encoding`.")
    active: float | None = Field(default=None, description="Mean active latents of a document.")
    ndcg_at_10: Interval
    recall_at_100: Interval
    mrr_at_10: Interval

    @property
    def name(self) -> str:
        """The method, and the SAE or the number of components."""
        if self.sae is not None:
            return f"{self.sae}, {self.method}"
        return f"PCA, {self.bytes:.0f} components" if self.method == "PCA" else self.method


class RetrievalResults(OriginRecord):
    """Retrieval with documents stored in several ways."""

    queries: str
    documents: str
    qrels: str
    model: str | None = Field(description="Model that embedded the texts; null if the files held vectors.")
    d_in: int
    n_queries: int = Field(description="Queries with a relevant document; intervals resample them.")
    n_documents: int
    left_out: dict[str, int] = Field(
        description="Queries without a relevant document, and judgements of unknown queries or documents."
    )
    similarity: Similarity = Field(
        description="cosine: documents are scaled to length 1 as they are read back; or dot."
    )
    encoding: str = Field(description="How bytes are counted.")
    seed: int = Field(description="Of the intervals.")
    saes: dict[str, SAERecord]
    rows: list[RetrievalRow]

    def table(self) -> Table:
        """Make a table of at most 80 columns; the files have all intervals."""
        drawn = Table(
            title=Text(f"{self.n_queries:,} queries, {self.n_documents:,} documents"),
            title_justify="left",
            box=None,
            pad_edge=False,
            header_style="bold underline",
        )
        drawn.add_column("stored", overflow="fold")
        for heading in ("bytes", "nDCG@10", "recall@100", "MRR@10"):
            drawn.add_column(heading, justify="right", no_wrap=True)
        for row in self.rows:
            others = (f"{each.value:.3f}" for each in (row.recall_at_100, row.mrr_at_10))
            size = f"{row.bytes:,.4g}" if row.bytes < 1000 else f"{row.bytes:,.0f}"
            drawn.add_row(Text(row.name), size, Text(str(row.ndcg_at_10)), *others)
        return drawn

    def note(self) -> str:
        """Explain the table: intervals, methods and what was left out."""
        explained = {
            "codes": "codes: query's times document's.",
            "decoded": "decoded: query's vector times decoded document.",
            "mirror": "mirror: codes, but opposite signs add 0.",
        }
        shown = {row.method for row in self.rows}
        notes = ["[ ]: 95 % bootstrap interval over queries."]
        notes += [text for method, text in explained.items() if method in shown]
        notes += [f"{n:,} {what} left out ({LEFT_OUT[what]})." for what, n in self.left_out.items() if n]
        return " ".join(notes)

    def csv(self) -> str:
        """Return one line a row, with all intervals."""
        written = io.StringIO()
        measured = [f"{name}{end}" for name in MEASURES for end in ("", "_low", "_high")]
        lines = csv.writer(written, lineterminator="\n")
        lines.writerow(["method", "sae", "bytes", "active", *measured])
        for row in self.rows:
            found = (getattr(row, name) for name in MEASURES)
            numbers = [number for each in found for number in (each.value, each.low, each.high)]
            lines.writerow([row.method, row.sae, row.bytes, row.active, *numbers])
        return written.getvalue()
