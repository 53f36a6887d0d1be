"""Measure one dose of steering: its effect on the next token and on generated text, and its cost."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from sae_lens import SAE
from torch import nn

from sae_lens_abstopk.evaluation.results.records import DoseRecord
from sae_lens_abstopk.evaluation.steering.interventions import Intervention
from sae_lens_abstopk.evaluation.steering.steer import steering_filter
from sae_lens_abstopk.evaluation.tasks.task import TaskSteering
from sae_lens_abstopk.evaluation.tasks.text_scorers import pole_score
from sae_lens_abstopk.model.activation_edits import intervene
from sae_lens_abstopk.model.generation import TextModel, TokenBatch, answer_ids
from sae_lens_abstopk.model.token_filter import TokenFilter, TokenSelection
from sae_lens_abstopk.system.errors import ConfigError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]

NEUTRAL_TEXTS = (
    "Bread dough rises because yeast turns sugar into gas, and the gas is caught in a net of gluten.",
    "The library opens at nine on weekdays and at ten on Saturdays, and it is closed on public holidays.",
    "Limestone is made of the shells of small sea animals that sank to the bottom millions of years ago.",
    "To change a tyre, loosen the nuts a little before the car is lifted, and tighten them once it is down again.",
    "The train leaves from platform four, stops at every station along the coast and takes about two hours.",
    "A map at a scale of one to fifty thousand shows each kilometre as two centimetres of paper.",
    "Copper wires carry electricity well, so they are used in most houses and in nearly all motors.",
    "Rain that falls on the western side of the hills flows into the lake, and the rest runs down to the sea.",
    "The recipe needs two eggs, a cup of flour, half a litre of milk and a pinch of salt.",
    "Glass is strong when it is pressed and weak when it is bent, which is why windows break so easily.",
    "In the northern part of the country the soil is sandy, and most farms grow potatoes or rye.",
    "The printer uses a laser to draw the page on a drum, and powder sticks wherever the light has been.",
)
"""Plain facts and instructions, whose likelihood steering should not change."""


class DoseOptions(BaseModel):
    """How much :func:`~.dose_response.dose_response` measures."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    strengths: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.5, 1.0, 2.0, 4.0)
    """Tried in both directions."""
    samples: Count = 3
    """Texts generated per prompt and dose, each with its own random numbers."""
    max_new_tokens: Count = 24
    """Length of a generated text."""
    budget: Positive = 0.1
    """Rise of the NLL of neutral text at which effects are matched, nats per token; 0.1 is perplexity times 1.1."""


@dataclass(frozen=True)
class Dose:
    """Everything measured at one strength; the unsteered model is a dose of strength 0."""

    strength: float
    """Signed; positive should lead towards pole B."""
    log_odds: tuple[float, ...]
    """log p(pole B's tokens) - log p(pole A's) after each prompt."""
    neutral_nll: tuple[float, ...]
    """The steered model's nats per token on each neutral text."""
    generated_nll: tuple[float, ...]
    """The unsteered model's nats per token on the texts generated from each prompt, their mean."""
    scores: tuple[float, ...] | None
    """Mean :func:`pole_score` of the texts generated from each prompt; None if the task has no scorer."""
    texts: tuple[tuple[str, ...], ...]
    """The texts generated from each prompt."""

    @property
    def means(self) -> DoseRecord:
        """The means over prompts, or over neutral texts."""

        def mean(values: tuple[float, ...]) -> float:
            return sum(values) / len(values)

        return DoseRecord(
            strength=self.strength,
            log_odds=mean(self.log_odds),
            score=None if self.scores is None else mean(self.scores),
            generated_nll=mean(self.generated_nll),
            neutral_nll=mean(self.neutral_nll),
            text=self.texts[0][0],
        )


