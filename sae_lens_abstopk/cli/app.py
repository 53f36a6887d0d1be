"""The ``abstopk`` command."""

import os
import re
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer import Option
from typer.core import TyperGroup
from typing_extensions import override

# in the order that a new user needs them
COMMANDS = (
    *("quickstart", "configs", "train", "sweep", "compare", "inspect", "eval", "report", "plot", "explore"),
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


app = typer.Typer(
    cls=_Commands,
    help="Train, evaluate and explore bidirectional (AbsTopK) sparse autoencoders.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


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
