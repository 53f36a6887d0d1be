"""Concepts whose directions are known."""

import re
from typing import Any

import pytest
import torch
from sklearn.decomposition import PCA

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.evaluation.probing.concept_pca import concept_pca

D = 16


def rows(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed))


def two_poles(n: int = 60) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Activations of two poles that lie apart along one direction, their poles, and the direction."""
    axis = torch.nn.functional.normalize(rows(1, seed=3), dim=1)[0]
    pole = torch.arange(n) % 2
    return 10 + 0.3 * rows(n, seed=4) + (6 * pole - 3)[:, None] * axis, pole, axis


def test_the_first_component_of_separate_poles_is_their_direction() -> None:
    x, pole, axis = two_poles()
    found = concept_pca(x, pole)
    assert found.coordinates[pole == 1, 0].min() > found.coordinates[pole == 0, 0].max()
    assert found.explained_variance_ratio[0] > 0.8
    along = (x - x.mean(0)).double() @ axis.double()
    torch.testing.assert_close(found.coordinates[:, 0], along, atol=0.3, rtol=0)


def test_it_is_scikit_learns_pca_up_to_sign() -> None:
    x, pole, _ = two_poles()
    found = concept_pca(x, pole)
    theirs = PCA(2).fit(x.double().numpy())
    torch.testing.assert_close(found.explained_variance_ratio, torch.from_numpy(theirs.explained_variance_ratio_))
    torch.testing.assert_close(found.coordinates.abs(), torch.from_numpy(theirs.transform(x.double().numpy())).abs())


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: concept_pca(rows(4), torch.zeros(4)), "texts are [0]; there must be texts of"),
        (lambda: concept_pca(rows(4), torch.arange(3)), "x (4, 16) and pole (3,)"),
    ],
)
def test_what_has_no_answer_is_refused(call: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        call()
