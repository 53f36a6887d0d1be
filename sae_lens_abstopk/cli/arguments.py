"""Options that several commands share, and the parsing of arguments."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from typer import Argument, Option

from sae_lens_abstopk.cli.errors import config_error

T = TypeVar("T", str, Path)
Overrides = Annotated[
    list[str] | None, Argument(metavar="[KEY=VALUE]...", help="Config overrides, e.g. sae.k=32 lr=1e-3.")
]
Model = Annotated[str | None, Option("--model", help="Model to run instead of the recorded one.")]
Text = Annotated[
    str | None,
    Option(
        "--text",
        metavar="PATH[,name=X][,split=X][,column=X]",
        help="Text to read instead of the run's held-out text: a Hub data set or a file.",
    ),
]
Device = Annotated[str, Option(help="Where the model runs: auto, cpu, cuda or cuda:0.")]
NewFolder = Annotated[Path, Option("--out", "-o", help="Output folder, new or empty.")]
Out = Annotated[Path | None, Option("--out", "-o", help="Run folder.")]
ResultsFiles = Annotated[
    list[Path], Argument(metavar="RESULT.json...", help="Results files, of one or of different SAEs and suites.")
]


def refuse_without(needed: str, *parameters: str, context: typer.Context) -> None:
    """
    Raise if an option was given that has no effect without the missing option ``needed``.

    Args:
        needed: The option, such as ``--measure``.
        parameters: Names of the command's parameters that need it.
        context: Context of the command.

    Raises:
        ConfigError: one of them is on the command line.
    """
    sources = {name: context.get_parameter_source(name) for name in parameters}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if given:
        options = " and ".join(f"--{name.replace('_', '-')}" for name in given)
        raise config_error(f"{options} would be ignored without {needed}; add {needed}, or leave it out.")


def named(saes: list[str], what: str) -> list[str] | dict[str, str]:
    """Return SAEs by name if all are given as NAME=SAE, else unchanged."""
    split = [_split(sae) for sae in saes]
    if not any(name for name, _ in split):
        return saes
    if not all(name for name, _ in split):
        raise config_error(f"name every {what} as NAME=PATH, or none.")
    return _by_name(split, what, "NAME=PATH")


def named_folders(arguments: Sequence[str]) -> dict[str, Path]:
    """
    Return folders by SAE id from arguments ``FOLDER`` or ``ID=FOLDER``; the default id is the folder's name.

    Raises:
        ConfigError: an id occurs twice, or a folder has no name.
    """
    split = [(name or Path(os.path.abspath(path)).name, Path(path)) for name, path in map(_split, arguments)]
    return _by_name(split, "SAE", "ID=FOLDER")


def pairs(texts: list[str], what: str, form: str = "NAME=PATH") -> dict[str, str]:
    """Split each text NAME=PATH, or as ``form`` says."""
    return _by_name([(name, value) for name, _, value in (text.partition("=") for text in texts)], what, form)


def _split(text: str) -> tuple[str, str]:
    """Return the name and path of NAME=PATH; the name is empty if the whole text is an existing path."""
    name, equals, path = text.partition("=")
    return (name, path) if name and equals and not Path(text).exists() else ("", text)


def _by_name(split: Iterable[tuple[str, T]], what: str, form: str) -> dict[str, T]:
    found: dict[str, T] = {}
    for name, value in split:
        if not name or value == "":
            raise config_error(f"{what} {name or str(value)!r} must have the form {form}.")
        if name in found:
            raise config_error(f"{what} {name!r} is given twice; use different names, as in {form}.")
        found[name] = value
    return found
