"""The quickstart without its model; with it, in tests/test_smollm2.py."""

import shlex
from pathlib import Path

import pytest
from rich.console import Console
from typer.core import TyperGroup
from typer.main import get_command

from sae_lens_abstopk.cli import app
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.workflows import quickstart as quickstart_module
from sae_lens_abstopk.workflows import tokens as tokens_module
from sae_lens_abstopk.workflows.quickstart import NEXT, quickstart


def test_a_folder_that_is_taken_is_told_before_the_model_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quickstart_module, "quickstart_model", lambda _: pytest.fail("fetched"))
    (tmp_path / "index.html").touch()
    quiet = Console(quiet=True)
    with pytest.raises(ConfigError, match="not an empty folder"):
        quickstart(out=tmp_path, console=quiet, progress=quiet)


def test_a_model_by_either_name_takes_the_place_of_the_one_that_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens_module, "quickstart_model", lambda _: pytest.fail("fetched"))
    for key in ("model", "model_name"):
        with pytest.raises(ConfigError, match="'no/such'"):
            tokens_module.tokens([f"{key}=no/such"])


@pytest.mark.parametrize("command", NEXT.values(), ids=NEXT)
def test_what_to_run_next_is_a_command_with_these_options(command: str) -> None:
    assert len(command) <= 64, "with what it is for, it fits 80 columns"
    require_options(command)


def require_options(command: str) -> None:
    """Assert that ``command`` is one of ``abstopk``, and has the options that it shows."""
    program, name, *arguments = shlex.split(command)
    assert program == "abstopk"
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    found = group.commands[name]
    if isinstance(found, TyperGroup):
        found = found.commands["fit"]
    options = {option for parameter in found.params for option in parameter.opts}
    assert {argument for argument in arguments if argument.startswith("-")} <= options
