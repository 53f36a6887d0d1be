"""The explorer of SAEs of vectors: rows of both poles, and nothing that needs a language model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, expect
from sae_lens import SAE

from sae_lens_abstopk import ConfigError, explore
from sae_lens_abstopk.explorer import collection
from sae_lens_abstopk.explorer.row_words import RowWords
from sae_lens_abstopk.vectors.rows_as_texts import RowText
from tests.cli.test_cli import invoke
from tests.evaluation.vector_saes import EVERY, N, Planted, planted

LATENT = 3


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return planted(tmp_path_factory.mktemp("vectors"))


def test_both_poles_show_the_texts_of_rows(on_disk: Planted) -> None:
    found = explore(on_disk.sae, on_progress=lambda *_: None)
    latent = found.catalogue()[LATENT]
    held_out = on_disk.codes[EVERY - 1 :: EVERY, LATENT]
    assert [pole.fires for pole in latent.poles] == [int((held_out > 0).sum()), int((held_out < 0).sum())]
    assert [pole.label for pole in latent.poles] == ["rising", "falling"]
    strongest = EVERY - 1 + EVERY * int(held_out.argmax())
    assert latent.positive.strongest[0].tokens == (f"text {strongest} rising",)
    assert latent.positive.promoted == latent.negative.demoted == ()
    assert (found.about.unit, found.about.tokens_read, found.about.held_out) == ("rows", N // EVERY, True)
    assert found.catalogue().collected.cofiring.tokens_seen == N // EVERY, "rows are too few for a sample of them"
    assert "% of rows" in found.latent(LATENT)._repr_html_()
    assert "40 rows" in found._repr_html_()


def test_a_pass_is_read_again_only_if_the_vectors_are_others(on_disk: Planted, tmp_path: Path) -> None:
    def passes(data: Path, monkeypatch: pytest.MonkeyPatch) -> int:
        read: list[int] = []
        update = collection.Collector.update
        monkeypatch.setattr(collection.Collector, "update", lambda self, *a: (read.append(1), update(self, *a)))
        explore(on_disk.sae, data=data, checkpoint=tmp_path / "passes", on_progress=lambda *_: None)
        return len(read)

    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(50, 12)))
    for expected in (1, 0):
        with pytest.MonkeyPatch.context() as patch:
            assert passes(tmp_path / "x.npy", patch) == expected
    np.save(tmp_path / "x.npy", np.random.default_rng(1).normal(size=(50, 12)))
    with pytest.MonkeyPatch.context() as patch:
        assert passes(tmp_path / "x.npy", patch) == 1


def test_words_of_a_label_are_those_that_are_rare_elsewhere() -> None:
    texts = ["the snow fell", "the snow melts", "the sun and sand", *[f"the day {i}" for i in range(16)], "a cat"]
    words = RowWords(RowText(len(texts), texts))
    top = words.top([(0, 2.0), (1, -2.0), (2, 1.0)])
    assert [(word.text, word.firings) for word in top] == [("snow", 2)]
    assert top[0].share == pytest.approx(8 / 9)
    assert words.top([(2, 1.0), (19, 1.0)]) == [], "no word is in two rows"
    assert words.beginning(2) == "the sun and sand"
    assert len(RowWords(RowText(1, ["long " * 100])).beginning(0)) <= 48


def test_nothing_can_be_steered(on_disk: Planted) -> None:
    with pytest.raises(ConfigError, match="trained on vectors; leave --steer"):
        explore(on_disk.sae, prompts="I think")


def test_the_command_writes_a_site_with_concepts(
    on_disk: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABSTOPK_CACHE", str(tmp_path / "cache"))
    evaluated = invoke("eval", f"mine={on_disk.sae}", "--labels", "mood", "--out", str(tmp_path / "results"))
    assert evaluated.exit_code == 0, evaluated.output
    results = str(tmp_path / "results" / "results.json")
    done = invoke("explore", on_disk.sae, "--results", results, "--show", "writer", "--out", str(tmp_path / "site"))
    assert done.exit_code == 0, done.output
    assert "40 held-out rows of x.parquet,column=vector were read" in done.output
    page = (tmp_path / "site" / "index.html").read_text()
    assert '"unit": "rows"' in page
    assert "promotes" not in page
    assert "writer 1" in (tmp_path / "site" / "data" / "0" / "shard-0.js").read_text()
    assert "mood" in (tmp_path / "site" / "data" / "concepts.js").read_text()


@pytest.mark.browser
@pytest.mark.slow
def test_pages_of_rows_have_no_empty_part(on_disk: Planted, tmp_path: Path, browser: Browser) -> None:
    index = explore(on_disk.sae, on_progress=lambda *_: None).write(tmp_path / "site")
    page, errors = browser.new_page(), list[str]()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{index.as_uri()}#/latent/0/{LATENT}")
    expect(page.locator("h1")).to_contain_text("falling")
    text = page.inner_text("main")
    assert "rising" in page.locator(".pole.positive .context").first.inner_text()
    assert page.locator("mark").count() == 0
    for word in ("token", "romotes", "teer"):
        assert word not in text
    code = page.inner_text(".snippet pre")
    scope: dict[str, object] = {"x": torch.ones(2, 12)}
    exec(code, scope)
    expected = SAE.load_from_disk(on_disk.sae).encode(torch.ones(2, 12))[:, LATENT]
    assert torch.equal(scope["codes"], expected)  # type: ignore[arg-type]
    page.goto(f"{index.as_uri()}#/overview/0")
    page.fill("#search", "falling")
    expect(page.locator(".found")).to_contain_text("of 8 latents")
    assert "token" not in page.inner_text("main")
    assert errors == []
