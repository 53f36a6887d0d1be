"""The command `abstopk report`: its files, its tables on a terminal, its answers to mistakes."""

import csv
import io
import json
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from sae_lens_abstopk.cli import app
from sae_lens_abstopk.cli.output import FormConsole
from sae_lens_abstopk.evaluation.reports import report_terminal
from sae_lens_abstopk.evaluation.reports.report_files import csv_report
from sae_lens_abstopk.evaluation.reports.report_sections import report_tables
from sae_lens_abstopk.evaluation.reports.report_terminal import coverage_gain, print_report
from sae_lens_abstopk.evaluation.results.merging import merge_results
from sae_lens_abstopk.evaluation.results.records import Interval
from tests.evaluation.reports.markdown_tables import markdown_of
from tests.evaluation.results_document import results_document


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


def test_a_table_without_width_has_its_title_and_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_terminal, "MOST_ROWS", 1)
    written = io.StringIO()
    console = FormConsole("json", file=written)
    document = merge_results([results_document(saes={"a": "x", "b": "y"})])
    print_report(document, console)
    console.close()
    tables = json.loads(written.getvalue())["tables"]
    expected = list(chain.from_iterable(report_tables(document).values()))
    assert [table["title"] for table in tables] == [table.title for table in expected]
    assert [len(table["rows"]) for table in tables] == [len(table.rows) for table in expected]


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
            numbers = {word for row in table.lines[1:] for cell in row[table.labels :] for word in cell.split()}
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


@pytest.mark.parametrize("full", [False, True])
def test_an_evaluation_prints_its_verdict_first_and_its_tables_on_request(
    full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = results_document()
    covered: dict[str, tuple[float, float | None]] = {
        "gender": (0.9, 0.7),
        "tense": (1.0, None),
        "sentiment": (0.8, 0.55),
    }
    for name, task in document.tasks.items():
        for found in task.saes.values():
            found.coverage_controls = {"permuted": Interval(value=0.5, low=0.4, high=0.6, n_units=5)}
            found.best_coverage.coverage = Interval(value=0.5, low=0.5, high=0.5, n_units=7)
        value, low = covered[name]
        high = None if low is None else 1.0
        task.saes["batch_abstopk"].best_coverage.coverage = Interval(value=value, low=low, high=high, n_units=7)
    for found in document.reconstruction.values():
        found.fvu, found.loss.ce_clean, found.loss.ce_sae = 0.125, 3.0, 3.25
    monkeypatch.setattr("sae_lens_abstopk.evaluation.suite.evaluate.evaluate", lambda *_, **__: document)
    runner = CliRunner(env={"COLUMNS": "80", "TERM": "dumb"})
    done = runner.invoke(app, ["eval", "runs/a", "--out", "out", *(["--full"] if full else [])])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[:6] == [
        "One latent covers both poles of a concept better than the controls, by:",
        "  batch_abstopk: gender +0.30, tense +0.40; not sentiment",
        "  topk: none of gender, sentiment, tense",
        "Cost in nats a token: batch_abstopk 0.250 (FVU 0.125 at L0 0.5), topk 0.250 (FVU",
        "0.125 at L0 0.5)",
        f"Page: {Path('out') / 'report.html'}",
    ]
    assert ("Pole coverage on test" in lines) == full == (len(lines) > 6)
    assert max(map(len, lines)) <= 80


def test_coverage_in_a_file_without_controls_is_compared_with_one_pole() -> None:
    found = results_document().tasks["gender"].saes["topk"]
    found.coverage_controls, found.best_coverage.coverage = {}, Interval(value=0.75, low=0.625, high=0.8, n_units=7)
    assert coverage_gain(found) == 0.25


def test_the_command_answers_a_mistake_in_one_sentence_and_writes_nothing(tmp_path: Path) -> None:
    document = results_document()
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    document.write(a)
    document.saes["topk"].weights_sha256 = "f" * 64
    document.write(b)
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.iterdir())
    for arguments, sentence in (
        ([str(tmp_path / "none.json")], "none.json is missing"),
        ([str(a), str(a)], "comes twice"),
        ([str(a), str(b)], f"{a} and {b} both have an SAE 'topk'"),
    ):
        done = invoke(*arguments, "--out", str(tmp_path / "out"))
        assert done.exit_code == 2
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
    done = invoke(str(a), "--out", str(tmp_path / "file"))
    assert done.exit_code == 2
    assert "file cannot be written" in done.stderr
    assert sorted(tmp_path.iterdir()) == before
