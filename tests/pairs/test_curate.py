"""A data set written anew differs from its source in the chosen rows only."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.pairs.curate import curate
from sae_lens_abstopk.pairs.reading import read_pairs
from sae_lens_abstopk.text.documents import open_dataset
from tests.pairs.pair_files import Rows, write_rows

ENDINGS = (".jsonl", ".json", ".csv", ".parquet")
SAID, ALSO_SAID = ([{"role": "assistant", "content": text}] for text in ("é", "x"))
# what each label becomes
MIRRORED: dict[str, dict[Any, Any]] = {
    "words": {"A": "B", "B": "A", "tie": "tie", None: None, "a": "b"},
    "numbers": {1: 2, 2: 1},
    "probabilities": {1.25: 1.75, 2.0: 1.0, 1.5: 1.5},
    "truth": {True: False, False: True},
}
SETS: dict[str, Rows] = {
    "chosen": [
        {"id": i, "prompt": "p", "chosen": f"c {i}", "rejected": f"r {i}", "day": "2024-05-01"} for i in range(6)
    ],
    "conversations": [{"score": [i, None], "chosen": SAID, "rejected": [*ALSO_SAID, *SAID]} for i in range(5)],
    **{
        name: [{"id": i, "a": f"a {i}", "b": f"b {i}", "label": label} for i, label in enumerate([*labels, *labels])]
        for name, labels in MIRRORED.items()
    },
}


def flipped(row: dict[str, Any], name: str) -> dict[str, Any]:
    if "chosen" in row:
        return row | {"chosen": row["rejected"], "rejected": row["chosen"]}
    return row | {"label": MIRRORED[name][row["label"]]}


def as_read(path: Path) -> list[dict[str, Any]]:
    return list(open_dataset(str(path), streaming=False))


def with_day(rows: Rows) -> Rows:
    """Rows with dates as text, which readers turn into dates."""
    return [{column: str(value)[:10] if column == "day" else value for column, value in row.items()} for row in rows]


@pytest.mark.parametrize("source", [*ENDINGS, ".saved"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_is_written_in_every_format(source: str, ending: str, tmp_path: Path) -> None:
    for name in ("chosen", "numbers"):
        pairs = read_pairs(write_rows(tmp_path / f"{name}{source}", SETS[name]))
        chosen = np.arange(len(pairs)) % 2 == 0
        done = curate(pairs, "flip", chosen, tmp_path / "new" / f"{name}{ending}", reason="axis 7")
        found = with_day(as_read(done.out))
        expected = [flipped(row, name) if flip else row for row, flip in zip(SETS[name], chosen, strict=True)]
        if ".csv" in (source, ending):  # its columns are text
            found, expected = (
                [{column: str(row[column]) for column in row} for row in rows] for rows in (found, expected)
            )
        assert found == expected
        assert (done.n_rows, done.n_changed) == (len(pairs), chosen.sum())


@pytest.mark.parametrize("name", SETS)
@settings(max_examples=5)
@given(data=st.data())
def test_flipping_twice_gives_the_source(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("twice")
    source = write_rows(folder / "pairs.jsonl", SETS[name])
    pairs = read_pairs(source)
    n = len(pairs) // 2  # labels that are all 1 could be of two scales
    chosen = np.array([*data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), *[False] * (len(pairs) - n)])
    once = curate(pairs, "flip", chosen, folder / "once.jsonl", reason="x")
    expected = [flipped(row, name) if flip else row for row, flip in zip(SETS[name], chosen, strict=True)]
    assert [json.loads(line) for line in once.out.read_text().splitlines()] == expected
    again = read_pairs(once.out)
    if not pairs.columns.chosen_first:
        np.testing.assert_array_equal(again.preferred, np.where(chosen, -pairs.preferred, pairs.preferred))
    twice = curate(again, "flip", chosen, folder / "twice.jsonl", reason="x")
    assert twice.out.read_bytes() == source.read_bytes()


def test_only_chosen_lines_change_and_a_log_says_why(tmp_path: Path) -> None:
    lines = [
        '{"a": "x",  "b": "y", "label": "A", "day": "2024-05-01", "n": 12345678901234567890123}\n',
        '{"label":"b","a":"\\u00e9","b":"z","more":{"k":1.10}}\r\n',
        "\n",
        '{"a": "equal", "b": "equal", "label": "A"}\n',
        '{"a": "é", "b": "w", "label": "tie"}\n',
        '{"a": "v", "b": "é", "label": "A"}',
    ]
    source = tmp_path / "pairs.jsonl.gz"
    source.write_bytes(before := gzip.compress("".join(lines).encode()))
    pairs = read_pairs(source)
    assert pairs.rows.tolist() == [0, 1, 3, 4]
    dropped = curate(pairs, "drop", np.array([False, True, False, True]), tmp_path / "dropped.jsonl", reason="long")
    assert dropped.out.read_bytes().decode() == lines[0] + lines[3] + lines[4]
    assert dropped[:2] == (3, 2)
    noted = [json.loads(line) for line in dropped.log.read_text().splitlines()]
    assert noted == [{"row": row, "change": "drop", "reason": "long"} for row in (1, 4)]
    flipped_tie = curate(pairs, "flip", np.array([False, True, True, True]), tmp_path / "flipped.jsonl", reason="x")
    ones = '{"label": "a", "a": "\\u00e9", "b": "z", "more": {"k": 1.1}}\n', '{"a": "v", "b": "é", "label": "B"}\n'
    assert flipped_tie.out.read_bytes().decode() == lines[0] + ones[0] + lines[3] + lines[4] + ones[1]
    assert flipped_tie[:2] == (5, 2)
    assert source.read_bytes() == before


def test_rows_beyond_the_limit_and_files_of_a_folder_are_kept(tmp_path: Path) -> None:
    (tmp_path / "pairs").mkdir()
    for part in (0, 1):
        write_rows(tmp_path / "pairs" / f"{part}.jsonl", SETS["chosen"][part * 3 : part * 3 + 3])
    pairs = read_pairs(tmp_path / "pairs", limit=4)
    done = curate(pairs, "flip", np.array([False, False, False, True]), tmp_path / "new.jsonl", reason="x")
    expected = [flipped(row, "chosen") if row["id"] == 3 else row for row in SETS["chosen"]]
    assert [json.loads(line) for line in done.out.read_text().splitlines()] == expected


@pytest.mark.parametrize("ending", ENDINGS)
def test_all_rows_may_be_dropped(ending: str, tmp_path: Path) -> None:
    pairs = read_pairs(write_rows(tmp_path / "pairs.jsonl", SETS["chosen"]))
    done = curate(pairs, "drop", np.ones(len(pairs), bool), tmp_path / f"new{ending}", reason="x")
    assert done[:2] == (0, len(pairs))


UNLABELLED = [{"a": "x", "b": "y"}, {"a": "z", "b": "y"}]
MISTAKES: dict[str, tuple[Rows, str, str, str]] = {
    "no labels": (
        UNLABELLED,
        "flip",
        "new.jsonl",
        "has no labels, so no preference can be flipped; .* only be dropped",
    ),
    "another change": (UNLABELLED, "swap", "new.jsonl", "change='swap' must be one of flip, drop"),
    "another ending": (
        UNLABELLED,
        "drop",
        "new.txt",
        r"='.txt' must be one of .jsonl, .json, .csv, .parquet",
    ),
    "the source": (UNLABELLED, "drop", "pairs.jsonl", "pairs.jsonl exists and is not overwritten; give another"),
    "a log that exists": (UNLABELLED, "drop", "old.jsonl", "old.jsonl.changes.jsonl exists and is not overwritten"),
    "lists in .csv": (
        SETS["conversations"],
        "flip",
        "new.csv",
        "'score' holds lists, which CSV cannot hold; write .jsonl",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_in_one_sentence_and_leaves_no_file(name: str, tmp_path: Path) -> None:
    rows, change, out, sentence = MISTAKES[name]
    pairs = read_pairs(write_rows(tmp_path / "pairs.jsonl", rows))
    (tmp_path / "old.jsonl.changes.jsonl").touch()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigError, match=sentence):
        curate(pairs, change, np.ones(len(pairs), dtype=bool), tmp_path / out, reason="x")  # type: ignore[arg-type]
    assert sorted(tmp_path.iterdir()) == before
