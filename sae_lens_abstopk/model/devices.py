"""Torch devices, checked before anything is loaded on them."""

import torch

from sae_lens_abstopk.system.errors import ConfigError


def resolve_device(key: str, device: str) -> str:
    """
    Return the device named ``device``; ``auto`` is CUDA if available, else the CPU.

    Raises:
        ConfigError: it is not a supported torch device; names ``key``.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise ConfigError(f"{key}={device!r} is not a torch device; use auto, cpu, cuda or cuda:0.") from None
    if kind == "mps":
        raise ConfigError(f"{key}={device!r} has no float64, which thresholds and metrics need; use cpu.")
    return device


def require_device(key: str, device: str) -> None:
    """
    Raise if this machine lacks the device.

    Raises:
        ConfigError: naming ``key``.
    """
    wanted = torch.device(device)
    if wanted.type != "cuda":
        return
    n = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not n:
        raise ConfigError(f"{key}={device!r} needs CUDA, which torch does not find here; use auto or cpu.")
    if (wanted.index or 0) >= n:
        raise ConfigError(f"{key}={device!r} is not one of the {n} GPUs of this machine; use cuda:0 to cuda:{n - 1}.")
