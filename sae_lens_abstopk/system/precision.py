"""The precision in which texts are read: bfloat16 where a short trial finds it clearly faster than float32."""

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sae_lens_abstopk.system.files import cache_folder, write_whole
from sae_lens_abstopk.system.provenance import environment, processor

FLOAT32, BFLOAT16 = "float32", "bfloat16"
# bfloat16 rounds, so it has to save so much time
CLEARLY_FASTER = 1.2
# a pass that is faster than this gains nothing that a user would notice, and is too short to time
LEAST_SECONDS = 0.02
ROUNDS = 3
# hex digits of a hash in a file name
DIGITS = 24
# by file, should the folder not be writable
_FOUND: dict[Path, str] = {}

Trial = Callable[[bool], object]
"""Function that reads a few hundred tokens, in bfloat16 autocast or without."""


def bfloat16_pays(trial: Trial) -> bool:
    """
    Return whether the fastest of a few passes in bfloat16 autocast is clearly faster than that without.

    Weights are cast by the first pass, which does not count, if a context around this call keeps the casts.
    """
    fastest = {False: float("inf"), True: float("inf")}
    for counts in (False, *[True] * ROUNDS):
        for autocast in (False, True):
            started = time.perf_counter()
            trial(autocast)
            if counts:
                fastest[autocast] = min(fastest[autocast], time.perf_counter() - started)
    return fastest[False] >= LEAST_SECONDS and fastest[False] >= CLEARLY_FASTER * fastest[True]


def weights_precision(model: nn.Module) -> str:
    """Return the type of a model's first weights, such as ``float32``."""
    first = next((weight.dtype for weight in model.parameters() if weight.is_floating_point()), torch.float32)
    return str(first).removeprefix("torch.")


def precision_of(trial: Trial, weights: str) -> str:
    """Return the precision to read in: that of the weights if they are no float32, else the result of a trial."""
    return BFLOAT16 if weights == FLOAT32 and bfloat16_pays(trial) else weights


def remembered_precision(model: str, files: Any, device: str, find: Callable[[], str]) -> str:
    """
    Return the precision in which a model is read on this machine; only the first call ever finds it out.

    So a later command finds the vectors that an earlier one kept, and reads on in the same precision.

    Args:
        model: Hub id or folder.
        files: Names and digests of a local model's files.
        device: Where it runs.
        find: Loads the model and finds the precision.
    """
    facts = json.dumps([model, files, environment(device), processor()], default=str)
    path = cache_folder() / "precisions" / f"{hashlib.sha256(facts.encode()).hexdigest()[:DIGITS]}.txt"
    if path not in _FOUND:
        with suppress(OSError):
            _FOUND[path] = path.read_text(encoding="utf-8").strip()
    if path not in _FOUND:
        _FOUND[path] = find()
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, _FOUND[path] + "\n")
    return _FOUND[path]
