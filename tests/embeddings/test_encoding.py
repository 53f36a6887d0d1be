"""Codes of files: those of the SAE, in one file or in parts, and decoded to its reconstructions."""

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sae_lens import SAE, AbsTopKSAE, AbsTopKSAEConfig, StandardSAE, StandardSAEConfig, TopKSAE, TopKSAEConfig

from sae_lens_abstopk import ConfigError, SignedJumpReLUSAE, SignedJumpReLUSAEConfig
from sae_lens_abstopk.embeddings import row_files
from sae_lens_abstopk.embeddings.decoding import decode_file
from sae_lens_abstopk.embeddings.embedding_files import embed_file
from sae_lens_abstopk.embeddings.encoding import encode_file
from sae_lens_abstopk.embeddings.parquet_parts import Shard
from sae_lens_abstopk.text.text_files import RECORD, local_files
from sae_lens_abstopk.vectors.vector_spec import VectorSpec
from sae_lens_abstopk.vectors.vectors import open_vectors
from tests.cli.test_cli import invoke
from tests.sentence_model import D_IN, WORDS, save_sentence_model

N, D_SAE, K = 45, 48, 5
X = np.random.default_rng(0).normal(size=(N, D_IN)).astype(np.float32)
TEXTS = ["", *(" ".join(WORDS[: i % 9 + 1]) for i in range(N - 1))]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(row_files, "ROW_BLOCK", 8)
    monkeypatch.setenv("ABSTOPK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_sentence_model(tmp_path_factory.mktemp("sentence")))


def with_weights(sae: SAE[Any]) -> SAE[Any]:
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in sae.parameters():
            weight.copy_(torch.randn_like(weight) / D_IN**0.5)
    return sae


def signed() -> SAE[Any]:
    return with_weights(AbsTopKSAE(AbsTopKSAEConfig(d_in=D_IN, d_sae=D_SAE, k=K)))


def thresholds() -> SAE[Any]:
    sae = with_weights(SignedJumpReLUSAE(SignedJumpReLUSAEConfig(d_in=D_IN, d_sae=D_SAE)))
    torch.nn.init.constant_(sae.threshold, 2.0)
    return sae


def one_sided() -> SAE[Any]:
    return with_weights(TopKSAE(TopKSAEConfig(d_in=D_IN, d_sae=D_SAE, k=K)))


def npy(path: str = "x.npy", rows: np.ndarray = X) -> VectorSpec:
    np.save(path, rows)
    return VectorSpec(dataset_path=path)


def parquet(path: str = "x.parquet", rows: range = range(N)) -> VectorSpec:
    columns = {"id": [f"r{i}" for i in rows], "x": X[rows].tolist(), "label": [i % 3 for i in rows]}
    pq.write_table(pa.table(columns), path, row_group_size=7)
    return VectorSpec(dataset_path=path)


def folder() -> VectorSpec:
    Path("folder").mkdir()
    parquet("folder/a.parquet", range(20))
    parquet("folder/b.parquet", range(20, N))
    return VectorSpec(dataset_path="folder")


def jsonl() -> VectorSpec:
    lines = [json.dumps({"id": f"r{i}", "x": row.tolist(), "label": i % 3}) + "\n" for i, row in enumerate(X)]
    Path("x.jsonl").write_text("".join(lines))
    return VectorSpec(dataset_path="x.jsonl")


def texts() -> VectorSpec:
    Path("t.jsonl").write_text("".join(json.dumps({"text": text, "id": i}) + "\n" for i, text in enumerate(TEXTS)))
    return VectorSpec(dataset_path="t.jsonl")


def dense(path: Path | str) -> torch.Tensor:
    table = pq.read_table(path)
    codes = torch.zeros(len(table), D_SAE)
    for row, (indices, values) in enumerate(
        zip(*(table[name].to_pylist() for name in ("indices", "values")), strict=True)
    ):
        assert indices == sorted(indices)
        codes[row, indices] = torch.tensor(values)
    return codes


@pytest.mark.parametrize("make", [signed, thresholds, one_sided])
def test_codes_are_those_of_the_sae_and_decode_to_its_reconstructions(make: Callable[[], SAE[Any]]) -> None:
    sae, x = make(), torch.from_numpy(X)
    written = encode_file(sae, npy(), "codes.parquet")
    assert (written.n_rows, written.n_made) == (N, N)
    codes = dense("codes.parquet")
    torch.testing.assert_close(codes, sae.encode(x))
    assert bool((codes < 0).any()) == (make is not one_sided)
    decode_file(sae, "codes.parquet", "vectors.npy")
    torch.testing.assert_close(torch.from_numpy(np.load("vectors.npy")), sae(x))
    assert {path.name for path in Path().iterdir()} == {"x.npy", "codes.parquet", "vectors.npy"}, "no partial file"


@pytest.mark.parametrize("write", [parquet, folder, jsonl])
def test_every_format_gives_the_same_codes_and_columns_are_kept(write: Callable[[], VectorSpec]) -> None:
    sae = signed()
    encode_file(sae, write(), "codes.parquet", keep=["label", "id"])
    torch.testing.assert_close(dense("codes.parquet"), sae.encode(torch.from_numpy(X)))
    table = pq.read_table("codes.parquet")
    assert table.column_names == ["label", "id", "indices", "values"]
    assert table["id"].to_pylist() == [f"r{i}" for i in range(N)]
    decode_file(sae, "codes.parquet", "decoded.parquet")
    vectors = open_vectors(VectorSpec(dataset_path="decoded.parquet"))
    torch.testing.assert_close(torch.cat(list(vectors.blocks())), sae(torch.from_numpy(X)))
    assert vectors.column("label") == [i % 3 for i in range(N)]


@pytest.mark.parametrize("write", [npy, folder])
def test_shards_of_a_job_array_together_are_the_whole(write: Callable[[], VectorSpec]) -> None:
    sae, data = signed(), write()
    for number in (2, 3, 1):
        written = encode_file(sae, data, "codes", shard=Shard(number, 3))
        assert written.n_made == written.n_rows == N // 3
        if number > 1:
            for read in (lambda: decode_file(sae, "codes", "vectors.npy"), lambda: local_files(Path("codes"))):
                with pytest.raises(ConfigError, match=r"codes: the part that begins with row .* is missing"):
                    read()
    encode_file(sae, data, "whole.parquet")
    torch.testing.assert_close(dense("codes"), dense("whole.parquet"))  # sums of other blocks end in other bits
    decode_file(sae, "codes", "vectors.npy")
    torch.testing.assert_close(torch.from_numpy(np.load("vectors.npy")), sae(torch.from_numpy(X)))
    times = {path: path.stat().st_mtime_ns for path in Path("codes").iterdir()}
    assert encode_file(sae, data, "codes", shard=Shard(3, 3)).n_made == 0
    assert {path: path.stat().st_mtime_ns for path in Path("codes").iterdir()} == times
    with pytest.raises(ConfigError, match="was made from another source, model or SAE"):
        encode_file(one_sided(), data, "codes", shard=Shard(3, 3))
    with pytest.raises(ConfigError, match="which is not one of 4 parts"):
        encode_file(sae, data, "codes", shard=Shard(3, 4))


def test_texts_are_embedded_to_a_file_or_on_the_way_to_codes(model: str) -> None:
    sae, data = signed(), texts()
    assert embed_file(model, data, "e.parquet", keep=["text"]).n_empty == 1
    encode_file(sae, VectorSpec(dataset_path="e.parquet"), "of_vectors.parquet", keep=["text"])
    assert pq.read_table("of_vectors.parquet")["text"].to_pylist() == TEXTS
    encode_file(sae, data, "cached.parquet", model_name=model, keep=["id"])
    for number in (1, 2):
        encode_file(sae, data, "shards", model_name=model, keep=["id"], shard=Shard(number, 2))
    for path in ("cached.parquet", "shards"):
        # a batch of other lengths is rounded otherwise
        decoded = decode_file(sae, path, f"{path}.npy").path
        x = torch.from_numpy(np.load(decoded))
        close = torch.cosine_similarity(x, sae.decode(dense("of_vectors.parquet"))) > 0.99
        assert close.float().mean() > 0.9
        assert pq.read_table(path)["id"].to_pylist() == list(range(N))
    embed_file(model, data, "half.parquet", dtype="float16")
    half, full = (
        torch.cat(list(open_vectors(VectorSpec(dataset_path=path)).blocks())) for path in ("half.parquet", "e.parquet")
    )
    torch.testing.assert_close(half, full, atol=2e-3, rtol=1e-2)


def test_the_commands_from_texts_to_decoded_vectors(model: str) -> None:
    signed().save_model("sae")
    data = texts().dataset_path
    for command in (
        f"embed {model} {data} --out e.parquet --keep text,id",
        "encode sae e.parquet --out codes --keep id --shard 1/2",
        "encode sae e.parquet --out codes --keep id --shard 2/2",
        "decode sae codes --out vectors.parquet",
    ):
        done = invoke(*command.split())
        assert done.exit_code == 0, done.output
    assert re.search(r"vectors\.parquet: 45 rows; .* \d+ bytes a row", done.output)
    assert pq.read_table("vectors.parquet").column_names == ["id", "vector"]


def test_an_error_in_the_middle_leaves_no_file() -> None:
    rows = X.copy()
    rows[30, 2] = np.nan
    with pytest.raises(ConfigError, match="NaN or infinite values, first in row 30; remove such rows"):
        encode_file(signed(), npy(rows=rows), "codes.parquet")
    assert [path.name for path in Path().iterdir()] == ["x.npy"]


def test_codes_name_the_sae_that_made_them() -> None:
    sae = signed()
    sae.save_model("my-sae")
    encode_file("my-sae", npy(), "codes.parquet")
    record = json.loads(pq.read_schema("codes.parquet").metadata[RECORD])
    expected = {"kind": "codes", "sae": "my-sae", "d_in": D_IN, "d_sae": D_SAE, "signed": True, "source": "x.npy"}
    assert {key: record[key] for key in expected} == expected
    decode_file(sae, "codes.parquet", "in-memory.npy")
    with torch.no_grad():
        sae.b_dec += 1
    with pytest.raises(
        ConfigError, match=r"codes of another SAE \(my-sae, d_sae=48\), not of the abstopk SAE in memory"
    ):
        decode_file(sae, "codes.parquet", "other.npy")


def stripped(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata({})


def beyond(table: pa.Table) -> pa.Table:
    indices = pa.array([[0, D_SAE], *table["indices"].to_pylist()[1:]], table.schema.field("indices").type)
    values = pa.array([[0.1, 0.2], *table["values"].to_pylist()[1:]], table.schema.field("values").type)
    return pa.table([indices, values], schema=table.schema)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(stripped, "codes of an unknown SAE"), (beyond, "rows 0 to 7 .* from 0 to 47")],
)
def test_damaged_codes_are_refused(spoil: Callable[[pa.Table], pa.Table], message: str) -> None:
    encode_file(signed(), npy(), "codes.parquet")
    pq.write_table(spoil(pq.read_table("codes.parquet")), "codes.parquet")
    with pytest.raises(ConfigError, match=message):
        decode_file(signed(), "codes.parquet", "vectors.npy")
    assert not Path("vectors.npy").exists()


