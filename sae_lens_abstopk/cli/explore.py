"""The ``explore`` subcommand."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from sae_lens_abstopk.cli.app import Data, Device, Model, Show, Text, app, refuse_without
from sae_lens_abstopk.cli.errors import config_error, errors_as_sentences


@app.command()
def explore(
    context: typer.Context,
    saes: Annotated[list[str], Argument(help="An SAE folder or RELEASE:SAE_ID, or two to compare.")],
    model: Model = None,
    text: Text = None,
    data: Data = None,
    show: Show = None,
    device: Device = "auto",
    out: Annotated[Path, Option("--out", "-o", help="Output folder for the site.")] = Path("explorer"),
    tokens: Annotated[int, Option(help="Tokens to read; of SAEs of vectors, rows.", min=1)] = 204_800,
    steer: Annotated[
        list[str] | None, Option(help="Prompt to continue at five strengths of each steered latent; may be repeated.")
    ] = None,
    results: Annotated[
        list[Path] | None, Option(help="Results file of `abstopk eval` on these SAEs; may be repeated.")
    ] = None,
    labeler: Annotated[str | None, Option(help="URL of an OpenAI-compatible endpoint that names the poles.")] = None,
    labeler_model: Annotated[str | None, Option(help="Model to use at the labeler.")] = None,
    labeler_prompt: Annotated[Path | None, Option(help="File with a prompt template for the labeler.")] = None,
    yes: Annotated[bool, Option("--yes", "-y", help="Send text to the labeler without confirmation.")] = False,
    latents: Annotated[int, Option(help="Latents to steer with and to label, in the suggested order.", min=1)] = 20,
    serve: Annotated[bool, Option("--serve", help="Serve the site on localhost once it is written.")] = False,
    port: Annotated[int, Option(help="Port to serve on; 0 picks a free one.", min=0, max=65_535)] = 0,
) -> None:
    """Write a static site with both poles of every latent; an interrupted pass is resumed."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.evaluation.labelling.labeler import ANSWERS, Labeler
        from sae_lens_abstopk.explorer.exploration import explore as run_explore
        from sae_lens_abstopk.explorer.judging import LATENTS, sides_of
        from sae_lens_abstopk.explorer.pass_cache import PASSES_KEPT, passes_folder
        from sae_lens_abstopk.explorer.serve import server
        from sae_lens_abstopk.explorer.site import check_site_folder
        from sae_lens_abstopk.system.folder_lock import run_folder_lock
        from sae_lens_abstopk.system.terminal import passes_bar

        # fail before the pass, not after it
        check_site_folder(out)
        if not labeler:
            refuse_without("--labeler", "labeler_model", "labeler_prompt", "yes", context=context)
        if not (steer or labeler):
            refuse_without("--steer or --labeler", "latents", context=context)
        if not serve:
            refuse_without("--serve", "port", context=context)
        if labeler and not labeler_model:
            raise config_error(f"--labeler {labeler} needs a model; add --labeler-model NAME.")
        if port:
            server(out, port=port).server_close()
        with run_folder_lock(out, key="out"):
            judge = None
            if labeler:
                answers = out / ANSWERS
                judge = Labeler(labeler, labeler_model or "", question=LATENTS, cache=answers, prompt=labeler_prompt)
                if yes:
                    judge.check()
            found = run_explore(
                saes,
                model=model,
                text=text,
                data=data,
                show=show,
                n_tokens=tokens,
                checkpoint=passes_folder(),
                prompts=steer or (),
                steered_latents=latents,
                results=results or (),
                device=device,
                console=console.progress,
            )
            read, source = found.about.tokens_read, found.about.text
            if found.about.unit == "rows":
                part = "held-out rows" if found.about.held_out else "rows"
                console.print(f"{read:,} {part} of {source} were read.", soft_wrap=True)
            elif read < tokens:
                console.print(f"{source} has only {read:,} tokens in whole batches, not {tokens:,}: all were read.")
            try:
                chosen = found.suggested(latents)
                if judge and not yes:
                    estimate = judge.estimate({index: sides_of(found.latent(index).latent) for index in chosen})
                    yes = typer.confirm(f"{estimate} Continue?")
                if judge and yes:
                    with passes_bar(console.progress, "labelling") as on_progress:
                        found = found.labelled(judge, chosen, on_progress=on_progress)
            finally:  # write the site even if the labeler fails or nobody can confirm
                with passes_bar(console.progress, "writing") as on_progress:
                    page = found.write(out, on_progress=on_progress)
        console.print(f"the last {PASSES_KEPT} passes are kept in {passes_folder()}", soft_wrap=True)
        console.out(page)
        if serve:
            with server(out, port=port) as running:
                console.print(f"http://127.0.0.1:{running.server_port}/ until Ctrl-C", soft_wrap=True)
                running.serve_forever()
