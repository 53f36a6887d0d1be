import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import zstandard
from datasets import Dataset, DatasetDict, IterableDataset
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from huggingface_hub.errors import GatedRepoError

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.system.errors import TRANSPORT_ERRORS
from sae_lens_abstopk.text import documents as text
from sae_lens_abstopk.text.documents import TextPart
from sae_lens_abstopk.text.text_files import same_text_files, text_files
from sae_lens_abstopk.training.config.config_file import build_config
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from tests.specs import documents_of

CHAT = {"use_chat_formatting": True}
TOKENIZED = {"is_dataset_tokenized": True}


def config(raw_config: dict[str, Any], **changes: Any) -> TrainingConfig:
    return build_config(raw_config | changes)


@pytest.mark.parametrize("streaming", [True, False])
def test_parts_are_disjoint_whole_and_independent_of_the_seed(
    raw_config: dict[str, Any], streaming: bool, tmp_path: Path
) -> None:
    path = tmp_path / "numbered.jsonl"
    path.write_text("".join(json.dumps({"text": f"document {i}"}) + "\n" for i in range(50)))
    options = {"dataset_path": str(path), "held_out_every": 5, "streaming": streaming}
    parts = {
        (part, seed): [row["text"] for row in documents_of(config(raw_config, seed=seed, **options), part)]
        for part in get_args(TextPart)
        for seed in (0, 1)
    }
    assert set(parts["train", 0]) | set(parts["held_out", 0]) == {f"document {i}" for i in range(50)}
    assert parts["held_out", 0] == [f"document {i}" for i in range(4, 50, 5)] == parts["held_out", 1]
    halves = [set(parts[half, 0]) for half in ("first_half", "second_half")]
    assert halves[0] | halves[1] == set(parts["train", 0]) == set(parts["train", 1])
    assert (len(halves[0]), len(halves[1])) == (20, 20)
    assert parts["train", 0] != parts["train", 1], "shuffled by the seed"
    everything = [row["text"] for row in documents_of(config(raw_config, **options), "all")]
    assert everything == [f"document {i}" for i in range(50)], "in the order of the file"


@pytest.mark.parametrize("column", ["text", "input_ids"])
@pytest.mark.parametrize("n_files", [2, 3, 12])
def test_parts_of_streamed_files_are_disjoint_and_whole_for_every_seed_and_rank(
    raw_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_files: int, column: str
) -> None:
    numbers = {f: range(f * 20, f * 20 + 20) for f in range(n_files)}
    for file, inside in numbers.items():
        rows = [{column: f"document {i}" if column == "text" else [i, i % 7] * 16} for i in inside]
        (tmp_path / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"dataset_path": str(tmp_path), "held_out_every": 5, "is_dataset_tokenized": column == "input_ids"}

    def read(part: TextPart, seed: int) -> list[str]:
        return [str(row[column]) for row in documents_of(config(raw_config, seed=seed, **options), part)]

    everything = sorted(read("all", 0))
    held_out = read("held_out", 0)
    assert len(set(everything)) == n_files * 20
    for seed in (1, 2, 3):
        assert read("held_out", seed) == held_out
        assert sorted(read("train", seed) + held_out) == everything
        assert sorted(read("first_half", seed) + read("second_half", 0)) == sorted(read("train", seed))
    monkeypatch.setattr(text, "n_ranks", lambda: 2)
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr(text, "this_rank", lambda rank=rank: rank)
        shares.append(read("train", 1))
    assert all(shares)
    assert sorted(shares[0] + shares[1] + held_out) == everything


