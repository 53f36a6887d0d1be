"""Steering from the page of an axis in a real browser, with a tiny model behind it."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from sae_lens_abstopk import PairAxes
from sae_lens_abstopk.explorer.steering_server import Steerer, sources_of_site
from tests.explorer.reader import Reader, served

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
    with served(browser, site.parent, steerer, width=width) as (page, address):
        wrong: list[str] = []
        page.on("console", lambda message: wrong.append(message.text))
        page.goto(f"{address}#axis-{axis}")
        page.fill("#prompt", "The old lighthouse")
        page.locator("#strength").focus()
        page.keyboard.press("End")
        sides = page.locator(".live .sides li")
        expect(sides).to_have_count(3)
        expect(page.locator(".live .here")).to_contain_text("+4")
        texts = [text.split("\n", 1)[1] for text in sides.all_inner_texts()]
        assert texts[0] != texts[2]
        assert wrong == []


def test_a_page_of_axes_from_disk_has_no_steering(browser: Browser, site: Path) -> None:
    with Reader(browser, site) as reader:
        page = reader.open("#axis-0")
        expect(page.locator("main h1")).to_contain_text("Axis 0")
        assert page.locator(".live").count() == 0
