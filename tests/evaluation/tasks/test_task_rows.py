import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from datasets import Dataset

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.evaluation.tasks.load_task import load_task
from sae_lens_abstopk.evaluation.tasks.task import Example
from tests.evaluation.task_files import CSV, rows_file, texts_of, written


def write_json_lines(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_rows_of_every_format_are_the_same_task(tmp_path: Path) -> None:
    rows = [{"body": f"Review, number {i}", "mood": i % 2, "author": f"a{i // 2}"} for i in range(24)]
    (tmp_path / "rows.csv").write_text(CSV)
    write_json_lines(tmp_path / "rows.jsonl", rows)
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    Dataset.from_list(rows).to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "rows.tsv").write_text(
        CSV.replace('"', "").replace("Review, number", "Review; number").replace(",", "\t").replace(";", ",")
    )
    tasks = [
        load_task(written(tmp_path, rows_file(**{"from": [{"file": f"rows.{ending}"}], "group": "author"})))
        for ending in ("csv", "jsonl", "json", "tsv", "parquet")
    ]
    assert len({task.digest for task in tasks}) == 1
    assert tasks[0].examples[1] == Example("Review, number 1", 0, "a0")
    lines = [f"{i:03},{('true', 'false')[i % 2]},NA" for i in range(12)]  # columns of CSV are text
    (tmp_path / "rows.csv").write_text("body,mood,author\n" + "\n".join(lines))
    labels = {"true": "good", "false": "bad"}
    task = load_task(written(tmp_path, rows_file(labels=labels, text="{author} {body}")))
    assert task.examples[7] == Example("NA 007", 1, "rows.csv 8")


def test_conllu_files_give_their_comments_as_columns(tmp_path: Path) -> None:
    for name, word in (("en", "dog"), ("fr", "chien")):
        blocks = [
            (f"# newdoc id = d{i}\n" if i % 2 == 0 else "") + f"# sent_id = s{i}\n# text = {word} {i}\n1\t{word}\t_\n"
            for i in range(20)
        ]
        (tmp_path / f"{name}.conllu").write_text("\n".join(blocks))
    parts = [{"file": "en.conllu", "pole": "good"}, {"file": "fr.conllu", "pole": "bad"}]
    rows = {"from": parts, "text": "text", "group": "newdoc_id", "label": None, "labels": None}
    task = load_task(written(tmp_path, rows_file(**rows)))
    assert task.examples[3] == Example("dog 3", 0, "d2")
    assert len(task.examples) == 40


def test_patterns_of_columns_and_both_poles_from_one_row(tmp_path: Path) -> None:
    rows = [{"the q": f"Is {i} it?", "a": {"yes": "Yes.", "no-no": "No."}} for i in range(10)]
    write_json_lines(tmp_path / "rows.jsonl", rows)
    text = {"good": "{the q} {a[yes]}", "bad": "{the q} {a[no-no]}"}
    content = rows_file(**{"from": [{"file": "rows.jsonl"}], "text": text, "label": None, "labels": None})
    task = load_task(written(tmp_path, content))
    assert {("Is 3 it? Yes.", 0), ("Is 3 it? No.", 1)} <= texts_of(task)
    assert len({e.group for e in task.examples}) == 10


def test_extracted_columns_and_marked_words(tmp_path: Path) -> None:
    lines = ["id\ttext"] + [
        f"job{i}.{g}.txt\tThey saw that {w} left {i}."
        for i in range(6)
        for g, w in (("m", "he"), ("f", "she"), ("n", "it"))
    ]
    lines.append("job9.m.txt\tThey saw that he left when he could.")  # which one?
    (tmp_path / "rows.tsv").write_text("\n".join(lines))
    content = rows_file(
        **{
            "from": [{"file": "rows.tsv"}],
            "text": "text",
            "label": "g",
            "labels": {"m": "good", "f": "bad", "n": None},
            "group": "job",
            "marked": "word",
            "extract": {"id": r"^(?P<job>\w+)\.(?P<g>.)", "text": r"that (?P<word>\w+)"},
        }
    )
    task = load_task(written(tmp_path, {**content, "reads": ["marked"]}))
    assert task.examples[1] == Example("They saw that she left 0.", 1, "job0", (14, 17))
    assert len(task.examples) == 12
    everywhere = load_task(written(tmp_path, {**content, "reads": ["last"]}))
    assert len(everywhere.examples) == 13


