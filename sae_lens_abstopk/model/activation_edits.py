"""Edit the activation at a hook while a model runs: nested, exception-safe, correct with a KV cache."""

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Self
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformer_lens import HookedTransformer

from sae_lens_abstopk.model.hook_places import HookPlace, find_place
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.system.errors import ConfigError

Edit = Callable[[torch.Tensor], torch.Tensor]
"""Function from the activations of the kept tokens [n, ...] to new ones, in any dtype."""


@contextmanager
def intervene(
    model: nn.Module,
    hook_name: str | None,
    edit: Edit,
    *,
    token_filter: TokenFilter | None = None,
    prompt: bool = True,
) -> Iterator[None]:
    """
    Apply ``edit`` at a hook (see :func:`find_place`) in every forward pass while the context is open.

    By default all tokens but padding are edited; ``prompt`` is as in :func:`steer`. Contexts nest, also at one hook:
    edits apply in the order in which they were opened, and a norm limit reads the activation before all of them.
    Contexts may close in any order.

    Raises:
        ConfigError: the model lacks the hook or is compiled; or, in a forward pass, its tokens are unknown.
    """
    place = find_place(model, hook_name)
    site = _SITES.get(place.module)
    if site is None:
        site = _SITES[place.module] = _Site(model, place)
    entry = _Entry(edit, token_filter or TokenFilter(), prompt)
    site.entries.append(entry)
    try:
        yield
    finally:
        # by identity: equal entries are different edits
        site.entries[:] = [other for other in site.entries if other is not entry]
        if not site.entries:
            _SITES.pop(place.module, None)
            site.close()


class _Entry(NamedTuple):
    edit: Edit
    token_filter: TokenFilter
    prompt: bool


@dataclass(frozen=True)
class _PassTokens:
    """The tokens [batch, width] of one forward pass; with a KV cache, the model receives only the newest."""

    positions: torch.Tensor
    """Positions in the text, [batch or 1, width]; 0 is the first token after padding."""
    ids: torch.Tensor | None = None
    """Token ids [batch, width]; None if the model received embeddings."""
    real: torch.Tensor | None = None
    """False at padding, [batch, width]; None without padding."""

    @classmethod
    def of_mask(cls, mask: Any, past: int, width: int, ids: torch.Tensor | None, position_ids: Any = None) -> Self:
        """Make the tokens of a pass from its attention mask, after ``past`` cached tokens."""
        real, positions = None, torch.arange(past, past + width)[None]
        if isinstance(mask, torch.Tensor) and mask.ndim == 2 and mask.shape[1] >= past + width:
            now = slice(past, past + width)
            real, positions = mask[:, now].bool(), (mask.long().cumsum(1) - 1)[:, now]
        if position_ids is not None and position_ids.ndim == 2:
            positions = position_ids
        return cls(positions, ids, real)

    def kept(self, token_filter: TokenFilter, activations: torch.Tensor, *, prompt: bool) -> torch.Tensor:
        """
        Return a boolean [batch, width]: tokens that ``token_filter`` keeps and that are not padding.

        Only the start of the filter's slice counts: during generation the final length is unknown. Without ``prompt``,
        only the last token of the pass is kept, which predicts the next.
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


class _Site:
    """All open edits at one module, and the tokens of each forward pass, from a hook on :attr:`HookPlace.entered`."""

    def __init__(self, model: nn.Module, place: HookPlace) -> None:
        self.entries: list[_Entry] = []
        self._model, self._place = model, place
        self._n_passes = self._n_calls = 0
        self._tokens: _PassTokens | None = None
        self._ids: torch.Tensor | None = None
        # first among the hooks of the module, so that other hooks see the edited activations
        self._handles = [place.module.register_forward_hook(self._edit_output, prepend=True)]
        reads: Any = self._read_transformers
        if isinstance(model, HookedTransformer):
            self._handles.append(model.embed.register_forward_pre_hook(self._remember_ids))
            reads = self._read_block
        else:
            self._signature = inspect.signature(place.entered.forward)
        self._handles.append(place.entered.register_forward_pre_hook(reads, with_kwargs=True))

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()
        if self._n_passes and not self._n_calls:
            warnings.warn(
                f"the model ran without calling {self._place.name}, so nothing was edited; use another hook, or enable "
                "this one (use_hook_mlp_in, use_attn_in, use_attn_result).",
                stacklevel=3,
            )

    def _edit_output(self, _: nn.Module, __: Any, output: Any) -> Any:
        self._n_calls += 1
        if self._tokens is None:
            raise ConfigError(
                f"the layers of this {type(self._model).__name__} run without a call of its "
                f"{type(self._place.entered).__name__} with input_ids or inputs_embeds, so their tokens are unknown; "
                "call the model itself or its generate (models with an encoder and a decoder are not supported)."
            )
        activations = output[0] if isinstance(output, tuple) else output
        edited = activations
        for entry in self.entries:
            kept = self._tokens.kept(entry.token_filter, activations, prompt=entry.prompt)
            if bool(kept.any()):
                edited = edited.clone() if edited is activations else edited
                # an SAE computes in its own dtype, whatever the model's autocast
                with torch.autocast(edited.device.type, enabled=False):
                    edited[kept] = entry.edit(edited[kept]).to(edited.dtype)
        return (edited, *output[1:]) if isinstance(output, tuple) else edited

    def _remember_ids(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        # HookedTransformer.generate embeds each new token itself and runs the blocks on embeddings
        ids = args[0] if args[0].ndim == 2 else args[0][:, None]
        follows = self._ids is not None and ids.shape[1] == 1 and len(ids) == len(self._ids)
        self._ids = torch.cat([self._ids, ids], dim=1) if follows and self._ids is not None else ids

    def _read_block(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        entry, width = kwargs.get("past_kv_cache_entry"), args[0].shape[1]
        past = 0 if entry is None else entry.past_keys.shape[1]
        ids = None if self._ids is None or self._ids.shape[1] < width else self._ids[:, -width:]
        self._tokens = _PassTokens.of_mask(kwargs.get("attention_mask"), past, width, ids)
        self._n_passes += 1

    def _read_transformers(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = dict(self._signature.bind_partial(*args, **kwargs).arguments)
        given |= given.pop("kwargs", {})
        ids, embeddings = given.get("input_ids"), given.get("inputs_embeds")
        whole = ids if ids is not None else embeddings
        # transformers renamed the argument
        cache = given.get("past_key_values") if given.get("cache") is None else given.get("cache")
        past = int(cache.get_seq_length()) if hasattr(cache, "get_seq_length") else 0
        mask, position_ids = given.get("attention_mask"), given.get("position_ids")
        self._tokens = None if whole is None else _PassTokens.of_mask(mask, past, whole.shape[1], ids, position_ids)
        self._n_passes += 1


_SITES: WeakKeyDictionary[nn.Module, _Site] = WeakKeyDictionary()
