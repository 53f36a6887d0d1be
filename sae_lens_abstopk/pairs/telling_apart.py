"""How well latents and directions tell the texts of a concept's pairs apart: A - B from B - A."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from sae_lens import SAE
from scipy.stats import rankdata

from sae_lens_abstopk.evaluation.results.records import Record
from sae_lens_abstopk.pairs.measuring import encoded
from sae_lens_abstopk.vectors.differences import Differences

Rows = Bool[np.ndarray, " n"]


class ApartRecord(Record):
    """On pairs of templates that nothing was chosen by."""

    auroc: float = Field(
        description="Of the score of A - B against that of B - A; at least .5 means the sign is right."
    )
    coverage: float = Field(description="Share of A - B with a score above 0 and of B - A with one below 0, halved.")


class ConceptLatentRecord(ApartRecord):
    """The latent that tells training pairs apart best; its score is its code."""

    latent: int
    sign: int = Field(description="1 if A has more of its positive pole in training pairs, else -1.")


class LatentPairRecord(ApartRecord):
    """Two latents, one for each pole: the score is the code of the first less that of the second."""

    latents: tuple[int, int]


class ConceptRecord(Record):
    """One concept: what one latent, two latents and one direction tell of it."""

    concept: str
    poles: tuple[str, str]
    n_train: int
    n_test: int
    saes: dict[str, ConceptLatentRecord] = Field(description="One latent, by kind of SAE.")
    latent_pairs: dict[str, LatentPairRecord] = Field(description="Two latents, by kind of one-sided SAE.")
    mean_difference: ApartRecord = Field(description="Along the mean of A - B over training pairs: the ceiling.")
    component: ApartRecord = Field(description="Along the best principal component of all training pairs.")


def best_latent(codes: Float[np.ndarray, "2 n F"], train: Rows, test: Rows) -> ConceptLatentRecord:
    """Choose the latent that tells training pairs apart best; measure it on others."""
    of_train = auroc(codes[:, train])
    latent = int(np.abs(of_train - 0.5).argmax())
    sign = 1 if of_train[latent] >= 0.5 else -1
    return ConceptLatentRecord(latent=latent, sign=sign, **told_apart(sign * codes[:, test, latent]))


def best_pair(codes: Float[np.ndarray, "2 n F"], train: Rows, test: Rows) -> LatentPairRecord:
    """Choose the best latent for each pole on training pairs; measure both together on others."""
    of_train = auroc(codes[:, train])
    a, b = int(of_train.argmax()), int(of_train.argmin())
    return LatentPairRecord(latents=(a, b), **told_apart(codes[:, test, a] - codes[:, test, b]))


def directions_apart(
    x: Float[np.ndarray, "n D"], components: Float[np.ndarray, "F D"], train: Rows, test: Rows
) -> tuple[ApartRecord, ApartRecord]:
    """Measure the mean difference of training pairs, and the one of ``components`` that tells them apart best."""
    best = best_latent(_both_signs(x @ components.T), train, test)
    mean = _both_signs(x[test] @ x[train].mean(0))
    return ApartRecord(**told_apart(mean)), ApartRecord(auroc=best.auroc, coverage=best.coverage)


def told_apart(scores: Float[np.ndarray, "2 n"]) -> Mapping[str, float]:
    """Return AUROC and coverage of scores that should be above 0 for A - B and below 0 for B - A."""
    right = float(np.mean([(scores[0] > 0).mean(), (scores[1] < 0).mean()]))
    return {"auroc": float(auroc(scores[..., None])[0]), "coverage": right}


def auroc(codes: Float[np.ndarray, "2 n F"]) -> Float[np.ndarray, " F"]:
    """Return the AUROC of each latent between the codes of A - B and those of B - A; ties count half."""
    n = codes.shape[1]
    ranks = rankdata(np.concatenate(list(codes)), axis=0)[:n].sum(0)
    return (ranks - n * (n + 1) / 2) / n**2


@torch.no_grad()
def both_codes(sae: SAE[Any], differences: Differences) -> Float[np.ndarray, "2 n F"]:
    """Encode A - B and B - A of all pairs."""
    x = torch.cat(list(differences.blocks())).to(sae.W_enc)
    return np.stack([encoded(sae, each).float().cpu().numpy() for each in (x, -x)])


def _both_signs(scores: np.ndarray) -> np.ndarray:
    return np.stack([scores, -scores])
