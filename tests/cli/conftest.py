"""A folder with a good config, text, model and SAE, and commands that must leave it as it is."""

import hashlib
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from sae_lens import TopKSAE, TopKSAEConfig
from typer.testing import CliRunner

from sae_lens_abstopk.cli import app


@pytest.fixture(scope="module")
def new_desk(tiny_llama: Path, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new") / "desk"
    (folder / "empty_folder").mkdir(parents=True)
    (folder / "a_file").write_text("kept as it is")
    shutil.copy(texts, folder / "good.jsonl")
    (folder / "model").symlink_to(tiny_llama)
    sae = TopKSAE(TopKSAEConfig(d_in=32, d_sae=64, k=4))
    metadata = {"hook_name": "model.layers.2", "model_name": str(tiny_llama), "context_size": 32}
    for key, value in (metadata | {"model_class_name": "AutoModelForCausalLM"}).items():
        sae.cfg.metadata[key] = value
    sae.save_model(folder / "sae")
    return folder


@pytest.fixture
def desk(tmp_path: Path, raw_config: dict[str, Any], new_desk: Path, monkeypatch: Any) -> Path:
    """A folder with a good config, text, model and SAE, and a file and a folder that are none of these."""
    folder = shutil.copytree(new_desk, tmp_path / "desk", symlinks=True)
    (folder / "good.yaml").write_text(yaml.safe_dump(raw_config | {"output_path": str(folder / "run")}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return folder


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def refused(command: str, sentence: str, desk: Path, leaves: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    before = contents(desk)
    arguments = [argument.replace("{dir}", str(desk)) for argument in shlex.split(command)]
    done = CliRunner(env={"COLUMNS": "400", "TERM": "dumb"}).invoke(app, arguments)
    said = done.stderr
    assert done.exit_code in (1, 2), said + done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    assert "Traceback" not in said
    assert re.search(sentence, " ".join(said.split())), said
    assert len(re.findall("^error: ", said, re.MULTILINE)) == 1 or "Usage:" in said, said
    after = {name: digest for name, digest in contents(desk).items() if not any(f"/{part}/" in name for part in leaves)}
    assert after == before, "a file was changed or written"
