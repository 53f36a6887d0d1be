"""Show errors that a user can fix as one sentence and an exit code."""

import errno
import io
import os
import re
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from sae_lens_abstopk.system.terminal import PrintableConsole

# disk errors that a user can fix
DISK_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
)


def config_error(text: str) -> Exception:
    """Make a ``ConfigError``, imported only here because the import is slow."""
    from sae_lens_abstopk.system.errors import ConfigError

    return ConfigError(text)


@contextmanager
def errors_as_sentences() -> Iterator["PrintableConsole"]:
    """Provide a console; end the command with one sentence, without a traceback, on errors that a user can fix."""
    import datasets
    from rich.text import Text
    from transformers.utils.logging import disable_progress_bar

    from sae_lens_abstopk.cli.output import FormConsole, output_console
    from sae_lens_abstopk.system.errors import ConfigError, HubError, TrainingStopped
    from sae_lens_abstopk.system.terminal import PrintableConsole

    datasets.disable_progress_bars()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # the encoding may lack a character
    disable_progress_bar()  # bars of single downloads would hide the main one
    # under torchrun only the first process prints; the others name their rank when they fail
    rank = int(os.environ.get("RANK", "0"))
    in_full, warnings.formatwarning = warnings.formatwarning, _warning_line
    try:
        with _sigterm_exits():
            console = output_console(quiet=rank > 0, markup=False)  # no markup: names and paths may have brackets
            yield console
            if isinstance(console, FormConsole):
                console.close()
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except Exception as error:
        expected = isinstance(error, ConfigError | HubError | TrainingStopped)
        sentence = str(error) if expected else _machine_error(error)
        if sentence is None:
            raise
        of_rank = f" (rank {rank})" if rank else ""
        said = Text.assemble((f"error{of_rank}:", "bold red"), f" {sentence}")
        PrintableConsole(stderr=True).print(said, soft_wrap=True)
        raise typer.Exit(2 if isinstance(error, ConfigError) else 1) from None
    finally:
        warnings.formatwarning = in_full


def _warning_line(message: Warning | str, *_: object, **__: object) -> str:
    """Format a warning without the file and line of its source."""
    return f"warning: {message}\n"


@contextmanager
def _sigterm_exits() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that temporary files are removed."""

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


def _machine_error(error: Exception) -> str | None:
    """Describe an error of the disk, the network or the GPU; None for any other."""
    import torch
    from safetensors import SafetensorError

    from sae_lens_abstopk.system.errors import TRANSPORT_ERRORS

    first_line = next(iter(str(error).splitlines()), "")
    if isinstance(error, torch.OutOfMemoryError):
        return (
            f"the GPU has too little memory ({first_line.rstrip('.')}). Free some. In training, lower "
            "store_batch_size_prompts, train_batch_size_tokens, n_batches_in_buffer or sae.d_sae, or --resume from a "
            "checkpoint; elsewhere, measure fewer SAEs at a time, or use --device cpu."
        )
    if isinstance(error, (ConnectionError, *TRANSPORT_ERRORS)) and not isinstance(error, BrokenPipeError):
        return (
            f"the network failed ({type(error).__name__}: {first_line}); run the command again, training with --resume "
            "if there is a checkpoint."
        )
    if isinstance(error, SafetensorError) and (number := re.search(r"os error (\d+)", str(error))):
        error = OSError(int(number[1]), os.strerror(int(number[1])))
    if not isinstance(error, OSError) or error.errno not in DISK_ERRORS:
        return None
    what = f"{error.strerror}: {error.filename}" if error.filename else str(error)
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return f"{what}; {'free some space' if full else 'change its permissions'}, or choose another path."
