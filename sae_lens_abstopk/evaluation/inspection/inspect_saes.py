"""A first look at trained SAEs: reconstruction numbers and the strongest contexts of both poles, printed."""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sae_lens_abstopk.evaluation.results.facts import OnText, code_text, examples, read_text, text_results
from sae_lens_abstopk.evaluation.results.fit_record import unequal_l0
from sae_lens_abstopk.evaluation.results.records import ExampleRecord
from sae_lens_abstopk.evaluation.results.schema import Results, read_results
from sae_lens_abstopk.evaluation.subjects.measured import load_measured
from sae_lens_abstopk.saes.loading import Source
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.terminal import printable
from sae_lens_abstopk.text.token_text import TokenText
from sae_lens_abstopk.vectors.rows_as_texts import RowText

CONTEXTS = 3
"""Contexts of each pole of each latent."""
INSPECTION = "inspect"
"""Name of the suite in the results."""
POLE_NAMES = ("positive", "negative")
POLE_STYLES = ("bold white on blue", "bold black on orange1")  # colour-blind safe


class Inspection(NamedTuple):
    """Several SAEs on the same tokens or vectors: the results file, and what was counted for it."""

    results: Results
    on_text: OnText
    text_of: TokenText | RowText


def inspect_saes(
    saes: Source | Sequence[Source] | Mapping[str, Source],
    *,
    model_name: str | None = None,
    text: str | None = None,
    data: str | Path | None = None,
    show: str | None = None,
    n_tokens: int = 51_200,
    device: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
) -> Inspection:
    """
    Measure SAEs that read one hook of one model, or vectors, on what their run held out, if anything.

    Other arguments and errors are those of :func:`~.measured.load_measured`.

    Args:
        n_tokens: Tokens to evaluate on, rounded up to whole batches; or vectors.
        on_progress: Called with (passes done, passes in all).
    """
    subjects = load_measured(saes, model=model_name, text=text, data=data, show=show, device=device).with_model()
    found = read_text(subjects, n_tokens, contexts=CONTEXTS, on_progress=on_progress)
    results = text_results(subjects, found, suite=INSPECTION, settings={"tokens": n_tokens})
    return Inspection(results, found, subjects.text_of)


def refuse_to_write_over(path: Path) -> None:
    """Raise if ``path`` is a file, but not an earlier inspection."""
    if path.exists() and (suite := read_results(path).suite) != INSPECTION:
        raise ConfigError(f"{path} has results of the suite {suite!r}, which would be written over; name another file.")


def print_inspection(inspection: Inspection, console: Console, *, latents: int = 3) -> None:
    """Print the table of ``inspection`` and, for each SAE with negative codes, contexts of ``latents`` latents."""
    unit = inspection.results.unit
    console.print(_metrics_table(inspection.results))
    for note in filter(None, _footnotes(inspection.results)):
        console.print(note, markup=False)
    for name, found in inspection.on_text.reconstruction.items():
        if int(found.pole_counts[1].sum()) == 0:
            continue
        console.print()
        note = (
            ": latents, first the sparse ones whose weaker pole is strongest. Firing on both sides does not make the "
            "sides opposites: read the contexts."
        )
        console.print(Text.assemble((name, "bold"), note))
        shown = examples(inspection.on_text.contexts[name], inspection.text_of, latents=latents, n=CONTEXTS)
        for latent, of_latent in groupby(shown, lambda example: example.latent):
            positive, negative = found.pole_counts[:, latent].tolist()
            counts = f"  fired {positive:,} times positive, {negative:,} negative in {found.n_tokens:,} {unit}"
            console.print(Text.assemble("\n", (f"latent {latent}", "bold"), counts))
            for example in of_latent:
                line = Text(f"  {POLE_NAMES[example.code < 0]} {code_text(example.code):>9}  ")
                line.append_text(_highlighted(example, console.width - len(line), marked=console.color_system is None))
                console.print(line, no_wrap=True, overflow="ellipsis")


