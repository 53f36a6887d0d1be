"""A reader of the site with a real browser."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from sae_lens_abstopk.explorer.steering_server import Steerer, steering_server


class Reader:
    """A page that remembers what went wrong on it: ``with Reader(...)`` ends with a check that nothing did."""

    def __init__(self, browser: Browser, site: Path, **context: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}} | context)
        self.page: Page = self.context.new_page()
        self.site = site.as_uri()
        self.wrong: list[str] = []
        self.page.on("console", lambda m: self.wrong.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: self.wrong.append(f"dialog: {dialog.message}"))
        self.page.on("request", self._look_at)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        self.context.close()
        assert failure or self.wrong == []

    def _look_at(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:")):
            self.wrong.append(f"asked for {request.url}")

    def open(self, address: str) -> Page:
        self.page.goto("about:blank")
        self.page.goto(self.site + address)
        self.page.wait_for_selector("main h1")
        return self.page


@contextmanager
def served(browser: Browser, folder: Path, steerer: Steerer, *, width: int) -> Iterator[tuple[Page, str]]:
    """A page of this width, and the address at which ``folder`` is served; fits and pleases axe at the end."""
    running, address = steering_server(folder, steerer)
    with running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        context = browser.new_context(viewport={"width": width, "height": 900})
        page = context.new_page()
        yield page, address
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert serious_violations(page) == []
        context.close()
        running.shutdown()


def serious_violations(page: Page) -> list[Any]:
    """What axe finds, with the elements."""
    return [
        (rule["id"], node["html"], node.get("failureSummary"))
        for rule in Axe().run(page).response["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]
