"""Run language models in bfloat16 autocast where that is faster."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from sae_lens_abstopk.sparse.candidates import bfloat16_is_fast


def autocast_pays(device: torch.device) -> bool:
    """
    Return whether a language model is faster on a device in bfloat16 autocast than in float32.

    A CPU needs bfloat16 instructions (Intel's server CPUs since Cooper Lake, AMD's since Zen 4): on others a pass of a
    small model took three times as long in autocast.
    """
    return device.type != "cpu" or bfloat16_is_fast(device)


def bfloat16_autocast(device: torch.device, *, enabled: bool) -> torch.autocast:
    """Return a context for LM passes: bfloat16 autocast if ``enabled`` and :func:`autocast_pays`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled and autocast_pays(device))


@contextmanager
def casts_shared() -> Iterator[None]:
    """
    Cast the weights of a model under autocast once in this context (or decorated function), not at every pass.

    Weights must not change inside. The caller's autocast is off inside, except in passes that turn it on: SAEs compute
    in their own dtype.
    """
    kinds = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    with ExitStack() as stack:
        for kind in kinds:
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield
