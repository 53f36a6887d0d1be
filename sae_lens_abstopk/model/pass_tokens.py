"""The tokens of a running forward pass; with a KV cache, the model receives only the newest."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformer_lens import HookedTransformer

from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.system.errors import ConfigError


@dataclass(frozen=True)
class PassTokens:
    """The tokens [batch, width] of one forward pass."""

    positions: torch.Tensor
    """Positions in the text, [batch or 1, width]; 0 is the first token after padding."""
    ids: torch.Tensor | None = None
    """Token ids [batch, width]; None if the model received embeddings."""
    real: torch.Tensor | None = None
    """False at padding, [batch, width]; None without padding."""

    def kept(self, token_filter: TokenFilter, activations: torch.Tensor, *, prompt: bool = True) -> torch.Tensor:
        """
        Return a boolean [batch, width]: tokens that ``token_filter`` keeps and that are not padding.

        Only the start of the filter's slice counts: during generation the final length is unknown.

        Args:
            token_filter: The filter.
            activations: [batch, width, ...], before any edit.
            prompt: False keeps only the last token of the pass, which predicts the next.
        """
        batch, width = activations.shape[:2]
        start = token_filter.seqpos_slice[0] if len(token_filter.seqpos_slice) > 1 else None
        newest = slice(-width, None)  # some models run their last layers on the last tokens only
        positions = self.positions[:, newest].to(activations.device)
        kept = (positions >= max(start or 0, 0)).expand(batch, width).clone()
        real = torch.ones_like(kept) if self.real is None else self.real[:, newest].to(kept.device)
        kept &= real
        if token_filter.special_tokens and self.ids is not None:
            special = torch.tensor(token_filter.special_tokens, device=self.ids.device)
            kept &= ~torch.isin(self.ids[:, newest], special).to(kept.device)
        if token_filter.max_norm is not None:
            kept &= token_filter.within_norm(activations.flatten(2))
        if not prompt:
            column = torch.arange(width, device=kept.device).expand_as(kept)
            kept &= column == torch.where(real, column, -1).amax(-1, keepdim=True)
        return kept


class PassReader:
    """Recorder of the tokens of each forward pass, by a hook on ``entered`` (see :class:`HookPlace`)."""

    def __init__(self, model: nn.Module, entered: nn.Module) -> None:
        self.model, self.entered = model, entered
        self.tokens: PassTokens | None = None
        self.n_passes = 0
        self._ids: torch.Tensor | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Keep :attr:`tokens` current within this context."""
        if isinstance(self.model, HookedTransformer):
            handles = [
                self.model.embed.register_forward_pre_hook(self._remember_ids),
                self.entered.register_forward_pre_hook(self._read_block, with_kwargs=True),
            ]
        else:
            read = _reads(self.entered.forward)

            def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                self.tokens = read(args, kwargs)
                self.n_passes += 1

            handles = [self.entered.register_forward_pre_hook(before, with_kwargs=True)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self.tokens = self._ids = None

    def current(self) -> PassTokens:
        """
        Return the tokens of the running pass.

        Raises:
            ConfigError: ``entered`` was not called, or received neither ids nor embeddings.
        """
        if self.tokens is None:
            raise ConfigError(
                f"the layers of this {type(self.model).__name__} run without a call of its "
                f"{type(self.entered).__name__} with input_ids or inputs_embeds, so their tokens are unknown; call the "
                "model itself or its generate (models with an encoder and a decoder are not supported)."
            )
        return self.tokens

    def _remember_ids(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        # HookedTransformer.generate embeds each new token itself and runs the blocks on embeddings
        ids = args[0] if args[0].ndim == 2 else args[0][:, None]
        follows = self._ids is not None and ids.shape[1] == 1 and len(ids) == len(self._ids)
        self._ids = torch.cat([self._ids, ids], dim=1) if follows and self._ids is not None else ids

    def _read_block(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        entry, mask = kwargs.get("past_kv_cache_entry"), kwargs.get("attention_mask")
        past, width = 0 if entry is None else entry.past_keys.shape[1], args[0].shape[1]
        ids = None if self._ids is None or self._ids.shape[1] < width else self._ids[:, -width:]
        self.tokens = _from_mask(mask, past, width, ids, None)
        self.n_passes += 1


def _reads(forward: Callable[..., Any]) -> Callable[[tuple[Any, ...], dict[str, Any]], PassTokens | None]:
    """Make a function from the arguments of a transformers ``forward`` to the tokens of the pass."""
    signature = inspect.signature(forward)

    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> PassTokens | None:
        given = dict(signature.bind_partial(*args, **kwargs).arguments)
        given |= given.pop("kwargs", {})
        ids, embeddings = given.get("input_ids"), given.get("inputs_embeds")
        whole = ids if ids is not None else embeddings
        if whole is None:
            return None
        # transformers renamed the argument
        cache = given.get("past_key_values") if given.get("cache") is None else given.get("cache")
        try:
            past = int(cache.get_seq_length()) if hasattr(cache, "get_seq_length") else 0
        except ValueError:
            raise ConfigError(
                "the cache of this model holds no keys (it has no attention layers), so the positions of new tokens "
                "are unknown; generate with use_cache=False."
            ) from None
        return _from_mask(given.get("attention_mask"), past, whole.shape[1], ids, given.get("position_ids"))

    return read


def _from_mask(
    mask: Any, past: int, width: int, ids: torch.Tensor | None, position_ids: torch.Tensor | None
) -> PassTokens:
    real, positions = None, None
    if isinstance(mask, torch.Tensor) and mask.ndim == 2 and mask.shape[1] >= past + width:
        now = slice(past, past + width)
        real, positions = mask[:, now].bool(), (mask.long().cumsum(1) - 1)[:, now]
    if position_ids is not None and position_ids.ndim == 2:
        positions = position_ids
    return PassTokens(torch.arange(past, past + width)[None] if positions is None else positions, ids, real)
