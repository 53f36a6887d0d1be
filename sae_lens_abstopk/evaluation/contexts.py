"""The strongest contexts of both poles of every latent, collected while codes stream by."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Context:
    """One firing of a latent and the tokens around it."""

    code: float
    """The latent's code at the token, sign included."""
    before: tuple[int, ...]
    """Token ids up to the token."""
    token: int
    after: tuple[int, ...]


class PoleContexts:
    """
    Keeps the ``n`` strongest firings of each pole of each latent.

    Holds [2, d_sae, n] values and places, and the tokens themselves; codes are not kept.
    """

    def __init__(self, d_sae: int, n: int = 3) -> None:
        self.n = n
        self.strength = torch.zeros(2, d_sae, n)
        self.place = torch.full((2, d_sae, n), -1, dtype=torch.int64)
        self.energy = torch.zeros(2, d_sae, dtype=torch.float64)
        self._tokens: list[torch.Tensor] = []
        self._contexts_seen = 0

    def update(self, codes: torch.Tensor, where: torch.Tensor, tokens: torch.Tensor) -> None:
        """Add codes [n, d_sae] of the tokens at ``where`` [n, 2] (row and position) in ``tokens`` [batch, context]."""
        width = tokens.shape[1]
        place = ((where[:, 0] + self._contexts_seen) * width + where[:, 1]).cpu()
        for pole, sign in enumerate((1, -1)):
            strength = (sign * codes).clamp(min=0).float().cpu()
            self.energy[pole] += strength.square().sum(0).double()
            best = strength.topk(min(self.n, len(strength)), dim=0)
            values = torch.cat([self.strength[pole], best.values.T], dim=1)
            places = torch.cat([self.place[pole], place[best.indices].T], dim=1)
            top = values.topk(self.n, dim=1)
            self.strength[pole] = top.values
            self.place[pole] = places.gather(1, top.indices)
        self._tokens.append(tokens.cpu())
        self._contexts_seen += len(tokens)

    def of(self, latent: int, pole: int, *, before: int = 12, after: int = 4) -> list[Context]:
        """Strongest first: contexts of pole 0 (positive) or 1 (negative) of ``latent``."""
        tokens = torch.cat(self._tokens)
        found = []
        for strength, place in zip(self.strength[pole, latent], self.place[pole, latent], strict=True):
            if strength == 0:
                continue
            row, position = divmod(int(place), tokens.shape[1])
            ids = tokens[row].tolist()
            found.append(
                Context(
                    code=float(strength) * (1 if pole == 0 else -1),
                    before=tuple(ids[max(0, position - before) : position]),
                    token=ids[position],
                    after=tuple(ids[position + 1 : position + 1 + after]),
                )
            )
        return found

    def most_two_sided(self, n: int) -> list[int]:
        """
        The ``n`` latents that carry most on their weaker pole.

        Ranked by the activation energy (sum of z^2) of the weaker pole, so that neither a latent that is even but
        hardly fires nor one that is strong on one side only comes first. It says nothing about meaning.
        """
        return self.energy.min(0).values.topk(min(n, self.energy.shape[1])).indices.tolist()
