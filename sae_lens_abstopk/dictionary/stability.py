"""Whether SAEs trained from different seeds found the same directions."""

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment

from sae_lens_abstopk.dictionary.geometry import unit_rows
from sae_lens_abstopk.errors import ConfigError

# latents of the larger of two SAEs of an evaluation that are still matched: about 6 GB, and minutes
LARGEST_MATCHED = 16_384


@dataclass(frozen=True)
class DictionaryMatch:
    """The one-to-one matching of two dictionaries that has the largest sum of similarities."""

    first: torch.Tensor
    """Latents of the first dictionary, int64 [n], n being the size of the smaller one."""
    second: torch.Tensor
    """The latent of the second that each is matched with, int64 [n]."""
    cosine: torch.Tensor
    """Cosine of each matched pair, float32 [n], sign kept: a signed latent may come back with its poles swapped."""
    signed: bool
    """Whether the similarity is the absolute cosine (sign gauge) or the cosine."""

    @property
    def similarity(self) -> torch.Tensor:
        """What was matched on, float32 [n]: the absolute cosine of signed dictionaries, else the cosine."""
        return self.cosine.abs() if self.signed else self.cosine

    @property
    def mean_matched_cosine(self) -> float:
        """Mean similarity of the matched pairs."""
        return self.similarity.mean().item()

    def share_above(self, threshold: float) -> float:
        """Share of the matched pairs whose similarity is above ``threshold``; 0.7 and 0.9 are the usual ones."""
        return (self.similarity > threshold).double().mean().item()


@torch.no_grad()
def match_dictionaries(first: torch.Tensor, second: torch.Tensor, *, signed: bool) -> DictionaryMatch:
    """
    Match decoder rows [F, D] one to one with [F', D], by ``scipy.optimize.linear_sum_assignment``.

    Turning a latent around changes nothing in a signed SAE, so those are matched on the absolute cosine; the latents of
    a non-negative one are matched on the cosine. Holds a float64 matrix [F, F'], twice while it is solved. All rows
    count, those of dead latents too, whose directions are arbitrary. A row of norm zero has similarity 0 with all.

    Raises:
        ConfigError: the dictionaries read different widths, are empty, or hold numbers that are not finite.
    """
    if not (first.ndim == second.ndim == 2 and first.shape[1] == second.shape[1] and len(first) and len(second)):
        raise ConfigError(
            f"dictionaries of shape {tuple(first.shape)} and {tuple(second.shape)} cannot be matched; both must be "
            "[d_sae, d_in] with the same d_in and at least one latent."
        )
    cosine = (unit_rows(first) @ unit_rows(second).to(first.device).T).clamp_(-1, 1)
    similarity = cosine.abs() if signed else cosine
    rows, columns = linear_sum_assignment(similarity.double().cpu().numpy(), maximize=True)
    i, j = torch.from_numpy(rows), torch.from_numpy(columns)
    return DictionaryMatch(
        first=i,
        second=j,
        cosine=cosine[i.to(cosine.device), j.to(cosine.device)].cpu(),
        signed=signed,
    )
