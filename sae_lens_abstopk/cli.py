"""The ``abstopk`` command: a thin layer over the Python API."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

from sae_lens_abstopk.errors import ConfigError, HubError
from sae_lens_abstopk.training.activations import NonFiniteActivationsError

if TYPE_CHECKING:
    from sae_lens_abstopk.evaluation.results import Results
    from sae_lens_abstopk.explorer.labeler import Estimate

app = typer.Typer(
    help="Train, measure and look at bidirectional (AbsTopK) sparse autoencoders.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the config, e.g. sae.k=32 lr=1e-3.", show_default=False),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Run folder.", show_default=False)]


@app.command()
def train(
    config: Annotated[
        str, typer.Argument(help="A YAML file, a preset (pythia-70m) or one with a variant (pythia-70m/topk).")
    ],
    overrides: Overrides = None,
    output: Output = None,
) -> None:
    """Train the SAEs of a config and write a run folder."""
    with _errors_as_sentences() as console:
        from sae_lens_abstopk.training.config_file import load_config
        from sae_lens_abstopk.training.runner import train as run_training

        changes = list(overrides or ())
        if output is not None:
            changes.append(f"output_path={output}")
        cfg = load_config(config, changes)
        if cfg.output_path is None:
            cfg.output_path = str(Path("runs") / config.removesuffix(".yaml").replace("/", "-").strip("-."))
        result = run_training(cfg, console=console)
        for name, folder in result.folders.items():
            console.print(f"{name}: {folder}", highlight=False, soft_wrap=True)


@app.command()
def configs(
    name: Annotated[
        str | None, typer.Argument(help="Preset to show, merged and with its comments.", show_default=False)
    ] = None,
    keys: Annotated[bool, typer.Option("--keys", help="List every key with meaning, type and default.")] = False,
) -> None:
    """List the presets, or show one of them."""
    with _errors_as_sentences() as console:
        from sae_lens_abstopk.training import config_keys

        if keys:
            console.print(config_keys.keys_table())
        elif name is None:
            console.print(config_keys.presets_table())
        else:
            sys.stdout.write(config_keys.preset_text(name))


@app.command()
def inspect(
    saes: Annotated[list[Path], typer.Argument(help="SAE folders that read the same hook of the same model.")],
    model: Annotated[
        str | None, typer.Option(help="Model to run instead of the one recorded.", show_default=False)
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="Text to read instead of the run's held-out text.", show_default=False)
    ] = None,
    tokens: Annotated[int, typer.Option(help="Tokens to evaluate on.", min=1)] = 51_200,
    latents: Annotated[int, typer.Option(help="Two-sided latents to show.", min=0)] = 5,
    json: Annotated[Path | None, typer.Option(help="Also write the numbers to this file.", show_default=False)] = None,
) -> None:
    """Show the numbers of SAEs and the contexts of their most two-sided latents."""
    with _errors_as_sentences() as console:
        from sae_lens_abstopk.evaluation.inspection import inspect_saes
        from sae_lens_abstopk.evaluation.report import as_json, print_inspection
        from sae_lens_abstopk.training.progress import passes_bar

        with passes_bar(console, "measuring") as on_progress:
            found = inspect_saes(saes, model_name=model, text=text, n_tokens=tokens, on_progress=on_progress)
        print_inspection(found, console, latents=latents)
        if json is not None:
            json.write_text(as_json(found), encoding="utf-8")


@app.command()
def mirror(
    sae: Annotated[Path, typer.Argument(help="Folder of a signed SAE.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write, new or empty.", show_default=False)],
    prune_dead_poles: Annotated[
        bool, typer.Option("--prune-dead-poles", help="Leave out the poles that hold under 1 % of a latent's firings.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="Model to count firings on, instead of the one recorded.", show_default=False)
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(help="Text to count firings on, instead of the run's held-out text.", show_default=False),
    ] = None,
    tokens: Annotated[int, typer.Option(help="Tokens to count firings on.", min=1)] = 51_200,
) -> None:
    """Write a signed SAE as a stock topk or jumprelu SAE of twice the width, whose codes are not negative."""
    with _errors_as_sentences() as console:
        from sae_lens_abstopk.mirror_folder import mirror_folder
        from sae_lens_abstopk.training.progress import passes_bar

        with passes_bar(console, "counting firings") as on_progress:
            made = mirror_folder(
                sae,
                out,
                prune_dead_poles=prune_dead_poles,
                model_name=model,
                text=text,
                n_tokens=tokens,
                on_progress=on_progress,
            )
        record = made.cfg.metadata["mirror"]
        console.print(
            f"{out}: {made.cfg.architecture()}, {made.cfg.d_sae:,} latents for the {2 * record['d_sae']:,} poles of "
            f"{record['architecture']}; loads with SAELens alone",
            highlight=False,
            soft_wrap=True,
        )
        if prune_dead_poles:
            dropped = record["dropped_share_of_firings"]
            console.print(f"the poles left out held {dropped:.4%} of all firings", highlight=False, soft_wrap=True)


@app.command()
def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder of EleutherAI's sae with signed: true, or sae_STEP.safetensors of the reference code."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write, new or empty.", show_default=False)],
    activations: Annotated[
        Path | None,
        typer.Option(help="File with one tensor [n, d_in], to estimate a missing threshold on.", show_default=False),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model, for the metadata.", show_default=False)] = None,
    hook: Annotated[str | None, typer.Option(help="Hook, for the metadata.", show_default=False)] = None,
) -> None:
    """Convert a signed SAE of another project into SAELens's format."""
    with _errors_as_sentences() as console:
        from sae_lens_abstopk.saes.converters import convert as run_convert
        from sae_lens_abstopk.saes.load_note import write_load_note

        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(f"{out} is not an empty folder; give another with --out, or empty it.")
        sae = run_convert(source, activations=activations, model_name=model, hook_name=hook)
        sae.save_model(out)
        write_load_note(out, sae.cfg.architecture())
        console.print(
            f"{out}: {sae.cfg.architecture()}, {sae.cfg.d_sae:,} latents on {sae.cfg.d_in} dimensions",
            highlight=False,
            soft_wrap=True,
        )


