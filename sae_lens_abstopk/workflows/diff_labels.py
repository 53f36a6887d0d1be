"""Name both poles of the latents of two models by a language model."""

from sae_lens_abstopk.diffs.diff_files import Diff
from sae_lens_abstopk.evaluation.labelling.labeler import Labeler, Sides
from sae_lens_abstopk.explorer.judging import EXCERPTS, excerpt
from sae_lens_abstopk.system.terminal import PassProgress


def excerpts(diff: Diff, most: int) -> dict[int, Sides]:
    """Return the strongest contexts of both poles of the first latents, at most so many; of active ones only."""
    found = {}
    for each in diff.contexts.latents[:most]:
        sides = ([excerpt(of.tokens, of.at) for of in side[:EXCERPTS]] for side in (each.negative, each.positive))
        found[each.latent] = Sides(*sides)
    return {latent: sides for latent, sides in found.items() if any(sides)}


def label_latents(
    diff: Diff, labeler: Labeler, of_latents: dict[int, Sides], *, on_progress: PassProgress | None = None
) -> Diff:
    """Return the comparison with labels of ``of_latents`` in place of all earlier ones."""
    labels, judge = labeler.label(of_latents, on_progress=on_progress)
    latents = [each.model_copy(update={"label": labels.get(each.latent)}) for each in diff.results.latents]
    return diff._replace(results=diff.results.model_copy(update={"latents": latents, "judge": judge}))
