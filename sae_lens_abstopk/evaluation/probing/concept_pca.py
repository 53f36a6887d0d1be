"""The texts of a concept in the principal components of their activations."""

from typing import NamedTuple

import torch
from sklearn.decomposition import PCA

from sae_lens_abstopk.system.errors import ConfigError


class ConceptPCA(NamedTuple):
    """Activations of one concept's texts in their first two principal components."""

    coordinates: torch.Tensor
    """float64 [n_texts, 2]; along each component, pole B lies above pole A."""
    explained_variance_ratio: torch.Tensor
    """Share of the variance along each component, float64 [2]."""


@torch.no_grad()
def concept_pca(x: torch.Tensor, pole: torch.Tensor) -> ConceptPCA:
    """
    Principal components (scikit-learn) of the activations of a concept's texts.

    Args:
        x: Activations [n_texts, D], one a text, of both poles.
        pole: 0 or 1 for each text, [n_texts].

    Raises:
        ConfigError: the shapes do not belong together, or a pole has no text.
    """
    x, pole = x.detach().double().cpu(), torch.as_tensor(pole).long().cpu()
    if x.ndim != 2 or pole.shape != x.shape[:1]:
        raise ConfigError(f"x {tuple(x.shape)} and pole {tuple(pole.shape)} must be [n_texts, d_in] and [n_texts].")
    if set(pole.tolist()) != {0, 1}:
        raise ConfigError(
            f"the poles of the texts are {sorted(set(pole.tolist()))}; there must be texts of 0 and of 1."
        )
    # the full decomposition: it takes no random numbers, so the picture is the same each time
    fitted = PCA(2, svd_solver="full").fit(x.numpy())
    components = torch.from_numpy(fitted.components_)
    difference = x[pole == 1].mean(0) - x[pole == 0].mean(0)
    # a component has no sign of its own
    components = components * torch.where(components @ difference < 0, -1.0, 1.0).double()[:, None]
    return ConceptPCA(
        coordinates=(x - torch.from_numpy(fitted.mean_)) @ components.T,
        explained_variance_ratio=torch.from_numpy(fitted.explained_variance_ratio_),
    )