@app.command()
def publish(
    saes: Annotated[
        list[str],
        typer.Argument(metavar="[ID=]SAE...", help="SAE folders; the id is the folder's name where none is given."),
    ],
    repo: Annotated[str, typer.Option("--repo", help="Repository, USER/NAME; made where there is none.")],
    private: Annotated[bool, typer.Option("--private", help="Make the repository a private one.")] = False,
    revision: Annotated[str, typer.Option(help="Branch to publish to; made where there is none.")] = "main",
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Also publish the non-negative mirror of each signed SAE, as ID_mirror.")
    ] = False,
    results: Annotated[
        Path | None, typer.Option(help="Numbers for the card: a file of `abstopk inspect --json`.", show_default=False)
    ] = None,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Measure numbers, contexts and the sign gauge now, on the run's held-out text."),
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="Model to measure on, instead of the one recorded.", show_default=False)
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="Text to measure on, instead of the run's held-out text.", show_default=False)
    ] = None,
    tokens: Annotated[int, typer.Option(help="Tokens to measure on.", min=1)] = 51_200,
    base_model: Annotated[
        str | None, typer.Option(help="Hub id of the model, where the SAE names a folder.", show_default=False)
    ] = None,
    license: Annotated[
        str | None,
        typer.Option(help="Licence of the weights, as the Hub spells it (mit, apache-2.0).", show_default=False),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files of the repository that differ.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write the release into a folder, show it, and ask nothing of the Hub.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the dry run (NAME-release).", show_default=False)
    ] = None,
) -> None:
    """Publish SAEs to the Hugging Face Hub in one commit, with a card and the hashes of all files."""
    with _errors_as_sentences() as console:
        from sae_lens_abstopk.hub import publish as run_publish
        from sae_lens_abstopk.hub.results import results_from_json
        from sae_lens_abstopk.hub.show import files_tree
        from sae_lens_abstopk.hub.sources import measure as measure_saes
        from sae_lens_abstopk.hub.sources import named_folders
        from sae_lens_abstopk.training.progress import passes_bar

        folders = named_folders(saes)
        numbers = {} if results is None else results_from_json(results)
        poles = {}
        if measure:
            with passes_bar(console, "measuring") as on_progress:
                measured, poles = measure_saes(
                    folders, model_name=model, text=text, n_tokens=tokens, on_progress=on_progress
                )
            numbers = measured | numbers
        folder = (out or Path(f"{repo.rpartition('/')[2]}-release")) if dry_run else None
        done = run_publish(
            folders,
            repo,
            private=private,
            revision=revision,
            with_mirror=mirror,
            results=numbers,
            poles=poles,
            license=license,
            base_model=base_model,
            overwrite=overwrite,
            dry_run=folder,
        )
        console.print(files_tree(repo, done.files), highlight=False)
        if folder is not None:
            console.print(f"{folder}: written; nothing was sent", highlight=False, soft_wrap=True)
        elif done.changed:
            console.print(
                f"{repo} at {done.commit}: {len(done.changed)} files in one commit", highlight=False, soft_wrap=True
            )
        else:
            console.print(f"{repo} at {done.commit} has all of this already", highlight=False, soft_wrap=True)


