"""Where numbers come from."""

import subprocess
from pathlib import Path

import pytest

import sae_lens_abstopk
from sae_lens_abstopk import provenance


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package of a clone with one commit, as if the code were run from there."""
    package = tmp_path / "sae_lens_abstopk"
    package.mkdir()
    (package / "code.py").write_text("1\n")
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for command in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "first")):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.setattr(provenance, "PACKAGE", package)
    return package


def test_the_code_that_is_told_of_is_this_package() -> None:
    assert Path(sae_lens_abstopk.__file__).resolve().parent == provenance.PACKAGE


def test_of_a_clone_the_commit_is_known_and_whether_the_package_was_edited(clone: Path) -> None:
    commit = provenance.commit()
    assert commit
    assert provenance.uncommitted() is None
    (clone / "code.py").write_text("2\n")
    assert provenance.commit() == f"{commit}-dirty"
    assert provenance.uncommitted()


def test_outside_a_clone_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "sae_lens_abstopk")
    assert provenance.commit() is None


@pytest.mark.usefixtures("clone")
def test_where_git_is_not_installed_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert provenance.commit() is None
    assert provenance.uncommitted() is None
