"""What a person reads of results: numbers as measured, nothing from outside, nothing run that came as text."""

import csv
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from sae_lens_abstopk.cli import app
from sae_lens_abstopk.evaluation.reports.csv_report import csv_report
from sae_lens_abstopk.evaluation.reports.html_report import write_html_report
from sae_lens_abstopk.evaluation.reports.markdown_report import markdown_report
from sae_lens_abstopk.evaluation.reports.merged_results import merge_results
from sae_lens_abstopk.evaluation.reports.plot_style import looks
from sae_lens_abstopk.evaluation.reports.report_sections import report_tables
from sae_lens_abstopk.evaluation.reports.report_terminal import print_report
from sae_lens_abstopk.evaluation.results.schema import Interval, Results
from sae_lens_abstopk.system.errors import ConfigError
from tests.evaluation.results_document import results_document

HOSTILE = "<script>alert(1)</script>"


class Page(HTMLParser):
    """The elements, headings and text of an HTML page, as a browser takes them apart."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "link", "img"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open and data.strip():
            self.text.setdefault(self._open[-1], []).append(data)

    @property
    def figures(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.text["script"] if text.startswith('{"data"')]


@pytest.fixture
def page(tmp_path: Path) -> Callable[..., Page]:
    def made(*results: Results) -> Page:
        write_html_report(merge_results(results), tmp_path / "report.html")
        return Page(tmp_path / "report.html")

    return made


def markdown_of(*results: Results) -> str:
    return markdown_report(merge_results(results))


def row(markdown: str, *starts: str) -> list[str]:
    """The cells of the one row that starts with these."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines() if line[:1] == "|"]
    return next(cells for cells in rows if tuple(cells[: len(starts)]) == starts)


def section(markdown: str, title: str) -> str:
    return markdown.split(f"## {title}\n")[1].split("\n## ")[0]


def columns(markdown: str, title: str, *starts: str) -> dict[str, str]:
    """The cells of the one row of a section that starts with these, by the name of their column."""
    table = section(markdown, title)
    header = next(line for line in table.splitlines() if line[:1] == "|")
    return dict(zip([name.strip() for name in header.strip("|").split("|")], row(table, *starts), strict=True))


def test_the_numbers_of_the_markdown_are_those_of_the_document() -> None:
    document = results_document()
    shown = markdown_of(document)
    found = document.reconstruction["batch_abstopk"]
    assert found.loss is not None
    assert columns(shown, "By SAE", "batch_abstopk") == {
        "SAE": "batch_abstopk",
        "saved as": "signed_jumprelu",
        "latents": "4,608",
        "L0": f"{found.l0:.1f}",
        "FVU": f"{found.fvu:.4f}",
        "nMSE": f"{found.nmse:.4f}",
        "cosine": f"{found.cosine:.3f}",
        "recovered, zero": f"{found.loss.recovered_zero:.4f}",
        "recovered, mean": f"{found.loss.recovered_mean:.4f}",
        "KL": f"{found.loss.kl:.3f}",
        "dead": f"{found.dead_latents / 4608:.1%}",
        "dead poles": f"{found.dead_poles / found.live_latents:.0%}",
        "two-sidedness": f"{found.two_sidedness:.3f}",
    }
    geometry = document.geometry["batch_abstopk"]
    densities = [found.density_quantiles[pole][2] for pole in ("positive", "negative")]
    assert columns(shown, "Geometry", "batch_abstopk") == {
        "SAE": "batch_abstopk",
        "antipodal pairs": str(geometry.antipodal_pairs),
        "latents in them": f"{geometry.latents_in_antipodal_pairs / 4608:.1%}",
        "norm, 5 %": f"{geometry.decoder_norm_quantiles[0]:.3f}",
        "norm, median": f"{geometry.decoder_norm_quantiles[2]:.3f}",
        "norm, 95 %": f"{geometry.decoder_norm_quantiles[4]:.3f}",
        "density +, median": f"{densities[0]:.2%}",
        "density -, median": f"{densities[1]:.2%}",
    }
    probes = document.tasks["tense"].saes["topk"].probes
    cells = row(section(shown, "Probes on codes: AUROC on test"), "tense", "topk")
    assert cells[2:4] == [str(probes["single latent"].auroc), str(probes["pair"].auroc)]
    assert re.fullmatch(r"0\.\d{3} \[0\.\d{3}, \d\.\d{3}\]", cells[2]), "with its interval"
    assert cells[-1] == str(probes["single latent, untrained SAE"].auroc)
    permuted = probes["single latent, permuted"].auroc
    assert cells[-2] == f"{permuted.value:.3f} ({permuted.low:.3f} to {permuted.high:.3f})", "a range, not an interval"
    cells = row(section(shown, "Probes on activations: AUROC on test"), "tense")
    assert cells[1:3] == [str(probes[of].auroc) for of in ("difference in means", "logistic regression")]
    cells = row(section(shown, "Probes: accuracy on test"), "tense", "topk")
    assert cells[2:4] == [str(probes[name].accuracy) for name in ("single latent", "pair")]
    assert cells[-1] == str(probes["logistic regression"].accuracy)
    covered = document.tasks["tense"].saes["topk"]
    cells = row(section(shown, "Pole coverage on test"), "tense", "topk")
    assert cells[2:5] == [str(each.coverage) for each in (covered.latent, covered.best_coverage, covered.pair)]
    assert cells[5] == covered.coverage_controls["permuted"].as_range()
    assert cells[6] == str(covered.coverage_controls["untrained SAE"])
    steered = document.steering["gender"]["topk"].interventions["clamp"]
    clamp = f"clamp {document.steering['gender']['topk'].latent}"
    cells = row(section(shown, "Steering at matched cost"), "gender", "topk", clamp)
    assert cells[3] == f"{steered.towards_a.strength:+.2f} (unmatched) / {steered.towards_b.strength:+.2f}"
    assert cells[4:6] == [f"{steered.towards_a.log_odds} †", str(steered.towards_b.log_odds)]
    assert cells[-1] == f"{steered.symmetry} †", "a ratio of both directions"


