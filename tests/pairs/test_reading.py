"""Pairs in every format: prompts, texts, preferences and counts, and one sentence for what is wrong."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from datasets import IterableDataset
from hypothesis import given
from hypothesis import strategies as st

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.pairs import reading
from sae_lens_abstopk.pairs.labels import understand
from sae_lens_abstopk.pairs.pair_set import PairColumns
from sae_lens_abstopk.pairs.reading import read_pairs
from sae_lens_abstopk.pairs.turns import Exchange, cut_common_start, exchange
from tests.pairs.pair_files import write_rows
from tests.pairs.test_formats import FORMATS, USER, as_rows, says


@pytest.mark.parametrize("name", ["p.json", "p.csv", "p.parquet", "p.jsonl.gz", "p.jsonl.zst", "p.csv.gz", "saved"])
def test_every_kind_of_file_gives_the_same_pairs(name: str, tmp_path: Path) -> None:
    rows = [
        {
            "prompt": f"é {i % 3}",
            "response_a": f"007,{i}\n",
            "response_b": "None" if i == 5 else f'"{i}"',
            "label": i % 2,
        }
        for i in range(20)
    ]
    expected = read_pairs(write_rows(tmp_path / "pairs.jsonl", rows))
    compress = {".gz": gzip.compress, ".zst": zstandard.compress}.get(Path(name).suffix)
    path = write_rows(tmp_path / (name if compress is None else name.rsplit(".", 1)[0]), rows)
    if compress is not None:
        (tmp_path / name).write_bytes(compress(path.read_bytes()))
    pairs = read_pairs(tmp_path / name)
    assert as_rows(pairs) == as_rows(expected)
    assert pairs.counts == expected.counts
    assert pairs.b[5] == "None"


def test_a_hub_data_set_is_streamed_only_under_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: dict[str, Any] = {}

    def open_dataset(path: str, **options: Any) -> IterableDataset:
        opened.update(options, path=path)
        return IterableDataset.from_generator(lambda: iter(FORMATS["AlpacaEval"][0]))

    monkeypatch.setattr(reading, "open_dataset", open_dataset)
    pairs = read_pairs("someone/pairs", name="gpt4", split="eval", limit=3)
    assert opened == {"path": "someone/pairs", "name": "gpt4", "split": "eval", "streaming": True}
    assert pairs.source == {"dataset_path": "someone/pairs", "dataset_name": "gpt4", "split": "eval"}
    assert pairs.counts.read == 3
    read_pairs("someone/pairs")
    assert not opened["streaming"]


def test_columns_are_named_or_added_to_the_recognised_ones(tmp_path: Path) -> None:
    rows = [{"x": "one", "y": "two", "won": "X", "who": 7, "a": "1", "b": "2", "judge": None}]
    path = write_rows(tmp_path / "pairs.jsonl", rows)
    pairs = read_pairs(path, columns="a=x, b=y, label=won, group=who")
    assert (pairs.a, pairs.b, pairs.groups, pairs.preferred.tolist()) == (["one"], ["two"], ["7"], [1])
    assert pairs.columns == PairColumns("x", "y", label="won", group="who")
    pairs = read_pairs(path, columns={"chosen": "x", "rejected": "y"})
    assert as_rows(pairs) == [((), "one", "two", 1)]
    pairs = read_pairs(path, columns="group=judge")
    assert (pairs.a, pairs.groups) == (["1"], [""])
    assert read_pairs(path).groups is None


def test_rows_with_something_to_know_about_are_counted(tmp_path: Path) -> None:
    texts = [("a", "b"), ("b", "a"), ("c", "c"), (" ", "c"), (None, None), ("a", "c")]
    labels = ["A", "tie", "A", "A", "B", None]
    rows = [{"a": a, "b": b, "label": label} for (a, b), label in zip(texts, labels, strict=True)]
    pairs = read_pairs(write_rows(tmp_path / "pairs.jsonl", rows))
    assert pairs.rows.tolist() == [0, 1, 5]
    counts = pairs.counts
    assert (counts.read, counts.equal, counts.empty, counts.repeated, counts.ties, counts.unlabelled) == (
        6,
        1,
        2,
        1,
        1,
        1,
    )
    assert pairs.labelled.tolist() == [True, False, False]
    assert (
        read_pairs(write_rows(tmp_path / "none.jsonl", [{**row, "label": None} for row in rows])).counts.unlabelled == 0
    )


def test_sides_are_drawn_by_the_seed_and_nothing_else_depends_on_it(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i % 7}", "chosen": f"good {i}", "rejected": f"bad {i % 9}"} for i in range(200)]
    path = write_rows(tmp_path / "pairs.jsonl", rows)
    drawn = [read_pairs(path, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0].a == drawn[1].a != drawn[2].a
    for pairs in drawn:
        assert as_rows(pairs) == as_rows(drawn[0])
        assert pairs.counts == drawn[0].counts
        assert [text.startswith("good") for text in pairs.a] == (pairs.preferred == 1).tolist()
        assert 70 < pairs.swapped.sum() < 130
    some = read_pairs(path, limit=50)
    assert (len(some), some.a) == (50, drawn[0].a[:50])


LABEL_KINDS = (
    *((1, 0), (True, False), (1, -1), (1, 2), ("A", "B"), ("a", "b"), ("1", "2"), ("first", "Second"), (1.0, 2.0)),
    *(
        ("model_a", "model_b"),
        ("true", "false"),
        ("answer", "Other"),
        (1.2, 1.8),
        ("1.25", "1.75"),
        ("response_A", "response_B"),
    ),
)


@pytest.mark.parametrize(("first", "second"), LABEL_KINDS)
def test_a_label_and_its_mirror_image_prefer_opposite_texts(first: Any, second: Any) -> None:
    values = [first, second, None, first]
    labels = understand(values, PairColumns("answer", "Other", label="won"), "data")
    np.testing.assert_array_equal(labels.preferences(values), [1, -1, np.nan, 1])
    assert labels.mirrored(None) is None
    assert labels.mirrored(first) == (second if second != "Second" else "second")
    assert type(labels.mirrored(first)) is type(first)


@pytest.mark.parametrize(("first", "second"), [(1, 2), (True, False), ("1", "2"), ("A", "B")])
def test_a_tie_may_be_a_word_beside_numbers(first: Any, second: Any) -> None:
    labels = understand([first, second, "tie"], PairColumns("a", "b", label="won"), "data")
    assert [labels.preference(value) for value in (first, second, "tie")] == [1, -1, 0]
    assert [labels.mirrored(value) for value in (first, second, "tie")] == [second, first, "tie"]


@given(st.lists(st.floats(1, 2) | st.sampled_from([0.0, 1.5]), min_size=1))
def test_probabilities_are_mirrored_exactly(values: list[float]) -> None:
    labels = understand([*values, 2.0], PairColumns("a", "b", label="preference"), "data")
    mirrored = [labels.mirrored(value) for value in values]
    assert [labels.mirrored(value) for value in mirrored] == values
    np.testing.assert_array_equal(labels.preferences(mirrored), -labels.preferences(values))


turns = st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), st.text("xy", max_size=2)), max_size=5)


@given(turns, turns, turns)
def test_a_pair_and_its_swap_are_cut_at_the_same_place(
    common: list[tuple[str, str]], first: list[tuple[str, str]], second: list[tuple[str, str]]
) -> None:
    a, b = ([{"role": role, "content": content} for role, content in common + rest] for rest in (first, second))
    found = exchange(a, b)
    assert exchange(b, a) == Exchange(found.prompt, found.b, found.a)
    assert tuple(common + first)[: len(found.prompt)] == found.prompt == tuple(common + second)[: len(found.prompt)]
    assert not found.prompt or found.prompt[-1][0] != "assistant"
    said = "\n\n".join(
        content for role, content in (common + first)[len(found.prompt) :] if role == "assistant" and content
    )
    assert found.a == said


def trl_cut(chosen: str, rejected: str) -> int:
    """Return the place where TRL cuts: at the first letter that differs, or at the space before it."""
    index = next(i for i in range(len(chosen)) if chosen[i] != rejected[i])
    return index - 1 if chosen[index - 1] == " " else index


@given(st.lists(st.text("xyz.", min_size=1, max_size=5), min_size=1), st.text("xyz ", max_size=20))
def test_a_common_start_is_cut_where_trl_cuts_it_but_words_stay_whole(words: list[str], rest: str) -> None:
    start = " ".join(words)
    chosen, rejected = f"{start} a{rest}", f"{start} b{rest}"
    n = trl_cut(chosen, rejected)
    (found,) = cut_common_start([Exchange((), chosen, rejected)], 0.9)
    assert found == Exchange((("user", chosen[:n].strip()),), chosen[n:], rejected[n:])
    (whole,) = cut_common_start([Exchange((), f"{start} wa{rest}", f"{start} wb{rest}")], 0.9)
    assert whole == Exchange(found.prompt, f" wa{rest}", f" wb{rest}")


def rows(*found: dict[str, Any], name: str = "pairs.jsonl") -> Callable[[Path], Path]:
    return lambda folder: write_rows(folder / name, found)


def content(text: bytes, name: str = "pairs.jsonl") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(text)
        return folder / name

    return write


PAIR = {"a": "x", "b": "y", "label": "A"}
LABELS = "known are A and B.* name only the texts"
MANY = gzip.compress(json.dumps(PAIR).encode() * 100)
MISTAKES: dict[str, tuple[Callable[[Path], Path], dict[str, Any], str]] = {
    "no file": (lambda folder: folder / "none.jsonl", {}, r"none.jsonl' cannot be read: no such file"),
    "an empty file": (content(b""), {}, "is empty"),
    "only a header": (content(b"a,b\n", "pairs.csv"), {}, "is empty"),
    "more fields than columns": (content(b"a,b\nx,y,z\n", "pairs.csv"), {}, "more fields than the header"),
    "not UTF-8": (content(b"a,b\nx,\xe9\n", "pairs.csv"), {}, "is not UTF-8 text"),
    "a cut .gz": (content(MANY[:-20], "pairs.jsonl.gz"), {}, "ended before the end-of-stream marker"),
    "a cut line": (content(json.dumps(PAIR).encode() + b'\n{"a": "x'), {}, "cannot be read"),
    "a cut .parquet": (content(b"PAR1" + b"\0" * 40, "pairs.parquet"), {}, "cannot be read"),
    "columns that are not recognised": (
        rows({"x": "1", "y": "2"}),
        {},
        "columns x, y; known are chosen and rejected,.* set",
    ),
    "one text only": (rows({"prompt": "x", "chosen": "y"}), {}, "no pairs are recognised .* prompt, chosen"),
    "a key that is not known": (
        rows(PAIR),
        {"columns": "lable=label"},
        "'lable' must be one of .*did you mean 'label'",
    ),
    "a key without a column": (rows(PAIR), {"columns": "a=,b=b"}, "a names no column; write a=COLUMN"),
    "a key given twice": (rows(PAIR), {"columns": "a=a,a=b,b=b"}, "the key 'a' comes twice"),
    "a column given twice": (rows(PAIR), {"columns": {"a": "a", "b": "a"}}, "the column 'a' comes twice"),
    "a and rejected": (rows(PAIR), {"columns": "a=a,rejected=b"}, "gives a and rejected; give a=COLUMN,b=COLUMN"),
    "a label beside chosen": (
        rows(PAIR),
        {"columns": "chosen=a,rejected=b,label=label"},
        "need no label label; leave it out",
    ),
    "a column that is missing": (
        rows(PAIR),
        {"columns": "a=a,b=bb"},
        "b='bb' must be one of a, b, label; did you mean 'b'",
    ),
    "numbers for texts": (
        rows({"a": 1, "b": 2}),
        {},
        "row 0 of a and b: its two texts are 1 and 2, but must be both text",
    ),
    "a text and a conversation": (rows({"a": "x", "b": [USER]}), {}, "must be both text or both lists of turns"),
    "a turn without a role": (
        rows({"a": [{"content": "x"}], "b": [USER]}),
        {},
        "turn 0 is .*must have a role and content",
    ),
    "a number as content": (rows({"a": [says(3)], "b": [says(4)]}), {}, "turn 0 is .*'content': 3.*both text"),
    "a number as prompt": (rows({**PAIR, "prompt": 3}), {}, "row 0 .*: 3 is neither text nor a list of turns"),
    "labels of another kind": (rows({**PAIR, "label": "good"}), {}, f"'label' holds 'good', .*{LABELS}"),
    "mixed labels": (rows(PAIR, {**PAIR, "label": 0}), {}, f"'label' holds '?A'?, '?0'?|holds 'A', 0.*{LABELS}"),
    "a scale of 1 to 5": (rows(*({**PAIR, "label": i} for i in (1, 2, 5))), {}, f"holds 1, 2, 5, .*{LABELS}"),
    "many labels": (rows(*({**PAIR, "label": f"l{i:02}"} for i in range(30))), {}, "'l09', ..., which together"),
    "equal texts only": (
        rows({"a": "x", "b": "x"}, {"a": "", "b": "x"}),
        {},
        "none of its 2 rows is a pair: in 1 a text",
    ),
    "another split": (rows(PAIR, name="saved"), {"split": "dev"}, "split='dev' is not one of train"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_in_one_sentence(name: str, tmp_path: Path) -> None:
    make, options, sentence = MISTAKES[name]
    with pytest.raises(ConfigError, match=sentence) as caught:
        read_pairs(make(tmp_path), **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
