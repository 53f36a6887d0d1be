"""Subcommands that measure and show."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from sae_lens_abstopk.cli.app import (
    Device,
    Model,
    Text,
    app,
    config_error,
    errors_as_sentences,
    named,
    pairs,
    refuse_without,
)

if TYPE_CHECKING:
    from sae_lens_abstopk.evaluation.reports.merged_results import MergedResults
    from sae_lens_abstopk.evaluation.results.schema import Results
    from sae_lens_abstopk.explorer.labeler import AskingCost


@app.command()
def inspect(
    saes: Annotated[
        list[str], typer.Argument(help="SAE folders or RELEASE:SAE_ID, all for the same hook of the same model.")
    ],
    model: Model = None,
    text: Text = None,
    device: Device = "auto",
    tokens: Annotated[int, typer.Option(help="Tokens to evaluate on.", min=1)] = 51_200,
    latents: Annotated[int, typer.Option(help="Two-sided latents to show.", min=0)] = 5,
    json: Annotated[Path | None, typer.Option(help="Also write a results file.", show_default=False)] = None,
) -> None:
    """Show metrics of SAEs and contexts of the latents whose weaker pole is strongest."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.evaluation.inspection.inspect_saes import inspect_saes, refuse_to_write_over
        from sae_lens_abstopk.evaluation.inspection.printed import print_inspection
        from sae_lens_abstopk.system.progress import passes_bar

        if json is not None and json.is_dir():
            raise config_error(f"--json {json} is a folder; name a file to write.")
        if json is not None and not json.parent.is_dir():
            raise config_error(f"--json {json}: there is no folder {json.parent}; make it, or name another file.")
        if json is not None:
            refuse_to_write_over(json)
        with passes_bar(console, "measuring") as on_progress:
            found = inspect_saes(
                saes, model_name=model, text=text, n_tokens=tokens, device=device, on_progress=on_progress
            )
        print_inspection(found, console, latents=latents)
        if json is not None:
            found.results.write(json)


@app.command("eval")
def evaluate(
    saes: Annotated[list[str], typer.Argument(help="SAE folders or RELEASE:SAE_ID; NAME=SAE sets its name.")],
    suite: Annotated[str, typer.Option(help="Suite (quick, probing, full, public, refusal) or YAML file.")] = "full",
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Results folder; finished parts are reused, results of other SAEs, tasks, model, text or seed stay.",
        ),
    ] = Path("results"),
    model: Model = None,
    text: Text = None,
    device: Device = "auto",
    local: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK=PATH", help="Files to read in place of a task's Hub data.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed for splits, samples and intervals.", min=0, max=2**32 - 1)] = 0,
) -> None:
    """Probe, steer and measure SAEs with a suite; write results.json and reports."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.evaluation.suite.evaluate import evaluate as run_evaluation
        from sae_lens_abstopk.training.distributed import require_one_process

        require_one_process("abstopk eval")
        results = run_evaluation(
            named(saes, "SAE"),
            suite=suite,
            out=out,
            model_name=model,
            text=text,
            local=pairs(local or [], "--local"),
            seed=seed,
            device=device,
            console=console,
        )
        show_results(results, out, console)


@app.command()
def report(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULT.json...", help="Results files, of one or of different SAEs and suites."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder to write report.md, report.html and report.csv into.")
    ] = Path("report"),
) -> None:
    """Show results as tables and write them as Markdown, one HTML page with plots, and CSV."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.evaluation.reports.report_files import write_reports

        _show(write_reports(results, out), out, console)


