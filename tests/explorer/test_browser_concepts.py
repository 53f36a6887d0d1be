"""Concepts of the site in a real browser: which latents were chosen for them, and how these steer."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.explorer.planted import PLANTED
from tests.explorer.reader import Reader

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def with_concepts(browser: Browser, evaluated_site: Path) -> Iterator[Reader]:
    with Reader(browser, evaluated_site) as made:
        yield made


def test_a_concept_shows_its_latents_with_both_poles_and_how_they_steer(with_concepts: Reader) -> None:
    page = with_concepts.open("#/overview/0")
    page.click(".bar nav >> text=Concepts")
    expect(page.locator("main h1")).to_have_text("genderhe (A) ↔ she (B)")
    first = page.locator(".chosen").first
    assert "best single latent, best pole coverage, steered" in first.inner_text()
    assert "0.99 [" in first.locator(".figures").inner_text()
    assert first.locator(".pole .side").all_inner_texts() == ["Negative pole, for he", "Positive pole, for she"]
    assert first.locator(".pole.negative .here").first.inner_text().strip() == "he"
    assert page.locator(".doses .curve.latent-line circle").count() == 18  # nine doses of the latent of each SAE
    assert "single latent, permuted" not in page.inner_text(".probes"), "controls are folded away"
    page.click(".probes summary")
    assert "single latent, permuted" in page.inner_text(".probes details")
    page.click(".chips >> text=tense")
    expect(page.locator("main h1")).to_contain_text("<b>past</b> (A) ↔ present (B)")
    assert page.locator("main b").count() == 0
    page.click(".chips >> text=gender")
    page.locator(".steered summary").first.click()
    texts = page.inner_text(".steered details >> nth=0")
    assert "After the prompt I think that" in texts
    assert f"+2 towards she: strength −2 of latent {PLANTED} (its negative pole)" in texts
    assert f"−4 towards he: strength +4 of latent {PLANTED} (its positive pole)" in texts
    note = page.inner_text(".steered .note >> nth=0")
    assert f"+1 is strength −1 of latent {PLANTED} (its negative pole), which adds a code of 12.5." in note
    assert "In the texts, though, that side goes with he." in note
    label = page.get_attribute(".doses > svg >> nth=0", "aria-label")
    assert "difference in means: " in label
    assert "<img src=x onerror=alert(3)>" in texts
    assert page.locator("main img").count() == 0


def test_a_latent_says_which_concepts_it_was_chosen_for(with_concepts: Reader) -> None:
    page = with_concepts.open(f"#/latent/0/{PLANTED}")
    row = page.locator(".numbers tbody tr")
    expect(row).to_have_count(1)
    cells = row.locator("th, td").all_inner_texts()
    assert cells[:4] == ["gender", "best single latent, best pole coverage, steered", "he", "she"]
    assert cells[-1] == "0.80"
    row.locator("a").click()
    expect(page.locator("main h1")).to_contain_text("he (A) ↔ she (B)")
    page.click(".chosen h3 a >> nth=0")
    expect(page.locator("main h1")).to_contain_text(f"Latent {PLANTED}")
    page = with_concepts.open("#/latent/0/20")
    assert page.locator(".numbers").count() == 0


def test_concepts_that_are_not_there_say_so(with_concepts: Reader, reader: Reader) -> None:
    assert "0 to 1" in with_concepts.open("#/concept/7").inner_text("main")
    page = reader.open("#/concept/0")
    assert "--results" in page.inner_text("main")
    assert "Concepts" not in page.inner_text(".bar nav")
