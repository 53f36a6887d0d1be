"""Subcommands that run other projects' tools on signed SAEs, or write their formats."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table
from typer import Argument, Option

from sae_lens_abstopk.cli.app import Data, Device, Model, NewFolder, Text, app, refuse_without
from sae_lens_abstopk.cli.errors import errors_as_sentences
from sae_lens_abstopk.cli.output import prints_tables


@app.command()
@prints_tables
def saebench(
    context: typer.Context,
    sae: Annotated[str, Argument(help="SAE folder, or RELEASE:SAE_ID.")],
    out: Annotated[Path, Option("--out", "-o", help="Results folder.")],
    evals: Annotated[
        str, Option(help="Comma-separated: core, sparse_probing, sparse_probing_sae_probes, tpp, scr, absorption.")
    ] = "core,sparse_probing,tpp",
    task: Annotated[
        list[str] | None, Option(help="Task whose texts replace SAEBench's in sparse_probing and tpp; may be repeated.")
    ] = None,
    as_is: Annotated[
        bool, Option("--as-is", help="Run without the mirror; refused for evaluations that misread signed codes.")
    ] = False,
    model: Model = None,
    text: Text = None,
    device: Device = "auto",
    tokens: Annotated[int, Option(help="Tokens for core.", min=1)] = 51_200,
    seed: Annotated[int, Option(help="SAEBench's seed.", min=0, max=2**32 - 1)] = 42,
) -> None:
    """Run SAEBench on a signed SAE through its mirror; results are written in SAEBench's own format."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.interop.saebench import run_saebench

        names = [name.strip() for name in evals.split(",")]
        if "core" not in names:
            refuse_without("core in --evals", "tokens", "text", context=context)
        found = run_saebench(
            sae,
            out=out,
            evals=names,
            as_is=as_is,
            model_name=model,
            text=text,
            tasks=task or (),
            n_tokens=tokens,
            seed=seed,
            device=device,
            on_eval=lambda name: console.progress.print(f"{name} ...", style="dim"),
        )
        table = Table("evaluation", "metric", Column("value", justify="right"), box=None, pad_edge=False)
        for result in found:
            for group in result.metrics.values():
                for name, value in group.items():
                    table.add_row(result.evaluation, name, f"{value:.4g}")
        console.print(table)
        for result in found:
            console.out(result.file)


@app.command()
def neuronpedia(
    sae: Annotated[str, Argument(help="SAE folder or RELEASE:SAE_ID.")],
    out: NewFolder,
    model_id: Annotated[str, Option(help="Neuronpedia's id of the model.")],
    sae_set: Annotated[str, Option("--set", help="Name of the set of SAEs.")],
    suffix: Annotated[str | None, Option(help="Suffix that tells apart SAEs of the same set and layer.")] = None,
    layer: Annotated[int | None, Option(help="Layer, if the hook name has none.")] = None,
    model: Model = None,
    text: Text = None,
    data: Data = None,
    device: Device = "auto",
    tokens: Annotated[int, Option(help="Tokens to read.", min=1)] = 204_800,
) -> None:
    """Write both poles of every latent as two features, in SAEDashboard's JSON for Neuronpedia."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.explorer.exploration import explore as run_explore
        from sae_lens_abstopk.explorer.neuronpedia import checked_layer, sides, write_neuronpedia
        from sae_lens_abstopk.explorer.pass_cache import passes_folder
        from sae_lens_abstopk.saes.loading import load_sae
        from sae_lens_abstopk.system.folder_lock import LOCK, run_folder_lock
        from sae_lens_abstopk.system.terminal import passes_bar

        layer = checked_layer(load_sae(sae), out, layer=layer)
        with run_folder_lock(out, key="out"):
            found = run_explore(
                sae,
                model=model,
                text=text,
                data=data,
                n_tokens=tokens,
                checkpoint=passes_folder(),
                device=device,
                console=console.progress,
            )
            with passes_bar(console.progress, "writing") as on_progress:
                files = write_neuronpedia(
                    found, out, model_id=model_id, sae_set=sae_set, layer=layer, suffix=suffix, on_progress=on_progress
                )
        (out / LOCK).unlink(missing_ok=True)
        explored = found.catalogue()
        poles = f"the positive pole of latent j, feature {len(explored)} + j its negative pole, as in the mirror"
        console.out(f"{out}: {len(files)} files; feature j is {poles if len(sides(explored)) == 2 else 'latent j'}")
