"""Batches of answers of similar length, in the order in which they are read."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sae_lens_abstopk.model.answer_tokens import AnswerTokens
from sae_lens_abstopk.model.length_batches import length_batches

# tokens in one pass of the model, padding included
BATCH_TOKENS = 4096
# tokens of prompts whose keys and values are held at a time
PROMPT_TOKENS = 8192
# a prompt is shared if that saves so large a share of the tokens: attention to it costs more than in one causal pass
SAVED = 0.4


class AnswerBatch(NamedTuple):
    """Answers of one pass."""

    answers: list[AnswerTokens]
    prompts: int | None = None
    """Number of the set of prompts whose keys and values are read first; None if the prompts are part of the pass."""


class AnswerPlan(NamedTuple):
    """All batches, in the order of reading."""

    batches: list[AnswerBatch]
    prompts: list[list[bytes]]
    """Tokens of the prompts of each set."""
    sizes: list[int]
    """Tokens that each batch computes, without padding."""


def plan(answers: Sequence[AnswerTokens], *, shares: bool) -> AnswerPlan:
    """
    Put answers into batches of at most ``BATCH_TOKENS`` tokens, padding included, or of one answer.

    Answers that are read with their prompt come longest first. Then, if the model ``shares`` prompts, sets of prompts
    that are much longer than their answers follow, each with its answers.
    """
    by_prompt: dict[bytes, list[AnswerTokens]] = {}
    for answer in answers if shares else ():
        by_prompt.setdefault(answer.before.tobytes(), []).append(answer)
    shared = {prompt: group for prompt, group in by_prompt.items() if _pays(group)}
    alone = [each for each in answers if each.before.tobytes() not in shared] if shared else answers
    batches = [AnswerBatch(each) for each in _by_length(alone, with_prompt=True)]
    sizes, sets = [sum(answer.n for answer in batch.answers) for batch in batches], list[list[bytes]]()
    for prompts in _sets(shared):
        group = [answer for prompt in prompts for answer in shared[prompt]]
        size = sum(len(shared[prompt][0].before) for prompt in prompts)
        for batch in _by_length(group, with_prompt=False):
            batches.append(AnswerBatch(batch, len(sets)))
            sizes.append(sum(len(answer.own) for answer in batch) + size)
            size = 0
        sets.append(prompts)
    return AnswerPlan(batches, sets, sizes)


def _pays(group: Sequence[AnswerTokens]) -> bool:
    saved = (len(group) - 1) * len(group[0].before)
    return saved > SAVED * sum(answer.n for answer in group)


def _sets(shared: dict[bytes, list[AnswerTokens]]) -> Iterator[list[bytes]]:
    """Yield sets of prompts of similar length, longest first, as many as are held at a time."""
    prompts, size = list[bytes](), 0
    for prompt in sorted(shared, key=lambda prompt: -len(prompt)):
        n = len(shared[prompt][0].before)
        if prompts and size + n > PROMPT_TOKENS:
            yield prompts
            prompts, size = [], 0
        prompts, size = [*prompts, prompt], size + n
    if prompts:
        yield prompts


def _by_length(answers: Sequence[AnswerTokens], *, with_prompt: bool) -> Iterator[list[AnswerTokens]]:
    def length(answer: AnswerTokens) -> int:
        return answer.n if with_prompt else len(answer.own)

    return length_batches(answers, length, BATCH_TOKENS)
