"""A stand-in for a language model, and a small collection over it."""

from typing import Any

import torch

from sae_lens_abstopk.explorer.collection import CollectionSettings, Collector, collect
from sae_lens_abstopk.model.token_filter import TokenFilter

SMALL = CollectionSettings(strongest=3, sampled=4, before=4, after=2, tokens_sampled=5, bins=8)


class FakePasses:
    """Activations that are a fixed function of the token and its position."""

    hook_name = "hook"
    autocast = False

    def __init__(self) -> None:
        self.calls = 0
        torch.manual_seed(3)
        self.model = torch.nn.Linear(8, 4)

    def activations(self, tokens: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        table = torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
        return table[tokens] + torch.linspace(0, 1, tokens.shape[1])[None, :, None]


def run(saes: dict[str, Any], batches: list[torch.Tensor], **options: Any) -> dict[str, Collector]:
    passes: Any = options.pop("passes", None) or FakePasses()
    token_filter = TokenFilter(seqpos_slice=(1, None))
    return collect(passes, saes, batches, **{"token_filter": token_filter, "settings": SMALL} | options)