def test_each_direction_of_steering_has_its_own_columns() -> None:
    document = results_document()
    steered = document.steering["gender"]["topk"]
    effects = (steered.interventions["clamp"].towards_a, steered.interventions["clamp"].towards_b)
    names = ("score", "generated_cost", "log_odds_area", "neutral_cost")
    for effect, first in zip(effects, (1.0, 5.0), strict=True):
        for number, name in enumerate(names):
            setattr(effect, name, Interval(value=first + number, low=first, high=first + 4, n_units=8))
    latent = document.steering["gender"]["topk"].latent
    clamp = ("gender", "topk", f"clamp {latent}")
    cells = columns(markdown_of(document), "Generated text at these strengths, and areas", *clamp)
    for at, (pole, mark) in enumerate((("A", " †"), ("B", ""))):
        assert cells[f"score to {pole}"] == f"{effects[at].score}{mark}"
        assert cells[f"area to {pole}"] == f"{effects[at].log_odds_area}{mark}"
    assert cells["generated cost A / B"] == "2.000 / 6.000"
    cells = columns(markdown_of(document), "Steering at matched cost", *clamp)
    assert cells["cost A / B"] == "4.000 / 8.000"
    for pole, behaviour in zip(("he", "she"), steered.behaviour["latent"], strict=True):
        cells = columns(
            markdown_of(document),
            "What the model does at these strengths",
            *("gender", "topk", f"latent {latent}", f"to {pole}"),
        )
        assert cells["strength"] == f"{behaviour.strength:+.2f}{'' if behaviour.reached else ' (unmatched)'}"
        assert cells["refuses harmful"] == str(behaviour.refused_harmful)
        assert cells["refuses harmless"] == str(behaviour.refused_harmless)
        assert cells["multiple choice"] == str(behaviour.multiple_choice)
        assert cells["change"] == str(behaviour.multiple_choice_change)


def test_the_markdown_says_where_the_numbers_come_from() -> None:
    shown = markdown_of(results_document(seed=3))
    head = shown.split("## ")[0]
    for part in (
        "model.layers.15",
        "50,610 tokens (a BOS in front, positions 1:, ",
        "suite: full, seed 3",
        "0123456789abcdef",
        "torch 2.9.0",
    ):
        assert part in head


def test_a_loss_recovered_on_few_tokens_says_so() -> None:
    document = results_document()
    assert "over 51,000 predicted tokens. KL" in markdown_of(document)
    for found in document.reconstruction.values():
        assert found.loss is not None
        found.loss.tokens = 2_000
    assert "over 2,000 predicted tokens, fewer than the 50,000" in markdown_of(document)


