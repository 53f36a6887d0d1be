"""Wheel and source distribution: whole, and usable from an empty folder."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


SHIPPED = """
import sae_lens_abstopk
from sae_lens_abstopk.cli import app
from sae_lens_abstopk.evaluation.suite.suite import load_suite
from sae_lens_abstopk.system.pages import templates
from sae_lens_abstopk.system.yaml_files import data_folder
from typer.testing import CliRunner

print(sae_lens_abstopk.load_config("quickstart", ["sae.d_in=576"]).dataset_path)
print(data_folder("evals") / "multiple_choice" / "general_knowledge.jsonl")
print(sae_lens_abstopk.__file__)
sae_lens_abstopk.load_task("gender"), load_suite("full"), templates("pairs").get_template("pairs.html.j2")
assert "tokens" in CliRunner().invoke(app, ["--help"]).output
assert "EleutherAI/pythia-70m" in CliRunner().invoke(app, ["configs"]).output
"""


@pytest.mark.slow
def test_the_wheel_trains_from_an_empty_folder(built: Path, tmp_path: Path, raw_config: dict[str, Any]) -> None:
    installed, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        wheel.extractall(installed)
    assert (installed / "sae_lens_abstopk" / "py.typed").is_file()
    assert (installed / "sae_lens_abstopk" / "evaluation" / "assets" / "report.html.j2").is_file()
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(raw_config))

    def python(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            cwd=empty,
            env={**os.environ, "PYTHONPATH": str(installed)},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def abstopk(*arguments: str) -> str:
        return python("-m", "sae_lens_abstopk", *arguments)

    corpus, *found = map(Path, python("-c", SHIPPED).splitlines())
    for path in (corpus, *found):
        assert path.is_file()
        assert installed in path.parents
    assert list((installed / "sae_lens_abstopk" / "explorer" / "assets").glob("*.js"))
    abstopk("train", str(tmp_path / "c.yaml"), f"output_path={tmp_path / 'run'}")
    assert (tmp_path / "run" / "sae_weights.safetensors").is_file()
    assert "README.md" in abstopk("publish", str(tmp_path / "run"), "--repo", "someone/name", "--dry-run")


@pytest.mark.slow
def test_the_source_distribution_is_whole(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    expected = {"README.md", "LICENSE", "pyproject.toml", "training_configs/quickstart.yaml", "evals/README.md"}
    assert expected <= names
    assert "training_configs/text/smollm2_samples.jsonl.gz" in names
    assert any(name.startswith("evals/releases/") and name.endswith(".safetensors") for name in names), "tests read it"
    assert not [name for name in names if name.startswith((".venv", "runs", "models"))]
