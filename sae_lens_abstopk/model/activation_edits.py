"""Edit the activation at a hook while a model runs: nested, exception-safe, correct with a KV cache."""

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
"""Function from the activations of the kept tokens [n, ...] to new ones, in any dtype."""


class _Entry(NamedTuple):
    edit: Edit
    token_filter: TokenFilter
    prompt: bool


class _Site:
    """All open edits at one module; the tokens of each are chosen before the first edit."""

    def __init__(self, model: nn.Module, place: HookPlace) -> None:
        self.entries: list[_Entry] = []
        self._name, self._n_calls = place.name, 0
        self._pass_reader = PassReader(model, place.entered)
        self._open = ExitStack()
        self._open.enter_context(self._pass_reader.watching())
        # first among the hooks of the module, so that other hooks see the edited activations
        self._open.callback(place.module.register_forward_hook(self._edit_output, prepend=True).remove)

    def close(self) -> None:
        self._open.close()
        if self._pass_reader.n_passes and not self._n_calls:
            warnings.warn(
                f"the model ran without calling {self._name}, so nothing was edited; use another hook, or enable this "
                "one (use_hook_mlp_in, use_attn_in, use_attn_result).",
                stacklevel=3,
            )

    def _edit_output(self, _: nn.Module, __: Any, output: Any) -> Any:
        self._n_calls += 1
        return (self._edited(output[0]), *output[1:]) if isinstance(output, tuple) else self._edited(output)

    def _edited(self, activations: torch.Tensor) -> torch.Tensor:
        tokens = self._pass_reader.current()
        edited = activations
        for entry in self.entries:
            kept = tokens.kept(entry.token_filter, activations, prompt=entry.prompt)
            if bool(kept.any()):
                edited = edited.clone() if edited is activations else edited
                # an SAE computes in its own dtype, whatever the model's autocast
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

    Contexts nest, also at one hook: edits apply in the order in which they were opened, and a norm limit reads the
    activation before all of them. Contexts may close in any order.

    Args:
        model: A transformers model, SAELens's proxy of one, HookedSAETransformer or TransformerBridge.
        hook_name: See :func:`find_place`.
        edit: Maps the activations of the kept tokens [n, ...] to new ones.
        token_filter: Tokens to edit; all but padding by default.
        prompt: See :func:`steer`.

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
        site.entries[:] = [
            other for other in site.entries if other is not entry
        ]  # by identity: equal entries are different edits
        if not site.entries:
            _SITES.pop(place.module, None)
            site.close()
