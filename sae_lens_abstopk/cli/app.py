"""The ``abstopk`` command, the options that several subcommands share, and the parsing of arguments."""

import os
import re
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer import Argument, Option
from typer.core import TyperGroup
from typing_extensions import override

from sae_lens_abstopk.cli.errors import config_error

T = TypeVar("T", str, Path)
Overrides = Annotated[
    list[str] | None, Argument(metavar="[KEY=VALUE]...", help="Config overrides, e.g. sae.k=32 lr=1e-3.")
]
Model = Annotated[str | None, Option("--model", help="Model to run instead of the recorded one: a Hub id or a folder.")]
TextModel = Annotated[
    str | None,
    Option(
        "--model",
        help="Language model or sentence-transformers model: a Hub id or a folder; by default SmolLM2-135M-Instruct.",
    ),
]
Layer = Annotated[int | None, Option("--layer", help="Layer of a language model; by default the middle one.", min=0)]
Text = Annotated[
    str | None,
    Option(
        "--text",
        metavar="PATH[,...]",
        help="Text to read instead of the run's held-out text: a file or Hub data set, with ,name=X ,split=X "
        ",column=X if needed.",
    ),
]
Data = Annotated[
    str | None,
    Option(
        "--data",
        metavar="PATH[,...]",
        help="Of SAEs of vectors: vectors to read instead of those that the run held out; given as for --text.",
    ),
]
Show = Annotated[
    str | None,
    Option(
        "--show",
        metavar="COLUMN",
        help="Of SAEs of vectors: column with the texts of rows; by default text, sentence, title, id or _id.",
    ),
]
Device = Annotated[str, Option(help="Device to run on: auto, cpu, cuda or cuda:0.")]
Float32 = Annotated[
    bool, Option("--float32", help="Read in float32, also where bfloat16 is clearly faster on this machine.")
]
NewFolder = Annotated[Path, Option("--out", "-o", help="Output folder, new or empty.")]
Out = Annotated[Path | None, Option("--out", "-o", help="Run folder; by default a folder in runs/.")]

# in the order that a new user needs them
COMMANDS = (
    *("quickstart", "pairs", "diff", "tokens", "configs", "train", "sweep", "compare"),
    *("inspect", "eval", "report", "plot", "explore", "serve", "steer"),
    *("embed", "encode", "decode", "retrieval"),
    *("publish", "pull", "mirror", "convert", "saebench", "neuronpedia"),
)
# ~ as a whole argument, or after the name of an option, key or SAE
HOME = re.compile(r"(?:^|(?<==))~(?=[/\\]|$)")


class _Commands(TyperGroup):
    """Command group that lists ``COMMANDS`` in order, and expands a ~ that the shell left."""

    @override
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [HOME.sub(lambda found: os.path.expanduser(found[0]), arg) for arg in args])

    @override
    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=COMMANDS.index)


class FitGroup(TyperGroup):
    """A group whose first argument may be that of its command ``fit``, which is then left out."""

    @override
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        is_of_fit = args and args[0] not in self.commands and args[0] != "--help"
        return super().parse_args(ctx, ["fit", *args] if is_of_fit else args)


app = typer.Typer(cls=_Commands, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


def _show_version(shown: bool) -> None:
    if shown:
        from sae_lens_abstopk import __version__

        typer.echo(f"sae-lens-abstopk {__version__}, sae-lens {version('sae-lens')}, torch {version('torch')}")
        raise typer.Exit


@app.callback()
def main(
    _: Annotated[
        bool, Option("--version", callback=_show_version, is_eager=True, help="Show the versions and exit.")
    ] = False,
) -> None:
    """Train, evaluate and explore bidirectional (AbsTopK) sparse autoencoders."""


def refuse_without(needed: str, *parameters: str, context: typer.Context) -> None:
    """Raise if one of the command's ``parameters`` was given that needs the missing option ``needed``."""
    sources = {name: context.get_parameter_source(name) for name in parameters}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if given:
        options = " and ".join(f"--{name.replace('_', '-')}" for name in given)
        raise config_error(f"{options} would be ignored without {needed}; add {needed}, or leave it out.")


def named(saes: list[str]) -> list[str] | dict[str, str]:
    """Return SAEs by name if they are given as NAME=SAE, else unchanged; all or none have a name."""
    split = [_split(sae) for sae in saes]
    return _by_name(split, "SAE", "NAME=PATH") if any(name for name, _ in split) else saes


def named_folders(arguments: Sequence[str]) -> dict[str, Path]:
    """Return folders by SAE id from arguments ``FOLDER`` or ``ID=FOLDER``; the default id is the folder's name."""
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
        if not name or value == "" or name in found:
            raise config_error(f"{what} {name or str(value)!r} must have the form {form}, with each name once.")
        found[name] = value
    return found
