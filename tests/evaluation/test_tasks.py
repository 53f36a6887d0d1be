import json
import re
import runpy
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.evaluation.task_file import check_task
from sae_lens_abstopk.evaluation.task_schema import TaskFile
from sae_lens_abstopk.evaluation.task_sources import build_task
from sae_lens_abstopk.evaluation.task_templates import expand
from sae_lens_abstopk.evaluation.tasks import Example, Task, load_task, make_task, task_names
from sae_lens_abstopk.training import text as training_text
from sae_lens_abstopk.training.config_file import data_folder

EVALS = data_folder("evals")
README = (EVALS / "README.md").read_text()
SHIPPED = task_names(public=False)
PUBLIC = [name for name in task_names() if name.startswith("public/")]


@pytest.fixture(scope="module")
def shipped() -> dict[str, Task]:
    return {name: load_task(name) for name in SHIPPED}


def minimal(**changes: Any) -> dict[str, Any]:
    """A task file's content with five templates; a change to None takes the key out."""
    content = {
        "name": "gender",
        "poles": ["he", "she"],
        "licence": "MIT",
        "source": "here",
        "fillers": {"day": ["Monday", "Friday"]},
        "templates": [f"On {{day}} [{{he|she}}] came number {i}." for i in range(6)],
        **changes,
    }
    return {key: value for key, value in content.items() if value is not None}


def rows_file(**changes: Any) -> dict[str, Any]:
    rows = {
        "from": [{"file": "rows.csv"}],
        "text": "body",
        "label": "mood",
        "labels": {1: "good", 0: "bad"},
        **changes,
    }
    return minimal(fillers=None, templates=None, poles=["good", "bad"], rows={k: v for k, v in rows.items() if v})


