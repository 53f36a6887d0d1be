"""Where numbers come from."""

import os
import subprocess
from pathlib import Path

import pytest

from sae_lens_abstopk.system import provenance

COMMIT = (("add", "."), ("commit", "-qm", "a message"))


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package of a clone with one commit, as if the code were run from there."""
    package = tmp_path / "sae_lens_abstopk"
    package.mkdir()
    (package / "code.py").write_text("1\n")
    (tmp_path / "experiments" / "study" / "results").mkdir(parents=True)
    (tmp_path / "experiments" / "study" / "study.yaml").write_text("1\n")
    (tmp_path / "experiments" / "study" / "results" / "runs.jsonl").write_text("1\n")
    for name in [name for name in os.environ if name.startswith("GIT_")]:  # in a hook of git, those of the user's clone
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for command in (("init", "-q"), ("config", "user.name", "a"), ("config", "user.email", "a@b.c"), *COMMIT):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.setattr(provenance, "PACKAGE", package)
    return package


@pytest.mark.usefixtures("clone")
def test_in_a_hook_of_another_repository_the_commit_is_that_of_the_clone(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = provenance.commit()
    monkeypatch.setenv("GIT_DIR", str(tmp_path_factory.mktemp("other")))
    assert provenance.commit() == commit


@pytest.mark.parametrize(
    ("edited", "is_code"),
    [("study.yaml", True), ("../../sae_lens_abstopk/code.py", True), ("results/runs.jsonl", False)],
)
def test_results_that_are_written_or_committed_leave_the_code_what_it_was(
    edited: str, is_code: bool, clone: Path
) -> None:
    commit, experiments = provenance.commit(), clone.parent / "experiments" / "study"
    (experiments / edited).unlink()
    assert (provenance.commit() == f"{commit}-dirty") is is_code
    for command in COMMIT:
        subprocess.run(["git", "-C", str(clone.parent), *command], check=True)
    assert (provenance.commit() == commit) is not is_code


def test_outside_a_clone_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "sae_lens_abstopk")
    assert provenance.commit() is None
