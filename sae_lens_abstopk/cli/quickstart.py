"""The subcommand ``quickstart``."""

import shlex
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from sae_lens_abstopk.cli.app import Layer, TextModel, app
from sae_lens_abstopk.cli.errors import config_error, errors_as_sentences
from sae_lens_abstopk.cli.output import prints_tables


@app.command()
@prints_tables
def quickstart(
    overrides: Annotated[list[str] | None, Argument(hidden=True)] = None,
    model: TextModel = None,
    layer: Layer = None,
    out: Annotated[
        Path | None, Option("--out", "-o", help="Output folder, new or empty; by default one in runs/.")
    ] = None,
) -> None:
    """Find axes such as he / she in a small model, beside a one-sided SAE: a table, and a page with both poles."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.workflows.quickstart import quickstart as run_quickstart

        if overrides:
            raise config_error(
                f"{overrides[0]!r} is for a run on tokens, which has a config: abstopk tokens {shlex.join(overrides)}"
            )
        run_quickstart(model=model, layer=layer, out=out, console=console, progress=console.progress)