def written(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def texts_of(task: Task) -> set[tuple[str, int]]:
    return {(e.text, e.pole) for e in task.examples}


# ---- what ships


def test_twelve_concepts_ship_and_eleven_public_sets() -> None:
    assert len(SHIPPED) == 12
    assert len(PUBLIC) == 11


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_task_has_enough_texts_and_no_text_twice(shipped: dict[str, Task], name: str) -> None:
    task = shipped[name]
    assert task.name == name
    count = Counter(e.pole for e in task.examples)
    assert min(count.values()) >= 200
    assert count[0] == count[1]
    assert len({e.text for e in task.examples}) == len(task.examples)
    assert len({e.group for e in task.examples}) >= 10
    assert task.licence == "MIT"


@pytest.mark.parametrize("name", SHIPPED)
def test_the_texts_of_a_shipped_task_read_as_sentences(shipped: dict[str, Task], name: str) -> None:
    for example in shipped[name].examples:
        assert example.text[0].isupper() or example.text[0].isdigit(), example.text
        assert example.text[-1] in '.?!"', example.text
        assert not re.search(r"\s{2}|\s[.,;?!]|[{}\[\]|]", example.text), example.text
        if name != "language" or example.pole == 0:
            assert not re.search(r"\b(a [aeio]|an [^aeiouh])", example.text.lower()), example.text


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", SHIPPED)
def test_splits_are_disjoint_in_groups_and_balanced(shipped: dict[str, Task], name: str, seed: int) -> None:
    task = shipped[name]
    split = task.split(seed)
    assert sorted(np.concatenate(split).tolist()) == list(range(len(task.examples)))
    groups = [{task.examples[i].group for i in part} for part in split]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    for part, share in zip(split, (0.6, 0.2, 0.2), strict=True):
        assert part.dtype == np.int64
        assert len(part) / len(task.examples) == pytest.approx(share, abs=0.05)
        assert np.mean([task.examples[i].pole for i in part]) == pytest.approx(0.5, abs=0.02)


def test_a_split_depends_on_the_seed_and_on_nothing_else(shipped: dict[str, Task]) -> None:
    task, again = shipped["tense"], load_task("tense")
    for first, second in zip(task.split(3), again.split(3), strict=True):
        assert (first == second).all()
    assert len(task.split(3).test) != len(task.split(4).test) or (task.split(3).test != task.split(4).test).any()


def test_the_digest_is_that_of_the_examples() -> None:
    examples = [Example(f"text {i}", i % 2, f"g{i}") for i in range(20)]
    task = make_task("a", ("A", "B"), examples)
    assert task.digest == "a55adb7d966fe7efcf15035402fba33dddce68deee2d8c72f20d397313b92a99"
    assert make_task("b", ("C", "D"), examples).digest == task.digest
    assert make_task("a", ("A", "B"), examples[::-1]).digest != task.digest


def test_the_texts_of_a_shipped_task_do_not_change_unnoticed(shipped: dict[str, Task]) -> None:
    recorded = json.loads((EVALS / "tasks" / "digests.json").read_text())
    assert recorded == {name: task.digest for name, task in shipped.items()}, (
        "texts changed: results of before and after cannot be compared; renew digests.json if that is meant"
    )


@pytest.mark.parametrize("name", [n for n in SHIPPED if n in ("gender", "number", "tense", "person", "size")])
def test_markers_point_to_the_word_that_differs(shipped: dict[str, Task], name: str) -> None:
    task = shipped[name]
    words: dict[int, set[str]] = {0: set(), 1: set()}
    for example in task.examples:
        assert example.marker is not None
        start, end = example.marker
        assert re.fullmatch(r"\w[\w ]*", example.text[start:end])
        assert example.text[start - 1 : start] in ("", " ")
        assert example.text[end] in " .,;"
        words[example.pole].add(example.text[start:end])
    assert not words[0] & words[1]


def test_every_word_of_the_truth_task_is_in_as_many_true_as_false_statements(shipped: dict[str, Task]) -> None:
    words: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for example in shipped["truth"].examples:
        words[example.pole].update(example.text.lower().split())
    assert words[0] == words[1]


def test_poles_have_texts_of_the_same_length_in_words(shipped: dict[str, Task]) -> None:
    for name, task in shipped.items():
        length = [np.mean([len(e.text.split()) for e in task.examples if e.pole == p]) for p in (0, 1)]
        assert abs(length[0] - length[1]) < (1.0 if name != "language" else 1.5), name


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_task_has_its_steering_part(shipped: dict[str, Task], name: str) -> None:
    steering = shipped[name].steering
    assert steering is not None
    assert len(steering.prompts) >= 8
    assert steering.chat == (name == "refusal")
    assert min(map(len, steering.tokens)) >= 4
    assert steering.scorer is not None
    a, b = steering.scorer.patterns
    if name == "refusal":
        assert steering.scorer.kind == "prefixes"
        assert {"I'm sorry", "I cannot", "As an AI"} <= set(a)
        assert b == ()
    else:
        assert steering.scorer.kind == "words"
        assert not set(a) & set(b)
        assert all(word == word.lower() for word in (*a, *b) if name != "language")


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_task_file_is_sound_and_names_its_source(name: str) -> None:
    content = yaml.safe_load((EVALS / "tasks" / f"{name}.yaml").read_text())
    task = check_task(content)
    assert task.name == name
    assert task.source.startswith("https://")
    assert f"| {name} | {task.poles[0]}, {task.poles[1]} |" in README
    for part in task.rows.parts if task.rows and task.rows.parts else []:
        assert part.hub is None or part.hub in README


def test_the_table_of_shipped_tasks_is_current(shipped: dict[str, Task]) -> None:
    for name, task in shipped.items():
        count, groups = len(task.examples) // 2, len({e.group for e in task.examples})
        row = f"| {name} | {task.poles[0]} | {task.poles[1]} | {count} | {groups} | {', '.join(task.reads)} |"
        assert row in README.splitlines(), row


def test_the_yaml_of_the_readme_is_a_task(tmp_path: Path) -> None:
    templates, rows = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "temperature.yaml").write_text(templates)
    task = load_task(tmp_path / "temperature.yaml")
    texts = texts_of(task)
    assert ("The cook said that the soup was hot.", 0) in texts or ("The nurse said that the soup was hot.", 0) in texts
    assert any(
        text.startswith("In the desert the") and text.endswith("is cold all year.") for text, pole in texts if pole
    )
    assert task.steering is not None
    lines = ["author,stars,body"] + [f"author {i},{(5, 1, 3)[i % 3]},review {i}" for i in range(30)]
    (tmp_path / "reviews.csv").write_text("\n".join(lines))
    (tmp_path / "reviews.yaml").write_text(rows.split("local:")[0])
    assert len(load_task(tmp_path / "reviews.yaml").examples) == 20