def test_what_an_sae_of_one_side_has_not_is_a_dash() -> None:
    cells = {name: row(section(markdown_of(results_document()), "By SAE"), name) for name in ("topk", "batch_abstopk")}
    assert cells["topk"][-2:] == ["-", "-"]
    assert "-" not in cells["batch_abstopk"]


def test_texts_that_were_not_read_as_meant_are_told() -> None:
    document = results_document(tasks={"size": ("small", "large"), "age": ("old", "young")})
    document.tasks["size"].fallbacks = {"last_moved": 4, "unfiltered": 2, "marked_left_out": 3, "truncated": 1_300}
    document.tasks["age"].fallbacks = {"last_moved": 7, "truncated": 0}
    shown = markdown_of(document)
    assert "Texts of size: 2 without a token that is kept, 3 left out with their marked token, 1,300 cut." in shown
    assert "Texts of age" not in shown


def test_random_directions_share_a_row_with_their_range() -> None:
    document = results_document()
    cells = row(markdown_of(document), "gender", "topk", "2 random")
    interventions = document.steering["gender"]["topk"].interventions
    values = [interventions[f"random_{index}"].towards_b.log_odds.value or 0.0 for index in range(2)]
    assert cells[5] == f"{sum(values) / 2:.3f} ({min(values):.3f} to {max(values):.3f})"


def test_seeds_of_a_variant_are_shown_with_mean_and_range() -> None:
    document = results_document(saes={"signed-0": "signed", "signed-1": "signed", "topk-0": "topk"})
    cells, seeds = columns(markdown_of(document), "By variant", "signed", "2"), ("signed-0", "signed-1")
    found = [document.reconstruction[seed] for seed in seeds]
    of_tasks = [[task.saes[seed] for task in document.tasks.values()] for seed in seeds]
    for column, values in {
        "FVU": [each.fvu for each in found],
        "recovered, zero": [each.loss.recovered_zero for each in found if each.loss],
        "recovered, mean": [each.loss.recovered_mean for each in found if each.loss],
        "two-sidedness": [each.two_sidedness for each in found],
        "AUROC, single latent": [fmean(one.probes["single latent"].auroc.value or 0 for one in of) for of in of_tasks],
        "pole coverage": [fmean(one.latent.coverage.value or 0 for one in of) for of in of_tasks],
    }.items():
        digits = 4 if column == "FVU" or column.startswith("recovered") else 3
        shown = [f"{value:.{digits}f}" for value in (sum(values) / 2, min(values), max(values))]
        assert cells[column] == f"{shown[0]} ({shown[1]} to {shown[2]})", column
    assert "By variant" not in markdown_of(results_document()), "one SAE a variant has no range"
    assert row(section(markdown_of(document), "Stability across seeds"), "signed-0", "signed-1")[2] == "0.613"


