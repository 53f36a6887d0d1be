"""Tokens that latents promote, and texts that the models write with a latent added or removed."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from sae_lens import SAE
from torch import nn

from sae_lens_abstopk.diffs.diff_files import Diff
from sae_lens_abstopk.diffs.diff_results import DiffContexts, DiffPoleRecord, DiffWriting, LatentWriting
from sae_lens_abstopk.diffs.patched_texts import patched_texts
from sae_lens_abstopk.evaluation.steering.steer import steering_edit, written_by
from sae_lens_abstopk.model.activation_edits import Edit, intervene
from sae_lens_abstopk.model.generation import TextModel
from sae_lens_abstopk.model.inference import casts_shared
from sae_lens_abstopk.model.logit_lens import token_effects
from sae_lens_abstopk.model.model_pair import ModelPair
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.text.token_text import TokenText

WRITTEN, PROMPTS, NEW_TOKENS = 10, 3, 24
LEAST_BEFORE = 8
"""Tokens of a prompt, where the text has them."""


def with_writing(
    diff: Diff,
    pair: ModelPair,
    sae: SAE[Any],
    token_filter: TokenFilter,
    *,
    prompts: Sequence[str] = (),
    chat: bool = False,
    n_latents: int = WRITTEN,
) -> Diff:
    """
    Add to the contexts what the latents promote, and what both models write with and without the first of them.

    ``sae`` is the one that is shown, and ``token_filter`` says at which tokens latents are added. Without ``prompts``,
    held-out text up to where the models part most is continued; ``chat`` makes ``prompts`` a user's turns.
    """
    contexts = _with_promoted(diff.contexts, pair, sae)
    given = list(prompts) or _prompts_where_they_part(contexts)
    if given:
        of_text = {"prepend_bos": False} if not prompts else {"chat": chat}
        write = Writer(pair, token_filter, given, of_text)
        base, tuned = write(pair.base), write(pair.tuned)
        latents = []
        for record in diff.results.latents[:n_latents]:
            pole = max(record.positive, record.negative, key=lambda pole: (pole.scale > 0, _share(pole)))
            side = 1 if pole is record.positive else -1
            scale = side * pole.scale
            added = steering_edit(sae, latent=record.latent, strength=scale, operator="add", scale=1.0)
            texts = write(pair.base, added), write.patched(written_by(sae, record.latent), of="tuned")
            latents.append(
                LatentWriting(latent=record.latent, side=side, code=scale, base_with=texts[0], tuned_without=texts[1])
            )
        contexts = contexts.model_copy(
            update={"writing": DiffWriting(prompts=given, base=base, tuned=tuned, latents=latents)}
        )
    return Diff(diff.results, contexts)


def _prompts_where_they_part(contexts: DiffContexts) -> list[str]:
    """Return held-out text up to the tokens of highest KL, of those with text before them."""
    long = [each for each in contexts.parting if each.at >= LEAST_BEFORE]
    return ["".join(each.tokens[: each.at + 1]) for each in (long or contexts.parting)[:PROMPTS]]


def _share(pole: DiffPoleRecord) -> float:
    """Return the KL share of a pole, measured or else estimated."""
    return pole.kl_estimate if pole.kl_share is None or pole.kl_share.value is None else pole.kl_share.value


class Writer(NamedTuple):
    """Greedy continuations of prompts, in bfloat16 where that is faster."""

    pair: ModelPair
    token_filter: TokenFilter
    prompts: list[str]
    options: Mapping[str, bool]
    """Keyword arguments of :class:`TextModel`."""
    max_new_tokens: int = NEW_TOKENS

    @casts_shared()
    def __call__(self, which: Callable[[], AbstractContextManager[nn.Module]], edit: Edit | None = None) -> list[str]:
        """Continue with one of the models, whose activations at the hook are edited."""
        with which() as model:
            text_model = TextModel(model, autocast=True, **self.options)
            prompts = text_model.encode(self.prompts)
            hook = self.pair.spec.hook_name
            with nullcontext() if edit is None else intervene(model, hook, edit, token_filter=self.token_filter):
                return text_model.greedy(prompts, self.max_new_tokens)

    @casts_shared()
    def patched(self, direction: Float[torch.Tensor, " d_in"], *, of: Literal["base", "tuned"]) -> list[str]:
        """Continue with one model, with the other's activations along a direction."""
        unit = direction / direction.norm()
        options: Any = {"token_filter": self.token_filter, "max_new_tokens": self.max_new_tokens, **self.options}
        return patched_texts(self.pair, self.prompts, unit, of=of, autocast=True, **options)


def _with_promoted(contexts: DiffContexts, pair: ModelPair, sae: SAE[Any]) -> DiffContexts:
    rows = torch.stack([written_by(sae, each.latent) for each in contexts.latents])
    with pair.tuned() as model:
        effects = token_effects(model, rows, pair.spec.hook_name)
    if effects is None:
        return contexts
    text = TokenText(pair.tokenizer)
    up, down = ([[text(token) for token in row] for row in side.tolist()] for side in effects.tokens)
    latents = [
        each.model_copy(update={"positive_promotes": raised, "negative_promotes": lowered})
        for each, raised, lowered in zip(contexts.latents, up, down, strict=True)
    ]
    return contexts.model_copy(update={"latents": latents})
