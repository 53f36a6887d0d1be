"""The page of two models in a real browser, from disk: reading, keys, safety and accessibility."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from sae_lens_abstopk.diffs.page import write_page, write_report
from tests.diffs.page_example import HTML, hostile_example
from tests.explorer.reader import Reader, serious_violations

pytestmark = [pytest.mark.browser, pytest.mark.slow]
VIEWS = ("", "#?q=is&sort=active", "#latent-2", "#latent-1", "#parting")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diff")
    write_report(hostile_example(), folder / "report.html")
    return write_page(hostile_example(), folder)


@pytest.fixture
def reader(browser: Browser, site: Path) -> Iterator[Reader]:
    with Reader(browser, site) as made:
        yield made


def listed(page: Page) -> list[str]:
    return page.locator(".axes .number").all_inner_texts()


def test_the_list_ranks_latents_and_its_address_keeps_search_and_order(reader: Reader) -> None:
    page = reader.open("")
    assert page.inner_text("h1") == (
        "The models differ by 0.7 nats a token. Added to the base model, 3 latents recover 60.0 % of that; all of the "
        "difference at this hook, 90.0 %."
    )
    assert listed(page) == ["Latent 2", "Latent 0", "Latent 1"]
    first = page.locator(".axes > li").first
    less, more = (first.locator(f".{side}-bar").bounding_box() for side in ("negative", "positive"))
    assert less
    assert more
    assert more["width"] == pytest.approx(9 * less["width"], rel=0.2)
    assert less["x"] + less["width"] == pytest.approx(more["x"], abs=2)
    expect(page.locator(".axes > li").nth(2)).to_contain_text("~1.0 %")
    expect(page.locator(".axes > li").nth(2).locator(".hollow")).to_have_count(2)
    page.select_option("select[name=sort]", "number")
    assert listed(page) == ["Latent 0", "Latent 1", "Latent 2"]
    page.fill("#search", "questions")
    assert listed(page) == ["Latent 0"]
    page.fill("#search", "OUI")
    assert listed(page) == ["Latent 2"]
    other = reader.context.new_page()
    other.goto(page.url)
    other.wait_for_selector("main h1")
    assert listed(other) == ["Latent 2"]
    other.close()
    page.keyboard.press("Enter")
    expect(page.locator("main h1")).to_contain_text("Latent 2")
    page.fill("#search", "no such") if page.locator("#search").count() else page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()


def test_a_latent_has_less_on_the_left_and_more_on_the_right(reader: Reader) -> None:
    page = reader.open("#latent-2")
    left, right = page.locator(".pole").all()
    expect(left).to_contain_text("The tuned model does less of this")
    expect(right).to_contain_text("The tuned model does more of this")
    expect(right).to_contain_text("KL share 36.0 %")
    expect(right.locator(".positive-shade.parts.here")).to_have_text("it")
    expect(right.locator(".here")).to_have_attribute("title", "code 2, KL of the next token 3.00 nats")
    expect(right).to_contain_text("after the framed token: tuned ␣Il base ␣It")
    expect(right.locator(".tokens li").first).to_have_text("␣oui")
    second = page.locator(".steered ol").nth(1).locator("li")
    assert [text.split("\n") for text in second.all_inner_texts()] == [
        ["tuned model", "Non"],
        ["tuned, latent removed", "(ended at once)"],
        ["base, latent added", "<b>oui</b>"],
        ["base model", "No"],
    ]
    values = left.locator(".context .value")
    expect(values).to_have_text(["code −3KL 4.00", "code −1KL 4.50"])
    page.select_option("select[name=texts]", "kl")
    expect(values).to_have_text(["code −1KL 4.50", "code −3KL 4.00"])
    page.keyboard.press("j")
    expect(page.locator("main h1")).to_contain_text("Latent 0")
    page.keyboard.press("u")
    expect(page.locator('.axes a[href="#latent-0"]')).to_be_focused()
    assert "Never active on this side" in reader.open("#latent-1").inner_text("main")
    assert "There is no latent 99" in reader.open("#latent-99").inner_text("main")


def test_where_the_models_part_is_a_view_of_its_own_and_text_stays_text(reader: Reader) -> None:
    page = reader.open("#parting")
    expect(page.locator(".bar nav a[aria-current]")).to_have_text("Where the models part")
    items = page.locator(".context")
    expect(items.nth(1).locator(".value")).to_have_text("KL 5.00")
    for address in ("#parting", "#latent-2"):
        page = reader.open(address)
        assert page.locator("main img, main script, main b b").count() == 0
        text = page.inner_text("main")
        assert HTML in text
        assert "⟨U+202E⟩evil" in text
        assert "⟨U+0000⟩⟨U+200B⟩" in text
        assert "<b>bold</b>" in text


def test_the_report_has_the_latents_in_order_without_a_list(browser: Browser, site: Path) -> None:
    with Reader(browser, site.with_name("report.html")) as made:
        page = made.open("")
        assert page.locator(".report h2").all_inner_texts() == ["1.Latent 2", "2.Latent 0", "3.Latent 1"]
        assert page.locator(".report article").first.locator(".context").count() == 3
        assert HTML in page.locator(".report article").nth(1).locator(".named").inner_text()
        page.keyboard.press("j")
        assert serious_violations(page) == []


@pytest.mark.parametrize(("width", "scheme"), [(1300, "light"), (1300, "dark"), (360, "light"), (360, "dark")])
def test_axe_finds_no_serious_violation_and_nothing_overflows(
    browser: Browser, site: Path, width: int, scheme: str
) -> None:
    with Reader(browser, site, viewport={"width": width, "height": 800}, color_scheme=scheme) as made:
        for address in VIEWS:
            page = made.open(address)
            assert serious_violations(page) == [], address
            assert page.evaluate("document.documentElement.scrollWidth") <= width, address
