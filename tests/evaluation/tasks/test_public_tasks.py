import json
import runpy
from pathlib import Path
from typing import Any

import datasets
import pytest

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.evaluation.tasks.load_task import load_task
from sae_lens_abstopk.evaluation.tasks.task import Example
from sae_lens_abstopk.system.yaml_files import data_folder
from sae_lens_abstopk.text import documents as model_text
from tests.evaluation.task_files import CSV, rows_file, texts_of, written

EVALS = data_folder("evals")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Rows by data set and split, served where the network would be asked."""
    content: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def load_dataset(path: str, _: str | None = None, *, split: str, **__: Any) -> datasets.Dataset:
        if (path, split) not in content:
            raise ConnectionError("no network here")
        return datasets.Dataset.from_list(content[path, split])

    monkeypatch.setattr(model_text, "load_dataset", load_dataset)
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
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine.csv").write_text((tmp_path / "data" / "mine.csv").read_text())
    task = load_task(written(tmp_path, content))
    assert len(task.examples) == 24
    assert load_task(tmp_path / "task.yaml", local=tmp_path / "elsewhere").digest == task.digest


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
    assert tense.examples[0] == Example("The dog barked 100.", 0, "tense.tsv 1", split="train")
    assert [len(part) for part in tense.split(0)] == [24, 24, 24]
    plural = next(e for e in number.examples if e.pole == 1)
    assert plural.text[slice(*plural.marker)] == "dogs"
