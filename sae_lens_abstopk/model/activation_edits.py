"""Edits of the activation at a hook while a model runs: nested, safe under exceptions, right under a KV cache."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import nn

from sae_lens_abstopk.model.hook_places import HookPlace, find_place
from sae_lens_abstopk.model.pass_tokens import PassReader
from sae_lens_abstopk.model.token_filter import TokenFilter

Edit = Callable[[torch.Tensor], torch.Tensor]
"""From the activations of the kept tokens [n, ...] to those that the model goes on with, in any dtype."""


class _Entry(NamedTuple):
    edit: Edit
    token_filter: TokenFilter
    prompt: bool


class _Site:
    """All edits that are open at one module; which tokens they apply to is decided before the first of them."""

    def __init__(self, model: nn.Module, place: HookPlace) -> None:
        self.entries: list[_Entry] = []
        self._name, self._n_calls = place.name, 0
        self._pass_reader = PassReader(model, place.entered)
        self._open = ExitStack()
        self._open.enter_context(self._pass_reader.watching())
        # first among the hooks of the module, so that a cache of activations shows what the model went on with
        self._open.callback(place.module.register_forward_hook(self._edit_output, prepend=True).remove)

    def close(self) -> None:
        self._open.close()
        if self._pass_reader.n_passes and not self._n_calls:
            warnings.warn(
                f"the model ran, and {self._name} was not called, so nothing was changed there; take another name of "
                "the place, or turn the hook on where the model has an option for it (use_hook_mlp_in, use_attn_in, "
                "use_attn_result)",
                stacklevel=3,
            )

    def _edit_output(self, _: nn.Module, __: Any, output: Any) -> Any:
        self._n_calls += 1
        if isinstance(output, tuple):
            return (self._edited(output[0]), *output[1:])
        return self._edited(output)

    def _edited(self, activations: torch.Tensor) -> torch.Tensor:
        tokens = self._pass_reader.current()
        edited = activations
        for entry in list(self.entries):
            kept = tokens.kept(entry.token_filter, activations, prompt=entry.prompt)
            if bool(kept.any()):
                edited = edited.clone() if edited is activations else edited
                # an SAE in an edit computes in its own type, as it does outside of a model that runs in autocast
                with torch.autocast(edited.device.type, enabled=False):
                    edited[kept] = entry.edit(edited[kept]).to(edited.dtype)
        return edited


_SITES: WeakKeyDictionary[nn.Module, _Site] = WeakKeyDictionary()


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
    Apply ``edit`` at a hook in every forward pass while the context is open.

    Contexts nest, also at one hook: edits are applied in the order in which they were opened, and the norm that a
    filter looks at is that of the activation before all of them. Left in any order, and by an exception, each takes
    away its own edit and nothing else.

    Args:
        model: A transformers model, SAELens's proxy of one, HookedSAETransformer or TransformerBridge.
        hook_name: See :func:`find_place`.
        edit: From activations of kept tokens [n, ...] to new ones.
        token_filter: Tokens that are edited; all but padding where it is None.
        prompt: See :func:`steer`.

    Raises:
        ConfigError: the model has no such hook, or is compiled; in a forward pass, where it is unknown which tokens
            that is about.
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
        # by identity: two equal edits are two
        site.entries[:] = [other for other in site.entries if other is not entry]
        if not site.entries:
            _SITES.pop(place.module, None)
            site.close()
