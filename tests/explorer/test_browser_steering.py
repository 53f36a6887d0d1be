"""Steering from a page in a real browser: with the model of the server, on both sides of zero, and with axe."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from sae_lens_abstopk.explorer.steering_server import Steerer
from tests.explorer.planted import PLANTED
from tests.explorer.reader import Reader, served

pytestmark = [pytest.mark.browser, pytest.mark.slow]


class Echo(Steerer):
    """Answers without a model."""

    def __init__(self) -> None:
        pass

    def texts(self, asked):  # type: ignore[no-untyped-def]
        return {
            "negative": f"{asked.operator} -{asked.strength:g} <b>{asked.prompt}</b>",
            "unsteered": "as it is",
            "positive": f"{asked.operator} +{asked.strength:g}",
        }


@pytest.mark.parametrize("width", [390, 1300])
def test_a_slider_steers_from_one_pole_to_the_other(browser: Browser, site: Path, width: int) -> None:
    with served(browser, site.parent, Echo(), width=width) as (page, address):
        page.goto(f"{address}#/latent/0/{PLANTED}")
        page.fill("#prompt", "She said")
        page.locator("#strength").focus()
        page.keyboard.press("ArrowLeft")
        sides = page.locator(".live .sides li")
        expect(sides).to_have_count(3)
        expect(sides.nth(0)).to_contain_text("add -1.5 <b>She said</b>")
        expect(sides.nth(2)).to_contain_text("add +1.5")
        expect(page.locator(".live .here")).to_contain_text("+1.5")
        page.keyboard.press("Home")  # the negative pole
        page.select_option("#operator", "cap")
        expect(page.locator(".live .here")).to_contain_text("cap -4")


def test_a_static_page_has_no_steering(reader: Reader) -> None:
    assert reader.open(f"#/latent/0/{PLANTED}").locator(".live").count() == 0
