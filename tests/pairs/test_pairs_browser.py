"""The page of axes in a real browser, from disk: reading, keys, safety and accessibility."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from sae_lens_abstopk.pairs.page import write_page
from tests.explorer.reader import Reader, serious_violations
from tests.pairs.page_example import ROWS, A, B, example_codes, example_concepts, example_pairs, example_results

pytestmark = [pytest.mark.browser, pytest.mark.slow]
VIEWS = ("", "#?q=sorry&bars=wins", "#axis-7", "#axis-2", "#axis-4", "#axis-0")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(example_results(), example_pairs(), example_codes(), tmp_path_factory.mktemp("pairs"))


@pytest.fixture
def reader(browser: Browser, site: Path) -> Iterator[Reader]:
    with Reader(browser, site) as made:
        yield made


def listed(page: Page) -> list[str]:
    return page.locator(".axes .number").all_text_contents()


def test_every_view_opens_from_disk_and_texts_stay_texts(reader: Reader) -> None:
    for address in VIEWS:
        page = reader.open(address)
        assert page.title() != ""
        assert page.locator("main img, main script, main i:not(.dots i), main u, main b b").count() == 0
    text = reader.open("#axis-7").inner_text("main")
    assert "<script>alert(1)</script><img src=x onerror=alert(2)>" in text
    assert "96,000 more characters, which this page leaves out" in text
    assert "(empty)" in text
    text = reader.open("#axis-2").inner_text("main")
    assert "⟨U+202E⟩evil" in text
    assert "👩‍👩‍👧 🎉 ? ⟨U+0000⟩ ⟨U+200B⟩" in text
    assert "There is no axis 99" in reader.open("#axis-99").inner_text("main")


def test_the_list_says_what_is_preferred_and_how_sure_that_is(reader: Reader) -> None:
    page = reader.open("")
    assert page.inner_text("h1") == "Of 4 axes, 3 have a confirmed effect on which text is preferred."
    assert page.locator(".measures dd").all_inner_texts()[3].split()[0] == "0.566"
    assert listed(page) == ["Axis 2", "Axis 7", "Axis 4", "Axis 0"], "named and stable ones first"
    assert "name +0.6" in page.locator(".axes > li").nth(1).inner_text()
    page.select_option("select[name=sort]", "bar")
    assert listed(page) == ["Axis 7", "Axis 2", "Axis 4", "Axis 0"], "unstable and unnamed ones below"
    expect(page.locator("summary")).to_have_text("2 unstable or unnamed axes, 1 with a confirmed effect")
    expect(page.locator(".axes > li").nth(2)).not_to_be_visible()
    page.locator("summary").focus()
    page.keyboard.press("Enter")
    rows = page.locator("details .axes > li")
    middle, bar = rows.nth(0).locator(".side-bar").bounding_box(), rows.nth(0).locator("rect").bounding_box()
    assert middle
    assert bar
    assert bar["x"] + bar["width"] == pytest.approx(middle["x"] + middle["width"] / 2, abs=2), "the negative side wins"
    assert "short" in rows.nth(0).inner_text()
    expect(rows.nth(0).locator(".words.preferred.negative")).to_be_visible()
    expect(rows.nth(0).locator(".dots .on")).to_have_count(1)
    expect(page.locator(".axes > li").nth(0).locator(".dots .on")).to_have_count(4)
    expect(page.locator(".axes > li", has_text="groups disagree").locator(".number")).to_have_text("Axis 7")
    expect(rows.nth(1).locator(".side-bar")).to_have_count(0)
    page.select_option("select[name=bars]", "wins")
    assert "10 %" in rows.nth(0).inner_text()
    page.select_option("select[name=sort]", "stability")
    assert listed(page)[0] == "Axis 2"
    page.fill("#search", "no such word")
    expect(page.locator(".found")).to_contain_text("No axis matches")
    page.fill("#search", "short")
    assert listed(page) == ["Axis 4"]
    link = page.url
    other = reader.context.new_page()
    other.goto(link)
    other.wait_for_selector("main h1")
    assert listed(other) == ["Axis 4"]
    assert other.input_value("#search") == "short"
    other.close()
    page.keyboard.press("Enter")
    expect(page.locator("main h1")).to_contain_text("Axis 4")


def test_cards_of_named_and_stable_axes_lead(reader: Reader) -> None:
    page = reader.open("")
    cards = page.locator(".card")
    assert cards.locator("h3").all_inner_texts() == ["no prices ↔ $10 & <b>$20</b>", "refuses, “<b>no</b>” ↔ complies"]
    top, search = cards.first.bounding_box(), page.locator("#search").bounding_box()
    assert top
    assert search
    assert top["y"] < search["y"]
    text = cards.nth(1).inner_text()
    assert "0.60 0.58 to 0.62" in text
    assert "75 %" in text
    assert "+10.0 +8.0 to +12.0" in text
    negative, positive = (cards.nth(1).locator(f".text-of.{side}") for side in ("negative", "positive"))
    assert negative.inner_text() == "I am sorry, I cannot help with that."
    assert positive.inner_text() == "Sure! Here is how."
    cards.nth(1).locator("a").click()
    expect(page.locator("main h1")).to_contain_text("Axis 7")


def test_a_card_cuts_long_texts_around_the_first_difference_and_colours_only_that(
    browser: Browser, tmp_path: Path
) -> None:
    before, after = "The same 👍 words. " * 30, " And so it goes on." * 60
    texts = [f"{before}Sorry, {side}!{after} sorry" for side in ("left", "right")]
    pairs = replace(example_pairs(), a=[texts[0], *A[1:]], b=[texts[1], *B[1:]])
    site = write_page(example_results(), pairs, example_codes(), tmp_path)
    with Reader(browser, site) as made:
        card = made.open("").locator(".card", has_text="complies")
        text = card.locator(".text-of.negative").inner_text()
        assert text.startswith("… ")
        assert text.endswith(" …")
        assert "Sorry, left! And so" in text
        assert 250 < len(text) < 310
        assert card.locator(".text-of.negative mark").all_inner_texts() == ["left"]
        assert card.locator(".text-of.positive mark.positive-shade").all_inner_texts() == ["right"]
        # a word of a pole that both texts have is no evidence
        pair = made.open("#axis-7").locator(".examples > ol > li").first
        assert pair.locator(".differs").all_inner_texts() == ["left", "right"]
        expect(pair.locator(".negative-shade, .positive-shade")).to_have_count(0)


def test_a_word_of_a_pole_is_coloured_where_one_text_has_more_of_it(browser: Browser, tmp_path: Path) -> None:
    pairs = replace(
        example_pairs(), a=["sorry sorry certainly one", *A[1:]], b=["certainly sure two three four", *B[1:]]
    )
    with Reader(browser, write_page(example_results(), pairs, example_codes(), tmp_path)) as made:
        pair = made.open("#axis-7").locator(".examples > ol > li").first
        assert pair.locator(".negative-shade").all_inner_texts() == ["sorry", "sorry"]
        assert pair.locator(".positive-shade").all_inner_texts() == ["sure"]


def test_an_unnamed_axis_shows_a_pair_in_place_of_its_names(browser: Browser, tmp_path: Path) -> None:
    codes = example_codes()
    codes[:, 0] = [0, 0, 0, 2, 0, 0]
    results = example_results()
    results.axes[3].examples_positive = [ROWS[3]]
    with Reader(browser, write_page(results, example_pairs(), codes, tmp_path)) as made:
        page = made.open("")
        page.locator("summary").click()
        row = page.locator(".axes > li", has_text="unnamed")
        expect(row.locator(".negative")).to_contain_text("unnamed “The cat lay on the mat.”")
        expect(row.locator(".positive mark")).to_have_text("sat")


def test_the_codes_have_a_histogram_with_a_text(reader: Reader) -> None:
    figure = reader.open("#axis-7").locator(".histogram")
    label = (
        "Signed histogram of the codes: 2 held-out pairs on the negative side, 24 held-out pairs on the positive side"
    )
    expect(figure.get_by_role("img")).to_have_attribute("aria-label", label)
    expect(figure.locator(".positive-bar")).to_have_count(20)
    expect(figure.locator(".negative-bar")).to_have_count(1)


@pytest.mark.parametrize(("width", "scheme"), [(1300, "light"), (400, "dark")])
def test_known_concepts_stand_in_a_table(browser: Browser, tmp_path: Path, width: int, scheme: str) -> None:
    concepts = example_concepts()
    site = write_page(example_results(), example_pairs(), example_codes(), tmp_path, concepts=concepts)
    with Reader(browser, site, viewport={"width": width, "height": 800}, color_scheme=scheme) as made:
        page = made.open("")
        cells = page.locator(".concepts tbody").locator("th, td").all_inner_texts()
        assert cells == ["he / <b>she</b>", "7", "0.98", "0.95", "0.93", "0.86", "0.93", "0.86", "1.00", "0.99"]
        assert "The names in this table are the known concepts" in page.inner_text(".concepts")
        assert serious_violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.locator(".concepts a").click()
        expect(page.locator("main h1")).to_contain_text("Axis 7")


def test_keys_go_through_the_list_and_back_leads_to_it(reader: Reader) -> None:
    page = reader.open("#?sort=number")
    assert listed(page) == ["Axis 2", "Axis 7", "Axis 0", "Axis 4"]
    for key in "jjjk":  # not into the closed fold
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    expect(page.locator("main h1")).to_contain_text("Axis 2")
    assert page.url.endswith("#axis-2")
    for key, axis in (("j", 7), ("j", 0), ("j", 4), ("k", 0)):
        page.keyboard.press(key)
        expect(page.locator("main h1")).to_contain_text(f"Axis {axis}")
    page.keyboard.press("u")
    expect(page.locator('.axes a[href="#axis-0"]')).to_be_focused()
    assert page.url.endswith("#?sort=number")
    page.locator(".axes > li").nth(3).click()
    expect(page.locator("main h1")).to_contain_text("Axis 4")
    page.go_back()
    expect(page.locator(".axes > li")).to_have_count(4)
    page.go_forward()
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    page = reader.open("")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()


def test_an_axis_shows_its_pairs_with_the_negative_side_left(reader: Reader) -> None:
    page = reader.open("#axis-7")
    text = page.inner_text(".verdicts")
    assert "The positive pole is preferred" in text
    assert "10.0 percentage points more often (8.0 to 12.0)" in text
    assert "Groups disagree (q: 0.01): the positive pole wins 30 % (28 % to 32 %) in ann, 80 %" in text
    pair = page.locator(".examples > ol > li").first
    negative, positive = (pair.locator(f".text-of.{side}") for side in ("negative", "positive"))
    left, right = negative.bounding_box(), positive.bounding_box()
    assert left
    assert right
    assert left["x"] + left["width"] <= right["x"]
    assert "I am sorry, I cannot help" in negative.inner_text()
    assert "<u>other</u>" in negative.inner_text()
    assert "✓ preferred" in positive.inner_text()
    assert "preferred" not in negative.inner_text()
    assert negative.locator(".negative-shade").all_inner_texts() == ["sorry"]
    assert positive.locator(".positive-shade").all_inner_texts() == ["Sure", "Here"]
    page = reader.open("#axis-2")
    assert page.locator(".differs:visible").all_inner_texts()[1:] == ["sat", "lay"]
    assert "tie" in page.locator(".examples > ol > li").first.inner_text()
    text = page.inner_text(".verdicts")
    assert "A text with one standard deviation more of it is preferred 4.0" in text
    assert "The poles are one-sided: 1 axis labelled by <b>m</b>, right on 7 of 9 planted ones." in text
    assert page.inner_text("h1").split("\n")[1:] == ["no prices", "↔", "$10 & <b>$20</b>"]
    assert "Fidelity 0.6" in reader.open("#axis-4").inner_text(".verdicts")
    assert "Unnamed: no marker or word" in reader.open("#axis-0").inner_text(".verdicts")


def test_long_texts_are_folded_until_asked_for(reader: Reader) -> None:
    page = reader.open("#axis-7")
    item = page.locator(".examples > ol > li").nth(1)
    button, long = item.get_by_role("button"), item.locator(".sides .long")
    before = long.bounding_box()
    button.click()
    after = long.bounding_box()
    assert before
    assert after
    assert after["height"] > 2 * before["height"]
    expect(button).to_have_text("Show less")
    assert page.locator(".examples > ol > li").first.get_by_role("button").count() == 0


@pytest.mark.parametrize(("width", "scheme"), [(1300, "light"), (1300, "dark"), (360, "light"), (360, "dark")])
def test_axe_finds_no_serious_violation_and_nothing_overflows(
    browser: Browser, site: Path, width: int, scheme: str
) -> None:
    with Reader(browser, site, viewport={"width": width, "height": 800}, color_scheme=scheme) as made:
        for address in VIEWS:
            page = made.open(address)
            page.evaluate("document.querySelectorAll('details').forEach((e) => { e.open = true })")
            assert serious_violations(page) == [], address
            assert page.evaluate("document.documentElement.scrollWidth") <= width, address
        page = made.open("")
        page.keyboard.press("?")
        assert serious_violations(page) == []


def test_without_preferences_there_are_no_bars(browser: Browser, tmp_path: Path) -> None:
    site = write_page(example_results(labelled=False), example_pairs(), example_codes(), tmp_path)
    with Reader(browser, site) as made:
        page = made.open("")
        assert page.locator(".side-bar, .confirmed, select[name=bars]").count() == 0
        assert "AUC" not in page.inner_text("main")
        assert page.inner_text("h1").endswith("differ, among them 2 stable axes with a name that holds.")
        assert listed(page)[0] == "Axis 2"
        text = made.open("#axis-7").inner_text("main")
        assert "win rate" not in text
        assert "effect" not in text