@app.command()
def pull(
    repo: Annotated[str, typer.Argument(help="Repository, USER/NAME.")],
    sae_id: Annotated[str, typer.Argument(help="Id of the SAE in it.")],
    revision: Annotated[str, typer.Option(help="Branch or commit.")] = "main",
) -> None:
    """Download a published SAE, check the hash of every file, and show the numbers of its card."""
    with _errors_as_sentences() as console:
        from sae_lens_abstopk.hub import pull as run_pull
        from sae_lens_abstopk.hub.show import pulled_table

        pulled = run_pull(repo, sae_id, revision=revision)
        console.print(pulled_table(pulled), highlight=False)
        console.print(
            f"{len(pulled.record.files)} files have the hashes of {repo} at {pulled.commit}",
            highlight=False,
            soft_wrap=True,
        )
        console.print(str(pulled.folder), highlight=False, soft_wrap=True)


@app.command()
def explore(
    saes: Annotated[list[Path], typer.Argument(help="An SAE folder, or two to compare that read one hook.")],
    model: Annotated[
        str | None, typer.Option(help="Model to run instead of the one recorded.", show_default=False)
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="Text to read instead of the run's held-out text.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the site.")] = Path("explorer"),
    tokens: Annotated[int, typer.Option(help="Tokens to read.", min=1)] = 204_800,
    steer: Annotated[
        list[str] | None,
        typer.Option(help="Prompt to go on with at five strengths of a latent; may be repeated.", show_default=False),
    ] = None,
    labeler: Annotated[
        str | None, typer.Option(help="OpenAI-compatible address that names the poles.", show_default=False)
    ] = None,
    labeler_model: Annotated[str | None, typer.Option(help="Model to ask there.", show_default=False)] = None,
    labeler_prompt: Annotated[
        Path | None, typer.Option(help="File with a question of your own.", show_default=False)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask the labeler without asking you first.")] = False,
    latents: Annotated[int, typer.Option(help="Latents to steer with and to label, as suggested.", min=1)] = 20,
    serve: Annotated[bool, typer.Option("--serve", help="Show the site on localhost when it is written.")] = False,
    port: Annotated[int, typer.Option(help="Port to serve on; 0 takes a free one.", min=0, max=65_535)] = 0,
) -> None:
    """Write a site with both poles of every latent, which opens from disk; a pass that was cut short is taken up."""
    with _errors_as_sentences() as console:
        from sae_lens_abstopk.explorer.exploration import explore as run_explore
        from sae_lens_abstopk.explorer.labeler import Labeler
        from sae_lens_abstopk.explorer.serve import serve_until_interrupted
        from sae_lens_abstopk.explorer.site import ANSWERS, CHECKPOINT, check_site_folder
        from sae_lens_abstopk.training.progress import passes_bar

        check_site_folder(out)
        if labeler and not labeler_model:
            raise ConfigError(f"labeler={labeler!r} is given without the model to ask there; add --labeler-model NAME.")
        asked = Labeler(labeler, labeler_model or "", cache=out / ANSWERS, prompt=labeler_prompt) if labeler else None
        with passes_bar(console, "collecting") as on_progress, passes_bar(console, "steering") as on_steered:
            found = run_explore(
                saes,
                model=model,
                text=text,
                n_tokens=tokens,
                checkpoint=out / CHECKPOINT,
                prompts=steer or (),
                steered_latents=latents,
                on_progress=on_progress,
                on_steered=on_steered,
            )
        if asked:
            chosen = found.suggested(latents)
            if yes or _agreed(asked.estimate([found.latent(index).latent for index in chosen])):
                with passes_bar(console, "labelling") as on_progress:
                    found = found.labelled(asked, chosen, on_progress=on_progress)
        with passes_bar(console, "writing") as on_progress:
            page = found.write(out, on_progress=on_progress)
        console.print(str(page), highlight=False, soft_wrap=True)
        if serve:
            serve_until_interrupted(out, port=port, console=console)


@app.command()
def quickstart(overrides: Overrides = None, output: Output = None) -> None:
    """Fetch a small real model, train a signed and a TopK SAE in one pass, and look at both."""
    with _errors_as_sentences() as console:
        from sae_lens_abstopk.quickstart import quickstart as run_quickstart

        run_quickstart(list(overrides or ()), output=output, console=console)


@app.command()
def sweep(
    file: Annotated[str, typer.Argument(help="A sweep file, or the name of one in training_configs/sweeps.")],
    overrides: Overrides = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the runs.")] = Path("runs"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the runs.")] = False,
) -> None:
    """Train every combination of a sweep file, one after the other; runs that are done are skipped."""
    with _errors_as_sentences() as console:
        from sae_lens_abstopk.training.sweep import load_sweep, run_sweep

        runs = load_sweep(file, list(overrides or ()))
        run_sweep(runs, output, console=console, dry_run=dry_run)