def test_the_python_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0], {})
    assert "positive" in capsys.readouterr().out


def test_multiple_choice_questions_are_balanced_and_different() -> None:
    lines = (EVALS / "multiple_choice" / "general_knowledge.jsonl").read_text().splitlines()
    questions = [json.loads(line) for line in lines]
    assert f"{len(questions)} questions" in README
    assert len({q["question"] for q in questions}) == len(questions) >= 200
    places = Counter(q["answer"] for q in questions)
    assert set(places) == {0, 1, 2, 3}
    assert max(places.values()) - min(places.values()) <= 1
    for q in questions:
        assert set(q) == {"question", "choices", "answer"}
        assert len(set(q["choices"])) == 4
    longest = np.mean([max(q["choices"], key=len) == q["choices"][q["answer"]] for q in questions])
    assert longest < 0.35


# ---- templates


def test_a_template_makes_minimal_pairs() -> None:
    pairs = expand("{Day} [{he|she}] saw {thing}.", {"day": ["today", "now"], "thing": ["a dog|two dogs"]})
    assert [p.texts for p in pairs] == [
        ("Today he saw a dog.", "Today she saw two dogs."),
        ("Now he saw a dog.", "Now she saw two dogs."),
    ]
    assert pairs[0].markers == ((6, 8), (6, 9))


def test_slots_of_one_filler_share_a_row_and_a_shift_takes_another() -> None:
    rows = [["France", "Paris"], ["Italy", "Rome"], ["Spain", "Madrid"]]
    pairs = expand("{c.1}: {{c.2}|{c.2~1}}", {"c": rows})
    assert [p.texts for p in pairs] == [
        ("France: Paris", "France: Rome"),
        ("Italy: Rome", "Italy: Madrid"),
        ("Spain: Madrid", "Spain: Paris"),
    ]


def test_a_draw_of_fillings_is_the_same_everywhere() -> None:
    drawn = expand("{a|b} {n}", {"n": [str(i) for i in range(100)]}, most=5)
    assert [p.texts[0] for p in drawn] == ["a 27", "a 42", "a 54", "a 62", "a 81"]


@given(st.text(alphabet="{}[]|~.1a ", max_size=20))
def test_no_template_raises_anything_but_config_error(template: str) -> None:
    try:
        pairs = expand(template, {"a": ["x", "y|z"], "a1": [["p", "q"]]}, most=3)
    except ConfigError:
        return
    for pair in pairs:
        assert pair.texts[0] != pair.texts[1]


# ---- rows


CSV = "body,mood,author\n" + "".join(f'"Review, number {i}",{i % 2},a{i // 2}\n' for i in range(24))


def test_rows_of_every_format_are_the_same_task(tmp_path: Path) -> None:
    rows = [{"body": f"Review, number {i}", "mood": i % 2, "author": f"a{i // 2}"} for i in range(24)]
    (tmp_path / "rows.csv").write_text(CSV)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "rows.tsv").write_text(
        CSV.replace('"', "").replace("Review, number", "Review; number").replace(",", "\t").replace(";", ",")
    )
    tasks = [
        load_task(written(tmp_path, rows_file(**{"from": [{"file": f"rows.{ending}"}], "group": "author"})))
        for ending in ("csv", "jsonl", "json", "tsv")
    ]
    assert len({task.digest for task in tasks}) == 1
    assert tasks[0].examples[1] == Example("Review, number 1", 0, "a0")


