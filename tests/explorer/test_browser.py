"""The site in a real browser, from disk: reading, safety and accessibility."""

from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser, Page, expect

from sae_lens_abstopk.explorer.collection import CollectionSettings, Collector
from tests.explorer.planted import CLOSED, D_SAE, PLANTED, QUIET, exploration_of
from tests.explorer.reader import Reader, serious_violations
from tests.system.test_pages import UNSEEN

pytestmark = [pytest.mark.browser, pytest.mark.slow]
VIEWS = (
    "#/overview/0",
    f"#/latent/0/{PLANTED}",
    f"#/latent/0/{QUIET}",
    f"#/latent/0/{CLOSED}",
    "#/latent/1/3",
    f"#/compare/{PLANTED}",
)
CONCEPTS = ("#/concept/0", "#/concept/1")


def first_latent(page: Page) -> str:
    return page.locator("tbody tr:not(.space) td:first-child").first.inner_text()


def test_every_view_opens_from_disk_and_the_model_s_text_stays_text(reader: Reader) -> None:
    for address in VIEWS:
        page = reader.open(address)
        assert "Nothing here" not in page.inner_text("main")
        assert page.title() != ""
        assert page.locator("main img, main script, main b").count() == 0
    assert "<script>alert(1)</script>" in page.inner_text("main")
    assert "&amp;" in page.inner_text("main")
    assert "words <b>" in page.inner_text("header")


def test_both_poles_stand_side_by_side_the_negative_one_left(reader: Reader) -> None:
    page = reader.open(f"#/latent/0/{PLANTED}")
    negative, positive = (page.locator(f".pole.{side}") for side in ("negative", "positive"))
    left, right = negative.bounding_box(), positive.bounding_box()
    assert left["x"] + left["width"] <= right["x"]
    assert left["y"] == right["y"]
    assert negative.locator(".here").first.inner_text().strip() == "he"
    assert positive.locator(".here").first.inner_text().strip() == "she"
    assert negative.locator(".here.negative-shade").count() == positive.locator(".here.positive-shade").count() > 0
    assert page.locator("svg[role=img] rect").count() == 2  # each pole has one strength
    assert page.locator("mark").count() == page.locator(".here").count() > 0
    assert negative.locator("mark").first.get_attribute("title") == "−2"
    assert positive.locator(".positive-shade:not(mark)").first.get_attribute("title") == "2"
    assert "in a sample of 12 firings" in positive.inner_text()
    assert "100 %, 12 ×" in positive.locator(".tokens").first.inner_text()
    assert "99 % of its codes are within 2" in negative.locator(".note").inner_text()
    assert page.locator(".snippet pre").inner_text().count(f"latent={PLANTED},") == 1


def test_search_finds_tokens_labels_and_numbers(reader: Reader) -> None:
    page = reader.open("#/overview/0")
    expect(page.locator(".found")).to_have_text(f"{D_SAE} latents")
    expect(page.locator(".sorting")).to_have_text("in the suggested order")
    page.get_by_role("button", name="scale").click()
    expect(page.locator(".sorting")).to_have_text("sorted by scale, descending")
    page.get_by_role("button", name="suggested order").click()
    page.keyboard.press("/")
    page.keyboard.type("SCRIPT>alert")
    expect(page.locator(".found")).to_contain_text(f"of {D_SAE} latents")
    assert "script" in page.inner_text("tbody")
    page.fill("#search", str(PLANTED))
    expect(page.locator(".found")).to_have_text(f"1 of {D_SAE} latents")
    for words in ("no such word", "ever f", "mix"):
        page.fill("#search", words)
        expect(page.locator("tbody .nothing")).to_be_visible()
    page.fill("#search", "1")
    expect(page.locator(".found")).not_to_have_text(f"1 of {D_SAE} latents")  # "alert(1)" is among the tokens
    assert first_latent(page) == "1"
    page.fill("#search", str(PLANTED))
    page.keyboard.press("Enter")
    expect(page.locator("main h1")).to_contain_text(f"Latent {PLANTED}")


def test_filters_narrow_the_list_and_a_link_brings_them_back(reader: Reader) -> None:
    page = reader.open("#/overview/0")
    page.click("summary")
    page.fill("input[name=two]", "0.3")
    page.fill("#search", "she")
    page.locator("thead th", has_text="Scale").locator("button").click()
    shown, rows = page.inner_text(".found"), page.inner_text("tbody")
    assert shown != f"{D_SAE} latents"
    link = page.url
    other = reader.context.new_page()
    other.goto(link)
    other.wait_for_selector("tbody tr")
    assert other.inner_text(".found") == shown
    assert other.inner_text("tbody") == rows
    assert other.input_value("input[name=two]") == "0.3"
    other.close()
    page.fill("#search", str(PLANTED))
    expect(page.locator(".found")).to_have_text(f"1 of {D_SAE} latents")
    page.fill("input[name=two]", "0.45")  # of its 57 firings 47 % are on the weaker side: that might be chance
    expect(page.locator(".found")).to_have_text(f"0 of {D_SAE} latents")


