"""The files of the page and the report, without a browser."""

import json
import re
from pathlib import Path
from typing import Any

from sae_lens_abstopk.diffs import page
from sae_lens_abstopk.diffs.diff_files import Diff
from sae_lens_abstopk.diffs.page import page_data, write_page, write_report
from tests.diffs.diff_example import example
from tests.diffs.page_example import hostile_example


def data(file: Path) -> Any:
    found = re.search(r'<script type="application/json" id="meta">(.*?)</script>', file.read_text("utf-8"), re.DOTALL)
    assert found
    return json.loads(found[1])


def test_numbers_and_contexts_are_those_of_the_record(tmp_path: Path) -> None:
    diff = example()
    diff = diff._replace(results=diff.results.model_copy(update={"base": "/home/me/models/lm"}))
    found = data(write_page(diff, tmp_path))
    assert found["models"] == ["tuned", "lm"]
    assert [latent["latent"] for latent in found["latents"]] == [2, 0, 1]
    assert [latent["share"] for latent in found["latents"]] == [[0.4, 0.35, 0.45], [0.1, 0.05, 0.15], None]
    assert [pole["share"][0] for pole in found["latents"][0]["poles"]] == [0.36, 0.04]
    assert found["latents"][2]["poles"][0]["estimate"] == 0.009
    negative = found["latents"][0]["poles"][1]["contexts"][0]
    assert negative["codes"] == [None, 0, 0, -1, -0.5]
    assert negative["kl"][-2:] == [4.5, None]
    assert negative["next"] == [" Il", " It"]
    assert [name for name, _ in found["fits"]] == [
        *(f"{kind}, F = {n}, L0 2.0" for kind, n in (("signed", 3), ("one-sided", 3), ("one-sided", 6))),
        "PCA, 2 directions",
    ]


def test_a_page_is_one_file_that_loads_nothing_and_texts_are_no_markup(tmp_path: Path) -> None:
    files = write_page(hostile_example(), tmp_path), write_report(hostile_example(), tmp_path / "report.html")
    for file in files:
        html = file.read_text("utf-8")
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", html)
        assert "default-src 'none'" in html
        for never in ("<img", "<b>bold", "<b>tuned", "innerHTML", "<!--"):
            assert never not in html
        assert html.count("</script>") == 10


def test_with_many_latents_each_has_fewer_contexts_and_the_report_has_the_first_ten(
    tmp_path: Path, monkeypatch: Any
) -> None:
    results, contexts = example()
    of = contexts.latents[0].model_copy(update={"positive": 6 * contexts.latents[0].positive})
    many = Diff(
        results.model_copy(update={"latents": 12 * results.latents[:1]}),
        contexts.model_copy(update={"latents": 12 * [of]}),
    )
    shown = [len(each["poles"][0]["contexts"]) for each in data(write_report(many, tmp_path / "r.html"))["latents"]]
    assert shown == [2] * 10
    assert len(page_data(many, contexts=6)["latents"][0]["poles"][0]["contexts"]) == 6
    monkeypatch.setattr(page, "CONTEXTS", 12 * 2 * 3)
    assert len(data(write_page(many, tmp_path))["latents"][11]["poles"][0]["contexts"]) == 3
