"""The README's commands and Python blocks run, on a tiny model in place of the Hub's."""

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
    assert len(README.splitlines()) <= 120


def test_its_numbers_are_those_of_the_recorded_run() -> None:
    recorded = read_results(ROOT / "evals" / "results" / "quickstart.json")
    text = " ".join(README.split())
    assert f"{recorded.reconstruction['batch_abstopk'].tokens:,} held-out tokens" in text
    assert f"{recorded.saes['batch_abstopk'].training['training_tokens']:,} tokens" in text
    for found in recorded.reconstruction.values():
        assert f"{found.fvu:.3f} at L0 {found.l0:.1f}" in text
        assert found.loss is not None
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
    commands = [shlex.split(line, comments=True) for block in blocks("bash") for line in block.splitlines()]
    ours = [arguments[1:] for arguments in commands if arguments[0] == "abstopk"]
    assert [arguments[0] for arguments in ours] == [
        "configs",
        "train",
        "inspect",
        "explore",
        "sweep",
        "eval",
        "compare",
    ]
    for arguments in ours:
        extra = [*small_run(tiny_models["pythia-70m"], texts), "sae.k=4"] if arguments[0] == "train" else []
        extra += ["--tokens", "128"] if arguments[0] in ("inspect", "explore") else []
        extra += ["--suite", str(suite)] if arguments[0] == "eval" else []
        extra += small_run(tiny_models["llama-3.1-8b"], texts) if arguments[0] == "compare" else []
        done = CliRunner().invoke(app, [*arguments, *extra])
        assert done.exit_code == 0, done.output
    makes = [arguments[1] for arguments in commands if arguments[0] == "make"]
    makefile = (ROOT / "Makefile").read_text()
    assert makes == ["quickstart", "test"]
    assert all(f"\n{target}: " in makefile for target in makes)


def test_another_model_is_one_override_away(tiny_models: dict[str, Path]) -> None:
    arguments = re.findall(r'ARGS="([^"]*)"', README)
    assert len(arguments) == 1
    overrides = arguments[0].replace("EleutherAI/pythia-70m", str(tiny_models["pythia-70m"])).split()
    cfg = load_config("quickstart", overrides)
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
    of_a_run = load.replace("evals/releases/smollm2-135m-instruct/layer15_k57_abstopk", "runs/pythia")
    exec(of_a_run.replace("evals/", f"{ROOT}/evals/"), scope)
    assert scope["sae"].cfg.architecture() == "abstopk"
    monkeypatch.chdir(ROOT)
    exec(load, scope)
    assert scope["sae"].cfg.architecture() == "abstopk"
    assert scope["mixed"].cfg.architecture() == "signed_jumprelu"