def test_arrow_keys_go_through_the_list_last_looked_at(reader: Reader) -> None:
    page = reader.open("#/latent/0/5")
    page.keyboard.press("ArrowRight")
    expect(page.locator("main h1")).to_contain_text("Latent 6")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("main h1")).to_contain_text("Latent 5")
    page = reader.open("#/overview/0?sort=scale")
    in_order = page.locator("tbody tr:not(.space) td:first-child").all_inner_texts()[:2]
    page.locator("tbody tr:not(.space)").first.click()
    expect(page.locator("main h1")).to_contain_text(f"Latent {in_order[0]}")
    page.keyboard.press("ArrowRight")
    expect(page.locator("main h1")).to_contain_text(f"Latent {in_order[1]}")
    page.go_back()
    page.go_back()
    expect(page.locator("tbody")).to_be_visible()
    assert "sort=scale" in page.url


def test_help_opens_with_a_key_and_keys_can_be_turned_off_for_good(reader: Reader) -> None:
    page = reader.open("#/latent/0/5")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    page = reader.open("#/latent/0/5")
    page.click("#help-button")
    page.click("#keys")
    page.keyboard.press("Escape")
    page.reload()
    page.wait_for_selector("main h1")
    page.keyboard.press("?")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#help")).to_be_hidden()
    expect(page.locator("main h1")).to_contain_text("Latent 5")
    expect(page.locator("#keys")).to_have_text("Keys: off")


def test_neighbours_and_axes_lead_to_their_latents(reader: Reader) -> None:
    page = reader.open(f"#/latent/0/{PLANTED}")
    link = page.locator(".linked a").first
    target = link.inner_text()
    link.click()
    expect(page.locator("main h1")).to_contain_text(f"Latent {target}")
    page = reader.open(f"#/latent/0/{PLANTED}")
    page.click("text=beside topk")
    expect(page.locator(".pole")).to_have_count(4)
    sides = page.locator(".pole .side").all_inner_texts()
    assert sides[0] == "topk 3, cosine 1.00 with −d"
    assert sides[3] == "topk 4, cosine 1.00 with +d"


def test_an_address_of_nothing_says_so_and_invisible_characters_are_escaped_as_in_the_data(reader: Reader) -> None:
    page = reader.open("#/latent/0/100000")
    assert f"0 to {D_SAE - 1}" in page.inner_text("main")
    assert "no page “nowhere”" in reader.open("#/nowhere").inner_text("main")
    page = reader.open("#/latent/0/5")
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    expect(page.locator("main h1")).to_contain_text("Latent 5")
    assert page.evaluate("(texts) => texts.map(visible)", [text for text, _ in UNSEEN]) == [one for _, one in UNSEEN]


def test_a_closed_pole_is_told_from_one_that_never_fired(reader: Reader) -> None:
    for latent, note in (
        (CLOSED, "Closed: this latent has one side by construction."),
        (QUIET, "Never fires on this side"),
    ):
        assert note in reader.open(f"#/latent/0/{latent}").inner_text(".pole.negative")
    assert "closed poles\n1" in reader.open("#/overview/0").inner_text("aside .figures")


def test_a_dot_of_the_scatter_opens_its_latent(reader: Reader) -> None:
    page = reader.open("#/overview/0")
    box = page.locator("canvas").bounding_box()
    for x in range(int(box["width"]) - 20, 40, -6):
        page.mouse.move(box["x"] + x, box["y"] + box["height"] - 30)
        page.wait_for_timeout(40)  # Chromium hands moves on once a frame
        if page.locator(".tip").is_visible():
            break
    page.mouse.move(box["x"] + x - 6, box["y"] + box["height"] - 30)  # from the edge of its reach closer to the dot
    page.wait_for_timeout(40)
    index = page.inner_text(".tip").partition(":")[0]
    assert index.isdigit()
    page.mouse.down()
    page.mouse.up()
    expect(page.locator("main h1")).to_contain_text(f"Latent {index}")


