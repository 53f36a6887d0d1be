"""Everything that is shown of one latent, and what it was measured on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sae_lens_abstopk.explorer.cofiring import Cofiring
from sae_lens_abstopk.explorer.labels import TopToken
from sae_lens_abstopk.explorer.steered import SteeredText


@dataclass(frozen=True)
class ShownContext:
    """A firing of the latent, in its text."""

    tokens: tuple[str, ...]
    """Text of the tokens; those that make up one character are one."""
    codes: tuple[float, ...]
    """The latent's code at each; NaN where the token was left out of the SAE's input."""
    at: int
    """Index of the token that the context was chosen for."""
    share_below: float
    """Share of the pole's firings that are weaker, to within a histogram bin."""

    @property
    def code(self) -> float:
        return self.codes[self.at]


@dataclass(frozen=True)
class Effect:
    """A token whose logit a direction changes."""

    text: str
    by: float
    """In standard deviations over the vocabulary."""


@dataclass(frozen=True)
class Neighbour:
    """Another latent and the cosine of its direction."""

    latent: int
    cosine: float
    pole: int = 0
    """The pole of that latent whose direction is meant."""


@dataclass(frozen=True)
class Pole:
    """One side of a latent."""

    label: str
    closed: bool
    """Whether the SAE is built so that it never fires."""
    fires: int
    """Firings in the text."""
    density: float
    """Share of the tokens."""
    scale: float
    """99th percentile of |code| over its own firings, to within a histogram bin; 0 if it never fired."""
    tokens: tuple[TopToken, ...]
    sampled_firings: int
    """Firings that the shares of ``tokens`` are of."""
    strongest: tuple[ShownContext, ...]
    sampled: tuple[ShownContext, ...]
    """Drawn uniformly from the firings, strong to weak."""
    histogram: tuple[int, ...]
    """Firings by |code|, in equal bins from 0 to the latent's ``limit``."""
    promoted: tuple[Effect, ...]
    """What the pole's direction (+d or -d) promotes; empty where no logit lens applies."""
    demoted: tuple[Effect, ...]
    match: Neighbour | None
    """The nearest direction of the SAE that this one is compared with."""


@dataclass(frozen=True)
class Judgement:
    """What a judge says of both poles."""

    positive: str
    """Name of the positive pole."""
    negative: str
    relation: str
    """opposites, related, unrelated or one-sided."""


@dataclass(frozen=True)
class Latent:
    """One latent with both sides."""

    index: int
    positive: Pole
    negative: Pole
    two_sidedness: float
    """min(p+, p-) / (p+ + p-); NaN if it never fired."""
    scale: float
    """99th percentile of |code| over its firings, to within a histogram bin."""
    limit: float
    """End of the histograms."""
    norm: float
    """Of what a code of 1 writes."""
    aligned: tuple[Neighbour, ...]
    opposed: tuple[Neighbour, ...]
    cofiring: tuple[Cofiring, ...]
    steered: tuple[SteeredText, ...]
    """Texts written with the latent pushed to either side; empty where none were asked for."""
    relation: str | None
    """How the poles relate, where a judge was asked."""

    @property
    def poles(self) -> tuple[Pole, Pole]:
        return self.positive, self.negative

    @property
    def strongest(self) -> float:
        """Largest |code| in the contexts; 1 if it never fired."""
        return max((abs(context.code) for pole in self.poles for context in pole.strongest), default=1.0)


@dataclass(frozen=True)
class Provenance:
    """What a collection was made on."""

    model: str
    """Name to show."""
    model_source: str
    """Name or folder to load it from."""
    hook: str
    text: str
    held_out: bool
    """Whether the text was kept from the SAEs in training."""
    tokens_read: int
    """Those that were left out counted; fewer than asked for where the text has no more."""
    context_size: int
    """Tokens in a context of the text."""
    model_class: str = "AutoModelForCausalLM"
    """``model_class_name`` of the config: what the model was loaded as."""
    loaded_with: Mapping[str, Any] = field(default_factory=dict)
    """Which weights were loaded, and what a HookedTransformer's went through, as ``from_pretrained`` takes it."""
    all_heads: bool = True
    """Whether the SAEs read all heads of the hook, if it has heads."""
    judge: str | None = None
    """Who named the poles, and how the judge did on latents whose sides are known."""