@app.command()
def plot(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULT.json...", help="Results files, of one or of different SAEs and suites."),
    ],
    kind: Annotated[
        str, typer.Option(help="fvu, auroc, coverage, dose-response, effect-cost or two-sidedness.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write: .svg, .pdf or .png.", show_default=False)],
    task: Annotated[
        list[str] | None, typer.Option(help="Concept to draw; may be repeated. All by default.", show_default=False)
    ] = None,
    sae: Annotated[
        list[str] | None, typer.Option(help="SAE to draw; may be repeated. All by default.", show_default=False)
    ] = None,
) -> None:
    """Draw a figure for a paper from results files."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.evaluation.figures.files import write_figure

        written = write_figure(results, kind, out, tasks=task or (), saes=sae or ())
        console.print(str(written), soft_wrap=True)


@app.command()
def explore(
    context: typer.Context,
    saes: Annotated[
        list[str], typer.Argument(help="An SAE folder or RELEASE:SAE_ID, or two on the same hook to compare.")
    ],
    model: Model = None,
    text: Text = None,
    device: Device = "auto",
    out: Annotated[Path, typer.Option("--out", "-o", help="Output folder for the site.")] = Path("explorer"),
    tokens: Annotated[int, typer.Option(help="Tokens to read.", min=1)] = 204_800,
    steer: Annotated[
        list[str] | None,
        typer.Option(
            help="Prompt to continue at five strengths of each steered latent; may be repeated.", show_default=False
        ),
    ] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option(help="Results file of `abstopk eval` on these SAEs; may be repeated.", show_default=False),
    ] = None,
    labeler: Annotated[
        str | None, typer.Option(help="URL of an OpenAI-compatible endpoint that names the poles.", show_default=False)
    ] = None,
    labeler_model: Annotated[str | None, typer.Option(help="Model to use at the labeler.", show_default=False)] = None,
    labeler_prompt: Annotated[
        Path | None, typer.Option(help="File with a prompt template for the labeler.", show_default=False)
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Skip the confirmation before text is sent to the labeler.")
    ] = False,
    latents: Annotated[
        int, typer.Option(help="Number of latents to steer with and label, first in suggested order.", min=1)
    ] = 20,
    serve: Annotated[bool, typer.Option("--serve", help="Serve the site on localhost once it is written.")] = False,
    port: Annotated[int, typer.Option(help="Port to serve on; 0 picks a free one.", min=0, max=65_535)] = 0,
) -> None:
    """Write a static site with both poles of every latent; an interrupted pass is resumed."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.explorer.exploration import explore as run_explore
        from sae_lens_abstopk.explorer.labeler import Labeler
        from sae_lens_abstopk.explorer.pass_cache import PASSES_KEPT, passes_folder
        from sae_lens_abstopk.explorer.serve import serve_until_interrupted, server
        from sae_lens_abstopk.explorer.site import ANSWERS, check_site_folder
        from sae_lens_abstopk.system.folder_lock import run_folder_lock
        from sae_lens_abstopk.system.progress import passes_bar

        check_site_folder(out)
        if not labeler:
            refuse_without("--labeler", "labeler_model", "labeler_prompt", "yes", context=context)
        if not (steer or labeler):
            refuse_without("--steer or --labeler", "latents", context=context)
        if not serve:
            refuse_without("--serve", "port", context=context)
        if labeler and not labeler_model:
            raise config_error(
                f"labeler={labeler!r} is given without the model to ask there; add --labeler-model NAME."
            )
        if port:
            server(out, port=port).server_close()  # a port that is taken is told before the pass
        with run_folder_lock(out, key="out"):
            asked = (
                Labeler(labeler, labeler_model or "", cache=out / ANSWERS, prompt=labeler_prompt) if labeler else None
            )
            if asked and yes:
                asked.check()  # whether it answers at all shows before the pass; it is not asked twice
            found = run_explore(
                saes,
                model=model,
                text=text,
                n_tokens=tokens,
                checkpoint=passes_folder(),
                prompts=steer or (),
                steered_latents=latents,
                results=results or (),
                device=device,
                console=console,
            )
            if found.about.tokens_read < tokens:
                console.print(
                    f"{found.about.text} has only {found.about.tokens_read:,} tokens in whole batches, not {tokens:,}: all were read.",
                    markup=False,
                )
            try:
                chosen = found.suggested(latents)
                if asked and (yes or _agreed(asked.estimate([found.latent(index).latent for index in chosen]))):
                    with passes_bar(console, "labelling") as on_progress:
                        found = found.labelled(asked, chosen, on_progress=on_progress)
            finally:  # also where the labeler fails, or nobody is there to let it be asked
                with passes_bar(console, "writing") as on_progress:
                    page = found.write(out, on_progress=on_progress)
        console.print(f"passes over texts are kept in {passes_folder()} (the last {PASSES_KEPT})", soft_wrap=True)
        console.print(str(page), soft_wrap=True)
        if serve:
            serve_until_interrupted(out, port=port, console=console)


def _agreed(estimate: "AskingCost") -> bool:
    """Whether the user lets the labeler be asked."""
    return typer.confirm(
        f"This sends {estimate.requests} requests to the labeler ({estimate.cached} more are cached): about "
        f"{estimate.prompt_tokens:,} prompt tokens and {estimate.answer_tokens:,} output tokens. Continue?"
    )


def show_results(results: "Results", out: Path, console: Console) -> None:
    """Print the tables of an evaluation, and where in ``out`` its reports are."""
    from sae_lens_abstopk.evaluation.reports.merged_results import merge_results

    _show(merge_results([results], sources=[str(out)]), out, console)


def _show(merged: "MergedResults", out: Path, console: Console) -> None:
    from sae_lens_abstopk.evaluation.reports.report_files import REPORT_FILENAMES
    from sae_lens_abstopk.evaluation.reports.report_terminal import print_report

    print_report(merged, console)
    for name in REPORT_FILENAMES:
        console.print(str(out / name), soft_wrap=True)
