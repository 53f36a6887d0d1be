"""One dose of steering, measured: what it does to the next token and to generated text, and what it costs."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from sae_lens import SAE

from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.evaluation.passes.activation_edits import intervene
from sae_lens_abstopk.evaluation.passes.generation import TextModel
from sae_lens_abstopk.evaluation.passes.token_filter import TokenFilter
from sae_lens_abstopk.evaluation.steering.interventions import Intervention
from sae_lens_abstopk.evaluation.tasks.text_scorers import ScorerLike, pole_score


class SteeringPartLike(Protocol):
    """What is needed of the steering part of a task."""

    @property
    def prompts(self) -> tuple[str, ...]: ...
    @property
    def tokens(self) -> tuple[tuple[str, ...], tuple[str, ...]]: ...
    @property
    def scorer(self) -> ScorerLike | None: ...
    @property
    def chat(self) -> bool: ...


@dataclass(frozen=True)
class Dose:
    """Everything measured at one strength; the unsteered model is a dose of strength 0."""

    strength: float
    """Signed; positive is meant to go towards pole B."""
    added_norm: float
    """Mean norm of the change at the steered tokens of the prompts."""
    log_odds: tuple[float, ...]
    """log p(pole B's tokens) - log p(pole A's) after each prompt."""
    neutral_nll: tuple[float, ...]
    """The steered model's nats per token of each neutral text."""
    generated_nll: tuple[float, ...] | None
    """The unsteered model's nats per token of each prompt's generated texts, their mean; None where none was generated."""
    scores: tuple[float, ...] | None
    """Mean :func:`pole_score` of each prompt's generated texts; None where the task has no scorer too."""
    texts: tuple[tuple[str, ...], ...] | None
    """The generated texts of each prompt."""


@dataclass(frozen=True)
class DoseCurve:
    """Doses of one intervention in ascending strength."""

    intervention: str
    doses: tuple[Dose, ...]


class DoseMeter:
    """
    Measures doses on one set of prompts.

    Args:
        text_model: The model; runs in batches.
        sae: The SAE.
        part: Token sets and scorer of the concept.
        prompts: The prompts of one split.
        neutral_texts: Texts whose likelihood should not change.
        samples: Continuations of each prompt.
        max_new_tokens: Length of a continuation.
        temperature: Of the sampling.
        seed: Of the sampling; the same random numbers at every dose.
        hook_name: Hook of the SAE.
        token_filter: Tokens that are steered.

    Raises:
        ConfigError: a token set is empty or the two share a token.
    """

    def __init__(
        self,
        text_model: TextModel,
        sae: SAE[Any],
        part: SteeringPartLike,
        prompts: Sequence[str],
        *,
        neutral_texts: Sequence[str],
        samples: int,
        max_new_tokens: int,
        temperature: float,
        seed: int,
        hook_name: str,
        token_filter: TokenFilter,
    ) -> None:
        self._model, self._sae, self._scorer = text_model, sae, part.scorer
        self._hook, self._filter = hook_name, token_filter
        self._tokens = first_tokens(text_model.tokenizer, part.tokens)
        self._prompts = text_model.encode(prompts)
        self._neutral = text_model.encode(neutral_texts, chat=False)
        self.n_prompts, self._samples = len(prompts), samples
        self._sampling: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}

    def measure(self, intervention: Intervention | None, strength: float = 0.0, *, generate: bool = True) -> Dose:
        """The dose of ``intervention`` at ``strength``; of nothing where it is None."""
        log_odds, added_norm = self.log_odds(intervention, strength)
        neutral = self.neutral_nll(intervention, strength)
        if not generate:
            return Dose(strength, added_norm, log_odds, neutral, None, None, None)
        with self._steered(intervention, strength):
            generated = self._model.generate(self._prompts, samples=self._samples, **self._sampling)
        cost = self._model.generated_nll(generated).view(self.n_prompts, -1).mean(1)
        texts = [generated.texts[i : i + self._samples] for i in range(0, len(generated.texts), self._samples)]
        scores = None
        if self._scorer is not None:
            scores = tuple(sum(pole_score(self._scorer, text) for text in row) / len(row) for row in texts)
        return Dose(strength, added_norm, log_odds, neutral, tuple(cost.tolist()), scores, tuple(texts))

    def neutral_nll(self, intervention: Intervention | None, strength: float) -> tuple[float, ...]:
        """Nats a token of each neutral text; cheap beside :meth:`measure`."""
        with self._steered(intervention, strength):
            return tuple(self._model.nll(self._neutral).tolist())

    def log_odds(self, intervention: Intervention | None, strength: float) -> tuple[tuple[float, ...], float]:
        """Log-odds after each prompt, and the mean norm of what was changed in it; cheap beside :meth:`measure`."""
        norms: list[torch.Tensor] = []
        with self._steered(intervention, strength, norms):
            logits = self._model.next_logits(self._prompts).double()
        pole_a, pole_b = (logits[:, ids].logsumexp(-1) for ids in self._tokens)
        return tuple((pole_b - pole_a).tolist()), torch.cat(norms).mean().item() if norms else 0.0

    def _steered(
        self, intervention: Intervention | None, strength: float, norms: list[torch.Tensor] | None = None
    ) -> AbstractContextManager[None]:
        if intervention is None:
            return nullcontext()
        edit = intervention.edit(self._sae, strength)

        def measured(x: torch.Tensor) -> torch.Tensor:
            edited = edit(x)
            if norms is not None:
                norms.append((edited.float() - x.float()).flatten(1).norm(dim=1).cpu())
            return edited

        return intervene(self._model.model, self._hook, measured, token_filter=self._filter)


def first_tokens(tokenizer: Any, continuations: tuple[tuple[str, ...], tuple[str, ...]]) -> tuple[list[int], list[int]]:
    """
    The first token of each continuation of pole A and of pole B, each once.

    Raises:
        ConfigError: a pole has none, or a token stands for both poles.
    """
    found: list[list[int]] = []
    for name, words in zip("AB", continuations, strict=True):
        rows = tokenizer(list(words), add_special_tokens=False)["input_ids"] if words else []
        ids = sorted({row[0] for row in rows if row})
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
