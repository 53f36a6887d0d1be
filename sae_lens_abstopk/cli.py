"""The ``abstopk`` command: a thin layer over the Python API."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.training.activations import NonFiniteActivationsError

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
    except NonFiniteActivationsError as error:
        errors.print(f"[bold red]error:[/] {_plain(error)}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None


def _plain(error: Exception) -> str:
    return str(error).replace("[", r"\[")
