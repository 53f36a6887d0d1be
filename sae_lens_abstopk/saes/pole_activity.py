"""Firings and energy of each pole of each latent, summed over streaming codes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open  # pyright: ignore[reportUnknownVariableType]
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from sae_lens_abstopk.saes.poles import flipped_latents
from sae_lens_abstopk.system.errors import ConfigError

POLE_ACTIVITY_FILENAME = "pole_activity.safetensors"


@dataclass(frozen=True, eq=False)
class PoleActivity:
    """Firings and energy of both poles of every latent over some tokens."""

    counts: Int[Tensor, "2 F"]
    """Firings, positive row first."""
    energy: Float[Tensor, "2 F"]
    """Sum of z^2 over the tokens in float64, positive row first."""
    n_tokens: int

    def in_canonical_gauge(self) -> Self:
        """Return the activity of the SAE after ``canonical_gauge`` with these energies."""
        flipped = flipped_latents(self.energy)
        counts, energy = (torch.where(flipped, rows.flip(0), rows) for rows in (self.counts, self.energy))
        return type(self)(counts, energy, self.n_tokens)

    def save(self, folder: str | Path) -> Path:
        """Write ``pole_activity.safetensors`` into ``folder``, beside the weights."""
        path = Path(folder) / POLE_ACTIVITY_FILENAME
        tensors = {"counts": self.counts.contiguous(), "energy": self.energy.contiguous()}
        save_file(tensors, path, metadata={"n_tokens": json.dumps(self.n_tokens)})
        return path

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Load the activity that :meth:`save` wrote; raise a ConfigError if it is missing or damaged."""
        path = Path(folder) / POLE_ACTIVITY_FILENAME
        if not path.is_file():
            raise ConfigError(f"{path} does not exist; measure_poles() measures it.")
        try:
            opened: Any = safe_open(path, framework="pt")
            with opened as file:
                n_tokens = json.loads(file.metadata()["n_tokens"])
                return cls(file.get_tensor("counts"), file.get_tensor("energy"), n_tokens)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{path} is damaged ({error}); delete it and measure again.") from error


class PoleActivitySums:
    """Running sums of :class:`PoleActivity` with fixed memory."""

    def __init__(self, d_sae: int) -> None:
        self._counts = torch.zeros(2, d_sae, dtype=torch.int64)
        self._energy = torch.zeros(2, d_sae, dtype=torch.float64)
        self._n_tokens = 0

    def update(self, codes: Float[Tensor, "... F"]) -> "PoleActivitySums":
        """Add codes."""
        flat = codes.detach().flatten(0, -2)
        where = flat.nonzero(as_tuple=True)
        latents, values = where[1].cpu(), flat[where].cpu()
        # float32 squares, float64 sums: half precision would lose the small codes
        energy = values.float().square().double()
        for pole, on in enumerate((values > 0, values < 0)):
            self._counts[pole] += torch.bincount(latents[on], minlength=flat.shape[1])
            self._energy[pole].index_add_(0, latents[on], energy[on])
        self._n_tokens += len(flat)
        return self

    @property
    def result(self) -> PoleActivity:
        """The sums so far."""
        return PoleActivity(self._counts.clone(), self._energy.clone(), self._n_tokens)
