"""The latents of a comparison of two models as a table for a terminal."""

from rich.table import Table
from rich.text import Text

from sae_lens_abstopk.diffs.diff_files import Diff
from sae_lens_abstopk.diffs.diff_results import DiffContext, DiffPoleRecord, DiffResults, strongest_tokens
from sae_lens_abstopk.evaluation.results.fit_record import compared
from sae_lens_abstopk.evaluation.results.records import Interval

MOST_LATENTS = 16
WIDTH_OF_TOKENS = 14


def latents_table(diff: Diff) -> Table:
    """Make a table of at most 80 columns: the first latents, where each side is strongest, and its KL share."""
    drawn = Table(box=None, pad_edge=False, header_style="bold underline")
    for heading in ("latent", "KL share", "+ pole", "- pole"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    drawn.add_column("strongest at +", no_wrap=True, width=WIDTH_OF_TOKENS)
    drawn.add_column("at -", no_wrap=True, width=WIDTH_OF_TOKENS)
    for heading in ("active", "stable"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for record, contexts in zip(diff.results.latents[:MOST_LATENTS], diff.contexts.latents, strict=False):
        measured = record.kl_share is not None
        drawn.add_row(
            str(record.latent),
            _share(record.kl_share) if measured else f"~{_percent(record.kl_estimate)}",
            *(_pole(record, measured) for record in (record.positive, record.negative)),
            *(_tokens(of) for of in (contexts.positive, contexts.negative)),
            f"{record.share_active:.0%}",
            "-" if record.stability is None else f"{record.stability:.0%}",
        )
    return drawn


def summary(results: DiffResults) -> list[str]:
    """Return sentences about the whole comparison and the table."""
    found = results
    best = max(found.fits, key=lambda name: found.fits[name].kl_recovered.value or 0)
    more = f"--show {best.replace('_', '-')} shows SAEs that recover {_short(found.fits[best].kl_recovered)}."
    return [
        f"{found.n_tokens:,} held-out tokens of {found.n_units:,} {found.unit}s. {compared(found.fits, found.kind)} "
        f"The mean difference is {_short(found.mean_energy)} of the energy.",
        f"KL(tuned || base): {found.kl} nats a token. Recovered at {found.hook}: {_short(found.kl_recovered)} by the "
        f"SAE, {_short(found.kl_ceiling)} by the difference itself, {_short(found.kl_mean_difference)} by its mean.",
        *(
            f"PCA with {each.directions} directions: FVU {each.fvu:.3f}, recovered {_short(each.kl_recovered)}."
            for each in found.pca
        ),
        *([more] if best != found.kind else []),
        "KL share: KL lost without the latent, or one side of it (~: estimated). +: the tuned model has more of its "
        "direction. stable: share of other seeds with the latent.",
    ]


def _pole(pole: DiffPoleRecord, measured: bool) -> str:
    if pole.share_active == 0:
        return "-"
    return _share(pole.kl_share) if measured else f"~{_percent(pole.kl_estimate)}"


def _share(share: Interval | None) -> str:
    return "-" if share is None or share.value is None else _percent(share.value)


def _percent(share: float) -> str:
    return f"{round(share, 3) + 0.0:.1%}"  # + 0.0: no -0.0%


def _tokens(contexts: list[DiffContext]) -> Text:
    return Text(" ".join(strongest_tokens(contexts)))


def _short(number: Interval) -> str:
    return "-" if number.value is None else f"{number.value:.3f}"
