"""One dose of steering, measured: what it does to the next token and to generated text, and what it costs."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from sae_lens import SAE
from torch import nn

from sae_lens_abstopk.evaluation.steering.interventions import Intervention
from sae_lens_abstopk.evaluation.steering.steer import steering_filter
from sae_lens_abstopk.evaluation.suite.suite import DoseOptions
from sae_lens_abstopk.evaluation.tasks.neutral_text import NEUTRAL_TEXTS
from sae_lens_abstopk.evaluation.tasks.task import TaskSteering
from sae_lens_abstopk.evaluation.tasks.text_scorers import pole_score
from sae_lens_abstopk.model.activation_edits import intervene
from sae_lens_abstopk.model.generation import TextModel, answer_ids
from sae_lens_abstopk.model.token_filter import TokenFilter, TokenSelection
from sae_lens_abstopk.system.errors import ConfigError

# what a continuation is tokenised after: few tokenizers join it with what follows
ANCHOR = "\n"


@dataclass(frozen=True)
class Dose:
    """Everything measured at one strength; the unsteered model is a dose of strength 0."""

    strength: float
    """Signed; positive is meant to go towards pole B."""
    log_odds: tuple[float, ...]
    """log p(pole B's tokens) - log p(pole A's) after each prompt."""
    neutral_nll: tuple[float, ...]
    """The steered model's nats per token of each neutral text."""
    generated_nll: tuple[float, ...]
    """The unsteered model's nats per token of each prompt's generated texts, their mean."""
    scores: tuple[float, ...] | None
    """Mean :func:`pole_score` of each prompt's generated texts; None where the task has no scorer."""
    texts: tuple[tuple[str, ...], ...]
    """The generated texts of each prompt."""


class LogOdds:
    """
    The log-odds of a concept's poles after each of some prompts, steered or not.

    Args:
        model: As for :func:`steer`.
        sae: The SAE.
        part: Words of both poles.
        prompts: What they are to follow.
        tokenizer: By default the model's own.
        autocast: See :class:`TextModel`.
        token_filter: Tokens that are steered; the SAE's by default.

    Raises:
        ConfigError: a token set is empty or the two share a token.
    """

    def __init__(
        self,
        model: nn.Module,
        sae: SAE[Any],
        part: TaskSteering,
        prompts: Sequence[str],
        *,
        tokenizer: Any = None,
        autocast: bool = False,
        token_filter: TokenFilter | None = None,
    ) -> None:
        self._model = TextModel(
            model, tokenizer, chat=part.chat, prepend_bos=TokenSelection.of_sae(sae).prepend_bos, autocast=autocast
        )
        self._sae, self._filter = sae, token_filter or steering_filter(model, sae)
        self._tokens = first_tokens(self._model.tokenizer, part.tokens, chat=part.chat)
        self.prompts = self._model.encode(prompts)

    def log_odds(self, intervention: Intervention | None, strength: float) -> tuple[float, ...]:
        """Log-odds after each prompt."""
        with self.steered(intervention, strength):
            logits = self._model.next_logits(self.prompts).cpu().double()
        pole_a, pole_b = (logits[:, ids].logsumexp(-1) for ids in self._tokens)
        return tuple((pole_b - pole_a).tolist())

    def steered(self, intervention: Intervention | None, strength: float) -> AbstractContextManager[None]:
        """The model under ``intervention``; unsteered where it is None."""
        if intervention is None:
            return nullcontext()
        edit = intervention.edit(self._sae, strength)
        return intervene(self._model.model, self._sae.cfg.metadata.hook_name, edit, token_filter=self._filter)


class DoseMeter(LogOdds):
    """
    Measures doses on one set of prompts; arguments are those of :class:`LogOdds`, and

    Args:
        options: How much is generated.
        seed: Of the sampling; the same random numbers at every dose.
        on_dose: Called after each dose.
    """

    def __init__(
        self,
        model: nn.Module,
        sae: SAE[Any],
        part: TaskSteering,
        prompts: Sequence[str],
        options: DoseOptions,
        *,
        seed: int,
        on_dose: Callable[[], None] = lambda: None,
        **reading: Any,
    ) -> None:
        super().__init__(model, sae, part, prompts, **reading)
        self._neutral = self._model.encode(NEUTRAL_TEXTS, chat=False)
        self._scorer, self._options, self._seed, self._on_dose = part.scorer, options, seed, on_dose

    def measure(self, intervention: Intervention | None, strength: float = 0.0) -> Dose:
        """The dose of ``intervention`` at ``strength``; of nothing where it is None."""
        samples = self._options.samples
        with self.steered(intervention, strength):
            generated = self._model.generate(
                self.prompts, samples=samples, max_new_tokens=self._options.max_new_tokens, seed=self._seed
            )
        texts = [generated.texts[i : i + samples] for i in range(0, len(generated.texts), samples)]
        scores = None
        if self._scorer is not None:
            scores = tuple(sum(pole_score(self._scorer, text) for text in row) / len(row) for row in texts)
        found = Dose(
            strength,
            log_odds=self.log_odds(intervention, strength),
            neutral_nll=self.neutral_nll(intervention, strength),
            generated_nll=tuple(self._model.generated_nll(generated).view(-1, samples).mean(1).tolist()),
            scores=scores,
            texts=tuple(texts),
        )
        self._on_dose()
        return found

    def neutral_nll(self, intervention: Intervention | None, strength: float) -> tuple[float, ...]:
        """Nats a token of each neutral text; cheap beside :meth:`measure`."""
        with self.steered(intervention, strength):
            return tuple(self._model.nll(self._neutral).tolist())


def first_tokens(
    tokenizer: Any, continuations: tuple[tuple[str, ...], tuple[str, ...]], *, chat: bool = False
) -> tuple[list[int], list[int]]:
    """
    The first token of each continuation of pole A and of pole B as it follows other text, or a chat prompt, each once.

    Raises:
        ConfigError: a pole has none, or a token stands for both poles.
    """

    def ids_of(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    def tokens_after(word: str) -> list[int]:
        if chat and (answer := answer_ids(tokenizer, word)):
            return answer
        # by themselves, words begin with an empty piece where a tokenizer puts a space before every text (Llama 2)
        row, n = ids_of(ANCHOR + word), len(anchor)
        return row[n:] if row[:n] == anchor else ids_of(word)

    anchor = ids_of(ANCHOR)
    found: list[list[int]] = []
    for name, words in zip("AB", continuations, strict=True):
        ids = sorted({row[0] for row in map(tokens_after, words) if row})
        if not ids:
            raise ConfigError(f"steering.tokens of pole {name} hold no token: {words!r}; give words of that pole.")
        found.append(ids)
    if both := set(found[0]) & set(found[1]):
        shared = ", ".join(repr(tokenizer.decode([i])) for i in sorted(both))
        raise ConfigError(
            f"steering.tokens: {shared} begins words of both poles for this tokenizer, so it speaks for neither; take "
            "words that differ in their first token."
        )
    return found[0], found[1]


def require_part(part: object) -> None:
    """
    Refuse what is no steering part of a task.

    Raises:
        ConfigError: always then.
    """
    if not isinstance(part, TaskSteering):
        raise ConfigError(
            f"part={part!r} must be the steering part of a task: load_task(NAME).steering, where it has one."
        )