def test_what_cannot_be_used_is_refused_before_work_starts(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("there.parquet").touch()
    dense_sae = with_weights(StandardSAE(StandardSAEConfig(d_in=D_IN, d_sae=D_SAE)))
    wide = VectorSpec(dataset_path=npy("wide.npy", np.ones((9, 7), dtype=np.float32)).dataset_path)
    data, words = parquet(), texts()
    for call, message in (
        (lambda: encode_file(signed(), data, "there.parquet"), "there.parquet exists"),
        (lambda: encode_file(signed(), data, "codes.csv"), r"'.csv' must be \.parquet"),
        (lambda: encode_file(signed(), wide, "c.parquet"), "is 7 wide, and the abstopk SAE in memory takes 16"),
        (lambda: encode_file(dense_sae, data, "c.parquet"), "architecture 'standard' are not supported"),
        (lambda: encode_file(signed(), data, "c.parquet", keep=["lable"]), "column='lable' .*did you mean 'label'"),
        (lambda: encode_file(signed(), data, "c.parquet", keep=["id", "id"]), "column 'id' comes twice"),
        (lambda: encode_file(signed(), words, "c.parquet"), r"no column of lists of floats among text, id"),
        (lambda: encode_file(signed(), data, "there.parquet", shard=Shard(1, 2)), "is a file; give another"),
        (lambda: encode_file(signed(), data, "c", shard=Shard(1, 99)), "shards=99 must be at most 45"),
        (lambda: encode_file(signed(), data, "c", shard=Shard(1, 2), ray_workers=2), "give --shard or --ray"),
        (lambda: embed_file(model, data, "e.parquet"), "text='text' must be id"),
        (lambda: embed_file(model, words, "e.parquet", keep=["vector"]), "column='vector'"),
        (lambda: decode_file(signed(), "x.parquet", "v.npy"), "column='indices' must be one of id, x, label"),
        (lambda: decode_file(signed(), "there.parquet", "v.txt"), r"must be one of \.npy, \.parquet"),
        *((lambda text=text: Shard.parse(text), "from 1 to N") for text in ("0/2", "3/2", "1", "a/b")),
    ):
        with pytest.raises(ConfigError, match=message):
            call()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'sae-lens-abstopk\[ray\]'"):
        encode_file(signed(), data, "c", ray_workers=2)
    assert not Path("c").exists()
