"""The README: its commands and Python blocks run on a tiny model, it is short, and its numbers are recorded."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from experiments.speed import chart
from sae_lens_abstopk import load_config
from sae_lens_abstopk.cli import app
from sae_lens_abstopk.evaluation.results.schema import read_results
from tests.conftest import small_run
from tests.specs import check_hook

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_readme_is_short() -> None:
    prose = re.sub(r"```.*?```|<!--.*?-->|^\|.*?$", "", README, flags=re.DOTALL | re.MULTILINE)
    assert len(re.findall(r"\S*\w\S*", prose)) <= 650
    assert max(len(line) for line in README.splitlines() if not line.startswith("|")) <= 120


def test_its_numbers_are_those_of_the_recorded_run() -> None:
    recorded = read_results(ROOT / "evals" / "results" / "quickstart.json")
    text = " ".join(README.split())
    assert f"{recorded.reconstruction['batch_abstopk'].tokens:,} held-out tokens" in text
    assert f"{recorded.saes['batch_abstopk'].training['training_tokens']:,} tokens" in text
    for found in recorded.reconstruction.values():
        assert f"{found.fvu:.3f} at L0 {found.l0:.1f}" in text
        assert f"{found.loss.recovered_zero:.3f}" in text


def test_tables_and_numbers_of_speed_and_memory_are_the_recorded_ones() -> None:
    for path, text in chart.pages().items():
        assert path.read_text() == text, f"{path.name} is stale: python -m experiments.speed.chart"


def test_the_commands_run(
    tiny_models: dict[str, Path], texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    suite = tmp_path / "small.yaml"
    suite.write_text("{reconstruction: {tokens: 128}, tasks: [tense], texts_per_pole: 60, untrained: false}")
    extra = {
        "train": [*small_run(tiny_models["pythia-70m"], texts), "sae.k=4"],
        "inspect": ["--tokens", "128"],
        "explore": ["--tokens", "128"],
        "eval": ["--suite", str(suite)],
        "compare": small_run(tiny_models["llama-3.1-8b"], texts),
    }
    commands = [shlex.split(line, comments=True) for block in blocks("bash") for line in block.splitlines()]
    ours = [arguments[1:] for arguments in commands if arguments[0] == "abstopk"]
    assert {arguments[0] for arguments in ours} == {"configs", "sweep", *extra}
    for arguments in ours:
        done = CliRunner().invoke(app, [*arguments, *extra.get(arguments[0], [])])
        assert done.exit_code == 0, done.output
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{arguments[1]}: " in makefile for arguments in commands if arguments[0] == "make")


def test_another_model_is_one_override_away(tiny_models: dict[str, Path]) -> None:
    (arguments,) = re.findall(r'ARGS="([^"]*)"', README)
    cfg = load_config("quickstart", arguments.replace("EleutherAI/pythia-70m", str(tiny_models["pythia-70m"])).split())
    check_hook(cfg)
    assert (cfg.hook_name, cfg.sae.d_in) == ("gpt_neox.layers.3", 32)


def test_the_python_blocks_run(
    tiny_models: dict[str, Path], texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    load, train = blocks("python")
    scope: dict[str, Any] = {}
    extra = ", ".join(repr(override) for override in [*small_run(tiny_models["pythia-70m"], texts), "sae.k=4"])
    exec(train.replace('"output_path=runs/pythia"', f'"output_path=runs/pythia", {extra}'), scope)
    assert scope["result"].saes["sae"].cfg.k == 4
    monkeypatch.chdir(ROOT)
    exec(load, scope)
    assert scope["sae"].cfg.architecture() == "abstopk"
    assert scope["mixed"].cfg.architecture() == "signed_jumprelu"