def test_splits_of_the_source_are_kept_and_what_it_lacks_is_made(tmp_path: Path) -> None:
    rows = [f"{part} {i},{i % 2},{part}" for part in ("train", "dev", "test") for i in range(20)]
    (tmp_path / "rows.csv").write_text("body,mood,part\n" + "\n".join(rows))
    whole = load_task(
        written(tmp_path, rows_file(split="part", splits={"train": "train", "dev": "val", "test": "test"}))
    )
    for name, indices in zip(("train", "dev", "test"), whole.split(5), strict=True):
        assert {whole.examples[i].text.split()[0] for i in indices} == {name}
    two = load_task(written(tmp_path, rows_file(split="part", splits={"train": "train", "dev": None, "test": "test"})))
    train, val, test = two.split(0)
    assert (len(train), len(val), len(test)) == (16, 4, 20)
    assert {two.examples[i].text.split()[0] for i in test} == {"test"}
    assert (two.split(1).test == test).all()
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("body,mood\n" + "\n".join(f"{name} {i},{i % 2}" for i in range(20)))
    parts = [{"file": "a.csv"}, {"file": "b.csv", "use": "test"}]
    mixed = load_task(written(tmp_path, rows_file(**{"from": parts})))
    train, val, test = mixed.split(0)
    assert {mixed.examples[i].text.split()[0] for i in test} == {"b"}
    assert {mixed.examples[i].text.split()[0] for i in (*train, *val)} == {"a"}


def test_a_text_that_comes_twice_is_kept_in_test_and_one_with_both_labels_nowhere(tmp_path: Path) -> None:
    rows = [f"text {i},{i % 2},{part}" for part in ("train", "test") for i in range(20)]
    rows += ["text 3,1,train", *(f"both {i},{pole},test" for i in range(3) for pole in (0, 1))]
    rows += [f"more {i},{i % 2},train" for i in range(12)]
    (tmp_path / "rows.csv").write_text("body,mood,part\n" + "\n".join(rows))
    with pytest.warns(UserWarning, match="3 of 35 texts are in rows of both poles"):
        task = load_task(written(tmp_path, rows_file(split="part", splits={"train": "train", "test": "test"})))
    assert {e.text for e in task.examples if e.split == "test"} == {f"text {i}" for i in range(20)}
    assert not any(e.text.startswith("both") for e in task.examples)


def test_rows_without_a_label_can_be_left_out_and_long_fields_are_read(tmp_path: Path) -> None:
    rows = [{"body": f"text {i} " + "x" * 200_000 * (i == 0), "mood": (0, 1, None)[i % 3]} for i in range(30)]
    write_json_lines(tmp_path / "rows.jsonl", rows)
    content = rows_file(**{"from": [{"file": "rows.jsonl"}], "group": None})
    with pytest.raises(ConfigError, match="labels does not list the value None"):
        load_task(written(tmp_path, content))
    content["rows"]["labels"] |= {None: None}
    assert len(load_task(written(tmp_path, content)).examples) == 20


def test_a_limit_keeps_whole_groups_and_does_not_depend_on_the_order_of_the_file(tmp_path: Path) -> None:
    header, *lines = CSV.splitlines()
    kept = []
    for order in (lines, lines[::-1]):
        (tmp_path / "rows.csv").write_text("\n".join([header, *order]))
        task = load_task(written(tmp_path, rows_file(group="author", limit=6)))
        kept.append(texts_of(task))
        assert Counter(e.pole for e in task.examples) == {0: 6, 1: 6}
        assert set(Counter(e.group for e in task.examples).values()) == {2}
    assert kept[0] == kept[1]
