"""Retrieval with codes in place of vectors, beside vectors of as many bytes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from sae_lens import SAE
from scipy.sparse.linalg import norm as sparse_norms

from sae_lens_abstopk.embeddings.code_rows import require_decoder
from sae_lens_abstopk.embeddings.compressed import ENCODING, Compressed, fit_pca, float32, int8, of_codes, pca_int8
from sae_lens_abstopk.embeddings.ranking_metrics import Relevant, ranking_metrics
from sae_lens_abstopk.embeddings.retrieval_figure import retrieval_figure
from sae_lens_abstopk.embeddings.retrieval_results import MEASURES, RetrievalResults, RetrievalRow, Similarity
from sae_lens_abstopk.embeddings.retrieval_set import open_retrieval_set
from sae_lens_abstopk.embeddings.search import Matrix, rank
from sae_lens_abstopk.evaluation.figures.style import paper_style
from sae_lens_abstopk.evaluation.results.bootstrap import mean_estimate
from sae_lens_abstopk.evaluation.results.facts import origin_facts, sae_record
from sae_lens_abstopk.evaluation.subjects.named_saes import load_named
from sae_lens_abstopk.model.model_spec import require_device, resolve_device
from sae_lens_abstopk.saes.loading import Source
from sae_lens_abstopk.system.errors import require_choice
from sae_lens_abstopk.system.files import require_empty, without_path, write_whole
from sae_lens_abstopk.system.terminal import PassProgress, passes_bar
from sae_lens_abstopk.vectors.vectors import Vectors

SIMILARITIES = ("cosine", "dot")


def retrieval(
    saes: Source | Sequence[Source] | Mapping[str, Source],
    *,
    queries: str,
    documents: str,
    qrels: str,
    out: str | Path,
    model: str | None = None,
    similarity: Similarity = "cosine",
    device: str = "auto",
    seed: int = 0,
    console: Console | None = None,
) -> RetrievalResults:
    """
    Measure retrieval with the codes of SAEs, and write ``retrieval.json``, ``.csv``, ``.png`` and ``.svg``.

    Beside the rows of each SAE (:func:`~.compressed.of_codes`) there are documents in float32 and in int8, and PCAs of
    as many bytes as the codes of each SAE.

    Args:
        saes: One or several SAEs, as in :func:`~.loading.load_sae`; a mapping gives them names.
        queries: File or Hub id of the queries; see :func:`~.retrieval_set.open_retrieval_set`, as for the next three.
        documents: File or Hub id of the documents.
        qrels: File or Hub id of the relevance judgements.
        out: Folder to write, new or empty.
        model: The sentence-transformers model that embeds the texts; None if the files hold vectors.
        similarity: Score by cosine, or by dot product, which shrinks with the reconstruction of a document.
        device: Device of the model and of the SAEs.
        seed: Seed of the intervals.
        console: Shows progress.

    Raises:
        ConfigError: before anything is measured, if a source, a model or an SAE cannot be used or ``out`` is not empty.
    """
    out, device = Path(out), resolve_device("device", device)
    require_empty(out)
    require_choice("similarity", similarity, SIMILARITIES)
    require_device("device", device)
    named = load_named(saes)
    for name, sae in named.saes.items():
        require_decoder(name, sae)
    found = open_retrieval_set(
        queries,
        documents,
        qrels,
        model=model,
        device=device,
        widths={name: sae.cfg.d_in for name, sae in named.saes.items()},
        console=console,
    )
    loaded = named.copied_to(device)
    vectors = found.queries, found.documents, found.relevant
    with passes_bar(console or Console(quiet=True), "measuring") as on_progress:
        rows = retrieval_rows(loaded, *vectors, similarity=similarity, seed=seed, on_progress=on_progress)
    results = RetrievalResults(
        **origin_facts(device),
        queries=without_path(queries),
        documents=without_path(documents),
        qrels=without_path(qrels),
        model=None if model is None else without_path(model),
        d_in=found.documents.d_in,
        n_queries=len(found.queries),
        n_documents=len(found.documents),
        left_out=dict(found.left_out),
        similarity=similarity,
        encoding=ENCODING,
        seed=seed,
        saes={name: sae_record(sae, named.sources[name]) for name, sae in loaded.items()},
        rows=rows,
    )
    _write(results, out)
    return results


def retrieval_rows(
    saes: Mapping[str, SAE[Any]],
    queries: npt.NDArray[np.float32],
    documents: Vectors,
    relevant: Sequence[Relevant],
    *,
    similarity: Similarity = "cosine",
    seed: int = 0,
    on_progress: PassProgress | None = None,
) -> list[RetrievalRow]:
    """
    Measure vectors in memory: queries [n_queries, d], documents, and the relevant documents of each query by number.

    The rows are in the order float32, int8, PCAs by bytes, then by SAE. ``on_progress`` is called with the steps done
    and all steps: one an SAE, and one for the other rows.
    """

    def measured(stored: Compressed, sae: str | None = None) -> RetrievalRow:
        blocks = stored.blocks() if similarity == "dot" else map(_unit_rows, stored.blocks())
        metrics = ranking_metrics(rank(stored.queries, blocks), relevant)
        return RetrievalRow(
            method=stored.method,
            sae=sae,
            bytes=stored.bytes,
            active=stored.active,
            **{name: mean_estimate(getattr(metrics, name), seed=seed) for name in MEASURES},
        )

    of_saes: list[RetrievalRow] = []
    for done, (name, sae) in enumerate(saes.items(), start=1):
        of_saes += [measured(stored, name) for stored in of_codes(sae, queries, documents)]
        if on_progress is not None:
            on_progress(done, len(saes) + 1)
    pca = fit_pca(documents)
    sizes = sorted({min(int(row.bytes), len(pca.rows)) for row in of_saes})
    pcas = [measured(pca_int8(queries, documents, pca, n)) for n in sizes]
    return [measured(float32(queries, documents)), measured(int8(queries, documents)), *pcas, *of_saes]


def _unit_rows(block: Matrix) -> Matrix:
    """Scale rows to length 1; rows of zeros stay."""
    norms = np.linalg.norm(block, axis=1) if isinstance(block, np.ndarray) else sparse_norms(block, axis=1)
    scale = (1 / np.where(norms > 0, norms, 1)).astype(np.float32)
    return block * scale[:, None] if isinstance(block, np.ndarray) else block.multiply(scale[:, None]).tocsr()


def _write(results: RetrievalResults, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "retrieval.json", results.model_dump_json(indent=1) + "\n")
    write_whole(out / "retrieval.csv", results.csv())
    with paper_style():
        figure = retrieval_figure(results)
        figure.savefig(out / "retrieval.png")
        figure.savefig(out / "retrieval.svg", metadata={"Date": None})
