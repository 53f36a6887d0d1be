"""The texts of a concept in the principal components of their activations."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA


class ConceptPCA(NamedTuple):
    """Activations of one concept's texts in their first two principal components."""

    coordinates: npt.NDArray[np.float64]
    """[n_texts, 2]; along each component, pole B lies above pole A."""
    explained_variance_ratio: npt.NDArray[np.float64]
    """Share of the variance along each component, [2]."""


def concept_pca(x: npt.NDArray[np.floating], pole: npt.NDArray[np.integer]) -> ConceptPCA:
    """
    Principal components (scikit-learn) of activations ``x`` [n_texts, D] whose poles [n_texts] are 0 and 1.

    The sign of a component is that of mean(B) - mean(A) along it.
    """
    x = x.astype(np.float64)
    # the full decomposition takes no random numbers, so the picture is the same each time
    pca = PCA(2, svd_solver="full").fit(x)
    difference = x[pole == 1].mean(0) - x[pole == 0].mean(0)
    components = pca.components_ * np.where(pca.components_ @ difference < 0, -1.0, 1.0)[:, None]
    return ConceptPCA((x - pca.mean_) @ components.T, pca.explained_variance_ratio_)
