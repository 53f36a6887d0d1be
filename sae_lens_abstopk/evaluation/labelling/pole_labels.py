"""Names of poles by a language model, as results record them."""

from collections.abc import Mapping

from pydantic import Field

from sae_lens_abstopk.evaluation.labelling.labeler import Labeler, Sides
from sae_lens_abstopk.evaluation.results.records import Record
from sae_lens_abstopk.system.terminal import PassProgress


class LabelRecord(Record):
    """Names of the poles of a latent by a language model, and how the poles relate."""

    positive: str
    negative: str
    relation: str = Field(description="opposites, related, unrelated, or one-sided.")


def label_poles(
    labeler: Labeler, of_latents: Mapping[int, Sides], *, name: str = "latents", on_progress: PassProgress | None = None
) -> tuple[dict[int, LabelRecord], str]:
    """
    Name the poles of latents; return the labels by latent, and who labelled how many, in words.

    ``name`` is what the results call latents. The labeler is checked on made-up latents first. A latent whose answer
    cannot be read has no label.

    Raises:
        ConfigError: the endpoint fails.
    """
    score = labeler.check()
    found = labeler.judge(of_latents, on_progress=on_progress)
    labels = {latent: LabelRecord(**judgement._asdict()) for latent, judgement in found.items()}
    return labels, f"{len(labels)} {name} labelled by {labeler.model}, {score}"
