"""An explorer's site on localhost, for browsers that do not open files."""

import re
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from rich.console import Console
from typing_extensions import override

from sae_lens_abstopk.system.errors import ConfigError


class _Private(SimpleHTTPRequestHandler):
    """Says nothing, and serves no page of another site: those could else read the explorer through its scripts."""

    @override
    def send_head(self) -> Any:
        if self._is_allowed():
            return super().send_head()
        running: Any = self.server
        port = running.server_port
        self.send_error(
            403,
            explain=f"Open http://localhost:{port}/ (from another machine, ssh -L {port}:localhost:{port}), or serve the folder "
            "with a web server of your own. Other names, hidden files and pages of other sites are refused.",
        )
        return None

    @override
    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cache-Control", "no-cache")  # a folder may be explored again while it is looked at
        super().end_headers()

    def _is_allowed(self) -> bool:
        """Whether a page of this server asks for a file of the site, or somebody follows a link to it."""
        hidden = any(
            part.startswith(".") for part in Path(self.translate_path(self.path)).relative_to(self.directory).parts
        )
        # another name may have been made to point here
        here = re.fullmatch(r"(127\.0\.0\.1|localhost)(:\d+)?", self.headers.get("Host", ""))
        loaded = self.headers.get("Sec-Fetch-Dest") not in (
            "document",
            "iframe",
            "frame",
        )  # which no other page can read
        return not hidden and here is not None and not (loaded and self.headers.get("Sec-Fetch-Site") == "cross-site")

    @override
    def log_message(self, format: str, *args: Any) -> None:
        pass


def server(folder: Path, *, port: int = 0) -> ThreadingHTTPServer:
    """
    A server of ``folder`` on 127.0.0.1, which answers its own pages alone; port 0 takes a free one.

    Hidden files, requests by another name than 127.0.0.1 or localhost, and what pages of other sites load are refused (403).

    Raises:
        ConfigError: the port is taken or not allowed.
    """
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(_Private, directory=str(folder)))
    except OSError as error:
        raise ConfigError(
            f"port={port} cannot be served on ({error.strerror}); use another, or 0 for a free one."
        ) from None


def serve_until_interrupted(folder: Path, *, port: int, console: Console) -> None:
    """Serve ``folder`` and say where, until Ctrl-C."""
    with server(folder, port=port) as running:
        console.print(f"http://127.0.0.1:{running.server_port}/ until Ctrl-C", soft_wrap=True)
        running.serve_forever()
