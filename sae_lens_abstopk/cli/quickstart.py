"""The subcommand ``quickstart``."""

from pathlib import Path
from typing import Annotated

from typer import Option

from sae_lens_abstopk.cli.app import Layer, TextModel, app
from sae_lens_abstopk.cli.errors import errors_as_sentences
from sae_lens_abstopk.cli.output import prints_tables


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
