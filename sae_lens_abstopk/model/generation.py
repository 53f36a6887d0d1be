"""Continue and score texts in batches, with any kind of model."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformer_lens.model_bridge import TransformerBridge
from transformers import DynamicCache, GenerationConfig, LogitsProcessor, LogitsProcessorList

from sae_lens_abstopk.model.hook_places import transformers_model, without_adapter
from sae_lens_abstopk.model.inference import bfloat16_autocast, in_evaluation_mode
from sae_lens_abstopk.model.language_model import require_chat_template
from sae_lens_abstopk.model.token_filter import require_tokens
from sae_lens_abstopk.system.typed_values import one_or_more
from sae_lens_abstopk.text.token_text import TokenText


class TokenBatch(NamedTuple):
    """Texts of different lengths, padded."""

    ids: torch.Tensor
    """int64 [n, width]."""
    mask: torch.Tensor
    """1 at text, 0 at padding, [n, width]."""


@dataclass(frozen=True)
class Generated:
    """Continuations of prompts; those of one prompt are adjacent."""

    prompts: TokenBatch
    """Prompts, repeated for each continuation, padded on the left."""
    new: TokenBatch
    """Continuations up to and including the first end of text, padded on the right."""
    texts: tuple[str, ...]


class TextModel:
    """
    A language model with its tokenizer, run on texts, in evaluation mode.

    Args:
        model: A transformers model, SAELens's proxy of one, HookedSAETransformer or TransformerBridge.
        tokenizer: By default the model's own.
        chat: Format prompts as user turns by the chat template, thinking mode off.
        prepend_bos: Start texts with BOS; default: as the tokenizer does. Ignored in chat.
        autocast: Run in bfloat16 autocast if :func:`autocast_pays`; logits then differ in the third digit.
        batch_size: Texts in one pass.

    Raises:
        ConfigError: the tokenizer has no chat template for ``chat``.
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
        if chat:
            require_chat_template(self.tokenizer)
        self.model, self.chat, self.autocast, self.batch_size = model, chat, autocast, batch_size
        self.device = next(model.parameters()).device
        # as in training, a tokenizer without BOS prepends nothing
        self._prepend_bos = prepend_bos and self.tokenizer.bos_token_id is not None
        self._hf: Any = transformers_model(model)
        # PEFT's wrapper does not name the options of forward
        self._takes = {} if self._hf is None else inspect.signature(without_adapter(self._hf).forward).parameters
        ends = getattr(getattr(self._hf, "generation_config", None), "eos_token_id", None)
        ends = self.tokenizer.eos_token_id if ends is None else ends
        self.ends: list[int] = [] if ends is None else one_or_more(ends)
        """Tokens that end a text."""
        self._pad: int = next((i for i in (self.tokenizer.pad_token_id, *self.ends) if i is not None), 0)

    def encode(self, texts: Sequence[str], *, chat: bool | None = None) -> TokenBatch:
        """Tokenise texts, padded on the left; ``chat`` overrides that of the model. An empty text is an error."""
        texts = one_or_more(texts)
        if self.chat if chat is None else chat:
            texts = [chat_prompt(self.tokenizer, text) for text in texts]
            rows = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        else:
            rows = self.tokenizer(texts, add_special_tokens=self._prepend_bos is None)["input_ids"]
            if self._prepend_bos:
                rows = [[self.tokenizer.bos_token_id, *row] for row in rows]
        for text, row in zip(texts, rows, strict=True):
            require_tokens(text, row)
        return self._padded(rows, "left")

    @torch.no_grad()
    def next_logits(self, prompts: TokenBatch, *, cache: DynamicCache | None = None) -> torch.Tensor:
        """
        Return the logits [n, vocabulary] of the token after each prompt, float32.

        With a ``cache``, prompts are one batch that continues the last one, and only new tokens are read.
        """
        if cache is not None:
            return self._logits(prompts, last=1, cache=cache)[:, -1].float()
        return torch.cat([self._logits(part, last=1)[:, -1].float() for part in self._parts(prompts)])

    @torch.no_grad()
    def nll(self, batch: TokenBatch, counted: torch.Tensor | None = None) -> torch.Tensor:
        """
        Return the mean negative log-likelihood (nats per token) of each text, [n], float64, on the CPU.

        ``counted`` [n, width] are the tokens to average over, by default all. The first of a text never counts. The
        mean of no tokens is 0.
        """
        first = batch.mask.cumsum(1) == 1
        counted = (batch.mask if counted is None else counted).bool() & ~first
        found = []
        for part, wanted in zip(self._parts(batch), counted.split(self.batch_size), strict=True):
            if not wanted.any():
                found.append(torch.zeros(len(wanted), dtype=torch.float64))
                continue
            # with a long prompt, its logits would be the largest tensor
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

        The random numbers depend only on the seed, prompt, sample and step, so that steering doses share them.
        """
        repeated = TokenBatch(*(tensor.repeat_interleave(samples, 0) for tensor in prompts))
        numbers = torch.rand(
            len(repeated.ids), max_new_tokens, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
        )
        rows: list[list[int]] = []
        for part, uniform in zip(self._parts(repeated), numbers.split(self.batch_size), strict=True):
            sampler = _Sampler(uniform.float().to(self.device), temperature)
            rows += self._continue(part, sampler, max_new_tokens).tolist()
        ends = [next((i for i, token in enumerate(row) if token in self.ends), len(row) - 1) for row in rows]
        kept = [row[: end + 1] for row, end in zip(rows, ends, strict=True)]
        texts = self.tokenizer.batch_decode(kept, skip_special_tokens=True)
        return Generated(repeated, self._padded(kept, "right"), tuple(texts))

    def greedy(self, prompts: TokenBatch, max_new_tokens: int) -> list[str]:
        """Return the greedy continuation of each prompt, without special tokens; a cut-off character as its bytes."""
        new = self.generate(prompts, samples=1, max_new_tokens=max_new_tokens, temperature=0).new
        text_of, special = TokenText(self.tokenizer), set(self.tokenizer.all_special_ids)
        return [
            text_of.joined([token for token in ids[mask.bool()].tolist() if token not in special])
            for ids, mask in zip(new.ids, new.mask, strict=True)
        ]

    def generated_nll(self, generated: Generated) -> torch.Tensor:
        """Return the NLL of each continuation given its prompt, [n]; call it unsteered to judge the text itself."""
        ids, mask = (torch.cat(both, dim=1) for both in zip(generated.prompts, generated.new, strict=True))
        counted = torch.cat([torch.zeros_like(generated.prompts.mask), generated.new.mask], dim=1)
        return self.nll(TokenBatch(ids, mask), counted)

    def _padded(self, rows: list[list[int]], side: str) -> TokenBatch:
        ids = [torch.tensor(row) for row in rows]
        mask = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True, padding_side=side)
        padded = pad_sequence(ids, batch_first=True, padding_value=self._pad, padding_side=side)
        return TokenBatch(padded.to(self.device), mask.to(self.device))

    def _parts(self, batch: TokenBatch) -> list[TokenBatch]:
        return [TokenBatch(*p) for p in zip(*(tensor.split(self.batch_size) for tensor in batch), strict=True)]

    def _logits(self, batch: TokenBatch, *, last: int, cache: DynamicCache | None = None) -> torch.Tensor:
        """Return logits [n, width, vocabulary] of at least the ``last`` positions."""
        with in_evaluation_mode(self.model), bfloat16_autocast(self.device, enabled=self.autocast):
            if self._hf is None:
                return self.model(batch.ids, attention_mask=batch.mask)
            read = 0 if cache is None else cache.get_seq_length()
            positions = (batch.mask.cumsum(1) - 1).clamp(min=0)[:, read:]
            options: dict[str, Any] = {"logits_to_keep": last, "position_ids": positions}
            options = {name: value for name, value in options.items() if name in self._takes}
            if cache is not None:
                options["cache" if "cache" in self._takes else "past_key_values"] = cache
            return self._hf(input_ids=batch.ids[:, read:], attention_mask=batch.mask, **options).logits

    def _continue(self, batch: TokenBatch, sampler: "_Sampler", max_new_tokens: int) -> torch.Tensor:
        ids, mask = batch
        start = ids.shape[1]
        if self._hf is None:
            for _ in range(max_new_tokens):
                chosen = sampler(ids, self._logits(TokenBatch(ids, mask), last=1)[:, -1]).argmax(-1, keepdim=True)
                ids, mask = torch.cat([ids, chosen], dim=1), torch.cat([mask, torch.ones_like(chosen)], dim=1)
            return ids[:, start:]
        config = GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=self.ends or None,
            pad_token_id=self._pad,
            disable_compile=True,  # compiled code would skip hooks that steering opens later
            # a model's generation_config.json may set these, which change the sampled distribution
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            min_length=0,
            num_beams=1,
        )
        with in_evaluation_mode(self.model), bfloat16_autocast(self.device, enabled=self.autocast):
            return self._hf.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=config,
                logits_processor=LogitsProcessorList([sampler]),
                # TransformerLens 3.9 on transformers 5.24: with a cache, a bridge's layers see only the newest token
                use_cache=not isinstance(self.model, TransformerBridge),
            )[:, start:]


def chat_prompt(tokenizer: Any, text: str, answer: str | None = None) -> str:
    """Format a user turn and the start of the assistant's, or all of it (``answer``), by the chat template."""
    turns = [{"role": "user", "content": text}]
    turns += [] if answer is None else [{"role": "assistant", "content": answer}]
    # no thinking, and a fixed date; templates without these options ignore them
    options = {"enable_thinking": False, "date_string": "26 Jul 2024", "tokenize": False}
    return tokenizer.apply_chat_template(turns, add_generation_prompt=answer is None, **options)


def answer_ids(tokenizer: Any, answer: str) -> list[int]:
    """Return the token ids of ``answer`` after a chat prompt; empty if the template changes finished turns."""
    texts = [chat_prompt(tokenizer, ""), chat_prompt(tokenizer, "", answer)]
    opened, whole = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return whole[len(opened) :] if whole[: len(opened)] == opened else []


class _Sampler(LogitsProcessor):
    """Logits processor that samples by inverse transform of ``uniform`` [rows, steps] and leaves one token possible."""

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
