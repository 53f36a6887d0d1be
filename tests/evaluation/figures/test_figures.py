"""Figures: what they show is what the results say, and a mistake is answered before a file is written."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib.pyplot as plt
import pytest

from sae_lens_abstopk.evaluation.figures.files import KINDS, write_figure
from sae_lens_abstopk.evaluation.figures.intervals import auroc_figure, coverage_figure, methods_figure
from sae_lens_abstopk.evaluation.figures.of_saes import (
    cosines_figure,
    fvu_figure,
    pca_figure,
    recovered_figure,
    two_sidedness_figure,
)
from sae_lens_abstopk.evaluation.figures.of_steering import dose_response_figure, effect_cost_figure, symmetry_figure
from sae_lens_abstopk.evaluation.figures.style import GREY, mark_of, marks, paper_style
from sae_lens_abstopk.evaluation.results.merging import merge_results
from sae_lens_abstopk.evaluation.results.schema import Results, read_results
from sae_lens_abstopk.system.errors import ConfigError
from tests.cli.test_cli import invoke
from tests.evaluation.results_document import results_document

SEEDS = {"signed-0": "signed", "signed-1": "signed", "topk-0": "topk"}
ONE = {"gender": ("he", "she")}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "results.json"
    results_document(saes=SEEDS, tasks={"gender": ("he", "she"), "cost $x_1$": ("<low>", "high & up")}).write(path)
    return path


def axes_of(figure: Any) -> Any:
    return figure.axes[0]


def lines(figure: Any) -> dict[str, list[tuple[list[float], list[float]]]]:
    """Lines of the first panel by label."""
    found: dict[str, list[tuple[list[float], list[float]]]] = {}
    for line in axes_of(figure).get_lines():
        found.setdefault(str(line.get_label()), []).append((list(line.get_xdata()), list(line.get_ydata())))
    return found


def legend(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def drawn(draw: Any, document: Results, *arguments: Any) -> Any:
    with paper_style():
        return draw(merge_results([document]), *arguments)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn_with_text_as_text_and_the_same_each_time(kind: str, results: Path, tmp_path: Path) -> None:
    done = invoke("plot", str(results), "--kind", kind, "--out", str(tmp_path / "a.svg"))
    assert done.exit_code == 0, done.output
    write_figure(read_results(results), kind, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    texts = [node.text for node in ElementTree.parse(tmp_path / "a.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert "signed" in " ".join(filter(None, texts))
    if kind in ("auroc", "coverage"):
        assert "cost $x_1$" in texts
    assert not plt.get_fignums(), "no window or global figure is left"


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_other_formats_are_written(suffix: str, results: Path, tmp_path: Path) -> None:
    out = write_figure([results], "auroc", tmp_path / f"a.{suffix}")
    assert out.read_bytes().startswith({"png": b"\x89PNG", "pdf": b"%PDF"}[suffix])


def test_one_point_an_sae_and_one_name_a_variant() -> None:
    document = results_document(saes=SEEDS)
    for draw, value in (
        (fvu_figure, lambda found: found.fvu),
        (recovered_figure, lambda found: found.loss.recovered_zero),
    ):
        figure = drawn(draw, document)
        points = [point for found in lines(figure).values() for point in found]
        assert {(x[0], y[0]) for x, y in points} == {
            (each.l0, value(each)) for each in document.reconstruction.values()
        }
        assert legend(figure) == ["signed", "topk"]


def test_axes_start_at_zero_so_that_a_small_difference_looks_small() -> None:
    document = results_document(saes={"a": None, "b": None})
    for found, fvu, l0 in zip(document.reconstruction.values(), (0.12345, 0.12346), (57.0, 57.1), strict=True):
        found.fvu, found.l0 = fvu, l0
    axes = axes_of(drawn(fvu_figure, document))
    assert (axes.get_xlim()[0], axes.get_ylim()[0]) == (0, 0)
    assert axes.get_ylim()[1] < 0.2
    document.reconstruction["a"].loss.recovered_zero = -0.5
    assert axes_of(drawn(recovered_figure, document)).get_ylim()[0] < -0.5, "no point is cut off"


def test_a_variant_at_several_k_is_one_curve() -> None:
    groups = {f"{variant} k={k} seed {seed}": f"{variant} k={k}" for k in (9, 5) for variant in "ab" for seed in (0, 1)}
    document = results_document(saes=dict(groups), tasks={})
    for name in document.saes:
        document.reconstruction[name].l0 = float(name[4]) + float(name[-1]) / 2
    figure = drawn(fvu_figure, document)
    assert legend(figure) == ["a k=9", "b k=9", "a k=5", "b k=5"]
    curves = [line for line in axes_of(figure).get_lines() if line.get_color() == GREY]
    for curve, variant in zip(curves, "ab", strict=True):
        means = [fmean(document.reconstruction[f"{variant} k={k} seed {seed}"].fvu for seed in (0, 1)) for k in (5, 9)]
        assert list(curve.get_xdata()) == [5.25, 9.25]
        assert list(curve.get_ydata()) == pytest.approx(means)


def test_intervals_are_those_of_the_file() -> None:
    document = results_document(saes={"a": None}, tasks=ONE)
    measured = document.tasks["gender"].saes["a"]
    for draw, interval in (
        (auroc_figure, measured.probes["single latent"].auroc),
        (lambda merged: methods_figure(merged, merged.tasks[0]), measured.probes["single latent"].auroc),
        (coverage_figure, measured.latent.coverage),
        (symmetry_figure, document.steering["gender"]["a"].interventions["latent"].symmetry),
    ):
        line, _, (span,) = axes_of(drawn(draw, document)).containers[0]
        assert line.get_xdata()[0] == interval.value
        assert span.get_segments()[0][:, 0] == pytest.approx([interval.low, interval.high])


def test_the_curves_of_steering_are_the_doses_at_neutral_cost() -> None:
    document = results_document(saes={"a": None}, tasks=ONE)
    record = document.steering["gender"]["a"]
    doses = record.interventions["latent"].doses
    ((x, y),) = lines(drawn(dose_response_figure, document))["latent"]
    assert (x, y) == ([dose.strength for dose in doses], [dose.log_odds for dose in doses])
    ((x, y),) = lines(drawn(effect_cost_figure, document))["latent"]
    towards_b = [dose for dose in doses if dose.strength >= 0]
    assert x == pytest.approx([dose.neutral_nll - record.baseline_neutral_nll for dose in towards_b])
    assert y == pytest.approx([dose.log_odds - record.baseline_log_odds for dose in towards_b])


def test_concepts_are_drawn_with_their_cosines_and_texts() -> None:
    document = results_document(saes={"a": None}, tasks={**ONE, "tense": ("past", "present")})
    merged = merge_results([document])
    (mesh,) = axes_of(cosines_figure(merged.concept_cosines[0])).collections
    assert mesh.get_array().tolist() == [list(row.values()) for row in document.concept_cosines.values()]
    points = lines(pca_figure(merged.tasks[0]))
    assert [len(points[name][0][0]) for name in ("he (A)", "she (B)")] == [40, 40]


def test_two_sidedness_is_a_share_of_the_live_latents_of_saes_with_two_sides() -> None:
    (stairs,) = axes_of(drawn(two_sidedness_figure, results_document(saes={"a": None, "topk": None}))).patches
    assert sum(stairs.get_data().values) == pytest.approx(1)
    assert drawn(two_sidedness_figure, results_document(saes={"topk": None})) is None


def test_tasks_and_saes_can_be_chosen_and_keep_their_marks(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.svg"
    write_figure(str(results), "coverage", str(out), tasks="gender", saes="topk-0")
    assert "cost" not in out.read_text()
    assert "signed" not in out.read_text()
    merged = merge_results([read_results(results)])
    assert marks(merged.only(saes=["topk-0"]))["topk-0"] == marks(merged)["topk-0"] == mark_of(1)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--kind", "auc"], "one of fvu, auroc, coverage, dose-response, effect-cost, two-sidedness"),
        (["--kind", "auroc", "--out", "a.jpg"], "one of .svg, .pdf, .png"),
        (["--kind", "auroc", "--out", "no/such/a.svg"], "no/such/a.svg cannot be written (No such file"),
        (["--kind", "auroc", "--task", "tense"], "task='tense' must be one of gender, cost $x_1$"),
        (["--kind", "auroc", "--sae", "x"], "one of signed-0, signed-1, topk-0"),
    ],
)
def test_a_mistake_names_what_is_allowed(
    arguments: list[str], sentence: str, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = invoke("plot", str(results), *(["--out", "a.svg"] if "--out" not in arguments else []), *arguments)
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_a_file_that_lacks_what_is_shown_says_what_to_measure(tmp_path: Path) -> None:
    document = results_document(tasks={})
    bare = document.model_copy(update={"reconstruction": {}})
    for given, kind, sentence in (
        (document, "auroc", "no task was probed"),
        (document, "dose-response", "--suite full"),
        (bare, "fvu", "no reconstruction was measured"),
        (bare, "two-sidedness", "no SAE that fires on both sides was measured"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            write_figure(given, kind, tmp_path / "a.svg")
