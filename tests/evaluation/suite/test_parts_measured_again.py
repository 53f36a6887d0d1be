"""Which parts of a finished evaluation are measured again: those whose inputs changed, and no others."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from safetensors.torch import load_file, save_file

from sae_lens_abstopk import evaluate
from sae_lens_abstopk.evaluation.results.schema import Results, read_results
from sae_lens_abstopk.evaluation.suite import evaluate as evaluation
from sae_lens_abstopk.evaluation.suite.suite import Suite
from tests.evaluation.conftest import small_suite
from tests.evaluation.task_files import CONCEPT

pytestmark = pytest.mark.slow

MEASURE = ("read_text", "match_seeds", "untrained_saes", "probe_on_task", "steer_on_task")


class Finished(NamedTuple):
    """An evaluation, and a folder with its parts and copies of all that it read."""

    folder: Path
    suite: dict[str, Any]

    def again(self, *, suite: dict[str, Any] | None = None, **options: Any) -> Results:
        """The evaluation of the same files, with other options."""
        files = {"text": str(self.folder / "plain.jsonl"), "model_name": str(self.folder / "model")}
        asked = self.suite | (suite or {})
        asked["steering"] = self.suite["steering"] | asked["steering"]
        return evaluate([self.folder / "sae"], suite=Suite(**asked), out=self.folder / "out", **files, **options)


@pytest.fixture(scope="module")
def measured(trained: Path, tiny_llama: Path, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    root = tmp_path_factory.mktemp("measured")
    shutil.copytree(trained, root / "sae")
    shutil.copytree(tiny_llama, root / "model")
    shutil.copyfile(texts, root / "plain.jsonl")
    (root / "temperature.yaml").write_text(CONCEPT)
    made = Finished(root, small_suite(str(root / "temperature.yaml")) | {"untrained": False})
    made.again()
    return made


@pytest.fixture
def finished(measured: Finished, monkeypatch: pytest.MonkeyPatch) -> Iterator[Finished]:
    """An evaluation that is done and fails as soon as it measures; its files are as they were when the test is over."""
    before = {path: path.read_bytes() for path in measured.folder.rglob("*") if path.is_file()}
    for name in MEASURE:
        monkeypatch.setattr(evaluation, name, lambda *_, name=name, **__: pytest.fail(f"{name} is called"))
    yield measured
    for path, content in before.items():
        if not path.is_file() or path.read_bytes() != content:
            path.write_bytes(content)


def test_finished_parts_are_not_computed_again_but_for_another_code_or_model(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_results(finished.folder / "out" / "results.json").model_dump_json(exclude={"created"})
    (finished.folder / "out" / "parts" / "geometry.json").write_text("{torn")
    assert finished.again().model_dump_json(exclude={"created"}) == before
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "CODE_DIGEST", "another")
        with pytest.raises(pytest.fail.Exception, match="read_text is called"):
            finished.again()
    path = finished.folder / "model" / "model.safetensors"  # trained on, and saved in place
    save_file({name: weight * 1.01 for name, weight in load_file(path).items()}, path, {"format": "pt"})
    with pytest.raises(pytest.fail.Exception, match="read_text is called"):
        finished.again()


@pytest.mark.parametrize(
    ("options", "called"),
    [
        ({"seed": 1}, "read_text"),
        ({"suite": {"reconstruction": {"tokens": 300}}}, "read_text"),
        ({"groups": {"abstopk": "seeds"}}, "match_seeds"),
        ({"suite": {"untrained": True}}, "untrained_saes"),
        ({"suite": {"texts_per_pole": 31}}, "probe_on_task"),
        ({"suite": {"steering": {"budget": 0.2}}}, "steer_on_task"),
    ],
)
def test_a_part_is_measured_again_under_other_settings(
    options: dict[str, Any], called: str, finished: Finished
) -> None:
    (finished.folder / "out" / "results.json").unlink()  # which would not be written over by those of another seed
    with pytest.raises(pytest.fail.Exception, match=f"{called} is called"):
        finished.again(**options)


@pytest.mark.parametrize(
    ("file", "old", "new", "called"),
    [
        ("temperature.yaml", "reads: [last, mean]", "reads: [mean]", "probe_on_task"),
        ("temperature.yaml", "cold", "chilly", "probe_on_task"),
        ("temperature.yaml", "The water is", "The lake is", "steer_on_task"),
        # controls are centred on plain text and steering is scaled by it, so other text makes everything again
        ("plain.jsonl", '{"text"', '{"text": "One more."}\n{"text"', "read_text"),
        ("sae/cfg.json", '"k": 4', '"k": 5', "read_text"),
        ("sae/config.yaml", "autocast_lm: false", "autocast_lm: true", "read_text"),
    ],
)
def test_a_part_is_measured_again_where_a_file_that_it_reads_changed(
    file: str, old: str, new: str, called: str, finished: Finished
) -> None:
    path = finished.folder / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(pytest.fail.Exception, match=f"{called} is called"):
        finished.again()


def test_untrained_controls_are_made_once_for_all_tasks(
    trained: Path, small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = tmp_path / "again.yaml"
    again.write_text(CONCEPT.replace("name: temperature", "name: again"))
    suite = Suite(**{**small, "tasks": (*small["tasks"], str(again)), "steering": None})
    made = []
    plain = evaluation.untrained_saes
    monkeypatch.setattr(evaluation, "untrained_saes", lambda *of: made.append(plain(*of)) or made[-1])
    results = evaluate([trained], suite=suite, out=tmp_path / "out")
    assert len(made) == 1
    tasks = [of.saes["abstopk"].probes for of in results.tasks.values()]
    assert tasks[0] == tasks[1], "the second task has the same texts, and the same control"
    evaluate([trained], suite=suite, out=tmp_path / "out")
    assert len(made) == 1, "nor are they made where every task is read from disk"