class DoseMeter:
    """
    Measures doses on ``prompts``, each with the same random numbers; ``on_dose`` is called after each.

    Other arguments and errors are those of :func:`~.dose_response.dose_response`.
    """

    def __init__(
        self,
        model: nn.Module,
        sae: SAE[Any],
        part: TaskSteering,
        prompts: Sequence[str],
        options: DoseOptions | None = None,
        *,
        tokenizer: Any = None,
        seed: int = 0,
        autocast: bool = False,
        token_filter: TokenFilter | None = None,
        on_dose: Callable[[], None] = lambda: None,
    ) -> None:
        self._model = TextModel(
            model, tokenizer, chat=part.chat, prepend_bos=TokenSelection.of_sae(sae).prepend_bos, autocast=autocast
        )
        self._sae, self._filter = sae, token_filter or steering_filter(model, sae)
        self._tokens = first_tokens(self._model.tokenizer, part.tokens, chat=part.chat)
        self._prompts = self._model.encode(prompts)
        self._scorer, self._options, self._seed, self._on_dose = part.scorer, options or DoseOptions(), seed, on_dose

    def measure(self, intervention: Intervention | None, strength: float = 0.0) -> Dose:
        """The dose of ``intervention`` at ``strength``; of the unsteered model if it is None."""
        samples, length = self._options.samples, self._options.max_new_tokens
        with self._steered(intervention, strength):
            generated = self._model.generate(self._prompts, samples=samples, max_new_tokens=length, seed=self._seed)
        texts = tuple(generated.texts[i : i + samples] for i in range(0, len(generated.texts), samples))
        scores = None
        if self._scorer is not None:
            scores = tuple(sum(pole_score(self._scorer, text) for text in row) / samples for row in texts)
        found = Dose(
            strength,
            log_odds=self.log_odds(intervention, strength),
            neutral_nll=self.neutral_nll(intervention, strength),
            generated_nll=tuple(self._model.generated_nll(generated).view(-1, samples).mean(1).tolist()),
            scores=scores,
            texts=texts,
        )
        self._on_dose()
        return found

    def log_odds(self, intervention: Intervention | None, strength: float) -> tuple[float, ...]:
        """Log-odds of the poles after each prompt."""
        with self._steered(intervention, strength):
            logits = self._model.next_logits(self._prompts).cpu().double()
        pole_a, pole_b = (logits[:, ids].logsumexp(-1) for ids in self._tokens)
        return tuple((pole_b - pole_a).tolist())

    def neutral_nll(self, intervention: Intervention | None, strength: float) -> tuple[float, ...]:
        """Nats per token of each neutral text; cheap compared with :meth:`measure`."""
        with self._steered(intervention, strength):
            return tuple(self._model.nll(self._neutral).tolist())

    @cached_property
    def _neutral(self) -> TokenBatch:
        return self._model.encode(NEUTRAL_TEXTS, chat=False)

    def _steered(self, intervention: Intervention | None, strength: float) -> AbstractContextManager[None]:
        if intervention is None:
            return nullcontext()
        edit = intervention.edit(self._sae, strength)
        return intervene(self._model.model, self._sae.cfg.metadata.hook_name, edit, token_filter=self._filter)


def first_tokens(
    tokenizer: Any, continuations: tuple[tuple[str, ...], tuple[str, ...]], *, chat: bool = False
) -> tuple[list[int], list[int]]:
    """
    Distinct first tokens of the continuations of pole A and of pole B, as they follow other text or a chat prompt.

    Raises:
        ConfigError: both poles share one.
    """

    def ids_of(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    def tokens_after(word: str) -> list[int]:
        if chat and (answer := answer_ids(tokenizer, word)):
            return answer
        # Llama 2 puts a space before every text, so a word tokenised by itself begins with an empty piece
        row, n = ids_of("\n" + word), len(anchor)
        return row[n:] if row[:n] == anchor else ids_of(word)

    # few tokenizers join a line break with what follows
    anchor = ids_of("\n")
    pole_a, pole_b = (sorted({row[0] for row in map(tokens_after, words) if row}) for words in continuations)
    if both := sorted(set(pole_a) & set(pole_b)):
        shared = ", ".join(repr(tokenizer.decode([i])) for i in both)
        raise ConfigError(
            f"steering.tokens: words of both poles begin with {shared} for this tokenizer; use words that differ in "
            "the first token."
        )
    return pole_a, pole_b
