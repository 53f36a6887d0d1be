"""An explorer's site on localhost, for browsers that do not open files."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from rich.console import Console

from sae_lens_abstopk.errors import ConfigError


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def server(folder: Path, *, port: int = 0) -> ThreadingHTTPServer:
    """
    A server of ``folder`` on 127.0.0.1; port 0 takes a free one.

    Raises:
        ConfigError: the port is taken or not allowed.
    """
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(_Quiet, directory=str(folder)))
    except OSError as error:
        raise ConfigError(
            f"port={port} cannot be served on ({error.strerror}); use another, or 0 for a free one."
        ) from None


def serve_until_interrupted(folder: Path, *, port: int, console: Console) -> None:
    """Serve ``folder`` and say where, until Ctrl-C."""
    with server(folder, port=port) as running:
        console.print(f"http://127.0.0.1:{running.server_port}/ until Ctrl-C", highlight=False, soft_wrap=True)
        running.serve_forever()