def test_conllu_files_give_their_comments_as_columns(tmp_path: Path) -> None:
    for name, word in (("en", "dog"), ("fr", "chien")):
        blocks = [
            (f"# newdoc id = d{i}\n" if i % 2 == 0 else "") + f"# sent_id = s{i}\n# text = {word} {i}\n1\t{word}\t_\n"
            for i in range(20)
        ]
        (tmp_path / f"{name}.conllu").write_text("\n".join(blocks))
    parts = [{"file": "en.conllu", "pole": "good"}, {"file": "fr.conllu", "pole": "bad"}]
    task = load_task(
        written(
            tmp_path, rows_file(**{"from": parts, "text": "text", "group": "newdoc_id", "label": None, "labels": None})
        )
    )
    assert task.examples[3] == Example("dog 3", 0, "d2")
    assert len(task.examples) == 40


def test_patterns_of_columns_and_both_poles_from_one_row(tmp_path: Path) -> None:
    rows = [{"q": f"Is {i} it?", "a": {"yes": "Yes.", "no": "No."}} for i in range(10)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = {"good": "{q} {a[yes]}", "bad": "{q} {a[no]}"}
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


def test_a_text_that_comes_twice_is_kept_in_test_and_one_with_both_labels_nowhere(tmp_path: Path) -> None:
    rows = [f"text {i},{i % 2},{part}" for part in ("train", "test") for i in range(20)]
    rows += ["text 3,1,train", "both,0,train", "both,1,test", *(f"more {i},{i % 2},train" for i in range(12))]
    (tmp_path / "rows.csv").write_text("body,mood,part\n" + "\n".join(rows))
    task = load_task(written(tmp_path, rows_file(split="part", splits={"train": "train", "test": "test"})))
    assert {e.text for e, s in zip(task.examples, task.own_split or (), strict=True) if s == "test"} == {
        f"text {i}" for i in range(20)
    }
    assert "both" not in {e.text for e in task.examples}


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


# ---- the Hub and what replaces it


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Rows by data set and split, served where the network would be asked."""
    content: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def load_dataset(path: str, _: str | None = None, *, split: str, **__: Any) -> datasets.Dataset:
        if (path, split) not in content:
            raise ConnectionError("no network here")
        return datasets.Dataset.from_list(content[path, split])

    monkeypatch.setattr(training_text, "load_dataset", load_dataset)
    return content


def test_a_public_set_is_read_from_the_hub_by_its_id(hub: dict[tuple[str, str], list[dict[str, Any]]]) -> None:
    for split, n in (("train", 40), ("validation", 10)):
        hub["stanfordnlp/sst2", split] = [
            {"idx": i, "sentence": f"{split} sentence {i} ", "label": i % 2} for i in range(n)
        ]
    task = load_task("public/sst2")
    train, val, test = task.split(0)
    assert (len(train), len(val), len(test)) == (32, 8, 10)
    first = next(e for e in task.examples if e.text == "train sentence 1")
    assert first.pole == task.poles.index("positive")


def test_columns_that_hold_columns_and_both_poles_are_read_from_the_hub(
    hub: dict[tuple[str, str], list[dict[str, Any]]],
) -> None:
    pairs = [{"id": str(i), "translation": {"en": f"House {i}.", "fr": f"Maison {i}."}} for i in range(20)]
    hub["Helsinki-NLP/opus_books", "train"] = pairs
    assert {("House 7.", 0), ("Maison 7.", 1)} <= texts_of(load_task("public/english_french"))
    facts = [
        {"prompt": f"Fact {i} is", "target_true": " so", "target_false": " not", "subject": f"s{i}"} for i in range(9)
    ]
    hub["NeelNanda/counterfact-tracing", "train"] = facts
    assert {("Fact 2 is so.", 0), ("Fact 2 is not.", 1)} <= texts_of(load_task("public/counterfact"))


def test_without_the_hub_the_error_says_what_to_do(hub: dict[tuple[str, str], list[dict[str, Any]]]) -> None:
    assert hub == {}
    with pytest.raises(ConfigError, match=r"public/sst2\.yaml.*stanfordnlp/sst2.*local=PATH"):
        load_task("public/sst2")


def test_files_named_after_the_splits_replace_the_hub(tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        rows = [{"hard_text": f"{split} {i}", "profession": 1, "gender": i % 2} for i in range(20)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = load_task("public/bias_in_bios", local=tmp_path)
    assert [len(part) for part in task.split(0)] == [20, 20, 20]
    (tmp_path / "dev.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"no file for the split 'dev' of LabHC/bias_in_bios.*dev\.csv"):
        load_task("public/bias_in_bios", local=tmp_path)


def test_the_files_that_a_public_task_names_replace_the_hub(tmp_path: Path) -> None:
    (tmp_path / "facts_true_false.csv").write_text(
        "statement,label\n" + "".join(f"Fact {i}.,{i % 2}\n" for i in range(20))
    )
    by_folder = load_task("public/facts", local=tmp_path)
    by_file = load_task("public/facts", local=tmp_path / "facts_true_false.csv")
    assert by_folder.digest == by_file.digest
    assert by_folder.examples[1] == Example("Fact 1.", 0, "facts_true_false.csv 2")


def test_local_as_a_key_is_relative_to_the_task_file_and_may_differ_in_columns(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.csv").write_text(CSV.replace("body", "words"))
    content = rows_file(**{"from": [{"hub": "some/where"}]})
    content["local"] = {"path": "data", "from": [{"file": "mine.csv"}], "text": "words"}
    assert len(load_task(written(tmp_path, content)).examples) == 24


def test_the_same_files_elsewhere_give_the_same_digest(tmp_path: Path) -> None:
    digests = set()
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.csv").write_text(CSV)
        digests.add(load_task(written(tmp_path / name, rows_file())).digest)
    assert len(digests) == 1


def test_treebanks_become_the_files_of_the_ud_tasks(tmp_path: Path) -> None:
    def sentence(i: int, past: bool, plural: bool) -> str:
        noun, verb = ("dogs" if plural else "dog"), ("barked" if past else ("bark" if plural else "barks"))
        features = f"Tense={'Past' if past else 'Pres'}|VerbForm=Fin"
        return (
            f"# text = The {noun} {verb} {i}.\n1\tThe\tthe\tDET\tDT\t_\t2\tdet\t_\t_\n"
            f"2\t{noun}\tdog\tNOUN\tNN\tNumber={'Plur' if plural else 'Sing'}\t3\tnsubj\t_\t_\n"
            f"3\t{verb}\tbark\tVERB\tVB\t{features}\t0\troot\t_\t_\n"
        )

    banks = []
    for part in ("train", "dev", "test"):
        banks.append(tmp_path / f"en_ewt-ud-{part}.conllu")
        start = 100 * len(banks)
        banks[-1].write_text("\n".join(sentence(start + i, i % 2 == 0, i % 4 > 1) for i in range(24)))
    runpy.run_path(str(EVALS / "tasks" / "public" / "ud_ewt.py"))["write"](tmp_path / "out", banks)
    tense, number = (load_task(f"public/ud_{name}", local=tmp_path / "out") for name in ("tense", "number"))
    assert tense.examples[0] == Example("The dog barked 100.", 0, "tense.tsv 1")
    assert [len(part) for part in tense.split(0)] == [24, 24, 24]
    plural = next(e for e in number.examples if e.pole == 1)
    assert plural.marker is not None
    assert plural.text[slice(*plural.marker)] == "dogs"


# ---- refusals


BAD_FILES: list[tuple[dict[str, Any], str]] = [
    (minimal(pole=["he", "she"]), r"unknown key 'pole'; did you mean 'poles'\?"),
    (minimal(poles=["he"]), r"poles=\['he'\].*at least 2 items.*the two poles in words"),
    (minimal(poles=[True, False]), r"poles\.0=True.*valid string.*quote words such as 'true'"),
    (minimal(poles=["he", "he"]), "must be two different words"),
    (minimal(licence=None), "licence is missing: the licence of the texts"),
    (minimal(reads=["first"]), r"reads\.0='first'.*'last', 'mean' or 'marked'"),
    (minimal(expansions=0), "expansions=0.*greater than or equal to 1"),
    (minimal(templates=[]), r"templates=\[\].*at least 1 item"),
    (minimal(templates=None, fillers=None), "give either templates .* or rows"),
    (minimal(fillers={"day": []}), r"fillers\.day is empty"),
    (minimal(fillers={"day": ["a", "a"]}), r"fillers\.day has an entry twice"),
    (minimal(fillers={"day": [["a", "b"], ["c"]]}), r"fillers\.day has rows of 1 and of 2 columns"),
    (minimal(fillers={"day": ["a {b}"]}), "brace or bracket"),
    (minimal(fillers={"day": ["Monday"], "dya": ["x"]}), "no template has a slot for the fillers dya"),
    (minimal(fillers={"dya": ["Monday"]}), r"slot \{day\}, for which there is no filler; fillers: dya"),
    (minimal(templates=["{he|she|it} came {day}."]), r"\{he\|she\|it\} must be \{words of A\|words of B\}"),
    (minimal(templates=["It rained on {day}."]), "gives the same text for both poles"),
    (minimal(templates=["{day} {he|she} came"]), "has 1 groups of texts; a split by group needs at least 5"),
    (minimal(templates=["{day} {he|she} {came."]), "brace or a bar without its partner"),
    (minimal(templates=["{day} {he|she} came."] * 2), "comes twice; take one out"),
    (minimal(templates=[{"text": "{day} {he|she}", "pole": "it"}]), "pole='it' is not one of the poles 'he' and 'she'"),
    (minimal(templates=[{"txt": "{day} {he|she}"}]), r"templates\.0: unknown key 'txt'; did you mean 'text'"),
    (
        minimal(reads=["marked"], templates=["{day} {he|she} came."]),
        r"reads has 'marked', but the template .* no \[word\]",
    ),
    (minimal(templates=["[{he|she}] [came] on {day}."]), "marks 2 words"),
    (minimal(local={"path": "x"}), "local replaces rows"),
    (minimal(steering={"prompts": ["a", "b"], "tokens": {}}), r"steering\.prompts.*at least 4 prompts"),
    (
        minimal(steering={"prompts": list("abcd"), "tokens": {"he": [" he"], "her": [" she"]}}),
        r"steering\.tokens has keys \['he', 'her'\]; they must be the poles",
    ),
    (
        minimal(
            steering={
                "prompts": list("abcd"),
                "tokens": {"he": [" he"], "she": [" she"]},
                "scorer": {"kind": "prefixes", "she": ["No"]},
            }
        ),
        r"steering\.scorer has keys .* the pole that the prefixes show, which comes first",
    ),
    (rows_file(**{"from": [{}]}), r"rows\.from\.0 needs either file .* or hub"),
    (rows_file(text=None), r"rows\.text is missing"),
    (rows_file(label=None), "does not say which row belongs to which pole"),
    (rows_file(labels={1: "good"}), r"rows\.labels leads to \['good'\]; it must lead to both poles"),
    (rows_file(split="part"), r"rows\.split names a column and rows\.splits its values"),
    (rows_file(extract={"body": "("}), r"rows\.extract: the pattern '\(' of body is not a regular expression"),
    (rows_file(extract={"body": "a"}), r"no named group"),
    (rows_file(limit=-1), r"rows\.limit=-1"),
    (
        rows_file(**{"from": [{"file": "rows.csv", "use": "dev"}]}),
        r"rows\.from\.0\.use='dev'.*'train', 'val' or 'test'",
    ),
    (
        rows_file(**{"from": [{"file": "rows.csv", "pole": "god"}]}),
        r"rows\.from\.0\.pole='god' is not one of the poles",
    ),
    (rows_file(**{"from": [{"file": "missing.csv"}]}), r"no such file: .*missing\.csv; .*local=PATH"),
    (rows_file(**{"from": [{"file": "task.yaml"}]}), "files of rows end in"),
    (rows_file(text="bdy"), r"rows\.csv, row 1: no column 'bdy'.*the columns are body, mood, author"),
    (rows_file(labels={"x": "good", "y": "bad"}), r"row 1: the value '0' is one that labels does not list \(x, y\)"),
    (rows_file(marked="author") | {"reads": ["marked"]}, "the marked word 'a0' does not stand in"),
    (rows_file(split="mood", splits={0: "train", 1: "test"}, group="author"), "the group 'a0' is in train and in test"),
]


@pytest.mark.parametrize(("content", "sentence"), BAD_FILES, ids=[s[:50] for _, s in BAD_FILES])
def test_a_bad_file_is_refused_with_file_key_and_remedy(tmp_path: Path, content: dict[str, Any], sentence: str) -> None:
    (tmp_path / "rows.csv").write_text(CSV)
    with pytest.raises(ConfigError, match=sentence) as caught:
        load_task(written(tmp_path, content))
    assert str(caught.value).startswith(str(tmp_path / "task.yaml"))


def test_a_bad_file_is_refused_before_any_data_are_read(tmp_path: Path, hub: dict[tuple[str, str], Any]) -> None:
    assert hub == {}
    content = rows_file(**{"from": [{"hub": "some/where"}]}, labels={0: "god"})
    with pytest.raises(ConfigError, match=r"rows\.labels"):
        load_task(written(tmp_path, content))


@pytest.mark.parametrize(
    ("name", "local", "sentence"),
    [
        ("gendr", None, "did you mean 'gender'"),
        ("nowhere.yaml", None, "no such file"),
        ("gender", ".", "has nothing to replace"),
        ("public/facts", "nowhere", "no such file or folder"),
    ],
)
def test_a_wrong_name_or_local_is_answered(name: str, local: str | None, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_task(name, local=local)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("rows.csv", "body,mood\nx,0,1\n", "row 1: not a row of named columns"),
        ("rows.csv", "", "has no rows"),
        ("rows.jsonl", '{"body": 1', "cannot be read as jsonl"),
        ("rows.json", "[1]", "row 1: not a row of named columns"),
        ("rows.csv", "body,mood\n ,0\n", "row 1: the text is empty"),
    ],
)
def test_a_broken_data_file_is_refused(tmp_path: Path, name: str, content: str, sentence: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=sentence):
        load_task(written(tmp_path, rows_file(**{"from": [{"file": name}]})))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats()
    | st.dates()
    | st.sampled_from(["he", "she", "last", "marked", "{he|she} {day}", "[{day}", "rows.csv", "body", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["he", "she", "day", "text", "from", "file", "kind", "pole", "tokens", "prompts"])
            | st.integers(0, 1)
            | st.none(),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
KEYS = st.sampled_from([info.alias or name for name, info in TaskFile.model_fields.items()])


@settings(max_examples=300)
@given(st.dictionaries(KEYS, VALUES, max_size=3), st.booleans())
def test_an_arbitrary_mapping_raises_nothing_but_config_error(changes: dict[Any, Any], rows: bool) -> None:
    raw = {**(rows_file() if rows else minimal()), **changes}
    caught = None
    try:
        build_task(check_task(raw, where="x.yaml"), where="x.yaml", folder=Path("/nonexistent"))
    except ConfigError as error:
        caught = str(error)
    assert caught is None or re.match(r"x\.yaml: .{10}", caught)
