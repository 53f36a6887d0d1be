"""The ``retrieval`` subcommand."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from sae_lens_abstopk.cli.app import Device, app, named
from sae_lens_abstopk.cli.errors import errors_as_sentences
from sae_lens_abstopk.cli.output import prints_tables


class ScoredBy(StrEnum):
    """Score of a document."""

    cosine = "cosine"
    dot = "dot"


@app.command()
@prints_tables
def retrieval(
    saes: Annotated[list[str], Argument(help="SAE folders or RELEASE:SAE_ID; NAME=SAE sets its name.")],
    queries: Annotated[
        str,
        Option(
            metavar="PATH[,...]",
            help="Queries, with _id and text or vectors: a file or Hub id (BeIR/scifact), with ,name=X ,split=X "
            ",column=X if needed.",
        ),
    ],
    documents: Annotated[
        str, Option(metavar="PATH[,...]", help="Documents, with _id, text or vectors, and an optional title.")
    ],
    qrels: Annotated[
        str, Option(metavar="PATH[,...]", help="Judgements, with query-id, corpus-id and score: a file or Hub id.")
    ],
    model: Annotated[
        str | None, Option(help="sentence-transformers model that embeds the texts; without it, rows have vectors.")
    ] = None,
    similarity: Annotated[ScoredBy, Option(help="Score documents by cosine or by dot product.")] = ScoredBy.cosine,
    device: Device = "auto",
    seed: Annotated[int, Option(help="Seed of the intervals.", min=0, max=2**32 - 1)] = 0,
    out: Annotated[Path, Option("--out", "-o", help="Output folder, new or empty.")] = Path("retrieval"),
) -> None:
    """Compare retrieval with codes to vectors, int8 and PCA, by bytes per document."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.embeddings.retrieval import retrieval as run_retrieval

        results = run_retrieval(
            named(saes),
            queries=queries,
            documents=documents,
            qrels=qrels,
            out=out,
            model=model,
            similarity=similarity.value,
            device=device,
            seed=seed,
            console=console.progress,
        )
        console.print(results.table())
        console.print(results.note(), style="dim")
        console.out(out / "retrieval.json")
