"""The ``steer`` subcommand."""

from typing import Annotated, Literal

from typer import Argument, Option

from sae_lens_abstopk.cli.app import Device, Model, app
from sae_lens_abstopk.cli.errors import errors_as_sentences
from sae_lens_abstopk.cli.output import prints_tables


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
    tuned: Annotated[
        bool, Option("--tuned", help="Of `abstopk diff`: steer the tuned model in place of the base.")
    ] = False,
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
        from rich.table import Table
        from rich.text import Text

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
            table = Table(
                "strength", "continuation", title=Text(each.prompt), box=None, pad_edge=False, title_justify="left"
            )
            for by, continuation in zip(found.strengths, each.texts, strict=True):
                table.add_row(f"{by:+g}" if by else "0", Text(repr(continuation)))
            console.print(table)
