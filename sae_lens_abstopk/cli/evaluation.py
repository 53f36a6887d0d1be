"""Subcommands that measure and show."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from typer import Argument, Option

from sae_lens_abstopk.cli.app import Data, Device, Float32, Model, Show, Text, app, named, pairs
from sae_lens_abstopk.cli.errors import config_error, errors_as_sentences
from sae_lens_abstopk.cli.output import prints_tables

if TYPE_CHECKING:
    from sae_lens_abstopk.evaluation.results.merging import MergedResults

ResultsFiles = Annotated[
    list[Path], Argument(metavar="RESULT.json...", help="Results files, of one or of different SAEs and suites.")
]


@app.command()
@prints_tables
def inspect(
    saes: Annotated[
        list[str], Argument(help="SAE folders or RELEASE:SAE_ID, all for one hook of one model, or all of vectors.")
    ],
    model: Model = None,
    text: Text = None,
    data: Data = None,
    show: Show = None,
    device: Device = "auto",
    tokens: Annotated[int, Option(help="Tokens to evaluate on; of SAEs of vectors, rows.", min=1)] = 51_200,
    latents: Annotated[int, Option(help="Two-sided latents to show.", min=0)] = 5,
    out: Annotated[Path | None, Option("--out", "-o", help="Also write a results file.")] = None,
) -> None:
    """Show metrics of SAEs and contexts of the latents whose weaker pole is strongest."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.evaluation.inspection.inspect_saes import (
            inspect_saes,
            print_inspection,
            refuse_to_write_over,
        )
        from sae_lens_abstopk.system.terminal import passes_bar

        if out is not None:
            if out.is_dir() or not out.parent.is_dir():
                raise config_error(f"--out {out} must be a file in a folder that exists.")
            refuse_to_write_over(out)
        with passes_bar(console.progress, "measuring") as on_progress:
            found = inspect_saes(
                saes,
                model_name=model,
                text=text,
                data=data,
                show=show,
                n_tokens=tokens,
                device=device,
                on_progress=on_progress,
            )
        print_inspection(found, console, latents=latents)
        if out is not None:
            found.results.write(out)


@app.command("eval")
@prints_tables
def evaluate(
    saes: Annotated[list[str], Argument(help="SAE folders or RELEASE:SAE_ID; NAME=SAE sets its name.")],
    suite: Annotated[
        str | None,
        Option(
            help="Suite (quick, probing, full, public, refusal, vectors) or YAML file; full by default, for SAEs of "
            "vectors vectors."
        ),
    ] = None,
    out: Annotated[
        Path, Option("--out", "-o", help="Results folder; finished parts are reused, other results in it stay.")
    ] = Path("results"),
    model: Model = None,
    text: Text = None,
    data: Data = None,
    labels: Annotated[
        str | None,
        Option(
            metavar="COLUMN",
            help="Of SAEs of vectors: column to probe; of more than two values, each against the others.",
        ),
    ] = None,
    show: Show = None,
    float32: Float32 = False,
    device: Device = "auto",
    local: Annotated[
        list[str] | None, Option(metavar="TASK=PATH", help="Files to read in place of a task's Hub data.")
    ] = None,
    seed: Annotated[int, Option(help="Seed for splits, samples and intervals.", min=0, max=2**32 - 1)] = 0,
    full: Annotated[bool, Option("--full", help="Also print the tables of the report.")] = False,
) -> None:
    """Probe, steer and measure SAEs with a suite; write results.json and reports, and print the verdict."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.evaluation.reports.report_terminal import print_report, print_verdict
        from sae_lens_abstopk.evaluation.results.merging import merge_results
        from sae_lens_abstopk.evaluation.suite.evaluate import evaluate as run_evaluation
        from sae_lens_abstopk.training.distributed import require_one_process

        require_one_process("abstopk eval")
        results = run_evaluation(
            named(saes),
            suite=suite,
            out=out,
            model_name=model,
            text=text,
            data=data,
            labels=labels,
            show=show,
            local=pairs(local or [], "--local"),
            seed=seed,
            float32=float32,
            device=device,
            console=console.progress,
        )
        merged = merge_results([results])
        print_verdict(merged, out / "report.html", console)
        if full:
            console.print()
            print_report(merged, console)


@app.command()
@prints_tables
def report(
    results: ResultsFiles,
    out: Annotated[Path, Option("--out", "-o", help="Folder for report.md, report.html and report.csv.")] = Path(
        "report"
    ),
) -> None:
    """Show results as tables and write them as Markdown, one HTML page with plots, and CSV."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.evaluation.reports.report_files import write_reports

        show_reports(write_reports(results, out), out, console)


@app.command()
def plot(
    results: ResultsFiles,
    kind: Annotated[str, Option(help="Figure: fvu, auroc, coverage, dose-response, effect-cost or two-sidedness.")],
    out: Annotated[Path, Option("--out", "-o", help="File to write: .svg, .pdf or .png.")],
    task: Annotated[list[str] | None, Option(help="Concept to draw; may be repeated. All by default.")] = None,
    sae: Annotated[list[str] | None, Option(help="SAE to draw; may be repeated. All by default.")] = None,
) -> None:
    """Draw a figure for a paper from results files."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.evaluation.figures.files import write_figure

        console.out(write_figure(results, kind, out, tasks=task or (), saes=sae or ()))


def show_reports(merged: "MergedResults", out: Path, console: Console) -> None:
    """Print the tables of an evaluation, and where in ``out`` its reports are."""
    from sae_lens_abstopk.evaluation.reports.report_files import REPORT_FILENAMES
    from sae_lens_abstopk.evaluation.reports.report_terminal import print_report

    print_report(merged, console)
    for name in REPORT_FILENAMES:
        console.out(out / name)
