"""Serve an explorer's site on localhost, for browsers that do not open files."""

import re
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from typing_extensions import override

from sae_lens_abstopk.system.errors import ConfigError


class PrivateHandler(SimpleHTTPRequestHandler):
    """Silent handler that rejects hidden files, other host names and requests of other sites' pages."""

    @override
    def send_head(self) -> Any:
        if self.is_allowed():
            return super().send_head()
        port: int = self.server.server_port  # type: ignore[attr-defined]
        self.send_error(
            403,
            explain=f"Open http://localhost:{port}/ (from another machine, ssh -L {port}:localhost:{port}), or use a "
            "web server of your own. Other names, hidden files and pages of other sites are refused.",
        )
        return None

    @override
    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-cache")  # the site may be written again while it is open
        super().end_headers()

    def is_allowed(self) -> bool:
        """Whether the request is for a visible file, by this machine's name, and not by another site's page."""
        parts = Path(self.translate_path(self.path)).relative_to(self.directory).parts
        # another host name may point here (DNS rebinding)
        is_local = re.fullmatch(r"(127\.0\.0\.1|localhost)(:\d+)?", self.headers.get("Host", "")) is not None
        is_foreign = self.headers.get("Sec-Fetch-Site") == "cross-site"
        # another site's page may link to or frame the explorer, but not load its files
        is_navigation = self.headers.get("Sec-Fetch-Dest") in ("document", "iframe", "frame")
        return is_local and (is_navigation or not is_foreign) and not any(part.startswith(".") for part in parts)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        pass


def server(folder: Path, *, port: int = 0) -> ThreadingHTTPServer:
    """Make a server of ``folder`` on 127.0.0.1 that answers only its own pages; ConfigError if the port is taken."""
    return bind(partial(PrivateHandler, directory=str(folder)), port)


def bind(handler: Callable[..., BaseHTTPRequestHandler], port: int) -> ThreadingHTTPServer:
    """Make a server on 127.0.0.1; ConfigError if the port is taken."""
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise ConfigError(f"port={port} cannot be served on ({error.strerror}); use another, or 0.") from None
