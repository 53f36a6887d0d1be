"""The command on a small set, its files, and one sentence for what is wrong with a set."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from sae_lens import AbsTopKSAE, AbsTopKSAEConfig, TopKSAE, TopKSAEConfig

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.embeddings.retrieval import retrieval
from sae_lens_abstopk.embeddings.retrieval_results import RetrievalResults
from sae_lens_abstopk.embeddings.retrieval_set import open_retrieval_set
from tests.cli.test_cli import invoke
from tests.sentence_model import WORDS, save_sentence_model

D, N = 16, 60
RNG = np.random.default_rng(0)
DOCUMENTS = RNG.normal(size=(N, D)).astype(np.float32)
# query i is near document i, and one query has no relevant document
QUERIES = DOCUMENTS[:12] + RNG.normal(scale=0.1, size=(12, D)).astype(np.float32)
JUDGED = [(i, i, 2) for i in range(11)] + [(i, i + 20, 0) for i in range(12)] + [(99, 0, 1), (0, 99, 1)]


def write_rows(path: Path, name: str, rows: np.ndarray, **columns: list[str]) -> None:
    ids = [f"{name}{i}" for i in range(len(rows))]
    pq.write_table(pa.table({"_id": ids, "v": rows.tolist()} | columns), path)


def write_qrels(path: Path, judged: list[tuple[Any, Any, Any]], header: str = "query-id\tcorpus-id\tscore") -> None:
    path.write_text("\n".join([header, *(f"q{query}\td{document}\t{score}" for query, document, score in judged)]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_rows(tmp_path / "q.parquet", "q", QUERIES)
    write_rows(tmp_path / "d.parquet", "d", DOCUMENTS)
    write_qrels(tmp_path / "r.tsv", JUDGED)
    torch.manual_seed(0)
    AbsTopKSAE(AbsTopKSAEConfig(d_in=D, d_sae=32, k=4)).save_model(tmp_path / "signed")
    TopKSAE(TopKSAEConfig(d_in=D, d_sae=32, k=4)).save_model(tmp_path / "topk")
    return tmp_path


def sources(folder: Path, **changed: str) -> dict[str, str]:
    return {"queries": f"{folder}/q.parquet", "documents": f"{folder}/d.parquet", "qrels": f"{folder}/r.tsv"} | changed


def options(folder: Path) -> list[str]:
    return [part for name, source in sources(folder).items() for part in (f"--{name}", source)]


def test_the_command_writes_a_record_a_table_and_a_figure(folder: Path) -> None:
    out = folder / "out"
    saes = [f"signed={folder / 'signed'}", f"one-sided={folder / 'topk'}"]
    done = invoke("retrieval", *saes, *options(folder), "--out", str(out))
    assert done.exit_code == 0, done.output
    results = RetrievalResults.model_validate_json((out / "retrieval.json").read_text())
    assert (results.n_queries, results.n_documents, results.left_out) == (11, N, {"queries": 1, "judgements": 2})
    # index, sign and magnitude of 4 latents: 14 and 13 bits each
    rows = {row.name: row for row in results.rows}
    assert {name: row.bytes for name, row in rows.items()} == {
        "float32": 4 * D,
        "int8": D,
        "PCA, 7 components": 7,
        "signed, codes": 7,
        "signed, decoded": 7,
        "signed, mirror": 7,
        "one-sided, codes": 7,
        "one-sided, decoded": 7,
    }
    assert rows["float32"].ndcg_at_10.value == rows["int8"].ndcg_at_10.value == 1
    assert rows["signed, codes"].ndcg_at_10.n_units == 11
    table = list(csv.DictReader((out / "retrieval.csv").read_text().splitlines()))
    assert [float(row["ndcg_at_10"]) for row in table] == [row.ndcg_at_10.value for row in results.rows]
    assert "signed, mirror" in done.output
    assert "1 queries left out" in " ".join(done.output.split())
    for name in ("retrieval.png", "retrieval.svg"):
        assert (out / name).stat().st_size > 1000
    again = invoke("retrieval", *saes, *options(folder), "--out", str(out))
    assert again.exit_code == 2
    assert "is not an empty folder" in " ".join(again.stderr.split())


def test_cosine_does_not_see_the_length_of_documents(folder: Path) -> None:
    write_rows(folder / "long.parquet", "d", DOCUMENTS * RNG.uniform(0.1, 9, (N, 1)).astype(np.float32))
    found = {
        similarity: retrieval(
            folder / "signed",
            **sources(folder, documents=f"{folder}/long.parquet"),
            out=folder / similarity,
            similarity=similarity,
        ).rows[0]
        for similarity in ("dot", "cosine")
    }
    assert found["dot"].ndcg_at_10.value < found["cosine"].ndcg_at_10.value == 1


def test_texts_are_embedded_with_their_titles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABSTOPK_CACHE", str(tmp_path / "cache"))
    model = save_sentence_model(tmp_path)
    rows = [{"_id": f"d{i}", "title": word, "text": f"the {word}"} for i, word in enumerate(WORDS)]
    queries = [{"_id": f"q{i}", "text": f"{word} the {word}"} for i, word in enumerate(WORDS)]
    for name, content in (("d", rows), ("q", queries)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    write_qrels(tmp_path / "r.tsv", [(i, i, 1) for i in range(len(WORDS))])
    given = {name: f"{tmp_path}/{name[0]}.jsonl" for name in ("queries", "documents")}
    found = open_retrieval_set(**given, qrels=f"{tmp_path}/r.tsv", model=str(model), widths={"x": D})
    assert np.array_equal(found.queries, found.documents.rows(torch.arange(len(WORDS))).numpy())
    with pytest.raises(ConfigError, match=rf"q.jsonl.* is {D} wide, and the SAE x takes 9"):
        open_retrieval_set(**given, qrels=f"{tmp_path}/r.tsv", model=str(model), widths={"x": 9})


def test_a_hub_set_is_read_by_its_parts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = open_retrieval_set(**sources(folder), widths={})
    judged = [
        {"query-id": f"q{query}", "corpus-id": f"d{document}", "score": score} for query, document, score in JUDGED
    ]
    parts = {
        ("BeIR/small", "queries", "queries"): pq.read_table(folder / "q.parquet"),
        ("BeIR/small", "corpus", "corpus"): pq.read_table(folder / "d.parquet"),
        ("BeIR/small-qrels", None, "test"): pa.Table.from_pylist(judged),
    }

    def opened(path: str, *, name: str | None, split: str, **_: bool) -> Dataset:
        return Dataset(parts[path, name, split])

    for module in ("embeddings.retrieval_set", "vectors.vectors"):
        monkeypatch.setattr(f"sae_lens_abstopk.{module}.open_dataset", opened)
    found = open_retrieval_set("BeIR/small", "BeIR/small", "BeIR/small-qrels", widths={})
    assert (found.queries == local.queries).all()
    assert found.relevant == local.relevant == [{i: 2.0} for i in range(11)]


def with_file(name: str, write: Callable[[Path], object], **changed: str) -> Callable[[Path], dict[str, str]]:
    def make(folder: Path) -> dict[str, str]:
        write(folder / name)
        return sources(folder, **{key: f"{folder}/{value}" for key, value in changed.items()})

    return make


def of_qrels(*judged: tuple[Any, Any, Any], header: str = "query-id\tcorpus-id\tscore") -> Callable[[Path], Any]:
    return with_file("b.tsv", lambda path: write_qrels(path, list(judged), header), qrels="b.tsv")


def of_documents(rows: np.ndarray, **columns: list[str]) -> Callable[[Path], Any]:
    return with_file("b.parquet", lambda path: write_rows(path, "d", rows, **columns), documents="b.parquet")


with_nan = DOCUMENTS.copy()
with_nan[3, 1] = np.nan
BAD: dict[str, tuple[Callable[[Path], dict[str, str]], str]] = {
    "no queries": (lambda it: sources(it, queries="none.jsonl"), "none.jsonl.* no such file"),
    "no column of vectors": (
        lambda it: sources(it, queries=f"{it}/q.parquet,column=x"),
        "column='x' .* _id, v",
    ),
    "an unknown option": (lambda it: sources(it, queries="a/b,columns=x"), "queries=.*'columns=x' is not understood"),
    "no ids": (
        with_file("b.jsonl", lambda path: path.write_text(json.dumps({"v": [1.0] * D})), documents="b.jsonl"),
        "column='_id' must be v",
    ),
    "an array": (
        with_file("b.npy", lambda path: np.save(path, DOCUMENTS), documents="b.npy"),
        "b.npy.*: column='_id' .* none",
    ),
    "an id twice": (of_documents(DOCUMENTS[:3], _id=["a", "b", "a"]), "the id 'a' comes twice"),
    "another width": (of_documents(DOCUMENTS[:, :9]), "16 wide, and .* takes 9"),
    "NaN": (of_documents(with_nan), "NaN or infinite values, first in row 3"),
    "unknown ids": (of_qrels((77, 1, 1), (1, 99, 1)), "2 judgements are of ids that are in no column"),
    "nothing relevant": (of_qrels((1, 1, 0)), "no other score is above 0"),
    "no header": (of_qrels((1, 1, 1), header="q0\td0\t1"), "no column 'query-id'.* q0, d0, 1"),
    "a score in words": (of_qrels((1, 1, "high")), "row 0: the score 'high' is not a number"),
    "no judgements": (lambda it: sources(it, qrels=f"{it}/none.tsv"), "none.tsv"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_set_is_refused_in_one_sentence_and_nothing_is_written(case: str, folder: Path) -> None:
    make, message = BAD[case]
    with pytest.raises(ConfigError, match=message):
        retrieval(folder / "signed", **make(folder), out=folder / "out")
    assert not (folder / "out").exists()


def test_an_sae_of_another_width_or_with_norms_is_refused(folder: Path) -> None:
    TopKSAE(TopKSAEConfig(d_in=D + 1, d_sae=32, k=4)).save_model(folder / "wide")
    with pytest.raises(ConfigError, match=r"q.parquet.* is 16 wide, and the SAE wide takes 17"):
        retrieval(folder / "wide", **sources(folder), out=folder / "out")
    sae = TopKSAE(TopKSAEConfig(d_in=D, d_sae=32, k=4, normalize_activations="layer_norm"))
    with pytest.raises(ConfigError, match=r"normalize_activations='layer_norm' must be none"):
        retrieval(sae, **sources(folder), out=folder / "out")
