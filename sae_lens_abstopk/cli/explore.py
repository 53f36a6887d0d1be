"""Subcommands that show latents, and steer along them."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from sae_lens_abstopk.cli.app import Data, Device, Float32, Model, Show, Text, app, refuse_without
from sae_lens_abstopk.cli.errors import errors_as_sentences
from sae_lens_abstopk.cli.output import continuations, prints_tables

Tuned = Annotated[bool, Option("--tuned", help="Of `abstopk diff`: steer the tuned model in place of the base.")]


@app.command()
def explore(
    context: typer.Context,
    saes: Annotated[list[str], Argument(help="An SAE folder or RELEASE:SAE_ID, or two to compare.")],
    model: Model = None,
    text: Text = None,
    data: Data = None,
    show: Show = None,
    float32: Float32 = False,
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
        from sae_lens_abstopk.system.errors import require_given
        from sae_lens_abstopk.system.folder_lock import run_folder_lock
        from sae_lens_abstopk.system.terminal import passes_bar

        # fail before the pass, not after it
        check_site_folder(out)
        judge = None
        if labeler:
            name = require_given("--labeler-model", labeler_model, "add --labeler-model NAME")
            judge = Labeler(labeler, name, question=LATENTS, cache=out / ANSWERS, prompt=labeler_prompt)
        else:
            refuse_without("--labeler", "labeler_model", "labeler_prompt", "yes", context=context)
        if not (steer or labeler):
            refuse_without("--steer or --labeler", "latents", context=context)
        if not serve:
            refuse_without("--serve", "port", context=context)
        if port:
            server(out, port=port).server_close()
        with run_folder_lock(out, key="out"):
            if judge and yes:
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
                float32=float32,
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


@app.command()
def serve(
    site: Annotated[
        Path, Argument(metavar="SITE", help="Folder that `abstopk explore`, `quickstart`, `pairs` or `diff` wrote.")
    ],
    model: Model = None,
    sae: Annotated[
        list[str] | None, Option(help="SAE folder or RELEASE:SAE_ID, if it has moved; one for each SAE of the site.")
    ] = None,
    tuned: Tuned = False,
    device: Device = "auto",
    port: Annotated[int, Option(help="Port to serve on; 0 picks a free one.", min=0, max=65_535)] = 0,
) -> None:
    """Serve a page on this machine with its model, so that the page of a latent or axis steers to either pole."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.explorer.steering_server import Steerer, sources_of_site, steering_server

        recorded = sources_of_site(site)
        steerer = Steerer(sae or recorded, model_name=model, tuned=tuned, device=device)
        running, address = steering_server(site, steerer, port=port)
        with running:
            console.print(f"{address} until Ctrl-C; whoever has this address on this machine can steer", soft_wrap=True)
            running.serve_forever()


@app.command()
@prints_tables
def steer(
    sae: Annotated[
        str,
        Argument(help="An SAE folder or RELEASE:SAE_ID, or the output folder of `abstopk pairs` or `abstopk diff`."),
    ],
    latent: Annotated[int, Option(help="Number of the latent, or axis.", min=0)],
    prompt: Annotated[list[str], Option(help="Text to continue; may be repeated.")],
    strength: Annotated[
        list[float] | None, Option(help="Strength in scales, shown towards both sides; may be repeated. 1 by default.")
    ] = None,
    operator: Annotated[
        Literal["add", "cap"],
        Option(
            help="add: to every token. cap: move each token only so far that its projection is at least that strong."
        ),
    ] = "add",
    scale: Annotated[
        float | None,
        Option(
            help="Code that a strength of 1 adds; by default the 99th percentile of |code|, as recorded by `pairs` and "
            "`diff`, or measured on text."
        ),
    ] = None,
    model: Model = None,
    adapter: Annotated[str | None, Option(help="PEFT adapter to switch on in the model.")] = None,
    tuned: Tuned = False,
    text: Annotated[
        str | None,
        Option(
            metavar="PATH[,...]",
            help="Text to measure the scale on instead of the run's held-out text: a file or Hub data set, with "
            ",name=X ,split=X ,column=X if needed.",
        ),
    ] = None,
    chat: Annotated[bool, Option("--chat", help="Prompts are a user's turns, in the model's chat template.")] = False,
    tokens: Annotated[int, Option(help="Longest continuation, in tokens.", min=1)] = 24,
    device: Device = "auto",
) -> None:
    """Continue prompts with a latent added, towards either side."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.workflows.steered_prompts import steer_prompts

        found = steer_prompts(
            sae,
            latent,
            prompt,
            strengths=strength or (1.0,),
            operator=operator,
            scale=scale,
            model=model,
            adapter=adapter,
            tuned=tuned,
            text=text,
            chat=chat,
            max_new_tokens=tokens,
            device=device,
        )
        console.print(f"{found.model}; a strength of 1 is a code of {found.scale:.3g}", style="dim", soft_wrap=True)
        for each in found.texts:
            strengths = (f"{by:+g}" if by else "0" for by in found.strengths)
            console.print(continuations(each.prompt, "strength", dict(zip(strengths, each.texts, strict=True))))
