"""Directions shared by SAEs that were trained from different seeds."""

from dataclasses import dataclass
from typing import Any

import torch
from sae_lens import SAE
from scipy.optimize import linear_sum_assignment

from sae_lens_abstopk.dictionary.geometry import unit_rows
from sae_lens_abstopk.saes.signed import signed_latents
from sae_lens_abstopk.system.errors import ConfigError


@dataclass(frozen=True)
class DictionaryMatch:
    """The one-to-one matching of two dictionaries that has the largest sum of similarities."""

    first: torch.Tensor
    """Latents of the first dictionary, int64 [n], n being the size of the smaller one."""
    second: torch.Tensor
    """Matched latents of the second dictionary, int64 [n]."""
    cosine: torch.Tensor
    """Cosine of each matched pair, float32 [n], sign kept: a signed latent may come back with its poles swapped."""
    similarity: torch.Tensor
    """Absolute cosine if one of the two is signed, else the cosine, float32 [n]."""

    @property
    def mean_matched_cosine(self) -> float:
        """Mean similarity of the matched pairs."""
        return self.similarity.mean().item()

    def share_above(self, threshold: float) -> float:
        """Share of the matched pairs whose similarity is above ``threshold``; 0.7 and 0.9 are the usual ones."""
        return (self.similarity > threshold).double().mean().item()


def match_saes(first: SAE[Any], second: SAE[Any]) -> DictionaryMatch:
    """Match the decoders of two SAEs by :func:`match_dictionaries`, on the CPU."""
    rows = [sae.W_dec.detach().float().cpu() for sae in (first, second)]
    return match_dictionaries(*rows, signed=(signed_latents(first).cpu(), signed_latents(second).cpu()))


@torch.no_grad()
def match_dictionaries(
    first: torch.Tensor, second: torch.Tensor, *, signed: tuple[torch.Tensor, torch.Tensor]
) -> DictionaryMatch:
    """
    Match decoder rows [F, D] one to one with [F', D], by ``scipy.optimize.linear_sum_assignment``.

    ``signed``, bool [F] and [F'], says which latents may fire on both sides. Turning such a latent around changes
    nothing, so it is matched on the absolute cosine; two one-sided latents are matched on the cosine. Holds a float64
    matrix [F, F'] beside two in float32, and another while it is solved where F > F'. All rows count, those of dead
    latents too, whose directions are arbitrary. A row of norm zero has similarity 0 with all.

    Raises:
        ConfigError: the dictionaries read different widths, or hold numbers that are not finite.
    """
    if first.shape[1] != second.shape[1]:
        raise ConfigError(
            f"dictionaries of shape {tuple(first.shape)} and {tuple(second.shape)} cannot be matched; give one d_in."
        )
    cosine = (unit_rows(first) @ unit_rows(second).to(first.device).T).clamp_(-1, 1).cpu()
    similarity = torch.where(signed[0].cpu()[:, None] | signed[1].cpu(), cosine.abs(), cosine)
    rows, columns = linear_sum_assignment(similarity.double().neg_().numpy())  # maximize=True would copy it
    i, j = torch.from_numpy(rows), torch.from_numpy(columns)
    return DictionaryMatch(first=i, second=j, cosine=cosine[i, j], similarity=similarity[i, j])
