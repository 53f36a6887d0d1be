"""Label the axes by a language model that reads their strongest pairs."""

import numpy as np
from jaxtyping import Float, Int

from sae_lens_abstopk.evaluation.labelling.labeler import Labeler, Question, Sides
from sae_lens_abstopk.pairs.examples import strongest_pairs
from sae_lens_abstopk.pairs.pair_files import Fitted
from sae_lens_abstopk.pairs.pair_results import PairResults
from sae_lens_abstopk.pairs.pair_set import PairSet
from sae_lens_abstopk.pairs.tables import ordered
from sae_lens_abstopk.system.pages import assets
from sae_lens_abstopk.system.terminal import PassProgress

PAIRS = Question(assets("pairs") / "labeler_prompt.txt.j2", assets("pairs") / "planted.yaml")
EXAMPLES = 8
"""Pairs of an axis that the language model reads."""
CHARACTERS = 600
"""Characters of a text that it reads."""


def excerpts(fitted: Fitted, most: int) -> dict[int, Sides]:
    """Return excerpts of the strongest pairs of the first axes of the table, at most so many; of active ones only."""
    prompts = fitted.pairs.prompt_numbers()
    first = [axis.latent for axis in ordered(fitted.results.axes)[:most]]
    of_axes = {latent: _sides(fitted.pairs, fitted.codes[:, latent], prompts) for latent in first}
    return {latent: sides for latent, sides in of_axes.items() if sides.negative}


def label_axes(
    results: PairResults, labeler: Labeler, of_axes: dict[int, Sides], *, on_progress: PassProgress | None = None
) -> PairResults:
    """Return the results with labels of the axes ``of_axes`` in place of all earlier ones."""
    labels, judge = labeler.label(of_axes, name="axes", on_progress=on_progress)
    axes = [axis.model_copy(update={"label": labels.get(axis.latent)}) for axis in results.axes]
    return results.model_copy(update={"axes": axes, "judge": judge})


def _sides(pairs: PairSet, code: Float[np.ndarray, " n"], prompts: Int[np.ndarray, " n"]) -> Sides:
    strongest: list[int] = strongest_pairs(code, prompts)[:EXAMPLES].tolist()
    # of the two texts, the one with less of the positive pole first
    texts = [(pairs.b[n], pairs.a[n]) if code[n] > 0 else (pairs.a[n], pairs.b[n]) for n in strongest]
    return Sides(*([_excerpt(text[side]) for text in texts] for side in (0, 1)))


def _excerpt(text: str) -> str:
    line = " ".join(text[: 4 * CHARACTERS].split())
    return line if len(line) <= CHARACTERS else f"{line[:CHARACTERS]} …"
