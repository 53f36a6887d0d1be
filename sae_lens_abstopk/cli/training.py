"""Subcommands that train."""

import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer import Argument, Option
from typer.core import TyperCommand
from typing_extensions import override

from sae_lens_abstopk.cli.app import Layer, Out, Overrides, TextModel, app, pairs, refuse_without
from sae_lens_abstopk.cli.errors import config_error, errors_as_sentences
from sae_lens_abstopk.cli.evaluation import show_reports
from sae_lens_abstopk.cli.output import FORM, prints_tables


class ResumableCommand(TyperCommand):
    """A command with an optional value for ``--resume``, which typer does not support."""

    @override
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for i, argument in enumerate(args):
            following = args[i + 1] if i + 1 < len(args) else "--"
            is_override = "=" in following and not Path(following).exists()
            if argument == "--resume" and (following.startswith("-") or is_override):
                args = [*args[:i], "--resume=newest", *args[i + 1 :]]
        return super().parse_args(ctx, args)


@app.command()
@prints_tables
def quickstart(
    model: TextModel = None,
    layer: Layer = None,
    out: Annotated[
        Path | None, Option("--out", "-o", help="Output folder, new or empty; by default one in runs/.")
    ] = None,
) -> None:
    """Find axes such as he / she in a small model, beside a one-sided SAE: a table, and a page with both poles."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.workflows.quickstart import quickstart as run_quickstart

        run_quickstart(model=model, layer=layer, out=out, console=console, progress=console.progress)


@app.command(cls=ResumableCommand)
def train(
    context: typer.Context,
    config: Annotated[
        str,
        Argument(help="YAML file or preset, with /VARIANT if wanted (pythia-70m/topk); `abstopk configs` lists both."),
    ],
    overrides: Overrides = None,
    out: Out = None,
    resume: Annotated[
        str | None,
        Option(
            metavar="[PATH]",
            help="Resume from the newest complete checkpoint in the run folder (start fresh if there is none), or from "
            "the one at PATH.",
        ),
    ] = None,
    allow_changes: Annotated[
        str | None,
        Option(
            metavar="KEYS",
            help="With --resume: config keys whose values may differ from those the run started with; only lr so far.",
        ),
    ] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Check and print the full config without training.")] = False,
    compare_one_sided: Annotated[
        bool, Option("--compare-one-sided", help="Also train one-sided SAEs of the same width and of twice the width.")
    ] = False,
) -> None:
    """Train the SAEs of a config and write a run folder."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.system.yaml_files import yaml_text
        from sae_lens_abstopk.training.checkpoints.resume import is_finished
        from sae_lens_abstopk.training.config.config_file import dump_config, load_config, one_sided_companions
        from sae_lens_abstopk.training.interruption import StoppedAfterTraining
        from sae_lens_abstopk.training.train import train as run_training

        changes = overrides or []
        if out is not None:
            if any(change.startswith("output_path=") for change in changes):
                raise config_error("--out and output_path= both name the run folder; give one.")
            changes.append(f"output_path={yaml_text(str(out))}")
        cfg = load_config(config, changes)
        if compare_one_sided:
            changes += [f"{key}={yaml_text(value)}" for key, value in one_sided_companions(cfg).items()]
            cfg = load_config(config, changes)
        if cfg.output_path is None:
            name = re.sub(r"[/\\:]+", "-", re.sub(r"\.ya?ml(?=/|$)", "", config)).strip("-.")
            cfg.output_path = str(Path("runs") / name)
        if resume is None:
            refuse_without("--resume", "allow_changes", context=context)
        else:
            cfg.resume_from_checkpoint = resume
            if allow_changes is not None:
                cfg.resume_allows_changes = [key.strip() for key in allow_changes.split(",")]
            if is_finished(cfg):
                console.out(f"the run in {cfg.output_path} is finished")
                return
        if dry_run:
            sys.stdout.write(dump_config(cfg))
            return
        try:
            folders = run_training(cfg, console=console.progress).folders
        except StoppedAfterTraining as stopped:
            folders = stopped.folders
            console.out(
                f"stopped after training: the SAEs are saved. Measure them with: abstopk inspect {folders['sae']}"
            )
        for name, folder in folders.items():
            console.out(f"{name}: {folder}")


