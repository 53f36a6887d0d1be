"""The page on embeddings: its blocks run in order, on a tiny model and few texts in place of those named."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sentence_transformers import SentenceTransformer

from tests.cli.test_cli import invoke
from tests.docs.test_pages import ROOT, blocks, run_command
from tests.embeddings.sentence_model import TEXTS, WIDTH, sentence_model

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
SMALL = ["train_batch_size_tokens=64", "device=cpu", "epochs=4"]
SMALLER = {"sae.k=32": "sae.k=4", "[100, k]": "[100, 4]", "epochs=10": "train_batch_size_tokens=64"}
SMALLER |= {"--shard 1/8": "--shard 1/1", "evals/releases": f"{ROOT}/evals/releases"}
SMALLER |= {" --ray": " --shard 1/1"}  # tests/embeddings/test_ray_jobs.py starts Ray


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of the page; the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ABSTOPK_CACHE", str(tmp_path / "cache"))
    np.save("vectors.npy", np.random.default_rng(0).normal(size=(400, WIDTH)).astype(np.float16))
    rows = [{"_id": f"d{i}", "id": i, "text": text} for i, text in enumerate(TEXTS)]
    for name, some in {"texts": rows, "corpus": rows, "queries": rows[::10]}.items():
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    judged = "".join(f"{row['_id']}\t{row['_id']}\t1\n" for row in rows[::10])
    Path("qrels.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    return tmp_path


@pytest.mark.slow
def test_the_blocks_run(folder: Path) -> None:
    sentence_model(folder / "model")
    SentenceTransformer(str(folder / "model"), device="cpu").save_pretrained(str(folder / "embedder"))
    scope: dict[str, Any] = {}
    for kind, code in blocks("embeddings"):
        for old, new in {MODEL: str(folder / "embedder"), **SMALLER}.items():
            code = code.replace(old, new)
        if kind == "python":
            exec(compile(code, "embeddings.md", "exec"), scope)
            continue
        for words in map(shlex.split, code.replace("\\\n", " ").splitlines()):
            if words[0] == "pip":
                run_command(words, {}, folder)
                continue
            done = invoke(*words[1:3], *(SMALL if words[1] == "train" else []), *words[3:])
            assert done.exit_code == 0, (words, done.output)
    assert np.load("decoded.npy").shape == (400, WIDTH)
    assert (scope["codes"][0].to_dense() != 0).sum() == WIDTH
    assert min(value for row in pq.read_table("codes.parquet")["values"].to_pylist() for value in row) < 0
    assert pq.read_table("codes").column_names == ["id", "indices", "values"]
    assert scope["found"][0].payload["text"] == "the cat sat under the tree"
    assert {path.name for path in Path("retrieval").iterdir()} >= {"retrieval.json", "retrieval.svg"}
