"""Texts continued and scored in batches, by any kind of model: what a dose-response runs many times over."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformer_lens.model_bridge import TransformerBridge
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from sae_lens_abstopk.model.autocast import bfloat16_autocast
from sae_lens_abstopk.model.evaluation_mode import in_evaluation_mode
from sae_lens_abstopk.model.hook_places import transformers_model, without_adapter
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.one_or_more import one_or_more

# what a model may set by default in its generation_config.json, and what would change the scores that are sampled from
PLAIN_SCORES: dict[str, Any] = {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "min_length": 0, "num_beams": 1}


class TokenBatch(NamedTuple):
    """Texts of different lengths, padded on the left."""

    ids: torch.Tensor
    """int64 [n, width]."""
    mask: torch.Tensor
    """1 where there is text, 0 at padding, [n, width]."""


@dataclass(frozen=True)
class Generated:
    """Continuations of prompts, those of one prompt next to each other."""

    prompts: TokenBatch
    """Each prompt once per continuation."""
    new: TokenBatch
    """The continuations, up to and with the first end of text; what follows is masked."""
    texts: tuple[str, ...]


def require_chat_template(tokenizer: Any) -> None:
    """
    Refuse a tokenizer that knows no chat turns.

    Raises:
        ConfigError: it has no chat template.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ConfigError(
            "the text or the prompts are chat turns and the tokenizer has no chat template; use a chat model."
        )


