"""What :mod:`inspection` found, as tables and coloured contexts for a terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sae_lens_abstopk.evaluation.dictionary.contexts import Context
from sae_lens_abstopk.evaluation.inspection import Inspected, Inspection
from sae_lens_abstopk.evaluation.passes.token_text import TokenText

# blue and orange, told apart by every common kind of colour vision
POLE_NAMES = ("positive", "negative")
POLE_STYLES = ("bold white on blue", "bold black on orange1")


def print_inspection(inspection: Inspection, console: Console, *, latents: int = 3) -> None:
    """Print the table of ``inspection`` and, for each signed SAE, its ``latents`` most two-sided latents."""
    console.print(metrics_table(inspection))
    console.print(_footnote(inspection), highlight=False, markup=False)
    for sae in inspection.saes:
        if int(sae.reconstruction.pole_counts[1].sum()) == 0:
            continue
        console.print()
        told = (
            ": sparse latents whose weaker pole is strongest. Firing on both sides does not make the sides opposites: "
        )
        console.print(Text.assemble((sae.name, "bold"), told, "read the contexts."))
        for latent in sae.contexts.most_two_sided(latents):
            print_latent(sae, latent, inspection.tokenizer, console)


def metrics_table(inspection: Inspection) -> Table:
    """One row an SAE, in 80 columns."""
    table = Table(
        title=Text(f"{inspection.model_name}, {inspection.hook_name}"),
        title_justify="left",
        box=None,
        pad_edge=False,
        header_style="bold underline",
    )
    table.add_column("SAE", vertical="bottom", overflow="fold")
    headings = ("latents", "L0", "FVU", "nMSE", "recov.\nzero", "recov.\nmean", "dead", "dead\npoles", "two-\nsided")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True, vertical="bottom")
    for sae in inspection.saes:
        found = sae.reconstruction
        live, two_sided = max(found.poles.live_latents, 1), found.poles.mean_two_sidedness != 0
        table.add_row(
            Text(sae.name),
            f"{sae.d_sae:,}",
            f"{found.l0:.1f}",
            f"{found.fvu:.3f}",
            f"{found.nmse:.3f}",
            f"{found.loss.zero:.3f}" if found.loss else "-",
            f"{found.loss.mean:.3f}" if found.loss else "-",
            f"{found.dead_latents / sae.d_sae:.1%}",
            f"{found.poles.dead_poles / live:.0%}" if two_sided else "-",
            f"{found.poles.mean_two_sidedness:.2f}" if two_sided else "-",
        )
    return table


def print_latent(sae: Inspected, latent: int, tokenizer: Any, console: Console) -> None:
    """The strongest contexts of both poles of one latent."""
    counts = sae.reconstruction.pole_counts[:, latent].tolist()
    console.print(
        Text.assemble(
            "\n",
            (f"latent {latent}", "bold"),
            f"  fired {counts[0]:,} times positive, {counts[1]:,} negative in {sae.reconstruction.n_tokens:,} tokens",
        )
    )
    for pole, name in enumerate(POLE_NAMES):
        for context in sae.contexts.of(latent, pole):
            line = Text(f"  {name} {context.code:+9.1f}  ")
            line.append_text(highlighted(context, pole, tokenizer, width=console.width - len(line)))
            console.print(line, no_wrap=True, overflow="ellipsis")


def highlighted(context: Context, pole: int, tokenizer: Any, *, width: int = 100) -> Text:
    """A context on one line of at most ``width``, its token in the colour of the pole and never cut off."""
    text_of = TokenText(tokenizer)
    before, token, after = (_one_line(text_of, ids) for ids in (context.before, (context.token,), context.after))
    room = max(width - len(token) - min(len(after), width // 4), 0)
    text = Text(before if len(before) <= room else f"…{before[len(before) - room + 1 :]}")
    text.append(token, style=POLE_STYLES[pole])
    return text.append(after)


def _one_line(text_of: TokenText, ids: Sequence[int]) -> str:
    return text_of.joined(ids).replace("\n", "⏎").replace("\t", " ")


def _footnote(inspection: Inspection) -> str:
    found = inspection.saes[0].reconstruction
    text = "held-out text" if inspection.held_out else Path(inspection.text).name
    loss_tokens = f" (loss: {found.loss.n_tokens:,} predicted tokens)" if found.loss else ""
    saved = ", ".join(f"{sae.name} as {sae.architecture}" for sae in inspection.saes)
    return (
        f"{found.n_tokens:,} kept tokens of {text}{loss_tokens}. Saved: {saved}. recov.: Loss Recovered against zero and "
        "mean ablation. dead: latents that fired on neither side in these tokens. dead poles: share of live latents "
        "whose weaker side holds under 1 % of their firings. two-sided: mean two-sidedness, min(p+, p-) / (p+ + p-), at most 0.5."
    )
