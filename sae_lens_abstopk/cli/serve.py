"""The subcommand ``serve``: steer along a latent from its page."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from sae_lens_abstopk.cli.app import Device, Model, app
from sae_lens_abstopk.cli.errors import errors_as_sentences


@app.command()
def serve(
    site: Annotated[
        Path, Argument(metavar="SITE", help="Folder that `abstopk explore`, `quickstart`, `pairs` or `diff` wrote.")
    ],
    model: Model = None,
    sae: Annotated[
        list[str] | None, Option(help="SAE folder or RELEASE:SAE_ID, if it has moved; one for each SAE of the site.")
    ] = None,
    tuned: Annotated[
        bool, Option("--tuned", help="Of `abstopk diff`: steer the tuned model in place of the base.")
    ] = False,
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
