"""Figures for papers: what they show is what the results say, and a mistake is answered before a file is written."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

from sae_lens_abstopk.evaluation.figures.files import KINDS, write_figure
from sae_lens_abstopk.evaluation.figures.of_probes import auroc_figure, coverage_figure
from sae_lens_abstopk.evaluation.figures.of_saes import fvu_figure, two_sidedness_figure
from sae_lens_abstopk.evaluation.figures.of_steering import dose_response_figure, effect_cost_figure
from sae_lens_abstopk.evaluation.figures.style import mark_of, paper_style
from sae_lens_abstopk.evaluation.reports.merged_results import merge_results
from sae_lens_abstopk.evaluation.results.schema import Results, read_results
from sae_lens_abstopk.system.errors import ConfigError
from tests.cli.test_cli import invoke
from tests.evaluation.results_document import results_document

SEEDS = {"signed-0": "signed", "signed-1": "signed", "topk-0": "topk"}


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


def drawn(draw: Any, document: Results) -> Any:
    with paper_style():
        return draw(merge_results([document]))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn_with_text_as_text_and_the_same_each_time(kind: str, results: Path, tmp_path: Path) -> None:
    done = invoke("plot", str(results), "--kind", kind, "--out", str(tmp_path / "a.svg"))
    assert done.exit_code == 0, done.output
    write_figure([results], kind, tmp_path / "b.svg")
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
    points = [point for found in lines(drawn(fvu_figure, document)).values() for point in found]
    expected = {(found.l0, found.fvu) for found in document.reconstruction.values()}
    assert {(x[0], y[0]) for x, y in points} == expected
    legend = [text.get_text() for text in drawn(fvu_figure, document).legends[0].get_texts()]
    assert legend == ["signed", "topk"]


def test_intervals_are_those_of_the_file() -> None:
    document = results_document(saes={"a": None}, tasks={"gender": ("he", "she")})
    measured = document.tasks["gender"].saes["a"]
    for draw, interval in (
        (auroc_figure, measured.probes["single latent"].auroc),
        (coverage_figure, measured.best_coverage.coverage),
    ):
        bars = [bar for bar in axes_of(drawn(draw, document)).containers if bar.get_label() == "a"]
        ((line, _, (span,)),) = bars
        assert line.get_xdata()[0] == interval.value
        assert span.get_segments()[0][:, 0] == pytest.approx([interval.low, interval.high])


def test_the_curves_of_steering_are_the_doses_at_neutral_cost() -> None:
    document = results_document(saes={"a": None}, tasks={"gender": ("he", "she")})
    record = document.steering["gender"]["a"]
    doses = record.interventions["latent"].doses
    ((x, y),) = lines(drawn(dose_response_figure, document))["latent"]
    assert (x, y) == ([dose.strength for dose in doses], [dose.log_odds for dose in doses])
    ((x, y),) = lines(drawn(effect_cost_figure, document))["latent"]
    towards_b = [dose for dose in doses if dose.strength >= 0]
    assert x == pytest.approx([dose.neutral_nll - record.baseline_neutral_nll for dose in towards_b])
    assert y == pytest.approx([dose.log_odds - record.baseline_log_odds for dose in towards_b])


@pytest.mark.parametrize("draw", [dose_response_figure, effect_cost_figure])
def test_long_names_of_saes_do_not_run_into_each_other(draw: Any) -> None:
    name = "layer15_expansion8_k57_matryoshka_batch_abstopk_with_unit_norm_encoder_seed0"
    tasks = {"gender": ("he", "she"), "unsteered": ("a", "b"), "tense": ("was", "is")}
    figure = drawn(draw, results_document(saes={name: None}, tasks=tasks))
    figure.draw_without_rendering()
    first, second = (axes.title.get_window_extent() for axes in figure.axes if axes.get_title())
    assert first.x1 < second.x0


def test_two_sidedness_is_a_share_of_live_latents() -> None:
    document = results_document(saes={"a": None})
    (stairs,) = axes_of(drawn(two_sidedness_figure, document)).patches
    assert sum(stairs.get_data().values) == pytest.approx(1)


def test_an_sae_of_one_side_has_no_two_sidedness_to_draw() -> None:
    assert len(axes_of(drawn(two_sidedness_figure, results_document(saes={"a": None, "topk": None}))).patches) == 1
    assert drawn(two_sidedness_figure, results_document(saes={"topk": None})) is None


def test_tasks_and_saes_can_be_chosen(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.svg"
    write_figure(str(results), "coverage", str(out), tasks="gender", saes="topk-0")
    assert "cost" not in out.read_text()
    assert "signed" not in out.read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--kind", "auc"], "use one of fvu, auroc, coverage, dose-response, effect-cost, two-sidedness"),
        (["--kind", "auroc", "--out", "a.jpg"], "must end in one of .svg, .pdf, .png"),
        (["--kind", "auroc", "--out", "no/such/a.svg"], "no such folder"),
        (["--kind", "auroc", "--task", "tense"], "task='tense' is not in these results; they have gender, cost $x_1$"),
        (["--kind", "auroc", "--sae", "x"], "they have signed-0, signed-1, topk-0"),
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
    document.write(tmp_path / "results.json")
    for kind, sentence in (("auroc", "no task was probed"), ("dose-response", "--suite full")):
        with pytest.raises(ConfigError, match=sentence):
            write_figure([tmp_path / "results.json"], kind, tmp_path / "a.svg")
    document.model_copy(update={"reconstruction": {}}).write(tmp_path / "results.json")
    for kind in ("fvu", "two-sidedness"):
        with pytest.raises(ConfigError, match="no reconstruction was measured"):
            write_figure([tmp_path / "results.json"], kind, tmp_path / "a.svg")


def test_without_matplotlib_the_package_is_named(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"need matplotlib: pip install 'sae-lens-abstopk\[plot\]'"):
        write_figure([results], "auroc", tmp_path / "a.svg")


def test_variants_that_share_a_colour_have_another_marker() -> None:
    assert len({mark_of(index) for index in range(14)}) == 14


def test_what_evaluate_returned_is_drawn_as_its_file_is(results: Path, tmp_path: Path) -> None:
    a = write_figure(read_results(results), "auroc", tmp_path / "a.svg")
    b = write_figure(results, "auroc", tmp_path / "b.svg")
    assert a.read_text() == b.read_text()
