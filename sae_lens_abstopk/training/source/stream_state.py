"""The position of each rank's source, and its random states, as one file of a checkpoint."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sae_lens_abstopk.system.ranks import n_ranks, this_rank
from sae_lens_abstopk.training.source.activation_source import SourcePosition

STREAMS = "stream*.safetensors"


def save_stream(folder: Path, position: SourcePosition) -> None:
    """Write this rank's position and random states into a checkpoint."""
    tensors = {
        "served": position.served,
        "waiting": position.waiting,
        "generator": position.generator,
        "torch_random": torch.get_rng_state(),
    }
    for i, cuda_state in enumerate(torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []):
        tensors[f"cuda_random_{i}"] = cuda_state
    kind, keys, *numpy_rest = np.random.get_state(legacy=True)
    plain = {
        "n_blocks": position.n_blocks,
        "max_norm": position.max_norm,
        "python_random": random.getstate(),
        "numpy_random": [kind, np.asarray(keys).tolist(), *numpy_rest],
    }
    written = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(written, folder / _filename(this_rank()), metadata={"state": json.dumps(plain)})


def ranks_of(folder: Path) -> int:
    """Return the number of ranks that wrote a checkpoint."""
    return len(list(folder.glob(STREAMS)))


def load_stream(folder: Path, *, seed: int) -> SourcePosition:
    """
    Restore this rank's random states, and return the position of its source.

    If another number of ranks wrote the checkpoint, this rank skips its share of the batches that were read, and its
    mixing buffer starts empty.
    """
    if ranks_of(folder) != n_ranks():
        plains = [_plain(path) for path in folder.glob(STREAMS)]
        generator = torch.Generator().manual_seed(seed + this_rank())
        n_blocks = sum(plain["n_blocks"] for plain in plains) // n_ranks()
        nothing = torch.empty(0, 0)
        return SourcePosition(n_blocks, plains[0]["max_norm"], nothing, nothing, generator.get_state())
    path = folder / _filename(this_rank())
    plain = _plain(path)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    kind, internal, gauss = plain["python_random"]
    random.setstate((kind, tuple(internal), gauss))
    np.random.set_state(tuple(plain["numpy_random"]))
    torch.set_rng_state(tensors["torch_random"])
    for i in range(torch.cuda.device_count()):
        if f"cuda_random_{i}" in tensors:
            torch.cuda.set_rng_state(tensors[f"cuda_random_{i}"], i)
    return SourcePosition(
        plain["n_blocks"], plain["max_norm"], tensors["served"], tensors["waiting"], tensors["generator"]
    )


def _filename(rank: int) -> str:
    return f"stream-{rank}.safetensors" if rank else "stream.safetensors"


def _plain(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["state"])
