"""Contexts for passes of language models: evaluation mode, and bfloat16 autocast where that is faster."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn

from sae_lens_abstopk.sparse.candidates import bfloat16_is_fast


@contextmanager
def in_evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put ``model`` into evaluation mode, without dropout; restore the mode of each submodule afterwards."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


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
    cuda = torch.autocast("cuda", enabled=False) if torch.cuda.is_available() else nullcontext()
    with torch.autocast("cpu", enabled=False), cuda:
        yield
