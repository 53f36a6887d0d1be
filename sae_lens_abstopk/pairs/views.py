"""Everything that shows the results of a fit, in its folder."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from sae_lens_abstopk.evaluation.figures.style import paper_style
from sae_lens_abstopk.pairs.page import write_page
from sae_lens_abstopk.pairs.pair_figure import effects_figure
from sae_lens_abstopk.pairs.pair_files import write_results
from sae_lens_abstopk.pairs.pair_results import PairResults
from sae_lens_abstopk.pairs.pair_set import PairSet


def write_views(folder: Path, results: PairResults, pairs: PairSet, codes: Float[np.ndarray, "n F"]) -> Path:
    """Write ``pairs.json``, ``axes.csv``, the page, and with preferences ``effects.svg``; return the page."""
    write_results(folder, results)
    if results.preference is not None:
        with paper_style():
            effects_figure(results).savefig(folder / "effects.svg", metadata={"Date": None})
    return write_page(results, pairs, codes, folder)
