"""Difference in means: the direction from one pole's mean activation to the other's, fitted as activations stream."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from sae_lens_abstopk.system.errors import ConfigError


@dataclass(frozen=True, eq=False)
class DifferenceInMeans:
    """
    A linear read-out along mean(B) - mean(A); called with x [..., d_in] it gives scores [...], higher towards pole B.

    Scores above ``threshold`` are called B. All tensors are float64 and on the device of the first activations, or on the CPU
    where the fitter was told their width.
    """

    direction: torch.Tensor
    """(mean_b - mean_a) / ||mean_b - mean_a||, [d_in]; zero where the means coincide."""
    mean_a: torch.Tensor
    """Mean activation of pole A, [d_in]."""
    mean_b: torch.Tensor
    """Mean activation of pole B, [d_in]."""
    threshold: float
    """Score half-way between the means: direction . (mean_a + mean_b) / 2."""
    n: tuple[int, int]
    """Examples of pole A and of pole B."""

    @property
    def norm(self) -> float:
        """Distance between the means, in units of the activation."""
        return (self.mean_b - self.mean_a).norm().item()

    def __call__(self, x: torch.Tensor | np.ndarray) -> torch.Tensor:
        """Scores [...] of x [..., d_in]: direction . x, in units of the activation."""
        return torch.as_tensor(x).to(self.direction) @ self.direction


class DifferenceInMeansFitter:
    """
    Streams labelled activations into two float64 sums; ``.result`` is the fit so far.

    Example::

        fitter = DifferenceInMeansFitter()
        for x, pole in batches:
            fitter.update(x, pole)
        scores = fitter.result(x_test)

    Args:
        d_in: Width of the activations; by default that of the first batch.
    """

    def __init__(self, d_in: int | None = None) -> None:
        self.n = [0, 0]
        self._sums = None if d_in is None else torch.zeros(2, d_in, dtype=torch.float64)

    @torch.no_grad()
    def update(self, x: torch.Tensor | np.ndarray, pole: torch.Tensor | np.ndarray | int) -> Self:
        """
        Add activations x [n, d_in] with their poles [n] (0 is A, 1 is B), or with one pole for all.

        Raises:
            ConfigError: another width than before, values that are NaN or infinite, not one pole for each activation, or a
                pole that is neither 0 nor 1.
        """
        x = torch.as_tensor(x)
        d_in = None if self._sums is None else self._sums.shape[-1]
        if x.ndim != 2 or x.shape[-1] != (d_in or x.shape[-1]):
            raise ConfigError(f"x has shape {tuple(x.shape)}; activations of this fit are [n, {d_in or 'd_in'}].")
        if not bool(x.isfinite().all()):
            raise ConfigError(
                "x has values that are NaN or infinite, which would make every score NaN; leave those rows out."
            )
        poles = torch.as_tensor(pole, device=x.device if self._sums is None else self._sums.device)
        if poles.ndim and poles.shape != x.shape[:1]:
            raise ConfigError(
                f"pole has shape {tuple(poles.shape)}; give [{len(x)}], one for each activation, or one number."
            )
        poles = poles.expand(len(x))
        if not bool(((poles == 0) | (poles == 1)).all()):
            raise ConfigError(f"poles must be 0 (A) or 1 (B); found {sorted(set(poles.tolist()) - {0, 1})[:5]}.")
        if self._sums is None:
            self._sums = torch.zeros(2, x.shape[-1], dtype=torch.float64, device=x.device)
        for which in (0, 1):
            chosen = x[(poles == which).to(x.device)]
            self._sums[which] += chosen.to(self._sums).sum(0)
            self.n[which] += len(chosen)
        return self

    @property
    def result(self) -> DifferenceInMeans:
        """
        The fit to everything seen.

        Raises:
            ConfigError: a pole has no example yet.
        """
        for name, count in zip("AB", self.n, strict=True):
            if count == 0 or self._sums is None:
                raise ConfigError(
                    f"pole {name} has no example (A has {self.n[0]}, B has {self.n[1]}); a difference of means needs "
                    "both: update with examples of each."
                )
        assert self._sums is not None
        mean_a, mean_b = self._sums[0] / self.n[0], self._sums[1] / self.n[1]
        difference = mean_b - mean_a
        direction = difference / difference.norm().clamp(min=torch.finfo(torch.float64).tiny)
        threshold = (direction @ (mean_a + mean_b)).item() / 2
        return DifferenceInMeans(direction, mean_a, mean_b, threshold, (self.n[0], self.n[1]))