@app.command("eval")
def evaluate(
    saes: Annotated[list[str], typer.Argument(help="SAE folders or RELEASE:SAE_ID; NAME=SAE names one.")],
    suite: Annotated[str, typer.Option(help="A suite (quick, probing, full, public) or a YAML file.")] = "full",
    quick: Annotated[bool, typer.Option("--quick", help="The suite `quick`: minutes on a small model.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the results; what is done there is kept.")] = Path("results"),
    model: Annotated[
        str | None, typer.Option(help="Model to run instead of the one recorded.", show_default=False)
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="Text to read instead of the run's held-out text.", show_default=False)
    ] = None,
    local: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK=PATH", help="Files to read in place of a task's Hub data.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of splits, samples and intervals.")] = 0,
) -> None:
    """Probe, steer and measure SAEs by a suite; write results.json, report.md and report.html."""
    with _errors_as_sentences() as console:
        from sae_lens_abstopk.evaluation.evaluate import evaluate as run_evaluation
        from sae_lens_abstopk.training.progress import stages_bar

        with stages_bar(console) as on_progress:
            results = run_evaluation(
                _named(saes, "SAE"),
                suite="quick" if quick else suite,
                out=out,
                model_name=model,
                text=text,
                local=_pairs(local or [], "--local"),
                seed=seed,
                on_progress=on_progress,
            )
        _write_reports([results], out, console)


@app.command()
def compare(
    file: Annotated[str, typer.Argument(help="A comparison file, or one of training_configs/comparisons.")],
    overrides: Overrides = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the runs and the results.")] = Path(
        "runs/comparison"
    ),
    suite: Annotated[
        str | None, typer.Option(help="Suite in place of the one that the file names.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the runs.")] = False,
) -> None:
    """Train variants in one pass over the same activations, for several k and seeds, and evaluate them together."""
    with _errors_as_sentences() as console:
        from sae_lens_abstopk.evaluation.evaluate import evaluate as run_evaluation
        from sae_lens_abstopk.evaluation.suite import load_suite
        from sae_lens_abstopk.training.comparison import load_comparison, run_comparison
        from sae_lens_abstopk.training.progress import stages_bar

        comparison = load_comparison(file, list(overrides or ()), output=output)
        chosen = load_suite(suite or comparison.suite)
        run_comparison(comparison, console=console, dry_run=dry_run)
        if dry_run:
            return
        saes, groups = comparison.saes_and_groups()
        with stages_bar(console) as on_progress:
            results = run_evaluation(saes, suite=chosen, out=output / "results", groups=groups, on_progress=on_progress)
        _write_reports([results], output / "results", console)


def _write_reports(results: "Sequence[Results]", out: Path, console: Console) -> None:
    from sae_lens_abstopk.evaluation.html_report import write_html_report
    from sae_lens_abstopk.evaluation.markdown_report import markdown_report

    markdown = markdown_report(results)
    (out / "report.md").write_text(markdown, encoding="utf-8")
    write_html_report(results, out / "report.html")
    console.print(Markdown(markdown))
    console.print(f"{out / 'report.html'}", highlight=False, soft_wrap=True)


def _named(saes: list[str], what: str) -> list[str] | dict[str, str]:
    """SAEs by name where all are given as NAME=SAE."""
    named = ["=" in sae for sae in saes]
    if not any(named):
        return saes
    if not all(named):
        raise ConfigError(f"name every {what} as NAME=PATH, or none.")
    return _pairs(saes, what)


def _pairs(texts: list[str], what: str) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise ConfigError(f"{what} {text!r} must have the form NAME=PATH.")
        if name in pairs:
            raise ConfigError(f"{what} {name!r} is given twice.")
        pairs[name] = path
    return pairs


@contextmanager
def _errors_as_sentences() -> Iterator[Console]:
    """A console to print on; what the user can mend ends the command with one sentence and no traceback."""
    from transformers.utils.logging import disable_progress_bar

    errors = Console(stderr=True)
    disable_progress_bar()  # a bar for every file that is read drowns the one that matters
    try:
        yield Console()
    except ConfigError as error:
        errors.print(f"[bold red]error:[/] {_plain(error)}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except (HubError, NonFiniteActivationsError) as error:
        errors.print(f"[bold red]error:[/] {_plain(error)}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None


def _agreed(estimate: "Estimate") -> bool:
    """Whether the user lets the labeler be asked."""
    return typer.confirm(
        f"The labeler is to be asked {estimate.requests} questions ({estimate.cached} more are answered already): about "
        f"{estimate.prompt_tokens:,} tokens to read and {estimate.answer_tokens:,} to write. Ask?"
    )


def _plain(error: Exception) -> str:
    return str(error).replace("[", r"\[")
