"""How well SAEs of one kind rebuild held-out vectors. Kinds are compared at the same L0."""

from collections.abc import Iterable, Mapping

from pydantic import Field

from sae_lens_abstopk.evaluation.results.records import Interval, Record

L0_TOLERANCE = 0.02
"""Largest relative difference in L0 of SAEs whose errors are compared."""


class FitRecord(Record):
    """Errors of SAEs of one kind, mean over seeds."""

    d_sae: int
    fvu: Interval = Field(
        description="With the k * n codes of largest magnitude over all n held-out vectors, selected as one batch: "
        "kinds are compared by it."
    )
    l0: float = Field(description="Codes a vector behind `fvu`.")
    fvu_seeds: list[float]
    fvu_at_threshold: float = Field(description="With the SAE's own thresholds, which were set on training vectors.")
    l0_at_threshold: float = Field(description="Codes a vector behind `fvu_at_threshold`.")


def l0_differs(l0s: Iterable[float]) -> bool:
    """Return whether SAEs with these L0 cannot be compared by their errors."""
    found = list(l0s)
    return bool(found) and max(found) > (1 + L0_TOLERANCE) * min(found)


def unequal_l0(l0s: Mapping[str, float]) -> str:
    """Return a warning for the note of a table with errors of SAEs of these L0; empty if they can be compared."""
    if not l0_differs(l0s.values()):
        return ""
    lowest, highest = (end(l0s, key=l0s.__getitem__) for end in (min, max))
    return (
        f"L0 differs ({lowest} {l0s[lowest]:.1f}, {highest} {l0s[highest]:.1f}): SAEs with more active latents have "
        "lower errors for that, so compare only those of one L0."
    )


def compared(fits: Mapping[str, FitRecord], first: str) -> str:
    """Return a sentence with the FVU of each kind at its L0, ``first`` first; it says so if these differ."""
    shown = {name: _number(fit.fvu) for name, fit in fits.items()}
    others = [name for name in fits if name != first]
    if l0_differs(fit.l0 for fit in fits.values()):
        each = "; ".join(f"{kind_name(name)} {shown[name]} at L0 {fits[name].l0:.2f}" for name in (first, *others))
        return f"FVU {each}: not comparable, since L0 differs."
    beside = ", ".join(f"{kind_name(name)} {shown[name]}" for name in others)
    own = f"{fits[first].l0_at_threshold:.1f} with the saved thresholds"
    return f"FVU {shown[first]}{f' ({beside})' if others else ''} at L0 {fits[first].l0:.1f}; {own}."


def fit_label(kind: str, fit: FitRecord) -> str:
    """Return a kind of SAE with its sizes, as on pages."""
    return f"{kind_name(kind).removesuffix(' F').removesuffix(' 2F')}, F = {fit.d_sae}, L0 {fit.l0:.1f}"


def kind_name(kind: str) -> str:
    """Return ``one_sided_2F`` as it is shown: one-sided 2F."""
    return kind.replace("one_sided", "one-sided").replace("_", " ")


def _number(interval: Interval) -> str:
    return "-" if interval.value is None else f"{interval.value:.3f}".removeprefix("0")
