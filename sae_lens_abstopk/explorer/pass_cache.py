"""Saved passes over a text, to resume or reuse."""

import hashlib
import json
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from sae_lens_abstopk.evaluation.results.facts import config_facts
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.system.files import cache_folder, reason_of
from sae_lens_abstopk.system.provenance import CODE_DIGEST, environment
from sae_lens_abstopk.vectors.rows_as_texts import RowPasses

PASSES_KEPT = 4
# hex digits of a hash in a file name
DIGITS = 24
# sampled values of each weight, at its start, middle and end
VALUES_HASHED = 256
# seconds after which a partial file is abandoned
STALE = 3600.0
Passes = ModelPasses | RowPasses


def passes_folder() -> Path:
    """Return the commands' folder of passes; see :func:`cache_folder`."""
    return cache_folder() / "passes"


class PassCache:
    """
    Cache of passes in ``folder``, by SAEs, model, hook, token filter, settings (a dataclass), code and environment.

    A file name has a hash of these, the number of batches, and a hash of their tokens. Files are safetensors, with
    everything but tensors as JSON in the header. The ``PASSES_KEPT`` files used last are kept.
    """

    def __init__(
        self, folder: Path, passes: Passes, saes: Mapping[str, SAE[Any]], token_filter: TokenFilter, settings: Any
    ) -> None:
        weights = hashlib.sha256()
        for sae in saes.values():
            for name, tensor in sorted(sae.state_dict().items()):
                weights.update(name.encode())
                weights.update(_bytes(tensor))
        if isinstance(passes, RowPasses):
            model = passes.identity()
        else:
            model = [_sampled_weights(passes.model), [passes.autocast, passes.reads_bfloat16], passes.hook_name]
        identity = {
            "saes": [list(saes), weights.hexdigest(), [config_facts(sae) for sae in saes.values()]],
            "model": model,
            "kept tokens": repr(token_filter),
            "settings": asdict(settings),
            "code": [CODE_DIGEST, environment(next(iter(saes.values())).device)],
        }
        facts = json.dumps(identity, sort_keys=True, default=str)
        self._key = hashlib.sha256(facts.encode()).hexdigest()[:DIGITS]
        self._folder = folder
        self._written: Path | None = None

    def restore(self, collectors: dict[str, Any], batches: Sequence[torch.Tensor]) -> int:
        """Load the longest pass over the first of ``batches`` into ``collectors``; return its number of batches."""
        saved = {int(path.stem.split("-")[1]) for path in self._folder.glob(f"{self._key}-*.safetensors")}
        for n in sorted(saved, reverse=True):
            path = self._path(batches[:n])
            if not path.is_file():
                continue
            try:
                with safe_open(path, framework="pt") as file:
                    state = json.loads(file.metadata()["state"])
                    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
            except (OSError, SafetensorError) as error:
                warnings.warn(f"{path} cannot be read ({error}); it is not used", stacklevel=3)
                continue
            _unpack(state, collectors, tensors)
            with suppress(OSError):
                path.touch()
            return min(n, len(batches))
        return 0

    def save(self, collectors: dict[str, Any], batches: Sequence[torch.Tensor]) -> None:
        """Write the pass over ``batches`` and delete the one written before; only warn if that fails."""
        path = self._path(batches)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        tensors: dict[str, torch.Tensor] = {}
        state = json.dumps(_pack(collectors, tensors))
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            save_file(tensors, partial, {"state": state})
            partial.replace(path)
        except (OSError, SafetensorError) as error:
            with suppress(OSError):
                partial.unlink()
            warnings.warn(f"{path} could not be written ({reason_of(error)}); the pass goes on", stacklevel=3)
            return
        with suppress(OSError):  # another process may be deleting the same files
            if self._written:
                self._written.unlink(missing_ok=True)
            self._written = path
            files = sorted(self._folder.glob("*.safetensors"), key=lambda file: -file.stat().st_mtime)
            partials = self._folder.glob("*.partial")
            for old in (*files[PASSES_KEPT:], *(p for p in partials if time.time() - p.stat().st_mtime > STALE)):
                old.unlink(missing_ok=True)

    def _path(self, batches: Sequence[torch.Tensor]) -> Path:
        text = hashlib.sha256()
        for tokens in batches:
            text.update(_bytes(tokens))
        return self._folder / f"{self._key}-{len(batches)}-{text.hexdigest()[:DIGITS]}.safetensors"


def _pack(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Convert ``value`` to JSON; move its tensors into ``tensors`` and leave their names."""
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = value.contiguous()
        return {"tensor": name}
    if isinstance(value, list):
        return [_pack(each, tensors) for each in value]
    if isinstance(value, dict) or hasattr(value, "__dict__"):
        items = value if isinstance(value, dict) else vars(value)
        return {name: _pack(each, tensors) for name, each in items.items()}
    return value


def _unpack(saved: Any, into: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Restore a value of :func:`_pack`; update objects and dicts in ``into`` in place."""
    if isinstance(saved, list):
        return [_unpack(each, None, tensors) for each in saved]
    if not isinstance(saved, dict):
        return saved
    if saved.keys() == {"tensor"}:
        return tensors[saved["tensor"]]
    attributes = into if isinstance(into, dict) else vars(into)
    attributes.update({name: _unpack(each, attributes[name], tensors) for name, each in saved.items()})
    return into


def _sampled_weights(model: nn.Module) -> str:
    """Hash some values of each parameter and buffer, so that training or another dtype changes the hash."""
    digest = hashlib.sha256()
    for name, weight in chain(model.named_parameters(), model.named_buffers()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        if not weight.is_meta:
            # slices read only their pages of memory-mapped weights
            flat = weight.detach().flatten()
            for start in (0, len(flat) // 2, max(len(flat) - VALUES_HASHED, 0)):
                digest.update(_bytes(flat[start : start + VALUES_HASHED]))
    return digest.hexdigest()


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