def test_the_page_asks_nothing_of_the_outside(page: Callable[..., Page]) -> None:
    found = page(results_document())
    for tag, attributes in found.elements:
        assert tag not in ("link", "iframe", "img", "object", "embed", "base", "form")
        for name in ("src", "href", "srcset", "action", "data"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    style = "".join(found.text["style"])
    assert "url(" not in style
    assert "@import" not in style
    policy = next(of["content"] or "" for _, of in found.elements if of.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_the_page_shows_every_part_with_a_caption_each(page: Callable[..., Page]) -> None:
    found = page(results_document())
    assert found.text["h2"] == [
        "Reconstruction",
        "Both sides of a latent",
        "Probing",
        "Steering",
        "Concepts in the activations",
    ]
    # 2 + 1 + (2 + coverage + 3 tasks) + (symmetry + 2 tasks, 2 SAEs, 2 plots) + (cosines + 3 tasks)
    assert len(found.figures) == 2 + 1 + 6 + 9 + 4
    assert len(found.text["figcaption"]) == len(found.figures)
    drawn = sum(trace.get("showlegend", False) for figure in found.figures for trace in figure["data"])
    assert len(found.text["li"]) == drawn, "each with a legend of what is drawn"


def test_the_page_has_the_doses_and_cosines_of_its_plots_in_tables(page: Callable[..., Page]) -> None:
    document = results_document()
    cells = page(document).text["td"]
    steered = document.steering["gender"]["topk"]
    for name in ("clamp", "random_1"):
        for dose in steered.interventions[name].doses:
            change, cost = dose.log_odds - steered.baseline_log_odds, dose.neutral_nll - steered.baseline_neutral_nll
            told = [f"{dose.strength:+g}", f"{dose.log_odds:.3f}", f"{change:.3f}", f"{cost:.3f}", dose.text]
            assert any(cells[at : at + 5] == told for at in range(len(cells)))
    told = [f"{value:.2f}" for value in document.concept_cosines["tense"].values()]
    assert any(cells[at : at + 3] == told for at in range(len(cells)))


def test_the_intervals_of_the_plot_are_those_of_the_document(page: Callable[..., Page]) -> None:
    document = results_document()
    figures = page(document).figures
    single = next(found for found in figures if found["layout"]["xaxis"]["title"].get("text") == "AUROC on test")
    traces = {trace["name"]: trace for trace in single["data"]}
    measured = [document.tasks[task].saes["topk"].probes["single latent"].auroc for task in document.tasks]
    assert traces["topk"]["x"] == [each.value for each in measured]
    assert traces["topk"]["error_x"]["array"] == pytest.approx([(e.high or 0) - (e.value or 0) for e in measured])
    assert traces["control, permuted"]["marker"]["color"] == "#868e96"


def test_an_interval_below_the_axis_widens_it(page: Callable[..., Page]) -> None:
    document = results_document()
    document.tasks["gender"].saes["topk"].probes["single latent, permuted"].auroc = Interval(
        value=0.2, low=0.1, high=0.3, n_units=7
    )
    figures = page(document).figures
    lefts = [
        f["layout"]["xaxis"]["range"][0]
        for f in figures
        if f["layout"]["xaxis"]["title"].get("text") == "AUROC on test"
    ]
    assert lefts[0] == pytest.approx(0.08)
    assert lefts[1] == pytest.approx(0.28), "of the pairs"


def test_text_of_files_and_models_is_never_markup(page: Callable[..., Page]) -> None:
    calm = results_document(saes={"one": None}, tasks={"a": ("x", "y"), "b": ("x", "y"), "c": ("x", "y")})
    hostile = results_document(
        saes={f"{HOSTILE}one": None},
        tasks={f"{HOSTILE}{name}": (HOSTILE, f"</script>{HOSTILE}") for name in "abc"},
        text=f"{HOSTILE} <img src=x onerror=alert(1)> {{{{ 7 * 7 }}}} </script>",
    )
    expected, found = page(calm), page(hostile)
    assert [tag for tag, _ in found.elements] == [tag for tag, _ in expected.elements]
    assert any(HOSTILE in text and "{{ 7 * 7 }}" in text for text in found.text["td"]), "and it is shown as it is"
    labels = [trace["name"] for figure in found.figures for trace in figure["data"] if "name" in trace]
    assert any("&lt;script&gt;" in name for name in labels)
    assert not any("<" in name for name in labels), "plotly reads HTML in labels"
    shown = markdown_of(hostile)
    assert "<script" not in shown
    assert "&lt;script>" in shown


def test_a_name_does_not_break_a_markdown_table() -> None:
    shown = markdown_of(results_document(saes={"a|b\n`c` [d](http://e) _f_": None}))
    line = next(line for line in section(shown, "By SAE").splitlines() if line.startswith("| a"))
    assert r"a\|b \`c\` [d]\(http://e) \_f\_" in line
    header = section(shown, "By SAE").strip().splitlines()[0]
    assert len(re.findall(r"(?<!\\)\|", line)) == header.count("|")


def test_what_was_not_measured_leaves_no_heading(page: Callable[..., Page]) -> None:
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


def test_numbers_that_are_not_defined_are_dashes_and_gaps(page: Callable[..., Page]) -> None:
    document = results_document()
    document.reconstruction["topk"].fvu = float("nan")
    document.tasks["gender"].saes["topk"].probes["single latent"].auroc.value = None
    document.steering["gender"]["topk"].interventions["latent"].doses[0].generated_nll = float("nan")
    shown = markdown_of(document)
    assert row(section(shown, "By SAE"), "topk")[4] == "-"
    assert row(section(shown, "Probes on codes: AUROC on test"), "gender", "topk")[2] == "-"
    assert "NaN" not in json.dumps(page(document).figures)


@pytest.mark.parametrize("newest_first", [False, True])
def test_results_without_accuracy_are_those_of_the_same_sae_with_it(newest_first: bool) -> None:
    older, newer = results_document(), results_document()
    for task in older.tasks.values():
        for probe in (probe for sae in task.saes.values() for probe in sae.probes.values()):
            probe.accuracy = None
    merged = merge_results([newer, older] if newest_first else [older, newer])
    assert [sae.name for sae in merged.saes] == list(newer.saes)
    assert merged.tasks[0].saes == newer.tasks[merged.tasks[0].name].saes


def test_lengths_of_training_are_shown_where_they_differ() -> None:
    document = results_document()
    assert "training tokens" not in markdown_of(document)
    first, second, *_ = document.saes.values()
    first.training["training_tokens"], second.training["training_tokens"] = 2_000_000, ["of", "another", "tool"]
    shown = markdown_of(document)
    assert "training tokens" in shown
    assert "| 2,000,000 |" in shown


def test_results_of_other_saes_and_suites_are_shown_together() -> None:
    first = results_document(saes={"a": None}, tasks={"gender": ("he", "she")})
    second = results_document(saes={"b": None}, tasks={"gender": ("he", "she"), "tense": ("past", "present")})
    second.tasks["gender"].digest = first.tasks["gender"].digest
    merged = merge_results([first, second])
    assert merged.names == ["a", "b"]
    assert [(task.name, list(task.saes)) for task in merged.tasks] == [("gender", ["a", "b"]), ("tense", ["b"])]
    shown = markdown_of(first, second)
    assert "Result 2:" in shown
    assert row(section(shown, "By SAE"), "b")[1] == "signed_jumprelu"


def test_the_same_sae_is_one_unless_its_numbers_differ() -> None:
    whole = results_document()
    tasks_only = whole.model_copy(update={"reconstruction": {}, "geometry": {}})
    assert merge_results([whole, tasks_only]).names == ["batch_abstopk", "topk"]
    assert [task.name for task in merge_results([whole, tasks_only]).tasks] == ["gender", "sentiment", "tense"]
    other = results_document(seed=1)
    merged = merge_results([whole, other])
    assert merged.names[:2] == ["batch_abstopk (result 1)", "topk (result 1)"]
    assert merged.tasks[0].name == "gender (result 1)", "another split is another measurement"


def test_one_name_for_different_weights_is_refused() -> None:
    first, second = results_document(), results_document()
    second.saes["topk"].weights_sha256 = "f" * 64
    with pytest.raises(
        ConfigError, match=r"a\.json and b\.json both have an SAE 'topk'.*sha256 000000000000.*ffffffffffff"
    ):
        merge_results([first, second], sources=["a.json", "b.json"])
    first.saes["topk"].weights_sha256 = second.saes["topk"].weights_sha256 = None
    second.saes["topk"].folder = "release/other"
    with pytest.raises(ConfigError, match=r"result 1 and result 2 .*release/other"):
        markdown_of(first, second)
    with pytest.raises(ConfigError, match="at least one results file"):
        markdown_of()


def test_one_name_at_several_hooks_is_told_apart_by_the_hook() -> None:
    first, second, third = (results_document(saes={"topk": "per token"}, seed=seed) for seed in range(3))
    second.hook, third.hook = "model.layers.22", "model.layers.8"
    for document, digest in ((second, "e"), (third, "f")):
        document.saes["topk"].weights_sha256 = digest * 64
    merged = merge_results([first, second, third])
    hooks = ("model.layers.15", "model.layers.22", "model.layers.8")
    assert merged.names == [f"topk ({hook})" for hook in hooks]
    assert [sae.variant for sae in merged.saes] == [f"per token ({hook})" for hook in hooks]
    assert [task.name for task in merged.tasks][::3] == [f"gender ({hook})" for hook in hooks]
    shown = markdown_of(first, second, third)
    for hook, document in zip(hooks, (first, second, third), strict=True):
        cells = columns(shown, "By SAE", f"topk ({hook})")
        assert cells["hook"] == hook
        assert cells["FVU"] == f"{document.reconstruction['topk'].fvu:.4f}"
    third.hook, third.model = second.hook, "EleutherAI/pythia-70m"
    assert merge_results([second, third]).names[1] == "topk (EleutherAI/pythia-70m, model.layers.22)"
    assert "EleutherAI/pythia-70m" in section(markdown_of(second, third), "By SAE")
    # of two results of one hook, that contradict each other, the hook says too little
    again = results_document(saes={"topk": "per token"}, seed=4)
    assert merge_results([first, second, again]).names == [f"topk (result {number})" for number in (1, 2, 3)]


def test_the_csv_has_the_numbers_in_full_and_what_was_swept() -> None:
    document = results_document(saes={"a": "signed", "topk, wide": None})
    found, other = document.reconstruction["a"], document.reconstruction["topk, wide"]
    document.saes["a"].training |= {"lr": 3e-4, "seed": 2, "training_architecture_details": {"k": 57.0}}
    document.saes["topk, wide"].training |= {"k": 32}
    found.fvu, other.loss = 0.1 + 0.2, None
    other.nmse = float("nan")
    first, second = csv.DictReader(io.StringIO(csv_report(merge_results([document]))))
    assert found.loss is not None
    for key, value in {
        "model": document.model,
        "hook": "model.layers.15",
        "group": "signed",
        "d_sae": 4608,
        "k": 57.0,
        "lr": 3e-4,
        "seed": 2,
        "train_batch_size_tokens": "",
        "fvu": found.fvu,
        "loss_recovered_zero": found.loss.recovered_zero,
        "antipodal_pairs": document.geometry["a"].antipodal_pairs,
    }.items():
        assert first[key] == str(value), key
    assert [second[key] for key in ("sae", "k", "group", "loss_kl", "nmse")] == ["topk, wide", "32", "", "", ""]


def test_saes_of_a_large_sweep_are_told_apart(page: Callable[..., Page]) -> None:
    long = "runs/pythia-70m_batch_abstopk_layer-3"
    names = {f"{long}_lr-{lr}_seed-{seed}": f"{long}_lr-{lr}" for lr in range(9) for seed in range(3)}
    document = results_document(saes=dict(names), tasks={"a": ("x", "y")})
    found = looks(merge_results([document]))
    assert len(set(found.values())) == len(names) == 27
    fvu = page(document).figures[0]
    assert {trace["name"] for trace in fvu["data"]} == set(names.values()), "whole, in the legend"


def test_a_variant_at_several_k_is_one_curve(page: Callable[..., Page]) -> None:
    groups = {f"{variant} k={k} seed {seed}": f"{variant} k={k}" for k in (9, 5) for variant in "ab" for seed in (0, 1)}
    document = results_document(saes=dict(groups), tasks={})
    for name, record in document.saes.items():
        record.training["variant"] = name[0]
        document.reconstruction[name].l0 = float(name[4]) + float(name[-1]) / 2
    drawn = page(document).figures[0]["data"]
    lines = [trace for trace in drawn if trace["mode"] == "lines"]
    marks = [trace for trace in drawn if trace["mode"] == "markers"]
    assert [trace["name"] for trace in marks] == ["a k=9", "a k=5", "b k=9", "b k=5"]
    assert [len(trace["x"]) for trace in marks] == [2, 2, 2, 2]
    style = looks(merge_results([document]))
    assert [trace["marker"]["color"] for trace in marks] == [
        style[f"{trace['name']} seed 0"].colour for trace in marks
    ], "as in every other plot"
    for line, variant in zip(lines, "ab", strict=True):
        means = [fmean(document.reconstruction[f"{variant} k={k} seed {seed}"].fvu for seed in (0, 1)) for k in (5, 9)]
        assert line["x"] == [5.25, 9.25]
        assert line["y"] == pytest.approx(means)
    assert f"FVU {document.reconstruction['a k=9 seed 0'].fvu:.4f}" in marks[0]["text"][0]


def test_numbers_on_several_texts_say_which_is_whose() -> None:
    first, second = results_document(saes={"a": "v"}, tasks={}), results_document(saes={"b": "v"}, tasks={})
    assert "text" not in columns(markdown_of(first), "By SAE", "a")
    second.text, second.held_out = "other.jsonl", not first.held_out
    shown = markdown_of(first, second)
    assert columns(shown, "By SAE", "a")["text"].startswith(first.text)
    assert columns(shown, "By SAE", "b")["text"].startswith("other.jsonl, ")
    assert "By variant" not in shown, "two texts are not averaged"
    rows = list(csv.DictReader(io.StringIO(csv_report(merge_results([first, second])))))
    assert [each["measured_on"].split(",")[0] for each in rows] == [first.text, "other.jsonl"]


def test_legends_of_a_large_comparison_name_every_variant_once(page: Callable[..., Page]) -> None:
    groups = {f"v{variant} seed {seed}": f"v{variant}" for variant in range(10) for seed in (0, 1)}
    document = results_document(saes=dict(groups), tasks={"gender": ("he", "she"), "tense": ("past", "present")})
    met = set()
    for figure in page(document).figures:
        if (title := figure["layout"]["xaxis"]["title"].get("text")) in ("pole coverage on test", "symmetry"):
            met.add(title)
            legend = [trace for trace in figure["data"] if trace["showlegend"] and trace["name"].startswith("v")]
            assert [trace["name"] for trace in legend] == [f"v{variant}" for variant in range(10)]
            assert len({trace["marker"]["color"] for trace in legend}) == 10
    assert met == {"pole coverage on test", "symmetry"}


def test_tables_of_many_rows_are_left_to_the_files() -> None:
    document = results_document(saes={f"s{i}": None for i in range(21)}, tasks={"a": ("x", "y"), "b": ("x", "y")})
    print_report(merge_results([document]), console := Console(width=200, file=io.StringIO(), color_system=None))
    assert isinstance(console.file, io.StringIO)
    assert "42 rows, which are in report.md and report.html" in console.file.getvalue()
    assert "s20" in console.file.getvalue(), "of one row an SAE"


def test_saes_that_were_trained_in_other_ways_are_no_seeds_of_one_variant() -> None:
    """As where two comparisons, of other learning rates, are reported together."""
    document = results_document(saes={f"a k=9 seed {seed}": "a k=9" for seed in range(4)}, tasks={})
    for seed, record in enumerate(document.saes.values()):
        record.training |= {"lr": 1e-3 if seed < 2 else 5e-4, "training_tokens": 512}
    saes = merge_results([document]).saes
    assert [sae.variant for sae in saes] == ["a k=9 lr=0.001"] * 2 + ["a k=9 lr=0.0005"] * 2
    assert [sae.curve for sae in saes] == ["a lr=0.001"] * 2 + ["a lr=0.0005"] * 2
    for record in document.saes.values():
        record.training["lr"] = 1e-3
    assert {(sae.variant, sae.curve) for sae in merge_results([document]).saes} == {("a k=9", "a")}


def test_on_a_narrow_terminal_no_number_is_cut() -> None:
    document = results_document(saes={f"[bold]a_name_of_some_length_{seed}": "variant" for seed in range(2)})
    for width in (60, 80, 200):
        console = Console(width=width, file=io.StringIO(), color_system=None)
        print_report(merge_results([document]), console)
        assert isinstance(console.file, io.StringIO)
        shown = console.file.getvalue()
        assert "…" not in shown
        assert max(map(len, shown.splitlines())) <= width
        words = set(shown.split())
        for table in chain.from_iterable(report_tables(merge_results([document])).values()):
            numbers = {word for row in table.rows for cell in row[table.labels :] for word in cell.split()}
            assert numbers <= words, table.title
        assert "[bold]" in shown, "a name is no markup"


def invoke(*arguments: str) -> Any:
    return CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, ["report", *arguments])


def test_the_command_writes_both_and_prints_the_tables(tmp_path: Path) -> None:
    document = results_document()
    document.write(tmp_path / "a.json")
    done = invoke(str(tmp_path / "a.json"), "--out", str(tmp_path / "new" / "out"))
    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "new" / "out").iterdir()} == {"report.md", "report.html", "report.csv"}
    assert (tmp_path / "new" / "out" / "report.md").read_text() == markdown_of(document)
    assert f"{document.reconstruction['topk'].fvu:.4f}" in done.output


def test_the_command_answers_a_mistake_in_one_sentence_and_writes_nothing(tmp_path: Path) -> None:
    document = results_document()
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    document.write(a)
    document.saes["topk"].weights_sha256 = "f" * 64
    document.write(b)
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.iterdir())
    for arguments, sentence in (
        ([str(tmp_path / "none.json")], "no such results file"),
        ([str(a), str(a)], "is given twice"),
        ([str(a), str(b)], f"{a} and {b} both have an SAE 'topk'"),
    ):
        done = invoke(*arguments, "--out", str(tmp_path / "out"))
        assert done.exit_code == 2
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
    done = invoke(str(a), "--out", str(tmp_path / "file"))
    assert done.exit_code == 2
    assert "cannot write the report into" in done.stderr
    assert sorted(tmp_path.iterdir()) == before
