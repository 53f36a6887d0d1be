"""Tables of commands as text, Markdown and JSON, and what goes to standard error."""

import json
import re
from io import StringIO
from pathlib import Path
from textwrap import wrap
from typing import Any

import pytest
import yaml
from rich.table import Column, Table
from rich.text import Text
from sae_lens import SAE
from typer.testing import CliRunner

from experiments.pairs.study import RESULTS
from sae_lens_abstopk.cli import app
from sae_lens_abstopk.cli.output import NUMBER, markdown, rows
from sae_lens_abstopk.diffs.tables import latents_table
from sae_lens_abstopk.diffs.tables import summary as diff_summary
from sae_lens_abstopk.embeddings.retrieval_results import RetrievalResults, RetrievalRow
from sae_lens_abstopk.pairs.concepts import ConceptResults
from sae_lens_abstopk.pairs.tables import axes_table, summary
from sae_lens_abstopk.system.terminal import PrintableConsole
from sae_lens_abstopk.training.config.keys import keys_table, presets_table
from tests.diffs.diff_example import example as example_diff
from tests.evaluation.results_document import Draw
from tests.pairs.page_example import example_results


def run(*arguments: str, columns: int = 80) -> Any:
    return CliRunner(env={"COLUMNS": str(columns), "TERM": "dumb"}).invoke(app, list(arguments))


def fits(printed: str, columns: int = 80) -> bool:
    return all(len(line) <= columns for line in printed.splitlines())


def one_of_each() -> dict[str, tuple[list[Table], list[str]]]:
    """Tables of commands with their legends, with names, words and numbers of some length."""
    draw, long = Draw(0), "a name of an SAE that is rather long"
    rows = [draw.record(RetrievalRow, method=method, sae=long) for method in ("codes", "decoded", "mirror")]
    retrieved = RetrievalResults.model_construct(n_queries=1440, n_documents=4239, rows=rows, left_out={"queries": 1})
    labelled = example_results()
    recorded = json.loads((RESULTS / "concepts.json").read_text())[0]
    diff, concepts = example_diff(), ConceptResults.model_validate(recorded).table()
    presets = presets_table()
    return {
        "configs": ([presets], [str(presets.caption)]),
        "configs --keys": ([keys_table()], []),
        "pairs": ([axes_table(labelled)], summary(labelled)[-1:]),
        "pairs concepts": ([concepts], [str(concepts.caption)]),
        "diff": ([latents_table(diff)], diff_summary(diff.results)[-1:]),
        "retrieval": ([retrieved.table()], [retrieved.note()]),
    }


ONE_OF_EACH = one_of_each()


@pytest.mark.parametrize("command", ONE_OF_EACH)
def test_tables_fit_80_columns_without_cutting_numbers_and_have_legends_of_three_lines(command: str) -> None:
    tables, legends = ONE_OF_EACH[command]
    for table in tables:
        console = PrintableConsole(width=80, file=StringIO(), markup=False)
        console.print(table)
        printed = console.file.getvalue()
        assert fits(printed)
        cells = [str(cell) for column in table.columns for cell in column.cells]
        assert {cell for cell in cells if NUMBER.fullmatch(cell)} <= set(printed.split())
    assert [legend for legend in legends if len(wrap(legend, 80)) > 3] == []


def example() -> Table:
    table = Table("name", Column("two\nlines", justify="right"), title="A title", caption="A note")
    for name, value in (("a|b", "1,234"), ("[red]", "-0.50"), ("2024", "8.2%"), ("starred", "+.03*"), ("-", "-")):
        table.add_row(Text(name), value)
    return table


def test_a_table_in_json_has_numbers_and_shares_and_in_markdown_its_cells() -> None:
    found = list(rows(example()))
    assert [row["two lines"] for row in found] == [1234, -0.5, 0.082, "+.03*", None]
    assert [row["name"] for row in found] == ["a|b", "[red]", "2024", "starred", "-"], "text that looks like a number"
    lines = markdown(example()).split("\n")
    assert lines[1] == "**A title**"
    assert lines[3:6] == ["| name | two lines |", "| :-- | --: |", r"| a\|b | 1,234 |"]
    assert lines[-2] == "A note"


def test_presets_fit_and_say_the_same_in_every_form() -> None:
    text, in_markdown, in_json = (run("configs", *form) for form in ((), ("--format", "md"), ("--json",)))
    assert fits(text.stdout)
    found = json.loads(in_json.stdout)["tables"][0]["rows"]
    assert {row["preset"] for row in found} >= {"pairs", "vectors", "pythia-70m"}
    for row in found:
        assert re.search(rf"^\| {row['preset']} \|.* {row['k']} \|$", in_markdown.stdout, flags=re.M)
        assert row["preset"] in text.stdout


def test_the_text_of_a_config_is_no_json() -> None:
    assert "--json is for lists" in run("configs", "vectors", "--json").output


def test_an_inspection_fits_and_its_json_is_all_of_standard_output(folders: list[Path]) -> None:
    measured = ("inspect", str(folders[0]), "--tokens", "200", "--latents", "1")
    text = run(*measured)
    assert text.exit_code == 0, text.output
    assert fits(text.stdout)
    assert len(text.stdout.split("\n\n")[0].splitlines()) <= 12, "a table, what was read, and a short legend"
    found = json.loads(run(*measured, "--json").stdout)
    row = found["tables"][0]["rows"][0]
    assert row["latents"] == SAE.load_from_disk(folders[0]).cfg.d_sae
    assert any(line.startswith("latent ") for line in found["lines"])


def test_progress_is_on_standard_error_unless_a_console_has_a_file_of_its_own() -> None:
    console = PrintableConsole()
    assert console.progress.stderr
    assert console.progress.progress is not console
    own = PrintableConsole(file=StringIO())
    assert own.progress is own


def test_training_prints_its_progress_to_standard_error(raw_config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(raw_config))
    done = run("train", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "run"), columns=200)
    assert done.exit_code == 0, done.output
    assert re.fullmatch(r"(\w+: .*\n)+", done.stdout)