def test_which_streamed_documents_are_held_out_is_decided_by_their_content(
    raw_config: dict[str, Any], tmp_path: Path
) -> None:
    for file in ("a", "b"):
        rows = [{"text": f"document {i}", "from": file} for i in range(200)]
        (tmp_path / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cfg = config(raw_config, dataset_path=str(tmp_path), held_out_every=5)
    found = [row["text"] for row in documents_of(cfg, "held_out")]
    assert found[: len(found) // 2] == found[len(found) // 2 :], "copies are on one side"
    assert 25 <= len(set(found)) <= 55
    assert found[:3] == ["document 1", "document 4", "document 7"], "the same in every process and version"


def test_text_files_are_documents_and_compressed_ones_are_read(raw_config: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "books"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.txt").write_text(f"book {i}\n\nsecond paragraph")
    cfg = config(raw_config, dataset_path=str(folder), held_out_every=None, shuffle=False)
    assert [row["text"] for row in documents_of(cfg, "train")] == [f"book {i}\n\nsecond paragraph" for i in range(3)]
    content = b'{"body": "hello"}\n'
    for name, compress in (("a.jsonl.gz", gzip.compress), ("a.jsonl.zst", zstandard.compress)):
        (tmp_path / name).write_bytes(compress(content))
        cfg = config(raw_config, dataset_path=str(tmp_path / name), column_name="body", held_out_every=None)
        assert [row for row in documents_of(cfg, "train")] == [{"text": "hello"}]


@pytest.mark.parametrize("name", ["a [1]", "what?", "x*", "[a-b] 猫 {c}"])
def test_a_path_is_no_pattern(raw_config: dict[str, Any], tmp_path: Path, name: str) -> None:
    for folder in (tmp_path / name, tmp_path / "what!"):
        folder.mkdir()
        (folder / f"{name}.txt").write_text(folder.name, encoding="utf-8")
    for path in (tmp_path / name, tmp_path / name / f"{name}.txt"):
        cfg = config(raw_config, dataset_path=str(path), held_out_every=None)
        assert list(documents_of(cfg, "train")) == [{"text": name}]


def test_only_files_that_are_read_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for name in ("README.md", ".DS_Store", "b.jsonl.gz", "a.txt"):
        (tmp_path / "texts" / name).write_text("12345")
    before = text_files(str(tmp_path / "texts"))
    assert [entry[:2] for entry in before] == [["a.txt", 5], ["b.jsonl.gz", 5]]
    assert same_text_files([entry[:2] for entry in before], before), "earlier versions noted no digests"
    (tmp_path / "texts" / "a.txt").write_text("54321")
    assert not same_text_files(before, text_files(str(tmp_path / "texts")))
    assert same_text_files(before, text_files(str(tmp_path / "texts")), digests=False)
    assert not same_text_files(before[:1], before)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "c.txt").write_text("linked")
    (tmp_path / "texts" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "texts")
    assert [name for name, *_ in text_files(str(tmp_path / "texts"))] == ["a.txt", "b.jsonl.gz", "c.txt"]
    saved = Dataset.from_dict({"text": ["a", "b"]})
    DatasetDict({"train": saved, "test": saved}).save_to_disk(tmp_path / "saved")
    before = text_files(str(tmp_path / "saved"))
    assert [name for name, *_ in before] == ["data-00000-of-00001.arrow"] * 2
    (tmp_path / "saved" / "train" / "cache-1234.arrow").write_text("what a map left")
    assert text_files(str(tmp_path / "saved")) == before
    assert text_files("someone/data") == []


@pytest.mark.parametrize(
    ("name", "content", "changes", "sentence"),
    [
        ("a.tsv", "x", {}, "holds no text; known endings: .jsonl"),
        ("a.jsonl", '{"input_ids": [1]}', {}, "no column text among input_ids.*set is_dataset_tokenized=true"),
        ("a.jsonl", '{"text": 3}\n', {}, "must hold text; it has 3"),
        ("a.jsonl", '{"text": [{"role": "user"}]}', CHAT, "must hold turns with a role and content"),
        ("a.jsonl", '{"dialog": "x"}', CHAT, "no column conversation or .* among dialog"),
        ("a.jsonl", '{"messages": "x"}', CHAT | {"column_name": "dialog"}, "no column dialog among messages"),
        ("a.jsonl", '{"tokens": "x"}', TOKENIZED, "lists of at least context_size=32 token ids; it has x"),
        ("a.jsonl", '{"tokens": [1, 2]}', TOKENIZED, r"context_size=32 token ids; it has \[1, 2\]"),
        ("a.txt", "x", {}, "has too few documents for its part 'held_out': give more, lower held_out_every=20"),
    ],
)
def test_text_that_cannot_be_used_is_refused(
    raw_config: dict[str, Any], tmp_path: Path, name: str, content: str, changes: dict[str, Any], sentence: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=sentence):
        documents_of(config(raw_config, dataset_path=str(tmp_path / name), **changes), "held_out")


def test_a_document_that_is_null_is_empty_text(raw_config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": null}\n{"text": "x"}\n{"text": null}\n')
    cfg = config(raw_config, dataset_path=str(tmp_path / "a.jsonl"), held_out_every=None, shuffle=False)
    assert [row["text"] for row in documents_of(cfg, "train")] == ["", "x", ""]


@pytest.mark.parametrize("streaming", [True, False])
def test_a_later_document_that_is_no_text_is_named(raw_config: dict[str, Any], tmp_path: Path, streaming: bool) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n{"text": 3}\n')
    options = {"dataset_path": str(tmp_path / "a.jsonl"), "held_out_every": None, "shuffle": False}
    # the second as datasets had it before it read a column of mixed types
    with pytest.raises(ConfigError, match=r"a.jsonl' (must hold text; it has 3\.$|cannot be read)"):
        list(documents_of(config(raw_config, streaming=streaming, **options), "train"))


@pytest.mark.parametrize(
    "names", [("train-0.jsonl", "test-0.jsonl"), ("Train/a.jsonl", "validation/a.jsonl"), ("a.jsonl", "b.txt")]
)
def test_a_folder_of_several_splits_or_formats_is_refused(
    raw_config: dict[str, Any], tmp_path: Path, names: list[str]
) -> None:
    for name in (*names, "contest.jsonl", ".checkpoints/a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"text": "x"}\n' * 20)
    with pytest.raises(ConfigError, match="mixes formats or splits"):
        documents_of(config(raw_config, dataset_path=str(tmp_path)), "train")
    (tmp_path / names[1]).unlink()
    assert len(list(documents_of(config(raw_config, dataset_path=str(tmp_path)), "all"))) == 40


def test_files_of_other_columns_are_refused_with_their_names(raw_config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n' * 20)
    (tmp_path / "b.jsonl").write_text('{"content": "y"}\n' * 20)
    cfg = config(raw_config, dataset_path=str(tmp_path), streaming=False)
    with pytest.raises(ConfigError, match=r"with other columns than its first \(.*content"):
        documents_of(cfg, "train")


def gated() -> Exception:
    error = DatasetNotFoundError("nowhere")
    error.__cause__ = GatedRepoError.__new__(GatedRepoError)
    return error


@pytest.mark.parametrize("when", ["opened", "read"])
@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (RuntimeError("Dataset scripts are no longer supported, but found x.py"), "comes as a script"),
        (DatasetGenerationError("An error occurred"), "cannot be read: An error occurred"),
        (ValueError("Config name is missing.\nPlease pick one among: a, b"), "pick one among: a, b"),
        (TRANSPORT_ERRORS[0]("slow"), "cannot be read: slow; check the name and the connection"),
        (ConnectionError("Server Disconnected"), "cannot be read: Server Disconnected; check the name"),
        (gated(), r"is gated on the Hugging Face Hub; accept its terms .* set HF_TOKEN"),
    ],
)
def test_a_data_set_that_cannot_be_read_is_refused_with_the_reason(
    raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str, when: str
) -> None:
    def fails(*_: Any, **__: Any) -> Iterator[dict[str, str]]:
        raise error
        yield {}

    opens = IterableDataset.from_generator(fails)
    load = (lambda *_, **__: opens) if when == "read" else (lambda *_, **__: next(fails()))
    monkeypatch.setattr(text, "load_dataset", load)
    with pytest.raises(ConfigError, match=sentence):
        documents_of(config(raw_config, dataset_path="some/text"), "train")


@pytest.mark.parametrize(
    ("changes", "row", "read"),
    [
        (TOKENIZED, {"ids": [1, 2] * 16, "tokens": "x"}, "tokens"),
        (CHAT, {"ids": [{"role": "user", "content": "x"}], "conversation": "x"}, "messages"),
    ],
)
def test_the_column_of_turns_or_token_ids_can_be_named(
    raw_config: dict[str, Any], tmp_path: Path, changes: dict[str, Any], row: dict[str, Any], read: str
) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    cfg = config(raw_config, dataset_path=str(tmp_path / "a.jsonl"), column_name="ids", held_out_every=None, **changes)
    assert list(documents_of(cfg, "train")) == [{read: row["ids"]}]


@pytest.mark.parametrize("streaming", [True, False])
def test_a_folder_of_save_to_disk_is_read(raw_config: dict[str, Any], tmp_path: Path, streaming: bool) -> None:
    saved = Dataset.from_dict({"input_ids": [[i] * 32 for i in range(40)]}).with_format("torch")
    saved.save_to_disk(tmp_path / "one")
    DatasetDict({"train": saved, "test": saved.select([3])}).save_to_disk(tmp_path / "several")
    cfg = config(raw_config, dataset_path=str(tmp_path / "one"), streaming=streaming, **TOKENIZED)
    assert [row["input_ids"][0] for row in documents_of(cfg, "held_out")] == [19, 39]
    changes = {"dataset_path": str(tmp_path / "several"), "streaming": streaming, **TOKENIZED}
    assert list(documents_of(config(raw_config, split="test", **changes), "all")) == [{"input_ids": [3] * 32}]
    with pytest.raises(ConfigError, match=r"split='dev' is not one of train, test"):
        documents_of(config(raw_config, split="dev", **changes), "all")
