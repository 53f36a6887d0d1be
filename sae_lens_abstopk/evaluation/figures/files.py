"""Draw a figure of results files into a file."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from sae_lens_abstopk.evaluation.figures.of_probes import auroc_figure, coverage_figure
from sae_lens_abstopk.evaluation.figures.of_saes import fvu_figure, two_sidedness_figure
from sae_lens_abstopk.evaluation.figures.of_steering import dose_response_figure, effect_cost_figure
from sae_lens_abstopk.evaluation.figures.style import paper_style
from sae_lens_abstopk.evaluation.results.merging import MergedResults, names_in_errors, read_merged
from sae_lens_abstopk.evaluation.results.schema import Results
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.typed_values import one_or_more

FORMATS = (".svg", ".pdf", ".png")


class Kind(NamedTuple):
    """One kind of figure."""

    draw: Callable[[MergedResults], Figure | None]
    """Draws the figure; None if the results lack its data."""
    lacks: str
    """Name of the missing data, and how to measure it."""


_PROBED = "no task was probed; evaluate with a suite that has tasks, such as `abstopk eval --suite probing`"
_STEERED = "nothing was steered; evaluate with a suite that has a steering part, such as `abstopk eval --suite full`"
_RECONSTRUCTED = "no reconstruction was measured; `abstopk eval` does with every suite"
_TWO_SIDED = (
    "no reconstruction was measured of an SAE that fires on both sides; `abstopk eval` measures it with every suite"
)
KINDS = {
    "fvu": Kind(fvu_figure, _RECONSTRUCTED),
    "auroc": Kind(auroc_figure, _PROBED),
    "coverage": Kind(coverage_figure, _PROBED),
    "dose-response": Kind(dose_response_figure, _STEERED),
    "effect-cost": Kind(effect_cost_figure, _STEERED),
    "two-sidedness": Kind(two_sidedness_figure, _TWO_SIDED),
}
"""Kinds by name on the command line."""


def write_figure(
    results: str | Path | Results | Sequence[str | Path | Results],
    kind: str,
    out: str | Path,
    *,
    tasks: str | Sequence[str] = (),
    saes: str | Sequence[str] = (),
) -> Path:
    """
    Draw one kind of figure of one or several results files into ``out``; the extension is the format.

    Args:
        results: One or several results files, or what :func:`evaluate` returned.
        kind: fvu, auroc, coverage, dose-response, effect-cost or two-sidedness.
        out: File to write: .svg, .pdf or .png.
        tasks: One or several concepts to draw; all by default.
        saes: One or several SAEs to draw; all by default.

    Raises:
        ConfigError: a kind, format, task or SAE is unknown, a file cannot be read or written, or the results lack the
            figure's data. Nothing is written then.
    """
    given: list[str | Path | Results] = one_or_more(results)
    out = Path(out)
    if kind not in KINDS:
        raise ConfigError(f"kind={kind!r} is not a figure; use one of {', '.join(KINDS)}.")
    if out.suffix.lower() not in FORMATS:
        raise ConfigError(f"out={str(out)!r} must end in one of {', '.join(FORMATS)}.")
    if not out.parent.is_dir():
        raise ConfigError(f"{out.parent}: no such folder; make it, or write elsewhere.")
    found = read_merged(given).only(tasks=one_or_more(tasks), saes=one_or_more(saes))
    with paper_style():
        figure = KINDS[kind].draw(found)
        if figure is None:
            named = ", ".join(names_in_errors(given))
            raise ConfigError(f"{named}: kind={kind!r} has nothing to draw: {KINDS[kind].lacks}.")
        try:
            # no date, so that the same results give the same file
            metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(out.suffix.lower(), {})
            figure.savefig(out, metadata=metadata)
        except OSError as error:
            raise ConfigError(f"cannot write {out}: {error.strerror}; name another file.") from None
    return out