def test_themes_follow_the_system_or_the_button_in_the_page_and_in_the_scatter(browser: Browser, site: Path) -> None:
    background = "getComputedStyle(document.documentElement).backgroundColor"
    picture = "document.querySelector('canvas').toDataURL()"
    with Reader(browser, site, color_scheme="light") as made:
        page = made.open("#/overview/0")
        page.wait_for_function(f"{picture}.length > 3000")
        light, drawn = page.evaluate(background), page.evaluate(picture)
        page.click("#theme")  # light, as before
        assert (page.evaluate(background), page.evaluate(picture)) == (light, drawn)
        page.click("#theme")  # dark
        page.wait_for_function(f"(before) => {picture} !== before", arg=drawn)
        dark = page.evaluate(background)
        assert dark != light
        page.click("#theme")  # the system's
        page.wait_for_function(f"(before) => {picture} === before", arg=drawn)
        page.emulate_media(color_scheme="dark")
        page.wait_for_function(f"(before) => {picture} !== before", arg=drawn)
        assert page.evaluate(background) == dark


@pytest.mark.parametrize("width", [360, 390, 768, 1300, 3840])
def test_nothing_overflows_and_no_table_is_cut_off(browser: Browser, evaluated_site: Path, width: int) -> None:
    with Reader(browser, evaluated_site, viewport={"width": width, "height": 800}) as made:
        for address in (*VIEWS, *CONCEPTS):
            page = made.open(address)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, address
        page = made.open("#/overview/0")
        name = "a_name_of_many_words_" * 4
        for place in ("h1", ".bar nav a >> nth=0"):
            page.locator(place).evaluate("(e, name) => { e.textContent = name }", name)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        narrowest = min(page.locator("td.label").nth(n).bounding_box()["width"] for n in range(4))  # type: ignore[index]
        assert narrowest >= 80
        cells = "[...document.querySelectorAll('.scroller, .scroller td:not(.label)')]"
        assert page.evaluate(f"{cells}.filter((e) => e.scrollWidth > e.clientWidth).map((e) => e.textContent)") == []


@pytest.mark.parametrize("width", [390, 1300])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_violation(browser: Browser, evaluated_site: Path, scheme: str, width: int) -> None:
    with Reader(browser, evaluated_site, color_scheme=scheme, viewport={"width": width, "height": 900}) as made:
        for address in (*VIEWS, *CONCEPTS):
            page = made.open(address)
            assert serious_violations(page) == [], address
        page.keyboard.press("?")
        assert serious_violations(page) == []


def test_an_sae_with_one_side_is_shown_with_one_side(reader: Reader) -> None:
    page = reader.open("#/overview/1")
    assert page.locator("thead th").all_inner_texts()[:3] == ["Latent", "Fires on", "Fires"]
    assert "dead poles" not in page.inner_text("aside")
    assert "its scale" in page.inner_text(".scatter figcaption")
    page.click(".controls summary")
    assert page.locator(".filters label").count() == 3
    page.fill("input[name=most]", "0")
    expect(page.locator(".found")).to_contain_text("of 40 latents")
    page = reader.open("#/latent/1/3")
    assert page.locator(".pole h2").all_inner_texts() == ["Strongest", "By strength, above this share of the firings"]
    assert page.locator(".pole.positive .here").first.inner_text().strip() == "he"
    text = page.inner_text("main")
    assert "Negative" not in text
    assert "same side" not in text


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of 9,216 latents with random codes."""
    generator = torch.Generator().manual_seed(0)
    collector = Collector(9216, CollectionSettings(strongest=1, sampled=1, before=3, after=1, tokens_sampled=6))
    for _ in range(4):
        codes = torch.randn(256, 9216, generator=generator) * (torch.rand(256, 9216, generator=generator) < 0.01)
        where = torch.stack([torch.arange(4).repeat_interleave(64), torch.arange(64).repeat(4)], dim=1)
        collector.update(codes, where, torch.randint(0, 8, (4, 64), generator=generator))
    return exploration_of(collector).write(tmp_path_factory.mktemp("large") / "site")


def test_of_nine_thousand_latents_only_rows_in_sight_are_in_the_page_and_nothing_jumps(
    browser: Browser, large: Path
) -> None:
    with Reader(browser, large) as made:
        made.page.add_init_script(
            "window.shifts = 0;"
            "new PerformanceObserver((list) => { for (const e of list.getEntries()) window.shifts += e.value; })"
            ".observe({ type: 'layout-shift', buffered: true });"
        )
        page = made.open("#/overview/0")
        page.wait_for_selector("tbody tr")
        page.wait_for_timeout(300)
        assert page.get_attribute("table", "aria-rowcount") == "9217"
        for scrolled in (0, 100_000, 10**7):
            page.locator(".scroller").evaluate("(element, by) => { element.scrollTop = by; }", scrolled)
            page.wait_for_timeout(100)
            assert page.locator("tbody tr").count() < 80, "as many are in sight, and some above and below"
        assert page.locator("tbody tr[aria-rowindex='9217']").count() == 1
        assert page.evaluate("window.shifts") < 0.05
        page.fill("#search", "river")
        expect(page.locator(".found")).to_contain_text("of 9,216 latents")