class TextModel:
    """
    A language model with its tokenizer, run on texts, in evaluation mode.

    Args:
        model: A transformers model, SAELens's proxy of one, HookedSAETransformer or TransformerBridge.
        tokenizer: By default the model's own.
        chat: Prompts are user turns, put through the chat template; one that has a thinking mode leaves it off.
        prepend_bos: Whether a text starts with BOS; by default as the tokenizer has it. Of no account to chat turns.
        autocast: Run in bfloat16 autocast where :func:`autocast_pays`; logits then differ in the third digit.
        batch_size: Texts at once.

    Raises:
        ConfigError: there is no tokenizer or no chat template for ``chat``.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any = None,
        *,
        chat: bool = False,
        prepend_bos: bool | None = None,
        autocast: bool = False,
        batch_size: int = 96,
    ) -> None:
        self.tokenizer: Any = tokenizer if tokenizer is not None else getattr(model, "tokenizer", None)
        if self.tokenizer is None:
            raise ConfigError("this model brings no tokenizer; give tokenizer=.")
        if chat:
            require_chat_template(self.tokenizer)
        self.model, self.chat, self.autocast, self.batch_size = model, chat, autocast, batch_size
        # as in training, where a tokenizer without BOS puts none in front
        self._prepend_bos = prepend_bos and self.tokenizer.bos_token_id is not None
        self._hf: Any = transformers_model(model)
        # TransformerLens 3.9 on transformers 5.24: with a KV cache, the layers of a bridge see the newest token alone
        self._use_cache = not isinstance(model, TransformerBridge)
        self.device = next(model.parameters()).device
        # what PEFT puts around a model names none of its options
        takes = {} if self._hf is None else inspect.signature(without_adapter(self._hf).forward).parameters
        self._takes = set(takes)
        configured = getattr(getattr(self._hf, "generation_config", None), "eos_token_id", None)
        ends = configured if configured is not None else self.tokenizer.eos_token_id
        self._ends: list[int] = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)

    def encode(self, texts: Sequence[str], *, chat: bool | None = None) -> TokenBatch:
        """
        Token ids of each text, padded on the left: int64 [n, width], and a mask of the same shape.

        Raises:
            ConfigError: a text has no tokens.
        """
        texts = one_or_more(texts)
        if self.chat if chat is None else chat:
            texts = [chat_prompt(self.tokenizer, text) for text in texts]
            rows = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        else:
            rows = self.tokenizer(texts, add_special_tokens=self._prepend_bos is None)["input_ids"]
            if self._prepend_bos:
                rows = [[self.tokenizer.bos_token_id, *row] for row in rows]
        if not all(rows):
            raise ConfigError(f"{texts[rows.index([])]!r} has no tokens; leave empty texts out.")
        return self._padded(rows)

    @torch.no_grad()
    def next_logits(self, prompts: TokenBatch) -> torch.Tensor:
        """Logits [n, vocabulary] of what follows each prompt, float32."""
        parts = [self._logits(part, last=1)[:, -1].float() for part in self._parts(prompts)]
        return torch.cat(parts)

    @torch.no_grad()
    def nll(self, batch: TokenBatch, counted: torch.Tensor | None = None) -> torch.Tensor:
        """
        Mean negative log-likelihood (nats per token) of each text, [n], float64, on the CPU.

        Args:
            batch: The texts.
            counted: Which tokens are averaged over, [n, width]; by default all. The first of a text, which nothing
                predicts, is never among them; a text of which nothing is left has 0.
        """
        first = batch.mask.cumsum(1) == 1
        counted = (batch.mask.bool() & ~first) if counted is None else counted.bool() & ~first
        found = []
        for part, wanted in zip(self._parts(batch), counted.split(self.batch_size), strict=True):
            if not wanted.any():  # texts of one token
                found.append(torch.zeros(len(wanted), dtype=torch.float64))
                continue
            # the logits of a long prompt are the largest tensor of all, and nobody asked for them
            width = part.ids.shape[1] - int(wanted.any(0).int().argmax())
            logits = self._logits(part, last=width + 1)[:, -width - 1 : -1]
            losses = cross_entropy(logits.flatten(0, 1).float(), part.ids[:, -width:].flatten(), reduction="none")
            weights = wanted[:, -width:].cpu().double()
            found.append((losses.cpu().double().view_as(weights) * weights).sum(1) / weights.sum(1).clamp(min=1))
        return torch.cat(found)

    @torch.no_grad()
    def generate(
        self, prompts: TokenBatch, *, samples: int, max_new_tokens: int, temperature: float = 1.0, seed: int = 0
    ) -> Generated:
        """
        Sample ``samples`` continuations of each prompt; greedy with ``temperature`` 0.

        The random numbers belong to the seed, the prompt, the sample and the step, so that two doses of a steering
        differ by the steering and not by luck.
        """
        repeated = TokenBatch(*(tensor.repeat_interleave(samples, 0) for tensor in prompts))
        numbers = torch.rand(
            len(repeated.ids), max_new_tokens, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
        )
        rows: list[list[int]] = []
        for part, uniform in zip(self._parts(repeated), numbers.split(self.batch_size), strict=True):
            sampler = _Sampler(uniform.float().to(self.device), temperature)
            rows += self._continued(part, sampler, max_new_tokens).tolist()
        kept = [self._up_to_end(row) for row in rows]
        width = max(map(len, kept))
        new = torch.tensor([row + [self._pad] * (width - len(row)) for row in kept], device=self.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in kept], device=self.device)
        texts = self.tokenizer.batch_decode(kept, skip_special_tokens=True)
        return Generated(repeated, TokenBatch(new, mask), tuple(texts))

    def generated_nll(self, generated: Generated) -> torch.Tensor:
        """NLL of each continuation given its prompt, [n]; open no steering to get the cost of a text."""
        ids = torch.cat([generated.prompts.ids, generated.new.ids], dim=1)
        mask = torch.cat([generated.prompts.mask, generated.new.mask], dim=1)
        counted = torch.cat([torch.zeros_like(generated.prompts.mask), generated.new.mask], dim=1)
        return self.nll(TokenBatch(ids, mask), counted)

    @property
    def _pad(self) -> int:
        return next((i for i in (self.tokenizer.pad_token_id, *self._ends) if i is not None), 0)

    def _padded(self, rows: list[list[int]]) -> TokenBatch:
        width = max(map(len, rows))
        ids = torch.tensor([[self._pad] * (width - len(row)) + row for row in rows], device=self.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=self.device)
        return TokenBatch(ids, mask)

    def _parts(self, batch: TokenBatch) -> list[TokenBatch]:
        return [TokenBatch(*p) for p in zip(*(tensor.split(self.batch_size) for tensor in batch), strict=True)]

    def _logits(self, batch: TokenBatch, *, last: int) -> torch.Tensor:
        """Of at least the ``last`` positions, [n, width, vocabulary]."""
        with in_evaluation_mode(self.model), bfloat16_autocast(self.device, enabled=self.autocast):
            if self._hf is None:
                return self.model(batch.ids, attention_mask=batch.mask)
            positions = (batch.mask.cumsum(1) - 1).clamp(min=0)
            options = {"logits_to_keep": last, "position_ids": positions}
            options = {name: value for name, value in options.items() if name in self._takes}
            return self._hf(input_ids=batch.ids, attention_mask=batch.mask, **options).logits

    def _continued(self, batch: TokenBatch, sampler: "_Sampler", max_new_tokens: int) -> torch.Tensor:
        if self._hf is not None:
            config = GenerationConfig(
                max_new_tokens=max_new_tokens,
                do_sample=False,
                eos_token_id=self._ends or None,
                pad_token_id=self._pad,
                disable_compile=True,  # a compiled forward would not see the hooks that steering opens later
                **PLAIN_SCORES,
            )
            with in_evaluation_mode(self.model), bfloat16_autocast(self.device, enabled=self.autocast):
                ids = self._hf.generate(
                    input_ids=batch.ids,
                    attention_mask=batch.mask,
                    generation_config=config,
                    logits_processor=LogitsProcessorList([sampler]),
                    use_cache=self._use_cache,
                )
            return ids[:, batch.ids.shape[1] :]
        ids, mask = batch
        for _ in range(max_new_tokens):
            chosen = sampler(ids, self._logits(TokenBatch(ids, mask), last=1)[:, -1]).argmax(-1, keepdim=True)
            ids, mask = torch.cat([ids, chosen], dim=1), torch.cat([mask, torch.ones_like(chosen)], dim=1)
        return ids[:, batch.ids.shape[1] :]

    def _up_to_end(self, row: list[int]) -> list[int]:
        end = next((place for place, token in enumerate(row) if token in self._ends), len(row) - 1)
        return row[: end + 1]


def chat_prompt(tokenizer: Any, text: str, answer: str | None = None) -> str:
    """
    A user turn and the assistant's, begun or with ``answer``, as the chat template writes them, special tokens
    included.
    """
    turns = [{"role": "user", "content": text}]
    turns += [] if answer is None else [{"role": "assistant", "content": answer}]
    # a template that makes models think aloud would have the thoughts measured, and one that tells the date would
    # change by the day; others pass over these options
    options = {"enable_thinking": False, "date_string": "26 Jul 2024", "tokenize": False}
    return tokenizer.apply_chat_template(turns, add_generation_prompt=answer is None, **options)


def answer_ids(tokenizer: Any, answer: str) -> list[int]:
    """
    Token ids of ``answer`` as they follow a chat prompt; none where the template writes a finished turn in another way.
    """
    texts = [chat_prompt(tokenizer, ""), chat_prompt(tokenizer, "", answer)]
    opened, whole = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return whole[len(opened) :] if whole[: len(opened)] == opened else []


class _Sampler(LogitsProcessor):
    """Samples by inverting the distribution function at given numbers [rows, steps]; leaves one token possible."""

    def __init__(self, uniform: torch.Tensor, temperature: float) -> None:
        self.uniform, self.temperature, self.step = uniform, temperature, 0

    def __call__(self, input_ids: torch.LongTensor | torch.Tensor, scores: torch.Tensor) -> Any:  # noqa: ARG002  # transformers names it
        if self.temperature == 0:
            chosen = scores.argmax(-1, keepdim=True)
        else:
            mass = (scores.float() / self.temperature).softmax(-1).cumsum(-1)
            drawn = self.uniform[:, self.step : self.step + 1].to(mass) * mass[:, -1:]
            chosen = torch.searchsorted(mass, drawn).clamp(max=scores.shape[-1] - 1)
        self.step += 1
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen, 0.0)
