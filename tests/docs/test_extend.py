"""The page on extending: its architecture trains, is measured and published; tools for other functions refuse it."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE
from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY

from sae_lens_abstopk import ConfigError, mirror
from sae_lens_abstopk.evaluation.probing.untrained import untrained_sae
from sae_lens_abstopk.saes.loading import IMPORTS_VARIABLE
from tests.cli.test_cli import invoke
from tests.docs.test_pages import blocks, run_command

ARCHITECTURE, COMMANDS, ACTIVATIONS = (text for _, text in blocks("extend"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the module of the page; what it registers is gone afterwards."""
    (tmp_path / "my_sae.py").write_text(ARCHITECTURE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    registries = [(registry, dict(registry)) for registry in (SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY)]
    yield tmp_path
    sys.modules.pop("my_sae", None)
    for registry, before in registries:
        registry.clear()
        registry.update(before)


@pytest.mark.slow
def test_the_architecture_of_the_page(
    folder: Path, tiny_models: dict[str, Path], texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert re.match("export (.*)\n", COMMANDS).group(1) == f"{IMPORTS_VARIABLE}=my_sae"  # type: ignore[union-attr]
    refused = invoke("train", "pythia-70m/abstopk", "sae.architecture=soft_abstopk", "--dry-run")
    assert f"or set {IMPORTS_VARIABLE} to the module that registers it" in refused.stderr
    monkeypatch.setenv(IMPORTS_VARIABLE, "my_sae")
    for line in COMMANDS.splitlines()[1:]:
        run_command(line.split(), tiny_models, texts)

    saved: Any = SAE.load_from_disk("runs/soft")
    x = torch.randn(64, saved.cfg.d_in)
    codes = saved.encode(x)
    assert codes.count_nonzero(-1).tolist() == [saved.cfg.k] * len(x)
    assert (codes < 0).any()
    assert "import my_sae  # registers soft_abstopk" in (folder / "runs" / "soft" / "README.md").read_text()
    control = untrained_sae(saved, x).encode(x)
    assert control.count_nonzero(-1).tolist() == [saved.cfg.k] * len(x)
    with pytest.raises(ConfigError, match=r"subclass that codes as they do.*soft_abstopk"):
        mirror(saved)
    assert "sae.k " in invoke("configs", "--keys").output
    assert (
        invoke("publish", "runs/soft", "--repo", "someone/soft", "--measure", "--dry-run", "--out", "release").exit_code
        == 0
    )
    card = (folder / "release" / "README.md").read_text()
    assert (
        "With the Python module `my_sae`, which registers their architecture (soft):\n\n```python\nimport my_sae"
        in card
    )


def test_a_module_that_cannot_be_imported_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "broken_sae.py").write_text("import no_such_package")
    monkeypatch.setenv(IMPORTS_VARIABLE, "my_sae, broken_sae")
    told = invoke("train", "pythia-70m", "--dry-run")
    assert told.exit_code == 2
    assert re.search(r"'broken_sae' could not be imported \(ModuleNotFoundError: No module named 'no_such", told.stderr)


def test_activations_of_ones_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(ACTIVATIONS, "extend.md", "exec"), {})
    found = re.search(r"FVU ([\d.]+)", capsys.readouterr().out)
    assert found
    assert float(found[1]) < 0.9
    assert os.listdir(folder / "runs" / "own-activations")
