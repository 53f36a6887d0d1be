"""The data shown for one latent, and its provenance."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from typing_extensions import override

from sae_lens_abstopk.evaluation.results.schema import OF_VECTORS
from sae_lens_abstopk.explorer.labels import TopToken
from sae_lens_abstopk.system.pages import escape_invisible
from sae_lens_abstopk.system.shown import Facts, Shown


class ShownContext(NamedTuple):
    """A :class:`~sae_lens_abstopk.model.contexts.Context` as text, with its strength."""

    tokens: tuple[str, ...]
    """Text of the tokens; tokens that make up one character are joined."""
    codes: tuple[float, ...]
    """The latent's code at each; NaN at tokens left out of the SAE's input."""
    at: int
    share_below: float
    """Share of the pole's firings that are weaker, to within a histogram bin."""

    @property
    def code(self) -> float:
        return self.codes[self.at]


class Effect(NamedTuple):
    """A token whose logit a direction changes, by standard deviations over the vocabulary."""

    text: str
    by: float


class Neighbour(NamedTuple):
    """Another latent, its cosine and its pole."""

    latent: int
    cosine: float
    pole: int = 0


class Cofiring(NamedTuple):
    """A latent that often fires together with another."""

    latent: int
    overlap: float
    """c_ij / sqrt(c_i c_j): joint firings over the geometric mean of both counts, between 0 and 1."""
    same_side: float
    """Share of joint firings with equal signs."""


class SteeredText(NamedTuple):
    """One prompt with its continuations, from the most negative strength on."""

    prompt: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Pole:
    """One side of a latent."""

    label: str
    closed: bool
    """Whether the SAE can never fire on this side."""
    fires: int
    density: float
    scale: float
    """99th percentile of |code| over its firings, to within a histogram bin; 0 if it never fired."""
    tokens: tuple[TopToken, ...]
    sampled_firings: int
    """Number of sampled firings behind ``tokens``."""
    strongest: tuple[ShownContext, ...]
    sampled: tuple[ShownContext, ...]
    """A uniform sample of the firings, strong to weak."""
    histogram: tuple[int, ...]
    """Firings by |code|, in equal bins from 0 to the latent's ``limit``."""
    promoted: tuple[Effect, ...]
    """Tokens that the pole's direction (+d or -d) promotes; empty if no logit lens applies."""
    demoted: tuple[Effect, ...]
    match: Neighbour | None
    """Nearest direction of the compared SAE."""


@dataclass(frozen=True, repr=False)
class Latent(Shown):
    """One latent with both sides, the positive one first."""

    index: int
    poles: tuple[Pole, Pole]
    two_sidedness: float
    """min(p+, p-) / (p+ + p-); NaN if it never fired."""
    scale: float
    limit: float
    """Upper end of the histograms."""
    norm: float
    """Norm of the vector that a code of 1 adds to the activation."""
    aligned: tuple[Neighbour, ...]
    opposed: tuple[Neighbour, ...]
    cofiring: tuple[Cofiring, ...]
    steered: tuple[SteeredText, ...]
    relation: str | None

    @property
    def positive(self) -> Pole:
        return self.poles[0]

    @property
    def negative(self) -> Pole:
        return self.poles[1]

    @property
    def strongest(self) -> float:
        """Largest |code| in the contexts; 1 if it never fired."""
        return max((abs(context.code) for pole in self.poles for context in pole.strongest), default=1.0)

    @override
    def _facts(self) -> Facts:
        sides = {
            name: f"“{escape_invisible(pole.label)}” on {pole.density:.2%} of tokens" if pole.fires else pole.label
            for name, pole in (("negative", self.negative), ("positive", self.positive))
        }
        return [{"latent": self.index} | sides | {"scale": f"{self.scale:.3g}"}]


@dataclass(frozen=True)
class Provenance:
    """The model, hook and text of a collection."""

    model: str
    model_source: str
    hook: str
    text: str
    held_out: bool
    """Whether the text was held out of the SAEs' training."""
    tokens_read: int
    """Tokens read, filtered ones included."""
    context_size: int
    model_class: str = "AutoModelForCausalLM"
    loaded_with: Mapping[str, Any] = field(default_factory=dict)
    """``from_pretrained`` arguments that select or process the weights."""
    all_heads: bool = True
    """False if the SAEs read one attention head."""
    precision: str | None = None
    """In which the text was read."""
    judge: str | None = None
    """The judge that named the poles, and its score on planted latents."""

    @property
    def unit(self) -> str:
        """What was read: tokens of a text, or rows of vectors."""
        return "rows" if self.hook == OF_VECTORS else "tokens"
