"""Vectors of answers: one activation each, with the turns before the answer in front of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae_lens_abstopk.model import answer_batches
from sae_lens_abstopk.model.answer_batches import AnswerBatch, AnswerPlan, plan
from sae_lens_abstopk.model.answer_tokens import Answer, padded, tokenised
from sae_lens_abstopk.model.inference import casts_shared
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.shared_prompts import SharedPrompts, shares_prompts
from sae_lens_abstopk.model.token_filter import require_finite

Reading = Literal["mean", "last"]
# texts that the norm limit is estimated on
SAMPLE = 64


@dataclass
class AnswerReader:
    """
    Reads one activation of each answer: the mean over its tokens, or the last.

    The turns before it are context, written by the tokenizer's chat template if it has one, else as plain text. A mean
    leaves out massive activations (the first token of a text, or norms over ``max_norm``).

    Args:
        max_tokens: Most tokens of an answer with its context. The context loses its first tokens, though half of
            ``max_tokens`` remain; then the answer loses its last.
        max_norm: Largest norm of an activation that a mean takes.
        shares: Whether a prompt that is much longer than its answers is passed once for all of them, if the model can.
    """

    passes: ModelPasses
    tokenizer: Any
    reading: Reading = "mean"
    max_tokens: int = 1024
    max_norm: float | None = None
    shares: bool = True
    n_cut: int = field(default=0, init=False)
    """Texts of the last plan that were cut."""
    _held: tuple[list[bytes], SharedPrompts] | None = field(default=None, init=False)

    def __call__(self, answers: Sequence[Answer]) -> Float[Tensor, "n d_in"]:
        """
        Return a row for each answer, as float32 on the CPU.

        Raises:
            ConfigError: an answer has no tokens, or an activation is NaN or infinite.
        """
        found: Tensor | None = None
        with casts_shared():
            planned = self.plan(answers)
            for number, batch in enumerate(planned.batches):
                rows = self.read(planned, number)
                found = torch.empty(len(answers), rows.shape[1]) if found is None else found
                found[[each.row for each in batch.answers]] = rows
        assert found is not None
        return found

    def plan(self, answers: Sequence[Answer]) -> AnswerPlan:
        """Tokenise answers, and put them into batches."""
        tokens, self.n_cut = tokenised(self.tokenizer, answers, self.max_tokens)
        planned = plan(tokens, shares=self.shares)
        # the model is tried only if there is something to share
        return planned if not planned.prompts or self._can_share else plan(tokens, shares=False)

    @torch.no_grad()
    def read(self, planned: AnswerPlan, number: int) -> Float[Tensor, "b d_in"]:
        """Return the rows of a batch, as float32 on the CPU."""
        activations, read = self._pass(planned, planned.batches[number])
        require_finite(activations[read], self.passes.hook_name)
        activations = activations.float()
        if self.max_norm is not None:
            small = read & (activations.norm(dim=-1) <= self.max_norm)
            read = torch.where(small.any(1, keepdim=True), small, read)
        # not 0 * x: a massive activation would lose precision
        return (torch.where(read[..., None], activations, 0).sum(1) / read.sum(1, keepdim=True)).cpu()

    @torch.no_grad()
    def limit_norms(self, answers: Sequence[Answer], multiple: float) -> None:
        """Set ``max_norm`` to a multiple of the median norm of the tokens of the first answers."""
        norms: list[Tensor] = []
        with casts_shared():
            planned = plan(tokenised(self.tokenizer, answers[:SAMPLE], self.max_tokens)[0], shares=False)
            for batch in planned.batches:
                activations, read = self._pass(planned, batch)
                norms.append(activations[read].float().norm(dim=-1).cpu())
        self.max_norm = multiple * torch.cat(norms).median().item()

    @cached_property
    def _can_share(self) -> bool:
        return shares_prompts(self.passes)

    def _pass(self, planned: AnswerPlan, batch: AnswerBatch) -> tuple[Float[Tensor, "b t d_in"], Bool[Tensor, "b t"]]:
        """Return the activations of answers, and which of them are read."""
        answers = batch.answers
        if batch.prompts is None:
            whole = [np.concatenate([each.before, each.own]) for each in answers]
            device = next(self.passes.model.parameters()).device
            activations = self.passes.activations(torch.from_numpy(padded(whole)).to(device))
            starts = [len(each.before) for each in answers]
        else:
            shared = self._prompts(planned.prompts[batch.prompts])
            activations = shared.activations([each.before for each in answers], [each.own for each in answers])
            whole, starts = [each.own for each in answers], [0] * len(answers)
        place = torch.arange(activations.shape[1], device=activations.device)
        ends = place.new_tensor([len(each) for each in whole])[:, None]
        if self.reading == "last":
            return activations, place == ends - 1
        # the first token of a text is massive whatever it is
        if batch.prompts is None:
            starts = [max(start, int(len(each) > 1)) for start, each in zip(starts, whole, strict=True)]
        return activations, (place >= place.new_tensor(starts)[:, None]) & (place < ends)

    def _prompts(self, prompts: list[bytes]) -> SharedPrompts:
        if self._held is None or self._held[0] is not prompts:
            self._held = None  # before the next ones need the memory
            ids = [np.frombuffer(prompt, dtype=np.int32) for prompt in prompts]
            shared = SharedPrompts.read(self.passes, ids, batch_tokens=answer_batches.BATCH_TOKENS)
            self._held = prompts, shared
        return self._held[1]
