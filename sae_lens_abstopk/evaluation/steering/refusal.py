"""How often a model refuses harmful and harmless instructions; steered if it is called inside ``with steer(...)``."""

from collections.abc import Sequence
from dataclasses import dataclass

from sae_lens_abstopk.evaluation.intervals import Estimate, mean_estimate
from sae_lens_abstopk.evaluation.passes.generation import TextModel
from sae_lens_abstopk.evaluation.tasks.text_scorers import refuses


@dataclass(frozen=True)
class RefusalScores:
    """Shares of refused instructions; intervals resample instructions."""

    harmful: Estimate
    harmless: Estimate
    harmful_texts: tuple[str, ...]
    """The answers to the harmful ones, in the order of the instructions."""


def refusal_score(texts: Sequence[str]) -> Estimate:
    """Share of ``texts`` that refuse, by the published list (refusal_score of arXiv 2406.11717, appendix D)."""
    return mean_estimate([float(refuses(text)) for text in texts])


def measure_refusal(
    text_model: TextModel, harmful: Sequence[str], harmless: Sequence[str], *, max_new_tokens: int = 32
) -> RefusalScores:
    """Greedy answers to each instruction, and the shares that refuse; ``text_model`` should have ``chat=True``."""
    found = [
        text_model.generate(text_model.encode(asked), samples=1, max_new_tokens=max_new_tokens, temperature=0).texts
        for asked in (harmful, harmless)
    ]
    return RefusalScores(refusal_score(found[0]), refusal_score(found[1]), found[0])
