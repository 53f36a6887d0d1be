"""The HTML report: every part with its figure, nothing from outside, nothing run that came as text."""

import re
from html.parser import HTMLParser

from sae_lens_abstopk.evaluation.reports.html_report import html_report
from sae_lens_abstopk.evaluation.results.merging import merge_results
from sae_lens_abstopk.evaluation.results.schema import Results
from tests.evaluation.reports.markdown_tables import markdown_of, row, section
from tests.evaluation.results_document import results_document

HOSTILE = "<script>alert(1)</script>"


class Page(HTMLParser):
    """The elements and text of an HTML page; those of its figures apart."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.in_figures: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        (self.in_figures if "svg" in self._open else self.elements).append((tag, dict(attrs)))
        if tag not in ("meta", "br", "link", "img"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open and data.strip():
            self.text.setdefault(self._open[-1], []).append(data)


def page(*results: Results) -> Page:
    return Page(html_report(merge_results(results)))


def test_the_page_shows_every_part_in_figures_of_its_own_colours_and_asks_nothing_of_the_outside() -> None:
    document = results_document(saes={"topk": None, "signed": None}, tasks={"gender": ("he", "she"), "b": ("x", "y")})
    found = page(document)
    parts = ["Reconstruction", "Both sides of a latent", "Probing", "Steering", "Concepts in the activations"]
    assert found.text["h2"] == parts
    figures = [of for tag, of in found.elements if tag == "div" and of.get("class") == "plot"]
    # 2 + 1 + (2 + coverage + 2 tasks) + (symmetry + 1 task, 2 SAEs, 2 plots) + (cosines + 2 tasks)
    assert len(figures) == 2 + 1 + 5 + 5 + 3 == len(found.text["figcaption"])
    assert sum(tag == "svg" for tag, _ in found.elements) == len(figures)
    assert all(of["role"] == "img" and of["aria-label"] for of in figures)
    assert {"gender", "he (A)", "topk", "difference in means", "latent of best coverage"} <= set(found.text["text"])
    for tag, attributes in found.elements + found.in_figures:
        assert tag not in ("link", "iframe", "img", "image", "object", "embed", "base", "form")
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
        styles = attributes.get("style") or ""
        assert "#ffffff" not in styles, "transparent"
    ids = [of["id"] for _, of in found.elements + found.in_figures if "id" in of]
    assert len(set(ids)) == len(ids)
    style = "".join(found.text["style"])
    assert "url(" not in style
    assert "@import" not in style
    policy = next(of["content"] or "" for _, of in found.elements if of.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    # the numbers of the figures in tables
    cells, steered = found.text["td"], document.steering["gender"]["topk"]
    for name in ("clamp", "random_1"):
        for dose in steered.interventions[name].doses:
            change, cost = dose.log_odds - steered.baseline_log_odds, dose.neutral_nll - steered.baseline_neutral_nll
            shown = [f"{dose.strength:+g}", f"{dose.log_odds:.3f}", f"{change:.3f}", f"{cost:.3f}", dose.text]
            assert any(cells[at : at + 5] == shown for at in range(len(cells)))
    shown = [f"{value:.2f}" for value in document.concept_cosines["b"].values()]
    assert any(cells[at : at + 2] == shown for at in range(len(cells)))


def test_text_of_files_and_models_is_never_markup() -> None:
    calm = results_document(saes={"one": None}, tasks={"a": ("x", "y"), "b": ("x", "y")})
    hostile = results_document(
        saes={f"{HOSTILE}one": None},
        tasks={f"{HOSTILE}{name}": (HOSTILE, f"</script>{HOSTILE}") for name in "ab"},
        text=f"{HOSTILE} <img src=x onerror=alert(1)> {{{{ 7 * 7 }}}} </script>",
    )
    expected, found = page(calm), page(hostile)
    assert [tag for tag, _ in found.elements] == [tag for tag, _ in expected.elements]
    assert {tag for tag, _ in found.in_figures} == {"defs", "style", "g", "path", "use", "text", "clippath", "rect"}
    assert any(HOSTILE in text and "{{ 7 * 7 }}" in text for text in found.text["td"]), "and it is shown as it is"
    assert any(HOSTILE in text for text in found.text["text"])
    shown = markdown_of(hostile)
    assert "<script" not in shown
    assert "&lt;script>" in shown


def test_what_was_not_measured_leaves_no_heading() -> None:
    document = results_document(saes={"topk": None}, tasks={})
    document.reconstruction["topk"].loss = None
    shown = markdown_of(document)
    assert re.findall("^## (.*)", shown, re.MULTILINE) == ["By SAE", "Geometry"]
    assert "recovered, zero" not in shown
    found = page(document)
    assert found.text["h2"] == ["Reconstruction", "Both sides of a latent"]
    assert "Loss Recovered against L0" not in found.text["h3"]
    bare = document.model_copy(update={"reconstruction": {}, "geometry": {}})
    assert "h2" not in page(bare).text
    assert "## " not in markdown_of(bare)


def test_undefined_numbers_are_dashes_and_gaps() -> None:
    document = results_document(tasks={"gender": ("he", "she")})
    document.reconstruction["topk"].fvu = float("nan")
    document.tasks["gender"].saes["topk"].probes["single latent"].auroc.value = None
    document.steering["gender"]["topk"].interventions["latent"].doses[0].neutral_nll = float("nan")
    shown = markdown_of(document)
    assert row(section(shown, "By SAE"), "topk")[4] == "-"
    assert row(section(shown, "Probes on codes: AUROC on test"), "gender", "topk")[2] == "-"
    assert not any("nan" in (of.get("d") or "") for _, of in page(document).in_figures)
