"""Language models in bfloat16 autocast, where that is faster."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from sae_lens_abstopk.sparse.candidates import bfloat16_is_fast


def autocast_pays(device: torch.device) -> bool:
    """
    Whether a language model is faster on a device in bfloat16 autocast than in float32.

    Of CPUs, those with instructions for it alone (Intel's of servers since Cooper Lake, AMD's since Zen 4): on others a pass
    of a small model took three times as long in autocast (LOG.md).
    """
    return device.type != "cpu" or bfloat16_is_fast(device)


def bfloat16_autocast(device: torch.device, *, enabled: bool) -> torch.autocast:
    """A context for passes of a language model: bfloat16 autocast if ``enabled`` and :func:`autocast_pays`, else its own type."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled and autocast_pays(device))


@contextmanager
def casts_shared() -> Iterator[None]:
    """
    A context, or decorator, in which the weights of a model that runs in autocast are cast once, not at every pass.

    An autocast context forgets what it cast when the outermost one ends. Weights must not change inside this one. One of the
    caller's is off in here, but for passes that turn it on: SAEs compute in their own type.
    """
    kinds = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    with ExitStack() as stack:
        for kind in kinds:
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield
