"""The strongest contexts of both poles of every latent, collected while codes stream by."""

from dataclasses import dataclass

import torch

# a latent that is on for more than this share of the tokens has contexts of every kind
DENSE = 0.05
# least share of the firings on the weaker side for a latent to count as two-sided here
EVEN = 0.1


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
        self.fires = torch.zeros(2, d_sae, dtype=torch.int64)
        self.n_tokens = 0
        self._tokens: list[torch.Tensor] = []
        self._contexts_seen = 0

    def update(self, codes: torch.Tensor, where: torch.Tensor, tokens: torch.Tensor) -> None:
        """Add codes [n, d_sae] of the tokens at ``where`` [n, 2] (row and position) in ``tokens`` [batch, context]."""
        width = tokens.shape[1]
        place = ((where[:, 0] + self._contexts_seen) * width + where[:, 1]).cpu()
        for pole, sign in enumerate((1, -1)):
            strength = (sign * codes).clamp(min=0).float().cpu()
            self.fires[pole] += (strength > 0).sum(0)
            best = strength.topk(min(self.n, len(strength)), dim=0)
            values = torch.cat([self.strength[pole], best.values.T], dim=1)
            places = torch.cat([self.place[pole], place[best.indices].T], dim=1)
            top = values.topk(self.n, dim=1)
            self.strength[pole] = top.values
            self.place[pole] = places.gather(1, top.indices)
        self.n_tokens += len(codes)
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
        The ``n`` latents whose weaker pole peaks highest, among sparse ones that fire on both sides.

        Ranked by the mean of the strongest codes of the weaker pole. Latents that fire on more than ``DENSE`` of the
        tokens, and those with under ``EVEN`` of their firings on the weaker side, come last: the first are on
        everywhere and hard to read, the second one-sided. The ranking says nothing about meaning.
        """
        total = self.fires.sum(0)
        weaker_peak = self.strength.mean(-1).min(0).values
        reads_well = (total <= DENSE * self.n_tokens) & (self.fires.min(0).values >= EVEN * total)
        score = torch.where(reads_well, weaker_peak, weaker_peak - 2 * weaker_peak.max())
        return score.topk(min(n, len(score))).indices.tolist()