def _metrics_table(results: Results) -> Table:
    """Make a table with one row per SAE, in 80 columns."""
    title = Text(results.place)
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold underline")
    table.add_column("SAE", vertical="bottom", overflow="fold")
    with_loss = any(found.loss for found in results.reconstruction.values())
    recovered = ("recov.\nzero", "recov.\nmean") if with_loss else ()
    levelled = any(found.fvu_at_lowest_l0 is not None for found in results.reconstruction.values())
    at_lowest = ("FVU at\nlowest\nL0",) if levelled else ()
    of_sides = ("did\nnot\nfire", "dead\npoles", "weaker\nside")
    for heading in ("latents", "L0", "FVU", *at_lowest, "nMSE", *recovered, *of_sides):
        table.add_column(heading, justify="right", no_wrap=True, vertical="bottom")
    for name, sae in results.saes.items():
        found = results.reconstruction[name]
        loss, two_sided = found.loss, found.two_sidedness != 0
        table.add_row(
            Text(name),
            f"{sae.d_sae:,}",
            f"{found.l0:.1f}",
            f"{found.fvu:.3f}",
            *((f"{found.fvu_at_lowest_l0:.3f}",) if found.fvu_at_lowest_l0 is not None else ()),
            f"{found.nmse:.3f}",
            *((f"{loss.recovered_zero:.3f}", f"{loss.recovered_mean:.3f}") if loss else ()),
            f"{found.dead_latents / sae.d_sae:.1%}",
            f"{found.dead_poles / max(found.live_latents, 1):.0%}" if two_sided else "-",
            f"{found.two_sidedness:.2f}" if two_sided else "-",
        )
    return table


def _highlighted(example: ExampleRecord, width: int, *, marked: bool) -> Text:
    """
    Format a context on one line of at most ``width``; its token has the pole's colour, or asterisks (``marked``).

    A token with nothing around it, such as the text of a row, is left plain.
    """
    before, token, after = map(_one_line, (example.before, example.token, example.after))
    if not before and not after:
        return Text(token)
    if marked:
        word = token.lstrip() or token
        token = f"{token.removesuffix(word)}**{word}**"
    room = max(width - len(token) - min(len(after), width // 4), 0)
    text = Text(before if len(before) <= room else f"…{before[len(before) - room + 1 :]}")
    text.append(token, style=POLE_STYLES[example.code < 0])
    return text.append(after)


def _one_line(text: str) -> str:
    return printable(text.replace("\n", "⏎").replace("\t", " "))


def _footnotes(results: Results) -> list[str]:
    """Return what was read, the dead latents of training, and a legend of the table."""
    measured, unit = list(results.reconstruction.values()), results.unit
    found = measured[0]
    if unit == "rows":
        read = f"{found.tokens:,} {'held-out ' if results.held_out else ''}rows of {results.text}"
    else:
        read = f"{found.tokens:,} kept tokens of {'held-out text' if results.held_out else results.text}"
    loss_tokens = f" (loss: {found.loss.tokens:,} predicted tokens)" if found.loss else ""
    saved = ", ".join(f"{name} as {sae.architecture}" for name, sae in results.saes.items())
    dead: dict[int, list[str]] = {}
    for name, sae in results.saes.items():
        if sae.dead_latents is not None and sae.dead_latents_tokens is not None:
            share = f"{name} {sae.dead_latents:,} ({sae.dead_latents / sae.d_sae:.1%})"
            dead.setdefault(sae.dead_latents_tokens, []).append(share)
    of_training = [
        f"Dead latents over the last {n:,} training {unit}: {', '.join(shares)}." for n, shares in dead.items()
    ]
    legend = ["recov.: Loss Recovered against zero and mean ablation."] if found.loss else []
    if any(each.two_sidedness != 0 for each in measured):
        legend.append("dead poles: weaker sides with under 1 % of their latent's firings; weaker side: its mean share.")
    unequal = unequal_l0({name: found.l0 for name, found in results.reconstruction.items()})
    return [f"{read}{loss_tokens}. Saved: {saved}.", *of_training, unequal, " ".join(legend)]
