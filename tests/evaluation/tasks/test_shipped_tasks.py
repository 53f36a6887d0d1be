import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import roc_auc_score
from sklearn.naive_bayes import MultinomialNB

from sae_lens_abstopk.evaluation.suite.suite import drawn
from sae_lens_abstopk.evaluation.tasks.load_task import load_task, task_names
from sae_lens_abstopk.evaluation.tasks.task import Example, Task
from sae_lens_abstopk.evaluation.tasks.task_schema import TaskFile
from sae_lens_abstopk.evaluation.tasks.text_scorers import pole_score
from sae_lens_abstopk.system.typed_values import parsed
from sae_lens_abstopk.system.yaml_files import data_folder
from tests.evaluation.task_files import texts_of

EVALS = data_folder("evals")
README = (EVALS / "README.md").read_text()
SHIPPED = [name for name in task_names() if "/" not in name]
PUBLIC = [name for name in task_names() if name.startswith("public/")]


@pytest.fixture(scope="module")
def shipped() -> dict[str, Task]:
    return {name: load_task(name) for name in SHIPPED}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_task_has_enough_texts_which_read_as_sentences(shipped: dict[str, Task], name: str) -> None:
    task = shipped[name]
    count = Counter(e.pole for e in task.examples)
    assert (task.name, task.licence) == (name, "MIT")
    assert count[0] == count[1] >= 200
    assert len(set(task.groups)) >= 10
    for example in task.examples:
        assert example.text[0].isupper() or example.text[0].isdigit(), example.text
        assert example.text[-1] in '.?!"', example.text
        assert not re.search(r"\s{2}|\s[.,;?!]|[{}\[\]|]", example.text), example.text
        if name != "language" or example.pole == 0:
            assert not re.search(r"\b(a [aeio]|an [^aeiouh])", example.text.lower()), example.text


@pytest.mark.parametrize("name", SHIPPED)
def test_splits_are_disjoint_in_groups_and_balanced(shipped: dict[str, Task], name: str) -> None:
    task = shipped[name]
    split = task.split(seed=1)
    assert sorted(np.concatenate(split).tolist()) == list(range(len(task.examples)))
    groups = [{task.examples[i].group for i in part} for part in split]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    for part, share in zip(split, (0.6, 0.2, 0.2), strict=True):
        assert part.dtype == np.int64
        assert len(part) / len(task.examples) == pytest.approx(share, abs=0.05)
        assert np.mean([task.examples[i].pole for i in part]) == pytest.approx(0.5, abs=0.02)


def test_the_digest_is_that_of_the_examples() -> None:
    examples = tuple(Example(f"text {i}", i % 2, f"g{i}") for i in range(20))
    task = Task("a", ("A", "B"), examples)
    assert task.digest == "a55adb7d966fe7efcf15035402fba33dddce68deee2d8c72f20d397313b92a99"
    assert Task("b", ("C", "D"), examples).digest == task.digest
    assert Task("a", ("A", "B"), examples[::-1]).digest != task.digest
    fewer = drawn(task, 7, 0)
    assert fewer.digest == Task("a", ("A", "B"), fewer.examples).digest != task.digest
    assert task.split(3).test.tolist() != task.split(4).test.tolist()


def test_the_texts_of_a_shipped_task_do_not_change_unnoticed(shipped: dict[str, Task]) -> None:
    assert (len(SHIPPED), len(PUBLIC)) == (12, 11)
    recorded = json.loads((EVALS / "tasks" / "digests.json").read_text())
    assert recorded == {name: task.digest for name, task in shipped.items()}, (
        "texts changed: results of before and after cannot be compared; renew digests.json if that is meant"
    )


