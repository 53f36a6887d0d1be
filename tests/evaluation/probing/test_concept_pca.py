"""Principal components of a concept whose direction is known."""

import numpy as np
from sklearn.decomposition import PCA

from sae_lens_abstopk.evaluation.probing.activation_probes import concept_pca


def test_components_are_scikit_learns_with_pole_b_above_pole_a() -> None:
    generator = np.random.default_rng(0)
    axis = generator.normal(size=16)
    axis /= np.linalg.norm(axis)
    pole = np.arange(60) % 2
    x = (10 + 0.3 * generator.normal(size=(60, 16)) + np.outer(6 * pole - 3, axis)).astype(np.float32)
    found, theirs = concept_pca(x, pole), PCA(2).fit(x.astype(np.float64))
    coordinates = np.array(found.coordinates)
    np.testing.assert_allclose(found.explained, theirs.explained_variance_ratio_)
    np.testing.assert_allclose(abs(coordinates), abs(theirs.transform(x.astype(np.float64))))
    assert coordinates[pole == 1, 0].min() > coordinates[pole == 0, 0].max()
    np.testing.assert_allclose(coordinates[:, 0], (x - x.mean(0)) @ axis, atol=0.3)
    assert (coordinates[pole == 1].mean(0) > coordinates[pole == 0].mean(0)).all()
