"""Subcommands that publish, fetch and convert."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from sae_lens_abstopk.cli.app import Data, Device, Model, NewFolder, Text, app, named_folders, refuse_without
from sae_lens_abstopk.cli.errors import errors_as_sentences
from sae_lens_abstopk.cli.output import prints_tables


@app.command()
def mirror(
    context: typer.Context,
    sae: Annotated[Path, Argument(help="Folder of a signed SAE.")],
    out: NewFolder,
    prune_dead_poles: Annotated[
        bool, Option("--prune-dead-poles", help="Leave out poles with under 1 % of a latent's firings.")
    ] = False,
    model: Model = None,
    text: Text = None,
    data: Data = None,
    device: Annotated[str | None, Option(help="Device to run on: auto, cpu, cuda or cuda:0; auto by default.")] = None,
    tokens: Annotated[int | None, Option(help="Tokens to count firings on, 51,200 by default.", min=1)] = None,
) -> None:
    """Write a signed SAE as a stock topk or jumprelu SAE of twice the width, with non-negative codes."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.equivalents.mirror import mirror_folder
        from sae_lens_abstopk.evaluation.subjects.pole_measurement import measure_poles
        from sae_lens_abstopk.saes.poles import POLE_ACTIVITY_FILENAME
        from sae_lens_abstopk.system.terminal import passes_bar

        if not prune_dead_poles:
            refuse_without("--prune-dead-poles", "model", "text", "data", "device", "tokens", context=context)
        options = {"model_name": model, "text": text, "data": data, "device": device, "n_tokens": tokens}
        given: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
        recorded = not given and (sae / POLE_ACTIVITY_FILENAME).is_file()
        with passes_bar(console.progress, "counting firings") as on_progress:
            made = mirror_folder(
                sae,
                out,
                prune_dead_poles=prune_dead_poles,
                count_firings=None if recorded else lambda: measure_poles(sae, **given, on_progress=on_progress).counts,
            )
        record = made.cfg.metadata["mirror"]
        console.print(
            f"{out}: {made.cfg.architecture()}, {made.cfg.d_sae:,} latents for the {2 * record['d_sae']:,} poles of "
            f"{record['architecture']}; loads with SAELens alone",
            soft_wrap=True,
        )
        if prune_dead_poles:
            dropped = record["dropped_share_of_firings"]
            console.print(f"the poles left out held {dropped:.4%} of all firings", soft_wrap=True)


@app.command()
def convert(
    source: Annotated[
        Path,
        Argument(
            help="Folder of EleutherAI's sae (signed: true), or weights of the AbsTopK paper's code or of CompresSAE."
        ),
    ],
    out: NewFolder,
    activations: Annotated[
        Path | None, Option(help="File with one tensor \\[n, d_in] of activations, to estimate a missing threshold.")
    ] = None,
    k: Annotated[int | None, Option(help="Active latents of a CompresSAE, whose weights do not say it.")] = None,
    model: Annotated[str | None, Option(help="Model name to record in the metadata.")] = None,
    hook: Annotated[str | None, Option(help="Hook name to record in the metadata.")] = None,
) -> None:
    """Convert a signed SAE of another project into SAELens's format."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.saes.converters import convert as run_convert
        from sae_lens_abstopk.saes.load_note import write_load_note
        from sae_lens_abstopk.system.files import require_empty

        require_empty(out)
        sae = run_convert(source, activations=activations, k=k, model_name=model, hook_name=hook)
        sae.save_model(out)
        write_load_note(out, sae.cfg.architecture())
        console.out(f"{out}: {sae.cfg.architecture()}, {sae.cfg.d_sae:,} latents on {sae.cfg.d_in} dimensions")


@app.command()
def publish(
    context: typer.Context,
    saes: Annotated[
        list[str], Argument(metavar="[ID=]SAE...", help="SAE folders; the id defaults to the folder's name.")
    ],
    repo: Annotated[str, Option("--repo", help="Repository, USER/NAME; created if missing.")],
    private: Annotated[bool, Option("--private", help="Make the repository private.")] = False,
    revision: Annotated[str, Option(help="Branch to publish to; created if missing.")] = "main",
    mirror: Annotated[
        bool, Option("--mirror", help="Also publish the mirror of each signed SAE, as ID_mirror.")
    ] = False,
    results: Annotated[
        list[Path] | None,
        Option(help="Results file of `abstopk eval`; may be repeated. By default results.json beside the SAE."),
    ] = None,
    measure: Annotated[
        bool, Option("--measure", help="Measure the sign gauge now, and reconstruction and contexts if missing.")
    ] = False,
    model: Model = None,
    text: Text = None,
    device: Device = "auto",
    tokens: Annotated[int, Option(help="Tokens to measure on.", min=1)] = 51_200,
    base_model: Annotated[str | None, Option(help="Hub id of the model, if the SAE records a local folder.")] = None,
    license: Annotated[str | None, Option(help="Licence of the weights, in the Hub's spelling (apache-2.0).")] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace files in the repository that differ.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Write the release to a folder, without the Hub.")] = False,
    out: Annotated[Path | None, Option("--out", "-o", help="Folder of the dry run; NAME-release by default.")] = None,
) -> None:
    """Publish SAEs to the Hugging Face Hub in one commit, with a card and the hashes of all files."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.hub import publish as run_publish
        from sae_lens_abstopk.hub.pull import files_tree
        from sae_lens_abstopk.system.terminal import passes_bar

        if not dry_run:
            refuse_without("--dry-run", "out", context=context)
        if not measure:
            refuse_without("--measure", "model", "text", "device", "tokens", context=context)
        folders = named_folders(saes)
        folder = (out or Path(f"{repo.rpartition('/')[2]}-release")) if dry_run else None
        with passes_bar(console.progress, "measuring") if measure else nullcontext() as on_progress:
            done = run_publish(
                folders,
                repo,
                private=private,
                revision=revision,
                with_mirror=mirror,
                results=results,
                measure=measure,
                model_name=model,
                text=text,
                n_tokens=tokens,
                device=device,
                license=license,
                base_model=base_model,
                overwrite=overwrite,
                dry_run_folder=folder,
                on_progress=on_progress,
            )
        console.print(files_tree(repo, done.files))
        if folder is not None:
            console.out(f"{folder}: written; nothing was sent")
        elif done.changed:
            console.out(f"{repo} at {done.commit}: {len(done.changed)} files in one commit")
        else:
            console.out(f"{repo} at {done.commit} has all of this already")
        if done.as_trained:
            console.out(
                f"{', '.join(done.as_trained)}: the positive side of each latent is as trained, so it differs by seed; "
                "--measure makes it the side with more energy"
            )


@app.command()
@prints_tables
def pull(
    repo: Annotated[str, Argument(help="Repository, USER/NAME.")],
    sae_id: Annotated[str, Argument(help="Id of the SAE in the repository.")],
    revision: Annotated[str, Option(help="Branch or commit.")] = "main",
) -> None:
    """Download a published SAE, check the hash of every file, and show the numbers of its card."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.hub import pull as run_pull
        from sae_lens_abstopk.hub.pull import pulled_table

        pulled = run_pull(repo, sae_id, revision=revision)
        console.print(pulled_table(pulled))
        console.out(f"{len(pulled.record.files)} files match the hashes of {repo} at {pulled.commit}")
        console.out(pulled.folder)