@pytest.mark.parametrize("name", [n for n in SHIPPED if n in ("gender", "number", "tense", "person", "size")])
def test_markers_point_to_the_word_that_differs(shipped: dict[str, Task], name: str) -> None:
    task = shipped[name]
    words: dict[int, set[str]] = {0: set(), 1: set()}
    for example in task.examples:
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


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_task_has_its_steering_part(shipped: dict[str, Task], name: str) -> None:
    steering = shipped[name].steering
    assert len(steering.prompts) >= 8
    assert steering.chat == (name == "refusal")
    assert min(map(len, steering.tokens)) >= 4
    a, b = steering.scorer.patterns
    assert steering.scorer.kind == ("prefixes" if name == "refusal" else "words")
    assert not set(a) & set(b)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_task_file_is_sound_and_names_its_source(name: str) -> None:
    content = yaml.safe_load((EVALS / "tasks" / f"{name}.yaml").read_text())
    task = parsed(TaskFile, content)
    assert task.name == name
    assert task.source.startswith("https://")
    assert f"| {name} | {task.poles[0]}, {task.poles[1]} |" in README
    for part in task.rows.parts if task.rows and task.rows.parts else []:
        assert part.hub is None or part.hub in README


def test_the_table_of_shipped_tasks_is_current(shipped: dict[str, Task]) -> None:
    for name, task in shipped.items():
        count, groups = len(task.examples) // 2, len({e.group for e in task.examples})
        reads, words = ", ".join(task.reads), f"{words_alone(task):.2f}"
        row = f"| {name} | {task.poles[0]} | {task.poles[1]} | {count} | {groups} | {reads} | {words} |"
        assert row in README.splitlines(), row


def words_alone(task: Task) -> float:
    """AUROC on test of naive Bayes on the words of a text, fitted on train."""
    train, _, test = task.split(seed=0)
    texts = np.array([example.text for example in task.examples])
    words = CountVectorizer(token_pattern=r"\b\w+\b").fit(texts[train])
    fitted = MultinomialNB().fit(words.transform(texts[train]), task.labels[train])
    of_poles = fitted.predict_log_proba(words.transform(texts[test]))
    return float(roc_auc_score(task.labels[test], of_poles[:, 1] - of_poles[:, 0]))


@pytest.mark.parametrize(
    ("name", "pole", "text"),
    [
        ("certainty", 1, "There is some chance that the bridge will open."),
        ("number", 1, "The lamps are flickering a little in this room."),
        ("truth", 1, "That is not true."),
        ("sentiment", 1, "It was not good."),
        ("sentiment", 0, "Not bad at all."),
        ("tense", 1, "It's late and they don't know."),
    ],
)
def test_a_scorer_of_words_knows_negations_and_contractions(
    shipped: dict[str, Task], name: str, pole: int, text: str
) -> None:
    part = shipped[name].steering
    assert pole_score(part.scorer, text) == (1 if pole else -1)


def test_a_scorer_hardly_ever_takes_a_text_of_its_task_for_the_other_pole(shipped: dict[str, Task]) -> None:
    for name, task in shipped.items():
        if task.steering is None or task.steering.scorer is None or name == "refusal":
            continue
        scores = np.sign([pole_score(task.steering.scorer, example.text) for example in task.examples])
        towards = np.where(task.labels == 1, 1, -1)
        assert (scores == -towards).mean() < 0.035, name
        assert (scores == towards).mean() > 5 * (scores == -towards).mean() or name == "truth", name


def test_the_yaml_of_the_readme_is_a_task(tmp_path: Path) -> None:
    templates, rows = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "temperature.yaml").write_text(templates)
    task = load_task(tmp_path / "temperature.yaml")
    texts = texts_of(task)
    assert ("The cook said that the soup was hot.", 0) in texts or ("The nurse said that the soup was hot.", 0) in texts
    taken_out = {(text.rsplit(maxsplit=1)[1], pole) for text, pole in texts if "out of the" in text}
    assert taken_out == {("oven.", 0), ("fire.", 0), ("freezer.", 1), ("snow.", 1)}
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
    assert len({q["question"] for q in questions}) == len(questions) >= 200
    places = Counter(q["answer"] for q in questions)
    assert set(places) == {0, 1, 2, 3}
    assert max(places.values()) - min(places.values()) <= 1
    for q in questions:
        assert set(q) == {"question", "choices", "answer"}
        assert len(set(q["choices"])) == 4
    longest = np.mean([max(q["choices"], key=len) == q["choices"][q["answer"]] for q in questions])
    assert longest < 0.3
