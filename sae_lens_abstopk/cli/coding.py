"""Subcommands from texts to vectors, from vectors to codes, and back; and retrieval with codes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.filesize import decimal
from typer import Argument, Option

from sae_lens_abstopk.cli.app import Device, Float32, NewFolder, app, named, refuse_without
from sae_lens_abstopk.cli.errors import errors_as_sentences
from sae_lens_abstopk.cli.output import prints_tables

if TYPE_CHECKING:
    from sae_lens_abstopk.embeddings.parquet_parts import Written
    from sae_lens_abstopk.vectors.vector_spec import VectorSpec

NewFile = Annotated[
    Path, Option("--out", "-o", help="New .parquet file; with --shard or --ray, the folder of its parts.")
]
Keep = Annotated[str, Option(metavar="COLUMN,...", help="Columns to copy, such as id,label.")]
ShardOf = Annotated[
    str | None,
    Option("--shard", metavar="I/N", help="Only this share of the rows, from 1/N to N/N: one task of a job array."),
]
OnRay = Annotated[
    bool,
    Option(
        "--ray",
        help="Make the missing parts with Ray Data, here or on the cluster of RAY_ADDRESS (pip install "
        "'sae-lens-abstopk\\[ray]').",
    ),
]
Workers = Annotated[int, Option(help="With --ray: workers; 0 is one per GPU, or per core.", min=0)]


@app.command()
def embed(
    context: typer.Context,
    model: Annotated[str, Argument(help="sentence-transformers model: a folder or Hub id.")],
    file: Annotated[
        str,
        Argument(metavar="FILE", help="Texts: a file, a folder, or a Hub data set, with ,name=X ,split=X if needed."),
    ],
    out: NewFile,
    column: Annotated[str | None, Option(help="Column of texts, text by default.")] = None,
    keep: Keep = "",
    half: Annotated[bool, Option("--half", help="Write float16, which takes half the space.")] = False,
    float32: Float32 = False,
    shard: ShardOf = None,
    ray: OnRay = False,
    workers: Workers = 0,
    device: Device = "auto",
) -> None:
    """Embed texts into a Parquet file of vectors."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.embeddings.embedding_files import embed_file

        written = embed_file(
            model,
            _spec(file, column),
            out,
            dtype="float16" if half else "float32",
            float32=float32,
            device=device,
            console=console.progress,
            **_rows_options(context, keep, shard, ray, workers),
        )
        _show(written, console)


@app.command()
def encode(
    context: typer.Context,
    sae: Annotated[str, Argument(help="SAE folder or RELEASE:SAE_ID.")],
    file: Annotated[
        str,
        Argument(
            metavar="FILE", help="Vectors: .npy, .safetensors, Parquet, or another data set; or texts, with --model."
        ),
    ],
    out: NewFile,
    column: Annotated[str | None, Option(help="Column of vectors, or with --model of texts.")] = None,
    model: Annotated[str | None, Option(help="sentence-transformers model that embeds the texts.")] = None,
    keep: Keep = "",
    shard: ShardOf = None,
    ray: OnRay = False,
    workers: Workers = 0,
    device: Device = "auto",
) -> None:
    """Encode vectors or texts into a Parquet file of codes: the active latents of each row and their values."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.embeddings.encoding import encode_file

        written = encode_file(
            sae,
            _spec(file, column),
            out,
            model_name=model,
            device=device,
            console=console.progress,
            **_rows_options(context, keep, shard, ray, workers),
        )
        _show(written, console)


@app.command()
def decode(
    sae: Annotated[str, Argument(help="The SAE that made the codes: a folder or RELEASE:SAE_ID.")],
    codes: Annotated[Path, Argument(help="File of `abstopk encode`, or the folder of all its parts.")],
    out: Annotated[Path, Option("--out", "-o", help="New .npy file, or .parquet with the copied columns.")],
    device: Device = "auto",
) -> None:
    """Decode codes into vectors."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.embeddings.decoding import decode_file

        _show(decode_file(sae, codes, out, device=device, console=console.progress), console)


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
    similarity: Annotated[
        Literal["cosine", "dot"], Option(help="Score documents by cosine or by dot product.")
    ] = "cosine",
    device: Device = "auto",
    seed: Annotated[int, Option(help="Seed of the intervals.", min=0, max=2**32 - 1)] = 0,
    out: NewFolder = Path("retrieval"),
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
            similarity=similarity,
            device=device,
            seed=seed,
            console=console.progress,
        )
        console.print(results.table())
        console.print(results.note(), style="dim")
        console.out(out / "retrieval.json")


def _spec(file: str, column: str | None) -> "VectorSpec":
    from sae_lens_abstopk.evaluation.subjects.sae_specs import text_keys
    from sae_lens_abstopk.vectors.vector_spec import VectorSpec

    keys = text_keys("FILE", file)
    if column is not None:
        keys["column_name"] = column
    return VectorSpec(**keys)


def _rows_options(context: typer.Context, keep: str, shard: str | None, ray: bool, workers: int) -> dict[str, Any]:
    """Return the options that embedding and encoding share."""
    from sae_lens_abstopk.embeddings.parquet_parts import Shard

    if not ray:
        refuse_without("--ray", "workers", context=context)
    return {
        "keep": [name.strip() for name in keep.split(",") if name.strip()],
        "shard": None if shard is None else Shard.parse(shard),
        "ray_workers": workers if ray else None,
    }


def _show(written: "Written", console: Console) -> None:
    there = "" if written.n_made == written.n_rows else f", {written.n_rows - written.n_made:,} of them there before"
    size = f"{decimal(written.n_bytes)}, {written.n_bytes / written.n_rows:,.0f} bytes a row"
    console.out(f"{written.path}: {written.n_rows:,} rows{there}; {size}")