@app.command()
@prints_tables
def configs(
    name: Annotated[str | None, Argument(help="Preset to show, merged, or a YAML file.")] = None,
    keys: Annotated[bool, Option("--keys", help="List every key with its meaning, type and default.")] = False,
) -> None:
    """List the presets, or show one of them."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.system.errors import require_one
        from sae_lens_abstopk.training.config.keys import keys_table, preset_text, presets_table

        require_one({"a name": name, "--keys": keys or None}, or_none=True)
        if name is None:
            console.print(keys_table() if keys else presets_table())
        elif FORM.get() == "json":
            raise config_error("--json is for lists, and the text of a config is YAML; leave it out.")
        else:
            sys.stdout.write(preset_text(name))


@app.command()
@prints_tables
def tokens(overrides: Overrides = None, out: Out = None) -> None:
    """Train a signed and a BatchTopK SAE on the tokens of a small model in one pass, and inspect both."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.workflows.tokens import tokens as run_on_tokens

        run_on_tokens(overrides or [], out=out, console=console)


@app.command()
def sweep(
    file: Annotated[str, Argument(help="Sweep file, or the name of a shipped one: paper or paper-2F.")],
    overrides: Overrides = None,
    out: Annotated[Path, Option("--out", "-o", help="Folder of the runs.")] = Path("runs"),
    dry_run: Annotated[bool, Option("--dry-run", help="Only list the runs.")] = False,
    launcher: Annotated[
        Literal["local", "print", "submitit"],
        Option(
            help="local: train here, one run after another. print: one command per line, to start elsewhere. submitit: "
            "one Slurm job per run (pip install 'sae-lens-abstopk\\[slurm]')."
        ),
    ] = "local",
    cluster: Annotated[str | None, Option(help="With submitit: slurm, local or debug.")] = None,
    parameters: Annotated[
        list[str] | None,
        Option("--job", metavar="KEY=VALUE", help="With submitit: a job parameter (timeout_min=600); may be repeated."),
    ] = None,
) -> None:
    """Train every combination in a sweep file; finished runs are skipped and interrupted ones resumed."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.system.yaml_files import yaml_value
        from sae_lens_abstopk.training.sweeps.sweep import load_sweep, run_sweep, submit_sweep, unfinished

        runs = load_sweep(file, overrides or [])
        if launcher != "submitit" and (cluster or parameters):
            raise config_error("--cluster and --job are for --launcher submitit.")
        if launcher == "local" or dry_run:
            run_sweep(runs, out, console=console if dry_run else console.progress, dry_run=dry_run)
        elif launcher == "print":
            for run in unfinished(runs, out):
                sys.stdout.write(run.command(out) + "\n")
        else:
            given = pairs(parameters or [], "--job", "KEY=VALUE")
            values = {key: yaml_value(value) for key, value in given.items()}
            submit_sweep(runs, out, console=console, cluster=cluster, parameters=values)


@app.command()
@prints_tables
def compare(
    file: Annotated[str, Argument(help="Comparison file, or the name of a shipped one: signed-or-not.")],
    overrides: Annotated[
        list[str] | None,
        Argument(metavar="[KEY=VALUE]...", help="Config overrides; k, seeds and variants come from the file."),
    ] = None,
    out: Annotated[Path, Option("--out", "-o", help="Folder of the runs and the results.")] = Path("runs/comparison"),
    suite: Annotated[str | None, Option(help="Suite to use instead of the file's.")] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Only list the runs.")] = False,
) -> None:
    """Train variants in one pass over the same activations, for several k and seeds, and evaluate them together."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.evaluation.results.merging import merge_results
        from sae_lens_abstopk.evaluation.suite.suite import load_suite
        from sae_lens_abstopk.training.sweeps.comparison import load_comparison, run_comparison
        from sae_lens_abstopk.workflows.compare import compare as run_and_evaluate

        if dry_run:
            comparison = load_comparison(file, overrides or [], out=out)
            load_suite(suite or comparison.suite)
            run_comparison(comparison, console=console, dry_run=True)
            return
        results = run_and_evaluate(file, overrides or [], out=out, suite=suite, console=console.progress)
        show_reports(merge_results([results]), out / "results", console)
