"""The axes of a fit as a table for a terminal."""

from rich.table import Table
from rich.text import Text

from sae_lens_abstopk.evaluation.results.fit_record import compared
from sae_lens_abstopk.evaluation.results.records import Interval
from sae_lens_abstopk.pairs.pair_results import AxisRecord, PairResults
from sae_lens_abstopk.training.config.seeds_and_baselines import SIGNED

WIDTH, WIDTH_BESIDE_RELATIONS = 20, 14
MOST_AXES, MOST_DISAGREEMENTS = 16, 3
TRUE = "true: held-out rank correlation of the name with the code."
EFFECT = (
    "effect: rise in the probability of being preferred by one standard deviation towards +, all else equal; *: also "
    "held out."
)


def ordered(axes: list[AxisRecord]) -> list[AxisRecord]:
    """Return named axes that most seeds have first, then by stability and fidelity."""
    return sorted(axes, key=AxisRecord.order)


def axes_table(results: PairResults) -> Table:
    """Make a table of at most 80 columns: both poles of the first axes, and what is preferred."""
    with_preference, labelled = results.preference is not None, results.judge is not None
    drawn = Table(box=None, pad_edge=False, header_style="bold underline")
    drawn.add_column("axis", justify="right", no_wrap=True)
    for pole in ("- pole", "+ pole"):
        drawn.add_column(pole, width=WIDTH_BESIDE_RELATIONS if labelled else WIDTH)
    if labelled:
        drawn.add_column("poles", no_wrap=True)
    for heading in ("true", "active", *(("effect",) if with_preference else ()), "stable"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for axis in ordered(results.axes)[:MOST_AXES]:
        mark = "*" if axis.confirmed else " "
        effect = [f"{_value(axis.effect):+.3f}{mark}"] if with_preference else []
        stable = "-" if axis.stability is None else f"{axis.stability:.0%}"
        positive, negative = map(Text, axis.pole_names())
        relation = [axis.label.relation if axis.label else "-"] if labelled else []
        true = "-" if not axis.named or axis.fidelity is None else _short(axis.fidelity, 2)
        shown = (true, f"{axis.share_active:.0%}", *effect, stable)
        drawn.add_row(str(axis.latent), negative, positive, *relation, *shown)
    return drawn


def summary(results: PairResults) -> list[str]:
    """Return sentences about the whole fit and the table."""
    found = results
    said = [f"{found.n_pairs:,} pairs, {found.n_held_out:,} held out. {compared(found.fits, SIGNED)}"]
    legend = f"{TRUE} stable: share of other seeds with the axis."
    if told := found.preference:
        said.append(
            f"AUC of preferences: codes {_short(told.auc_codes)}, vector {_short(told.auc_vector)}, length "
            f"{_short(told.auc_length)}."
        )
        legend = f"{EFFECT} {legend}"
    said += _disagreements(found.axes)
    if found.judge:
        said.append(f"poles: {found.judge}.")
    return [*said, legend]


def _disagreements(axes: list[AxisRecord]) -> list[str]:
    """Return a sentence on the axes about which groups disagree; none if no groups were compared."""
    compared = [(axis.latent, axis.disagreement) for axis in ordered(axes) if axis.disagreement]
    if not compared:
        return []
    parted = [(latent, each) for latent, each in compared if each.found]
    if not parted:
        return ["Groups agree on every axis, as far as these pairs tell."]
    most = []
    for latent, each in parted[:MOST_DISAGREEMENTS]:
        rates = [f"{rate.value or 0:.0%} in {name}" for name, rate in zip(each.groups, each.win_rates, strict=True)]
        most.append(f"axis {latent}, whose + pole wins {' and '.join(rates)}")
    more = f", and {len(parted) - len(most)} more axes" if len(parted) > len(most) else ""
    return [f"Groups disagree (q <= .05) about {'; '.join(most)}{more}."]


def _short(number: Interval, digits: int = 3) -> str:
    return "-" if number.value is None else f"{number.value:.{digits}f}".lstrip("0")


def _value(effect: Interval | None) -> float:
    return 0.0 if effect is None or effect.value is None else effect.value
