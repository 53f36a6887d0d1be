"""The file of the page, without a browser, and the figure."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.evaluation.figures.style import paper_style
from sae_lens_abstopk.pairs import page
from sae_lens_abstopk.pairs.page import CHARACTERS, write_page
from sae_lens_abstopk.pairs.pair_figure import effects_figure
from sae_lens_abstopk.pairs.pair_results import PairResults
from tests.pairs.page_example import LONG, ROWS, A, example_codes, example_pairs, example_results


def written(folder: Path, results: PairResults) -> str:
    return write_page(results, example_pairs(), example_codes(), folder).read_text(encoding="utf-8")


def data(html: str) -> Any:
    found = re.search(r'<script type="application/json" id="meta">(.*?)</script>', html, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_strongest_pairs_of_both_poles_are_found_by_their_rows(tmp_path: Path) -> None:
    found = data(written(tmp_path / "new", example_results()))
    examples = {
        axis["latent"]: [(found["pairs"][place]["row"], code) for place, code in axis["examples"]]
        for axis in found["axes"]
    }
    assert examples == {
        7: [(2, -3), (3, 2), (11, -1)],
        2: [(5, 1.5), (7, -0.5), (13, 0.25)],
        4: [(13, -2), (3, 1)],
        0: [],
    }
    assert sorted(pair["row"] for pair in found["pairs"]) == ROWS
    by_row = {pair["row"]: pair for pair in found["pairs"]}
    assert (by_row[2]["columns"], by_row[2]["preferred"]) == (["<u>other</u>", "answer"], -1)
    assert "".join(by_row[2]["texts"][0]) == A[0]
    assert [by_row[row]["preferred"] for row in (5, 7)] == [0, None]


def test_the_clearest_pair_is_short_and_differs_in_some_words() -> None:
    codes = example_codes()
    codes[:, 2] = [0, 3, 2, -1.75, 0, 0.25]
    axes = {axis["latent"]: axis for axis in page.page_data(example_results(), example_pairs(), codes)["axes"]}
    shown = {latent: axis["clearest"] for latent, axis in axes.items()}
    # of axis 2, the strongest one has few words in common; of axis 4, the text of the strongest one is one long word
    assert shown == {2: 1, 7: 0, 4: 0, 0: None}
    assert axes[2]["sure"]
    assert not axes[4]["sure"], "in no other seed"
    assert not axes[0]["sure"], "unnamed"


def test_the_page_is_one_file_that_loads_nothing_and_texts_are_no_markup(tmp_path: Path) -> None:
    html = written(tmp_path, example_results())
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", html)
    assert "default-src 'none'" in html
    for never in ("<img", "<b>bold", "<i>bob", "<u>other", "<b>model", "innerHTML", "<!--"):
        assert never not in html
    assert html.count("</script>") == 9


def test_long_texts_are_cut_off_and_with_many_pairs_to_fewer_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    html = written(tmp_path, example_results())
    pair = next(each for each in data(html)["pairs"] if each["row"] == 3)
    assert ("".join(pair["texts"][1]), pair["leftOut"]) == (LONG[:CHARACTERS], [0, len(LONG) - CHARACTERS])
    assert pair["prompt"][1][2] == len(LONG) - CHARACTERS
    assert len(html) < 100_000
    monkeypatch.setattr(page, "ALL_CHARACTERS", 160)
    assert data(written(tmp_path, example_results()))["characters"] == 160 // 16


def test_numbers_are_those_of_the_results(tmp_path: Path) -> None:
    found = data(written(tmp_path, example_results()))
    assert found["fits"] == [
        ["signed, F = 8, L0 4.0", [0.566, 0.546, 0.586]],
        ["one-sided, F = 8, L0 4.0", [0.621, 0.601, 0.641]],
        ["one-sided, F = 16, L0 4.0", [0.594, 0.574, 0.614]],
    ]
    assert [name for name, _ in found["aucs"]] == ["codes", "all of the vector", "length only"]
    by_latent = {axis["latent"]: axis for axis in found["axes"]}
    assert by_latent[7]["markers"] == [["refuses / complies", -0.3], ["long / short", 0.1]]
    assert by_latent[7]["fidelity"] == [0.6, 0.58, 0.62]
    assert by_latent[7]["disagreement"]["groups"][1] == ["<i>bob</i>", [0.8, 0.78, 0.82]]
    assert by_latent[4]["names"] == ["short", "long"]
    assert by_latent[0]["names"] == ["unnamed", "unnamed"]
    assert list(by_latent) == [2, 7, 4, 0], "named and stable ones first"
    assert by_latent[0]["effect"] is None
    without = data(written(tmp_path, example_results(labelled=False)))
    assert without["aucs"] is None


def test_the_figure_has_each_effect_between_the_names_of_its_poles() -> None:
    with paper_style():
        figure = effects_figure(example_results())
    left, right = figure.axes
    assert [each.get_text() for each in left.get_yticklabels()][-1] == "refuses, “<b>no</b>”"
    assert [each.get_text() for each in right.get_yticklabels()] == ["short", "$10 & <b>$20</b>", "complies"]
    points = [np.asarray(line.get_xdata()) for line in left.lines]
    drawn = [each.item() for each in points if each.size == 1]
    assert drawn == pytest.approx([-20, -4, 10])
    with pytest.raises(ConfigError, match="column of preferences"):
        effects_figure(example_results(labelled=False))
