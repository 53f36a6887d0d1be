"""Draw a figure of results files into a file."""

from collections.abc import Sequence
from pathlib import Path

from sae_lens_abstopk.evaluation.figures.intervals import auroc_figure, coverage_figure
from sae_lens_abstopk.evaluation.figures.of_saes import fvu_figure, two_sidedness_figure
from sae_lens_abstopk.evaluation.figures.of_steering import dose_response_figure, effect_cost_figure
from sae_lens_abstopk.evaluation.figures.style import paper_style
from sae_lens_abstopk.evaluation.results.merging import merge_results, names_in_errors
from sae_lens_abstopk.evaluation.results.schema import Results
from sae_lens_abstopk.system.errors import ConfigError, require_choice
from sae_lens_abstopk.system.files import writing
from sae_lens_abstopk.system.typed_values import one_or_more

FORMATS = (".svg", ".pdf", ".png")
_PROBED = "no task was probed; evaluate with a suite that has tasks, such as `abstopk eval --suite probing`"
_STEERED = "nothing was steered; evaluate with a suite that has a steering part, such as `abstopk eval --suite full`"
KINDS = {
    "fvu": (fvu_figure, "no reconstruction was measured; `abstopk eval` does with every suite"),
    "auroc": (auroc_figure, _PROBED),
    "coverage": (coverage_figure, _PROBED),
    "dose-response": (dose_response_figure, _STEERED),
    "effect-cost": (effect_cost_figure, _STEERED),
    "two-sidedness": (two_sidedness_figure, "no SAE that fires on both sides was measured; `abstopk eval` does that"),
}
"""Function that draws each kind of figure, and what results lack when it returns None."""


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
    require_choice("kind", kind, KINDS)
    require_choice("the extension of out", out.suffix.lower(), FORMATS)
    found = merge_results(given).only(tasks=one_or_more(tasks), saes=one_or_more(saes))
    draw, lacks = KINDS[kind]
    with paper_style():
        figure = draw(found)
        if figure is None:
            raise ConfigError(f"{', '.join(names_in_errors(given))}: kind={kind!r} has nothing to draw: {lacks}.")
        with writing(out):
            # no date, so that the same results give the same file
            metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(out.suffix.lower(), {})
            figure.savefig(out, metadata=metadata)
    return out
