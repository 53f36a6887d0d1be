"""One dose of steering, measured: what it does to the next token and to generated text, and what it costs."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from sae_lens import SAE

from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.evaluation.steering.interventions import Intervention
from sae_lens_abstopk.evaluation.suite import DoseOptions
from sae_lens_abstopk.evaluation.tasks.neutral_text import NEUTRAL_TEXTS
from sae_lens_abstopk.evaluation.tasks.task import Scorer, SteeringPart
from sae_lens_abstopk.evaluation.tasks.text_scorers import pole_score
from sae_lens_abstopk.model.activation_edits import intervene
from sae_lens_abstopk.model.generation import TextModel
from sae_lens_abstopk.model.token_filter import TokenFilter

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


@dataclass(frozen=True)
class DoseCurve:
    """Doses of one intervention in ascending strength."""

    intervention: str
    doses: tuple[Dose, ...]


class LogOdds:
    """
    The log-odds of a concept's poles after each of some prompts, steered or not.

    Args:
        text_model: The model; runs in batches.
        sae: The SAE.
        part: Words of both poles.
        prompts: What they are to follow.
        token_filter: Tokens that are steered.

    Raises:
        ConfigError: a token set is empty or the two share a token.
    """

    def __init__(
        self,
        text_model: TextModel,
        sae: SAE[Any],
        part: SteeringPart,
        prompts: Sequence[str],
        *,
        token_filter: TokenFilter,
    ) -> None:
        self._model, self._sae, self._filter = text_model, sae, token_filter
        self._tokens = first_tokens(text_model.tokenizer, part.tokens)
        self.prompts = text_model.encode(prompts)

    def measure(self, intervention: Intervention | None, strength: float) -> tuple[float, ...]:
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


class DoseMeter:
    """
    Measures doses on one set of prompts.

    Args:
        text_model: The model; runs in batches.
        log_odds: Of the concept, after these prompts.
        scorer: Of the concept.
        options: How much is generated.
        seed: Of the sampling; the same random numbers at every dose.
    """

    def __init__(
        self,
        text_model: TextModel,
        log_odds: LogOdds,
        scorer: Scorer | None,
        options: DoseOptions,
        *,
        seed: int,
    ) -> None:
        self._model, self._log_odds, self._scorer = text_model, log_odds, scorer
        self._neutral = text_model.encode(NEUTRAL_TEXTS, chat=False)
        self._samples, self._length, self._seed = options.samples, options.max_new_tokens, seed

    def measure(self, intervention: Intervention | None, strength: float = 0.0) -> Dose:
        """The dose of ``intervention`` at ``strength``; of nothing where it is None."""
        log_odds = self._log_odds.measure(intervention, strength)
        neutral = self.neutral_nll(intervention, strength)
        with self._log_odds.steered(intervention, strength):
            generated = self._model.generate(
                self._log_odds.prompts, samples=self._samples, max_new_tokens=self._length, seed=self._seed
            )
        cost = self._model.generated_nll(generated).view(-1, self._samples).mean(1)
        texts = [generated.texts[i : i + self._samples] for i in range(0, len(generated.texts), self._samples)]
        scores = None
        if self._scorer is not None:
            scores = tuple(sum(pole_score(self._scorer, text) for text in row) / len(row) for row in texts)
        return Dose(strength, log_odds, neutral, tuple(cost.tolist()), scores, tuple(texts))

    def neutral_nll(self, intervention: Intervention | None, strength: float) -> tuple[float, ...]:
        """Nats a token of each neutral text; cheap beside :meth:`measure`."""
        with self._log_odds.steered(intervention, strength):
            return tuple(self._model.nll(self._neutral).tolist())


def first_tokens(tokenizer: Any, continuations: tuple[tuple[str, ...], tuple[str, ...]]) -> tuple[list[int], list[int]]:
    """
    The first token of each continuation of pole A and of pole B as it follows other text, each once.

    Raises:
        ConfigError: a pole has none, or a token stands for both poles.
    """

    def ids_of(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    def tokens_after(word: str) -> list[int]:
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
