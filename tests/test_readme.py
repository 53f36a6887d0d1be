"""The README: its commands and Python blocks run on a tiny model, it is short, and its numbers are recorded."""

import json
import re
import shlex
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from experiments.embeddings.measured import ONE_SIDED, by_place, main_runs, relative
from experiments.embeddings.study import RECORD
from experiments.finetunes.report import lines
from experiments.map.measured import Cells
from experiments.map.report import lines as map_lines
from experiments.pairs.study import RESULTS as PAIRS
from experiments.recording import read_lines
from experiments.speed import chart
from sae_lens_abstopk.cli import app
from sae_lens_abstopk.pairs.concepts import ConceptResults
from tests.conftest import small_run
from tests.workflows.test_quickstart import require_options

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_readme_is_short() -> None:
    prose = re.sub(r"```.*?```|<!--.*?-->", "", README, flags=re.DOTALL)
    assert len(re.findall(r"\S*\w\S*", prose)) <= 550
    assert max(map(len, README.splitlines())) <= 120


def test_the_table_of_the_quickstart_is_of_the_recorded_run() -> None:
    (run, *_) = json.loads((PAIRS / "concepts.json").read_text())
    console = Console(width=80, file=StringIO())
    console.print(ConceptResults.model_validate(run).table())
    printed = [line.rstrip() for line in console.file.getvalue().splitlines()]
    shown = re.search(r"```\n( +signed.*?)\n```", README, re.DOTALL)[1].splitlines()  # type: ignore[index]
    assert len(shown) == 6
    assert set(shown) <= set(printed)


def test_what_a_sign_saves_on_pairs_is_what_the_record_says() -> None:
    places = json.loads((PAIRS / "gpt4.json").read_text())["places"]
    for kind, phrase in (("one_sided_F", "below that of one-sided SAEs"), ("one_sided_2F", "below twice the width")):
        saved = sorted(100 * (1 - place["signed"]["fvu"]["value"] / place[kind]["fvu"]["value"]) for place in places)
        assert f"{saved[0]:.1f} to {saved[-1]:.1f} % {phrase}" in " ".join(README.split())


def test_what_a_sign_saves_on_two_models_is_what_the_map_and_the_grid_say() -> None:
    cells = Cells(map_lines("cells"))
    places = [place for place in cells.compared() if place.kind == "differences of two models"]
    changes = [[100 * cells.difference(place, twice=twice).mean for place in places] for twice in (False, True)]
    for line in lines("grid"):
        if line["d_sae"] <= 576 / 4:
            signed, *others = (line["fits"][kind]["fvu"]["value"] for kind in ("signed", "one_sided_F", "one_sided_2F"))
            for of, other in zip(changes, others, strict=True):
                of.append(100 * (signed / other - 1))
    (*_, least), (*_, highest) = map(sorted, changes)
    most, cost = map(min, changes)
    of_twice = f"{-cost:.0f} % below to {highest:.0f} % above twice"
    said = f"FVU {-least:.1f} to {-most:.1f} % below the same width, {of_twice}"
    assert f"Up to D / 4 latents, {said}" in " ".join(README.split())


def test_what_a_sign_saves_on_vectors_is_what_the_record_says() -> None:
    found = main_runs(by_place(read_lines(RECORD)))
    most = -100 * min(relative(lines, ONE_SIDED).mean for lines in found.values())
    assert f"up to {most:.1f} % below that of one-sided SAEs of the same width" in " ".join(README.split())


def test_tables_and_numbers_of_speed_and_memory_are_the_recorded_ones() -> None:
    for path, text in chart.pages().items():
        assert path.read_text() == text, f"{path.name} is stale: python -m experiments.speed.chart"


def test_the_commands_and_python_blocks_run(
    tiny_models: dict[str, Path], texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    load, train = blocks("python")
    scope: dict[str, Any] = {}
    overrides = ", ".join(repr(override) for override in [*small_run(tiny_models["pythia-70m"], texts), "sae.k=4"])
    exec(train.replace('"output_path=runs/pythia"', f'"output_path=runs/pythia", {overrides}'), scope)
    assert scope["result"].saes["sae"].cfg.k == 4
    extra = {"explore": ["--tokens", "128"], "mirror": [], "publish": ["--dry-run"]}
    commands = [shlex.split(line, comments=True) for block in blocks("bash") for line in block.splitlines()]
    ours = [arguments[1:] for arguments in commands if arguments[0] == "abstopk"]
    assert [arguments[0] for arguments in ours] == list(extra)
    for arguments in ours:
        done = CliRunner().invoke(app, [*arguments, *extra[arguments[0]]])
        assert done.exit_code == 0, done.output
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{arguments[1]}: " in makefile for arguments in commands if arguments[0] == "make")
    monkeypatch.chdir(ROOT)
    exec(load, scope)
    assert scope["sae"].cfg.architecture() == "abstopk"
    assert scope["mixed"].cfg.architecture() == "signed_jumprelu"


@pytest.mark.parametrize("command", re.findall(r"`(abstopk [^`]+)`", README.partition("## Load")[0]))
def test_what_it_is_for_is_a_command_with_these_options(command: str) -> None:
    require_options(command)
