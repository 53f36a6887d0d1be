"""The texts of a concept in the principal components of their activations."""

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA

from sae_lens_abstopk.evaluation.results.records import PCARecord


def concept_pca(x: npt.NDArray[np.floating], pole: npt.NDArray[np.integer]) -> PCARecord:
    """
    The first two principal components (scikit-learn) of activations ``x`` [n, d_in] whose poles [n] are 0 and 1.

    The sign of a component is that of mean(B) - mean(A) along it.
    """
    x = x.astype(np.float64)
    # the full decomposition takes no random numbers, so the picture is the same each time
    pca = PCA(2, svd_solver="full").fit(x)
    difference = x[pole == 1].mean(0) - x[pole == 0].mean(0)
    components = pca.components_ * np.where(pca.components_ @ difference < 0, -1.0, 1.0)[:, None]
    coordinates = (x - pca.mean_) @ components.T
    return PCARecord(
        coordinates=coordinates.tolist(), labels=pole.tolist(), explained=pca.explained_variance_ratio_.tolist()
    )
