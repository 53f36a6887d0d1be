"""SAEBench without SAEBench: verdicts, class sets, result files, and refusals before any work."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sae_lens_abstopk.evaluation.results.facts import weights_sha256
from sae_lens_abstopk.evaluation.tasks.load_task import load_task
from sae_lens_abstopk.interop import saebench
from sae_lens_abstopk.interop.saebench import MISREAD, NOT_RUN, replace_result, run_saebench
from sae_lens_abstopk.interop.saebench_evals import EVALS
from sae_lens_abstopk.interop.saebench_input import class_set, joined, open_input
from sae_lens_abstopk.system.errors import ConfigError
from tests.cli.test_cli import invoke
from tests.interop.conftest import F

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/saebench.md"


def test_the_page_shows_the_recorded_numbers() -> None:
    page, record = " ".join(PAGE.read_text().split()), json.loads((ROOT / "evals/results/saebench.json").read_text())
    core = record["parts"]["core"]
    assert core["largest_relative_difference"] < 1e-5
    assert f"{core['tokens']:,} held-out tokens" in page
    without = f"{core['fvu_ours_without_massive_activations']:.2f} without {core['massive_activations']}"
    assert f"FVU is {core['fvu_ours']:.2f} on these tokens, {without} of them" in page


def test_the_page_has_the_verdicts_and_what_is_not_run() -> None:
    page = PAGE.read_text()
    as_is = dict(re.findall(r"^\| `(\w+)` \| \*\*(\w+)\*\*", page, re.MULTILINE))
    assert as_is.keys() == EVALS.keys() | NOT_RUN.keys()
    assert {name for name, verdict in as_is.items() if verdict == "wrong"} == set(MISREAD)
    (not_run,) = re.findall(r"does not run (.*), and says why", page)
    assert set(re.findall(r"`(\w+)`", not_run)) == NOT_RUN.keys()


def test_the_poles_of_a_task_become_classes_of_one_size_with_val_in_train() -> None:
    task = load_task("gender")
    texts, split = class_set(task), task.split(0)
    assert list(texts.train) == list(task.poles)
    for classes, rows in ((texts.train, [*split.train, *split.val]), (texts.test, split.test)):
        assert len({len(found) for found in classes.values()}) == 1
        for place, pole in enumerate(task.poles):
            assert set(classes[pole]) <= {task.examples[i].text for i in rows if task.examples[i].pole == place}
    train, test = ({text for found in classes.values() for text in found} for classes in (texts.train, texts.test))
    assert not train & test


def test_joined_tasks_have_more_than_two_classes() -> None:
    gender, size = class_set(load_task("gender")), class_set(load_task("size"))
    both = joined([gender, size])
    assert both.name == "gender+size"
    assert len(both.train) == 4
    assert len({len(texts) for texts in both.train.values()}) == 1
    assert both.train["gender: he"][0] in gender.train["he"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"evals": ["cores"]}, "'cores' cannot be run from here: there are core, sparse_probing"),
        ({"evals": [""]}, "'' cannot be run from here: there are core"),
        ({"evals": ["unlearning"]}, "'unlearning' cannot be run from here: it needs a forget corpus"),
        ({"evals": ["tpp"], "as_is": True}, "'tpp' cannot be run from here: it misreads signed codes"),
        ({"evals": ["scr"], "tasks": ["gender"]}, "scr needs texts with two correlated attributes"),
        ({"evals": ["core"], "tasks": ["gender"]}, "--task is for sparse_probing and tpp"),
        ({"evals": ["tpp"], "tasks": ["gender"]}, "the number of tasks for tpp=1 must be at least 2"),
        ({"evals": ["tpp"], "tasks": ["gender", "gender"]}, "--task 'gender' comes twice"),
        ({"evals": "core", "out": __file__}, "is a file; give another with --out"),
        ({"evals": "core"}, "nowhere: no such folder"),
    ],
)
def test_a_mistake_is_refused_before_any_work(
    options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saebench, "find_spec", bool)
    with pytest.raises(ConfigError, match=re.escape(message)):
        run_saebench("nowhere", **{"out": tmp_path / "out", **options})
    assert not (tmp_path / "out").exists()


def test_only_core_needs_a_text(signed_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saebench, "find_spec", bool)
    with pytest.raises(ConfigError, match="give --text"):
        run_saebench(signed_folder, out=tmp_path / "out", evals=["core"])
    with pytest.raises(ConfigError, match="model_name='no/such' could not be loaded"):
        run_saebench(signed_folder, out=tmp_path / "out", evals=["sparse_probing"], model_name="no/such")


@pytest.mark.parametrize(("as_is", "name", "d_sae"), [(False, "mine_{}_mirror", 2 * F), (True, "mine_{}", F)])
def test_a_signed_sae_is_mirrored_unless_asked_otherwise_and_read_behind_a_bos(
    signed_folder: Path, texts: Path, as_is: bool, name: str, d_sae: int
) -> None:
    options: dict[str, Any] = {"model_name": None, "tasks": (), "n_tokens": 64, "seed": 0, "device": "auto"}
    subject = open_input(signed_folder, as_is=as_is, text=str(texts), reads_text=True, **options)
    digest = str(weights_sha256(signed_folder))[:8]
    assert (subject.name, subject.sae.cfg.d_sae) == (name.format(digest), d_sae), "SAEs of one label are told apart"
    assert type(subject.sae).__module__.startswith("sae_lens.") or as_is, "a stock SAE"
    assert subject.sae.cfg.metadata.prepend_bos is True, "position 0 was left out of its training"


@pytest.mark.parametrize("name", ["mine", "mine_mirror", "a[b]"])
def test_a_new_result_replaces_that_of_its_own_sae_alone(tmp_path: Path, name: str) -> None:
    fresh, folder, ending = tmp_path / "fresh", tmp_path / "core", "_custom_sae_eval_results.json"
    others = {f"{other}{ending}": "another SAE's" for other in ("mine_2", "other_mine", "mine_mirror_2", "ab")}
    (folder / "old").mkdir(parents=True)
    (folder / "old" / f"{name}{ending}").write_text("old")
    for other, text in others.items():
        (folder / other).write_text(text)
    fresh.mkdir()
    assert replace_result(fresh, folder, name) is None
    assert (folder / "old" / f"{name}{ending}").read_text() == "old", "it stays until there is a new one"
    (fresh / "model").mkdir()
    (fresh / "model" / f"{name}{ending}").write_text("new")
    (fresh / "model" / "beside.csv").write_text("rows")
    assert replace_result(fresh, folder, name) == folder / "model" / f"{name}{ending}"
    left = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.*")}
    assert left == {f"model/{name}{ending}": "new", "model/beside.csv": "rows", **others}


def test_without_saebench_the_command_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saebench, "find_spec", lambda _: None)
    done = invoke("saebench", "nowhere", "--out", str(tmp_path / "out"))
    assert done.exit_code == 2
    assert "'sae-bench==0.6.*' in a separate environment" in " ".join(done.output.split())
