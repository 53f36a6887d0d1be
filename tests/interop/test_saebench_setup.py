"""What of the way to SAEBench needs no SAEBench: verdicts, class sets, and refusals before any work."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sae_lens_abstopk.evaluation.results.sae_facts import weights_sha256
from sae_lens_abstopk.evaluation.tasks.load_task import load_task
from sae_lens_abstopk.interop.class_sets import class_set, joined
from sae_lens_abstopk.interop.saebench import HINDRANCES, MISREAD, _moved, _open, result_pattern, run_saebench
from sae_lens_abstopk.interop.saebench_runners import RUNNERS
from sae_lens_abstopk.system.errors import ConfigError
from tests.cli.test_cli import invoke
from tests.interop.conftest import F

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_the_page_shows_the_recorded_numbers() -> None:
    page, record = (DOCS / "saebench.md").read_text(), json.loads((ROOT / "evals/results/saebench.json").read_text())
    probing = record["parts"]["probing"]
    seconds = [f"{probing[name]['seconds']:.0f}" for name in ("mirror", "as it is")]
    assert f"in {seconds[0]} and {seconds[1]} seconds on one thread" in page
    assert f"in {record['parts']['tpp']['mirror']['seconds']:.0f} seconds on one thread" in page
    core = record["parts"]["core"]
    assert core["largest_relative_difference"] < 1e-5
    assert f"{core['tokens']:,} held-out tokens" in page
    assert f"FVU {core['fvu_ours']:.2f}" in page
    assert f"FVU {core['fvu_ours_without_massive_activations']:.2f}" in page
    assert f"{core['massive_activations']} tokens" in page


def test_the_page_has_the_verdicts_and_what_is_not_run() -> None:
    page = (DOCS / "saebench.md").read_text()
    as_is = dict(re.findall(r"^\| `(\w+)` \| \*\*(\w+)\*\*", page, re.MULTILINE))
    assert as_is.keys() == RUNNERS.keys() | HINDRANCES.keys()
    assert {name for name, verdict in as_is.items() if verdict == "wrong"} == set(MISREAD)
    (not_run,) = re.findall(r"does not run (.*)\. If you", page)
    assert set(re.findall(r"`(\w+)`", not_run)) == HINDRANCES.keys()


def test_the_poles_of_a_task_become_classes_of_one_size_with_val_in_train() -> None:
    task = load_task("gender")
    texts, split = class_set(task), task.split(0)
    assert list(texts.train) == list(task.poles)
    for classes, rows in ((texts.train, [*split.train, *split.val]), (texts.test, split.test)):
        sizes = {len(found) for found in classes.values()}
        assert len(sizes) == 1
        for place, pole in enumerate(task.poles):
            assert set(classes[pole]) <= {task.examples[i].text for i in rows if task.examples[i].pole == place}
    assert not {text for found in texts.train.values() for text in found} & {
        text for found in texts.test.values() for text in found
    }


def test_joined_tasks_have_classes_for_tpp_and_one_task_has_not() -> None:
    gender, size = class_set(load_task("gender")), class_set(load_task("size"))
    both = joined([gender, size])
    assert both.name == "gender+size"
    assert len(both.train) == 4
    assert len({len(texts) for texts in both.train.values()}) == 1
    assert both.train["gender: he"][0] in gender.train["he"]
    with pytest.raises(ConfigError, match="at least two tasks; name another with --task"):
        joined([gender])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"evals": ["cores"]}, "no evaluation 'cores' here; there are core, sparse_probing"),
        ({"evals": []}, "name at least one evaluation: core"),
        ({"evals": ["unlearning"]}, "unlearning cannot be run from here: it needs a forget corpus"),
        (
            {"evals": ["tpp"], "as_is": True},
            "tpp misreads signed codes (docs/saebench.md says how), so leave out --as-is",
        ),
        ({"evals": ["scr"], "tasks": ["gender"]}, "scr needs texts with two correlated attributes"),
        ({"evals": ["core"], "tasks": ["gender"]}, "tasks are read by sparse_probing and tpp alone"),
        ({"evals": ["tpp"], "tasks": ["gender"]}, "at least two tasks; name another with --task"),
        ({"evals": ["tpp"], "tasks": ["gender", "gender"]}, "a task is given twice: gender, gender; name each once"),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_reason(
    options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sae_lens_abstopk.interop.saebench.require_saebench", lambda: None)
    with pytest.raises(ConfigError, match=re.escape(message)):
        run_saebench("nowhere", out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_file_is_no_folder_for_results_and_text_is_asked_for_by_core_alone(
    signed_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sae_lens_abstopk.interop.saebench.require_saebench", lambda: None)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file is a file; give a folder"):
        run_saebench("nowhere", out=str(tmp_path / "file"), evals="core")
    with pytest.raises(ConfigError, match="give --text"):
        run_saebench(signed_folder, out=tmp_path / "out", evals=["core"])
    with pytest.raises(ConfigError, match="model_name='no/such' could not be loaded"):
        run_saebench(signed_folder, out=tmp_path / "out", evals=["sparse_probing"], model_name="no/such")


@pytest.mark.parametrize(("as_is", "name", "d_sae"), [(False, "mine_{}_mirror", 2 * F), (True, "mine_{}", F)])
def test_a_signed_sae_is_opened_as_its_mirror_unless_asked_otherwise_and_behind_a_bos(
    signed_folder: Path, texts: Path, as_is: bool, name: str, d_sae: int
) -> None:
    subject = _open(signed_folder, as_is=as_is, model_name=None, text=str(texts), own=(), n_tokens=64, seed=0)
    digest = str(weights_sha256(signed_folder))[:8]
    assert (subject.name, subject.sae.cfg.d_sae) == (name.format(digest), d_sae), "SAEs of one label are told apart"
    assert subject.sae.cfg.metadata.prepend_bos is True, "position 0 was left out of its training"


def test_a_run_replaces_the_results_of_its_own_sae_alone(tmp_path: Path) -> None:
    names = ("mine", "mine_mirror", "mine_2", "a[b]")
    for name in names:
        (tmp_path / f"{name}_custom_sae_eval_results.json").touch()
    for name in names:
        assert [path.name for path in tmp_path.rglob(result_pattern(name))] == [f"{name}_custom_sae_eval_results.json"]


def test_an_earlier_result_stays_until_there_is_a_new_one(tmp_path: Path) -> None:
    fresh, folder, name = tmp_path / "fresh", tmp_path / "core", "mine_custom_sae_eval_results.json"
    for path, text in ((folder / "old" / name, "old"), (folder / f"other_{name}", "another SAE's")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    fresh.mkdir()
    assert _moved(fresh, folder, result_pattern("mine")) is None
    assert (folder / "old" / name).read_text() == "old"
    (fresh / "model").mkdir()
    (fresh / "model" / name).write_text("new")
    (fresh / "model" / "beside.csv").write_text("rows")
    assert _moved(fresh, folder, result_pattern("mine")) == folder / "model" / name
    left = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.*")}
    assert left == {f"model/{name}": "new", "model/beside.csv": "rows", f"other_{name}": "another SAE's"}


def test_without_saebench_the_command_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sae_lens_abstopk.interop.saebench_session.find_spec", lambda _: None)
    done = invoke("saebench", "nowhere", "--out", str(tmp_path / "out"))
    assert done.exit_code == 2
    assert "this package and 'sae-bench==0.6.*' in a separate environment, and run this command there" in " ".join(
        done.output.split()
    )
