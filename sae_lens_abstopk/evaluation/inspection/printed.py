"""What :mod:`inspection` found, as tables and coloured contexts for a terminal."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sae_lens_abstopk.dictionary.contexts import Context, PoleContexts
from sae_lens_abstopk.dictionary.reconstruction import Reconstruction
from sae_lens_abstopk.evaluation.inspection.inspect_saes import Inspection
from sae_lens_abstopk.evaluation.results.examples import code_text
from sae_lens_abstopk.system.terminal_text import printable
from sae_lens_abstopk.text.token_text import TokenText

POLE_NAMES = ("positive", "negative")
# blue and orange, told apart by every common kind of colour vision
POLE_STYLES = ("bold white on blue", "bold black on orange1")


def print_inspection(inspection: Inspection, console: Console, *, latents: int = 3) -> None:
    """
    Print the table of ``inspection`` and, for each SAE that fires on its negative side, the first ``latents`` of
    :meth:`PoleContexts.suggested`.
    """
    console.print(metrics_table(inspection))
    console.print(_footnote(inspection), markup=False)
    for name, found in inspection.on_text.reconstruction.items():
        if int(found.pole_counts[1].sum()) == 0:
            continue
        console.print()
        told = (
            ": latents, first the sparse ones whose weaker pole is strongest. Firing on both sides does not make the sides opposites: "
            "read the contexts."
        )
        console.print(Text.assemble((name, "bold"), told))
        contexts = inspection.on_text.contexts[name]
        for latent in contexts.suggested(latents):
            print_latent(found, contexts, latent, inspection.tokenizer, console)


def metrics_table(inspection: Inspection) -> Table:
    """One row an SAE, in 80 columns."""
    table = Table(
        title=Text(f"{inspection.results.model}, {inspection.results.hook}"),
        title_justify="left",
        box=None,
        pad_edge=False,
        header_style="bold underline",
    )
    table.add_column("SAE", vertical="bottom", overflow="fold")
    headings = ("latents", "L0", "FVU", "nMSE", "recov.\nzero", "recov.\nmean", "dead", "dead\npoles", "weaker\nside")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True, vertical="bottom")
    for name, sae in inspection.results.saes.items():
        found = inspection.on_text.reconstruction[name]
        live, two_sided = max(found.poles.live_latents, 1), found.poles.mean_two_sidedness != 0
        table.add_row(
            Text(name),
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


def print_latent(found: Reconstruction, contexts: PoleContexts, latent: int, tokenizer: Any, console: Console) -> None:
    """The strongest contexts of both poles of one latent."""
    counts = found.pole_counts[:, latent].tolist()
    console.print(
        Text.assemble(
            "\n",
            (f"latent {latent}", "bold"),
            f"  fired {counts[0]:,} times positive, {counts[1]:,} negative in {found.n_tokens:,} tokens",
        )
    )
    for pole, name in enumerate(POLE_NAMES):
        for context in contexts.of(latent, pole):
            line = Text(f"  {name} {code_text(context.code):>9}  ")
            width, marked = console.width - len(line), console.color_system is None
            line.append_text(highlighted(context, pole, tokenizer, width=width, marked=marked))
            console.print(line, no_wrap=True, overflow="ellipsis")


def highlighted(context: Context, pole: int, tokenizer: Any, *, width: int = 100, marked: bool = False) -> Text:
    """A context on one line of at most ``width``, its token in the colour of the pole, or ``marked`` by asterisks, and never cut off."""
    text_of = TokenText(tokenizer)
    before, token, after = (_one_line(text_of, ids) for ids in (context.before, (context.token,), context.after))
    if marked:
        word = token.lstrip() or token
        token = f"{token.removesuffix(word)}**{word}**"
    room = max(width - len(token) - min(len(after), width // 4), 0)
    text = Text(before if len(before) <= room else f"…{before[len(before) - room + 1 :]}")
    text.append(token, style=POLE_STYLES[pole])
    return text.append(after)


def _one_line(text_of: TokenText, ids: Sequence[int]) -> str:
    return printable(text_of.joined(ids).replace("\n", "⏎").replace("\t", " "))


def _footnote(inspection: Inspection) -> str:
    found = next(iter(inspection.on_text.reconstruction.values()))
    text = "held-out text" if inspection.results.held_out else inspection.results.text
    loss_tokens = f" (loss: {found.loss.n_tokens:,} predicted tokens)" if found.loss else ""
    saved = ", ".join(f"{name} as {sae.architecture}" for name, sae in inspection.results.saes.items())
    return (
        f"{found.n_tokens:,} kept tokens of {text}{loss_tokens}. Saved: {saved}. recov.: Loss Recovered against zero and "
        "mean ablation. dead: latents that fired on neither side in these tokens (more would find fewer). dead poles: share of live latents "
        "whose weaker side holds under 1 % of their firings. weaker side: share of a latent's firings that it holds, mean over live latents, "
        "at most 0.5."
    )
