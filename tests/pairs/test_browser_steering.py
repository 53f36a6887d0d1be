"""Steering from the page of an axis in a real browser, with a tiny model behind it."""

import threading
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from sae_lens_abstopk import PairAxes
from sae_lens_abstopk.explorer.steering_server import Steerer, sources_of_site, steering_server
from tests.explorer.reader import serious_violations

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def site(axes: PairAxes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return axes.report(tmp_path_factory.mktemp("axes"))


@pytest.fixture(scope="module")
def steerer(site: Path) -> Steerer:
    return Steerer(sources_of_site(site.parent))


@pytest.mark.parametrize("width", [390, 1300])
def test_a_slider_steers_along_an_axis(
    browser: Browser, site: Path, steerer: Steerer, axes: PairAxes, width: int
) -> None:
    axis = max(axes.results.axes, key=lambda axis: axis.share_active).latent
    running, address = steering_server(site.parent, steerer)
    with running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        context = browser.new_context(viewport={"width": width, "height": 900})
        page = context.new_page()
        wrong: list[str] = []
        page.on("console", lambda message: wrong.append(message.text))
        page.goto(f"{address}#axis-{axis}")
        page.fill("#prompt", "The old lighthouse")
        page.locator("#strength").focus()
        page.keyboard.press("End")
        sides = page.locator(".live .sides li")
        expect(sides).to_have_count(3)
        expect(page.locator(".live .here")).to_contain_text("+2")
        texts = [text.split("\n", 1)[1] for text in sides.all_inner_texts()]
        assert texts[0] != texts[2]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert serious_violations(page) == []
        assert wrong == []
        page.goto(f"{site.as_uri()}#axis-{axis}")
        expect(page.locator("main h1")).to_contain_text(f"Axis {axis}")
        assert page.locator(".live").count() == 0, "from disk"
        context.close()
        running.shutdown()
