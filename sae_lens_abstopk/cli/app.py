"""The ``abstopk`` command itself, and what its subcommands share."""

import errno
import io
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from threading import current_thread, main_thread
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer.core import TyperGroup
from typing_extensions import override

# the order in which somebody new meets them
COMMANDS = (
    *("quickstart", "configs", "train", "sweep", "compare", "inspect", "eval", "report", "plot", "explore"),
    *("publish", "pull", "mirror", "convert", "saebench", "neuronpedia"),
)
# as a whole argument, or after the name of an option, key or SAE
HOME = re.compile(r"(?:^|(?<==))~(?=[/\\]|$)")


class _Commands(TyperGroup):
    """Lists the commands in the order of ``COMMANDS``, and takes a ~ for the home folder where shells leave it."""

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
DISK_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
)
"""What a user can mend about a disk."""
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Config overrides, e.g. sae.k=32 lr=1e-3.", show_default=False),
]
Model = Annotated[
    str | None, typer.Option("--model", help="Model to run instead of the recorded one.", show_default=False)
]
Text = Annotated[
    str | None,
    typer.Option(
        "--text",
        metavar="PATH[,name=X][,split=X][,column=X]",
        help="Text to read instead of the run's held-out text: a Hub data set or a file.",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option(help="Where the model runs: auto, cpu, cuda or cuda:0.")]
NewFolder = Annotated[Path, typer.Option("--out", "-o", help="Output folder, new or empty.", show_default=False)]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Run folder.", show_default=False)]


def _show_version(asked: bool) -> None:
    if asked:
        from sae_lens_abstopk import __version__

        typer.echo(f"sae-lens-abstopk {__version__}, sae-lens {version('sae-lens')}, torch {version('torch')}")
        raise typer.Exit


@app.callback()
def main(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the versions and exit.")
    ] = False,
) -> None:
    """Train, evaluate and explore bidirectional (AbsTopK) sparse autoencoders."""


@contextmanager
def errors_as_sentences() -> Iterator[Console]:
    """A console to print on; what the user can mend ends the command with one sentence and no traceback."""
    from rich.text import Text as RichText
    from transformers.utils.logging import disable_progress_bar

    from sae_lens_abstopk.system.errors import ConfigError, HubError, TrainingStopped
    from sae_lens_abstopk.system.terminal_text import PrintableConsole

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # of an encoding that lacks a character
    errors = PrintableConsole(stderr=True)
    disable_progress_bar()  # a bar for every file that is read drowns the one that matters
    # of the processes that torchrun starts the first speaks, and the others say who they are when they fail
    rank = int(os.environ.get("RANK", "0"))
    of_rank = f" (rank {rank})" if rank else ""

    def show(error: Exception | str) -> None:
        errors.print(RichText.assemble((f"error{of_rank}:", "bold red"), f" {error}"), soft_wrap=True)

    try:
        with _sigterm_exits():
            yield PrintableConsole(quiet=rank > 0, markup=False)  # names and paths may have brackets
    except ConfigError as error:
        show(error)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except (HubError, TrainingStopped) as error:
        show(error)
        raise typer.Exit(1) from None
    except Exception as error:
        said = _of_the_machine(error)
        if said is None:
            raise
        show(said)
        raise typer.Exit(1) from None


@contextmanager
def _sigterm_exits() -> Iterator[None]:
    """SIGTERM ends the command by an exception, which removes its temporary files, the codes of an evaluation for example."""

    def leave(*_: object) -> NoReturn:
        raise SystemExit(128 + signal.SIGTERM)

    if current_thread() is not main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _of_the_machine(error: Exception) -> str | None:
    """What to say about an error of the disk, the network or the GPU; None of any other."""
    import torch
    from safetensors import SafetensorError

    from sae_lens_abstopk.system.errors import TRANSPORT_ERRORS

    if isinstance(error, torch.OutOfMemoryError):
        return (
            f"the GPU has too little memory ({str(error).splitlines()[0].rstrip('.')}). Free some; to train, go on with --resume "
            "if there is a checkpoint, or start anew with a lower store_batch_size_prompts, train_batch_size_tokens, "
            "n_batches_in_buffer or sae.d_sae; to measure, take fewer SAEs at a time, or --device cpu."
        )
    if isinstance(error, (ConnectionError, *TRANSPORT_ERRORS)) and not isinstance(error, BrokenPipeError):
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        return f"the network failed ({what}); run the command again, training with --resume if there is a checkpoint."
    if isinstance(error, SafetensorError):
        number = re.search(r"os error (\d+)", str(error))
        error = OSError(int(number[1]), os.strerror(int(number[1]))) if number else OSError(str(error))
    if not isinstance(error, OSError) or error.errno not in DISK_ERRORS:
        return None
    what = f"{error.strerror}: {error.filename}" if error.filename else str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{what}; free some space, or choose a folder on another disk."
    return f"{what}; change its permissions, or choose another path."


def config_error(text: str) -> Exception:
    """The package's ``ConfigError``."""
    from sae_lens_abstopk.system.errors import ConfigError

    return ConfigError(text)


def refuse_without(needed: str, *parameters: str, context: typer.Context) -> None:
    """
    Refuse options that say nothing without the option ``needed``, which was not given.

    Args:
        needed: As it is typed, ``--measure`` for example.
        parameters: Names of the command's parameters behind the options.
        context: Of the command.

    Raises:
        ConfigError: one of them is on the command line.
    """
    sources = {name: context.get_parameter_source(name) for name in parameters}
    given = [
        f"--{name.replace('_', '-')}"
        for name, source in sources.items()
        if source is not None and source.name == "COMMANDLINE"
    ]
    if given:
        raise config_error(f"{' and '.join(given)} would be ignored without {needed}; add {needed}, or leave it out.")


def named(saes: list[str], what: str) -> list[str] | dict[str, str]:
    """SAEs by name where all are given as NAME=SAE; what exists as it is spelled is a path, "=" or not."""
    are_named = ["=" in sae and not Path(sae).exists() for sae in saes]
    if not any(are_named):
        return saes
    if not all(are_named):
        raise config_error(f"name every {what} as NAME=PATH, or none.")
    return pairs(saes, what)


def named_folders(arguments: Sequence[str]) -> dict[str, Path]:
    """
    Folders by SAE id from arguments ``FOLDER`` or ``ID=FOLDER``; the id of the first form is the folder's name.

    What exists as it is spelled is a folder, "=" or not.

    Raises:
        ConfigError: two have the same id, or a folder has no name.
    """
    found: dict[str, Path] = {}
    for argument in arguments:
        path = Path(argument)
        sae_id = Path(os.path.abspath(path)).name  # of a link, its own name
        if "=" in argument and not path.exists():
            sae_id, _, folder = argument.partition("=")
            path = Path(folder)
        if not sae_id:
            raise config_error(f"{argument!r} names no SAE; give FOLDER or ID=FOLDER.")
        if sae_id in found:
            raise config_error(f"{found[sae_id]} and {path} would both be {sae_id!r}; give ids, as in ID=FOLDER.")
        found[sae_id] = path
    return found


def pairs(texts: list[str], what: str, form: str = "NAME=PATH") -> dict[str, str]:
    """NAME and PATH of each text, or what ``form`` calls them."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise config_error(f"{what} {text!r} must have the form {form}.")
        if name in found:
            raise config_error(f"{what} {name!r} is given twice.")
        found[name] = value
    return found
