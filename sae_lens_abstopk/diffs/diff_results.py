"""The record of the differences between two models: ``diff.json``, and ``contexts.json`` with text."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from sae_lens_abstopk.evaluation.labelling.labeler import LabelRecord
from sae_lens_abstopk.evaluation.results.fit_record import FitRecord
from sae_lens_abstopk.evaluation.results.records import Interval, Number, OriginRecord, Record


class DiffFitRecord(FitRecord):
    """How well SAEs of one kind rebuild held-out differences, mean over seeds; KL is at the L0 of `fvu`."""

    dead_latents: float = Field(description="Latents that fired on neither side.")
    dead_poles: float = Field(description="Live latents whose weaker side holds under 1 % of their firings.")
    two_sidedness: float = Field(description="Mean of min(p+, p-) / (p+ + p-) over live latents.")
    kl_recovered: Interval
    stability: float | None = Field(
        description="Mean over live latents of the share of other seeds with a latent of cosine >= .7, or of "
        "|cosine| >= .7 if signed."
    )


class PCARecord(Record):
    """How well the first principal components of training differences rebuild held-out ones."""

    directions: int
    fvu: float
    kl_recovered: Interval


class DiffPoleRecord(Record):
    """One side of a latent."""

    share_active: float = Field(description="Share of the kept tokens on which the code has this sign.")
    scale: float = Field(description="99th percentile of |code| on these; 0 if there are none.")
    kl_share: Interval | None = Field(description="As that of the latent, with only the codes of this sign left out.")
    kl_estimate: float


class DiffLatentRecord(Record):
    """One latent of the SAE that is shown."""

    latent: int
    kl_share: Interval | None = Field(
        description="Rise of KL(tuned || patched base) without this latent, as a share of KL(tuned || base); null if "
        "only estimated."
    )
    kl_estimate: float = Field(
        description="The same to first order, from gradients; the first latents by it are measured."
    )
    positive: DiffPoleRecord = Field(description="Where the tuned model has more of the decoder row.")
    negative: DiffPoleRecord = Field(description="Where it has less of the decoder row.")
    share_active: float
    stability: float | None = Field(description="Share of the other seeds in which it is found.")
    stability_halves: float | None = Field(description="Of the SAEs of two disjoint halves of the text.")
    mean_cosine: float = Field(description="Of its decoder row with the mean difference.")
    label: LabelRecord | None = Field(default=None, description="Of the latents that a language model named.")


class DiffResults(OriginRecord):
    """Measurements of a fine-tune at one hook, on held-out text; intervals resample documents."""

    base: str
    tuned: str = Field(description="The tuned model, or the adapter.")
    hook: str
    data: str
    unit: Literal["document", "context"] = Field(description="What intervals resample.")
    n_units: int
    n_tokens: int = Field(description="Kept tokens, behind FVU and codes.")
    n_predictions: int = Field(description="Behind all KL but those of latents.")
    n_predictions_latents: int = Field(description="Behind the KL of latents.")
    seed: int
    kind: str = Field(description="Kind of the SAE that is shown, a key of `fits`.")
    shown_seed: int = Field(default=0, description="Which of its seeds: the one whose latents most others have too.")
    d_sae: int
    k: float
    training: dict[str, Any]
    precision: str | None = Field(default=None, description="In which both models read the text.")
    fvu: Interval = Field(description="Of the shown kind, at an L0 of k: sum ||x - x_hat||^2 / sum ||x - mean(x)||^2.")
    mean_energy: Interval = Field(description="Share of the energy of differences that is their mean.")
    kl: Interval = Field(description="KL(tuned || base), nats a prediction.")
    kl_recovered: Interval = Field(
        description="1 - KL(tuned || patched) / KL(tuned || base), the base model patched with its activation plus the "
        "SAE's reconstruction of the difference; of the shown kind."
    )
    kl_ceiling: Interval = Field(description="The same with the difference itself.")
    kl_mean_difference: Interval = Field(description="The same with the mean held-out difference.")
    fits: dict[str, DiffFitRecord] = Field(description="By kind of SAE.")
    pca: list[PCARecord] = Field(description="With k directions, and with d_sae where that is less than d_in.")
    latents: list[DiffLatentRecord] = Field(description="Measured ones first, each part by falling KL share.")
    judge: str | None = Field(default=None, description="The language model that named latents, and how good it is.")


class DiffContext(Record):
    """A stretch of held-out text; all lists have one entry a token."""

    tokens: list[str]
    at: int = Field(description="The token that it was chosen for.")
    kl: list[Number] = Field(description="KL(tuned || base) of the prediction that follows each token; nats.")
    codes: list[Number] = Field(description="Code of the latent; null at tokens left out. Empty without a latent.")
    tuned_next: str = Field(description="The tuned model's first choice after `at`.")
    base_next: str


class LatentContexts(Record):
    """The strongest firings of both sides of a latent, at most one a context, strongest first."""

    latent: int
    positive: list[DiffContext]
    negative: list[DiffContext]
    positive_promotes: list[str] = Field(
        default=[],
        description="Tokens that the decoder row promotes in the tuned model (logit lens); empty if the hook is not "
        "in the residual stream.",
    )
    negative_promotes: list[str] = Field(default=[], description="Tokens that its opposite promotes.")


class LatentWriting(Record):
    """Texts that the models write with a latent added or removed, one a prompt."""

    latent: int
    side: Literal[1, -1] = Field(description="The pole with the larger KL share.")
    code: float = Field(description="Added at every token: 99th percentile of |code| of that pole.")
    base_with: list[str] = Field(description="The base model with the latent added.")
    tuned_without: list[str] = Field(description="The tuned model without what it differs by along it.")


class DiffWriting(Record):
    """Greedy continuations, one a prompt."""

    prompts: list[str]
    base: list[str]
    tuned: list[str]
    latents: list[LatentWriting]


class DiffContexts(Record):
    """Text to show."""

    latents: list[LatentContexts] = Field(description="In the order of the latents of `diff.json`.")
    parting: list[DiffContext] = Field(description="Where KL(tuned || base) is highest, one a context, highest first.")
    writing: DiffWriting | None = Field(default=None, description="By either model, with the first latents.")


def strongest_tokens(contexts: Sequence[DiffContext]) -> list[str]:
    """Return the tokens at which a pole is strongest, each once, without spaces around them."""
    return list(dict.fromkeys(each.tokens[each.at].strip() or repr(each.tokens[each.at]) for each in contexts))
