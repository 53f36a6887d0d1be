"""Load SAEs from folders, releases and memory, each with a name of its own."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE

from sae_lens_abstopk.saes.loading import Source, is_release, load_sae, origin_of
from sae_lens_abstopk.system.errors import require_distinct
from sae_lens_abstopk.system.typed_values import one_or_more


@dataclass(frozen=True)
class NamedSAEs:
    """SAEs by name."""

    saes: dict[str, SAE[Any]]
    sources: dict[str, str]
    """Folder, or release and id, of each SAE; for one in memory, its name in errors."""

    @property
    def d_in(self) -> int:
        return next(iter(self.saes.values())).cfg.d_in

    @property
    def device(self) -> torch.device:
        return next(iter(self.saes.values())).W_dec.device

    def copied_to(self, device: torch.device | str) -> dict[str, SAE[Any]]:
        """Return the SAEs, each copied to ``device`` unless it is there."""
        device = torch.empty(0, device=device).device  # cuda is cuda:0
        copied = {name: deepcopy(sae).to(device) for name, sae in self.saes.items() if sae.W_dec.device != device}
        return self.saes | copied


def load_named(sources: Source | Sequence[Source] | Mapping[str, Source]) -> NamedSAEs:
    """
    Load one or several SAEs, as in :func:`load_sae`; without a mapping, labels, folders or releases are the names.

    Raises:
        ConfigError: an SAE cannot be loaded, or two have one name.
    """
    listed: list[Source] = list(sources.values()) if isinstance(sources, Mapping) else one_or_more(sources)
    loaded = [load_sae(source) for source in listed]
    names = list(sources) if isinstance(sources, Mapping) else _names(listed, loaded)
    require_distinct("the SAE", names)
    return NamedSAEs(dict(zip(names, loaded, strict=True)), dict(zip(names, map(origin_of, listed), strict=True)))


def _names(sources: Sequence[Source], saes: Sequence[SAE[Any]]) -> list[str]:
    def name(source: Source, sae: SAE[Any]) -> str:
        own = source.cfg.architecture() if isinstance(source, SAE) else str(source)
        return sae.cfg.metadata.label or (own if isinstance(source, SAE) or is_release(source) else Path(source).name)

    names = list(map(name, sources, saes))
    if len(set(names)) == len(names):
        return names
    return [
        f"{name}-{number}" if isinstance(source, SAE) else str(source)
        for number, (name, source) in enumerate(zip(names, sources, strict=True), start=1)
    ]
