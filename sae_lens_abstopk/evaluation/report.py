"""What :mod:`inspection` found, as tables and coloured contexts for a terminal."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sae_lens_abstopk.evaluation.contexts import Context
from sae_lens_abstopk.evaluation.inspection import Inspected, Inspection

# blue and orange, told apart by every common kind of colour vision
POLE_NAMES = ("positive", "negative")
POLE_STYLES = ("bold white on blue", "bold black on orange1")


def print_inspection(inspection: Inspection, console: Console, *, latents: int = 3) -> None:
    """Print the table of ``inspection`` and, for each signed SAE, its ``latents`` most two-sided latents."""
    console.print(metrics_table(inspection))
    console.print(_footnote(inspection), highlight=False)
    for sae in inspection.saes:
        if int(sae.reconstruction.pole_counts[1].sum()) == 0:
            continue
        console.print()
        console.print(
            f"[bold]{sae.name}[/]: the latents that carry most on their weaker pole. Firing on both sides does not make "
            "the sides opposites: read the contexts."
        )
        for latent in sae.contexts.most_two_sided(latents):
            print_latent(sae, latent, inspection.tokenizer, console)


def metrics_table(inspection: Inspection) -> Table:
    """One row an SAE."""
    table = Table(title=f"{inspection.model_name}, {inspection.hook_name}", title_justify="left")
    table.add_column("SAE", no_wrap=True)
    table.add_column("saved as", no_wrap=True)
    for heading in ("latents", "L0", "FVU", "nMSE"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("loss recovered\nzero | mean", "dead\nlatents", "dead\npoles", "two-\nsided"):
        table.add_column(heading, justify="right")
    for sae in inspection.saes:
        found = sae.reconstruction
        recovered = f"{found.loss.zero:.3f} | {found.loss.mean:.3f}" if found.loss else "-"
        live = max(found.poles.live_latents, 1)
        table.add_row(
            sae.name,
            sae.architecture,
            f"{sae.d_sae:,}",
            f"{found.l0:.1f}",
            f"{found.fvu:.3f}",
            f"{found.nmse:.3f}",
            recovered,
            f"{found.dead_latents / sae.d_sae:.1%}",
            f"{found.poles.dead_poles / live:.1%}",
            f"{found.poles.mean_two_sidedness:.2f}",
        )
    return table


def print_latent(sae: Inspected, latent: int, tokenizer: Any, console: Console) -> None:
    """The strongest contexts of both poles of one latent."""
    counts = sae.reconstruction.pole_counts[:, latent].tolist()
    console.print(
        f"\n[bold]latent {latent}[/]  fired {counts[0]:,} times positive, {counts[1]:,} negative "
        f"in {sae.reconstruction.n_tokens:,} tokens",
        highlight=False,
    )
    for pole, name in enumerate(POLE_NAMES):
        for context in sae.contexts.of(latent, pole):
            console.print(Text(f"  {name} {context.code:+9.1f}  ").append_text(highlighted(context, pole, tokenizer)))


def highlighted(context: Context, pole: int, tokenizer: Any) -> Text:
    """A context on one line, its token in the colour of the pole."""
    text = Text(_one_line(tokenizer, context.before), overflow="ellipsis", no_wrap=True)
    text.append(_one_line(tokenizer, (context.token,)), style=POLE_STYLES[pole])
    return text.append(_one_line(tokenizer, context.after))


def _one_line(tokenizer: Any, ids: Sequence[int]) -> str:
    return tokenizer.decode(list(ids)).replace("\n", "⏎").replace("\t", " ")


def _footnote(inspection: Inspection) -> str:
    found = inspection.saes[0].reconstruction
    text = "held-out text" if inspection.held_out else "text"
    loss_tokens = f"; loss on {found.loss.n_tokens:,} predicted tokens" if found.loss else ""
    return (
        f"{found.n_tokens:,} kept tokens of {text}{loss_tokens}. Dead latents fired on no side in them; dead poles are "
        "the share of live latents whose weaker side holds under 1 % of their firings; two-sided is the mean of "
        "min(p+, p-) / (p+ + p-) over live latents, at most 0.5."
    )
