"""Vectors in files of every format: the same rows, the split, and one sentence for what is wrong."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from safetensors.torch import save_file

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.vectors.vector_spec import VectorSpec
from sae_lens_abstopk.vectors.vectors import Vectors, open_vectors

ROWS = np.random.default_rng(0).normal(size=(25, 6)).astype(np.float16)


def npy(folder: Path) -> Path:
    np.save(folder / "x.npy", ROWS)
    return folder / "x.npy"


def safetensors(folder: Path) -> Path:
    save_file({"x": torch.from_numpy(ROWS)}, folder / "x.safetensors")
    return folder / "x.safetensors"


def fixed_parquet(folder: Path) -> Path:
    lists = pa.FixedSizeListArray.from_arrays(pa.array(ROWS.reshape(-1)), ROWS.shape[1])
    pq.write_table(pa.table({"x": lists, "id": range(len(ROWS))}), folder / "x.parquet", row_group_size=10)
    return folder / "x.parquet"


def parquet(folder: Path) -> Path:
    pq.write_table(pa.table({"x": ROWS.astype(np.float32).tolist()}), folder / "y.parquet", row_group_size=7)
    return folder / "y.parquet"


def jsonl(folder: Path) -> Path:
    (folder / "x.jsonl").write_text("".join(json.dumps({"x": row.tolist()}) + "\n" for row in ROWS))
    return folder / "x.jsonl"


def saved(folder: Path) -> Path:
    Dataset.from_dict({"x": ROWS.astype(np.float32).tolist()}).save_to_disk(folder / "saved", num_shards=3)
    return folder / "saved"


@pytest.mark.parametrize("write", [npy, safetensors, fixed_parquet, parquet, jsonl, saved])
def test_every_format_gives_the_same_rows_in_any_order(write: Callable[[Path], Path], tmp_path: Path) -> None:
    vectors = open_vectors(VectorSpec(dataset_path=str(write(tmp_path))))
    index = torch.tensor([24, 0, 7, 7, 13])
    assert (len(vectors), vectors.d_in) == ROWS.shape
    assert torch.equal(vectors.rows(index), torch.from_numpy(ROWS).float()[index])
    assert torch.equal(torch.cat(list(vectors.blocks())), torch.from_numpy(ROWS).float())
    vectors.require_sound()


def test_every_nth_row_is_held_out_and_no_group_is_on_both_sides() -> None:
    spec = VectorSpec(dataset_path="x", held_out_every=5)
    assert Vectors.of_array(ROWS).part(spec, "held_out").tolist() == [4, 9, 14, 19, 24]
    groups = [f"g{i // 4}" for i in range(len(ROWS))]
    vectors = Vectors("x", (torch.from_numpy(ROWS),), Dataset.from_dict({"who": groups}))
    spec = VectorSpec(dataset_path="x", held_out_every=3, group="who")
    parts = {part: {groups[i] for i in vectors.part(spec, part).tolist()} for part in ("train", "held_out", "all")}
    assert parts["held_out"] == {"g2", "g5"}
    assert parts["train"] == parts["all"] - parts["held_out"]
    assert len(vectors.part(spec, "train")) + len(vectors.part(spec, "held_out")) == len(ROWS)


def written(name: str, **columns: list[object]) -> Callable[[Path], VectorSpec]:
    def write(folder: Path) -> VectorSpec:
        pq.write_table(pa.table(columns), folder / name)
        return VectorSpec(dataset_path=str(folder / name))

    return write


def objects(folder: Path) -> VectorSpec:
    np.save(folder / "o.npy", np.array([{}, {}], dtype=object))
    return VectorSpec(dataset_path=str(folder / "o.npy"))


def cut_short(write: Callable[[Path], Path]) -> Callable[[Path], VectorSpec]:
    def cut(folder: Path) -> VectorSpec:
        path = write(folder)
        path.write_bytes(path.read_bytes()[:-40])
        return VectorSpec(dataset_path=str(path))

    return cut


def of_rows(rows: np.ndarray) -> Callable[[Path], VectorSpec]:
    def write(folder: Path) -> VectorSpec:
        np.save(folder / "r.npy", rows)
        return VectorSpec(dataset_path=str(folder / "r.npy"))

    return write


with_nan = ROWS.copy()
with_nan[17, 2] = np.nan


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: VectorSpec(dataset_path="none.npy"), r"dataset_path='none.npy' is missing .*No such file"),
        (
            lambda _: VectorSpec(dataset_path="none.parquet"),
            r"'none.parquet' cannot be read: no such file",
        ),
        (lambda _: VectorSpec(dataset_path=""), "data is missing"),
        (
            lambda folder: VectorSpec(dataset_path=str(fixed_parquet(folder)), column_name="y"),
            r"column='y' must be one of x, id",
        ),
        (lambda folder: VectorSpec(dataset_path=str(safetensors(folder)), column_name="y"), "column='y' must be x"),
        (written("a.parquet", x=[[1.0, 2.0], [3.0]]), "row 1 has 1 numbers, and row 0 has 2"),
        (written("b.parquet", x=[[1.0, 2.0], None]), "row 1 is missing"),
        (written("c.parquet", x=[[1.0, 2.0], [3.0, None]]), "row 1 has missing values"),
        (written("d.parquet", x=["a", "b"]), "no column of lists of floats"),
        (written("e.parquet", x=[[1.0]], y=[[1.0]]), r"several columns of vectors \(x, y\)"),
        (objects, "Python objects in dtype.*as an array of floats"),
        (cut_short(npy), "is missing or damaged"),
        (cut_short(safetensors), "is missing or damaged"),
        (cut_short(fixed_parquet), "dataset_path=.* cannot be read"),
        (of_rows(ROWS[0]), r"shape \[6\]; it must be \[rows, width\]"),
        (of_rows(np.array([["a"]])), "values of type"),
        (of_rows(with_nan), "NaN or infinite values, first in row 17"),
        (of_rows(np.ones((9, 3))), "all 9 rows are equal"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    make: Callable[[Path], VectorSpec], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        open_vectors(make(tmp_path)).require_sound()


def test_columns_and_parts_that_are_not_there_are_named(tmp_path: Path) -> None:
    vectors = open_vectors(VectorSpec(dataset_path=str(npy(tmp_path))))
    with pytest.raises(ConfigError, match="column='who' must be among these: none"):
        vectors.part(VectorSpec(dataset_path="x", group="who"), "train")
    with pytest.raises(ConfigError, match="25 rows, too few for held_out_every=30"):
        vectors.part(VectorSpec(dataset_path="x", held_out_every=30), "held_out")
    with pytest.raises(ConfigError, match="held_out_every is missing"):
        vectors.part(VectorSpec(dataset_path="x", held_out_every=None), "held_out")


def test_arrays_of_other_layouts_are_taken_and_other_numbers_refused() -> None:
    every = torch.arange(len(ROWS))
    assert torch.equal(Vectors.of_array(ROWS[::-1]).rows(every), torch.from_numpy(ROWS[::-1].copy()).float())
    parameter = torch.nn.Parameter(torch.from_numpy(ROWS).float())
    assert torch.equal(Vectors.of_array(parameter).rows(every), parameter.detach())
    for numbers in (ROWS.astype(np.longdouble), parameter * 1j, parameter > 0):
        with pytest.raises(ConfigError, match="values of type"):
            Vectors.of_array(numbers)
