"""Concepts whose directions and dictionaries are known."""

import re
from typing import Any

import pytest
import torch
from sklearn.decomposition import PCA

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.evaluation.concept_geometry import concept_cosines, concept_pca

D = 16


def rows(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed))


def two_poles(n: int = 60) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Activations of two poles that lie apart along one direction, their poles, and the direction."""
    axis = torch.nn.functional.normalize(rows(1, seed=3), dim=1)[0]
    pole = torch.arange(n) % 2
    return 10 + 0.3 * rows(n, seed=4) + (6 * pole - 3)[:, None] * axis, pole, axis


def test_the_nearest_latents_of_a_concept_keep_their_sign() -> None:
    dictionary = rows(50)
    directions = torch.stack([3 * dictionary[7] + 0.01 * rows(1, 8)[0], -0.2 * dictionary[40]])
    found = concept_cosines(directions, dictionary, names=["size", "tense"], k=3)
    assert found.names == ("size", "tense")
    assert found.latents[:, 0].tolist() == [7, 40]
    torch.testing.assert_close(found.cosine[:, 0], torch.tensor([1.0, -1.0]), atol=1e-3, rtol=0)
    dense = torch.nn.functional.cosine_similarity(directions[:, None], dictionary[None], dim=-1)
    torch.testing.assert_close(found.cosine.abs(), dense.abs().topk(3).values)
    torch.testing.assert_close(found.cosine, dense.gather(1, found.latents))
    torch.testing.assert_close(
        found.between, torch.nn.functional.cosine_similarity(directions[:, None], directions[None], dim=-1)
    )
    assert concept_cosines(directions, dictionary).names == ("0", "1")


def test_a_dictionary_that_spends_a_pair_on_a_concept_shows_it() -> None:
    dictionary = rows(50)
    direction = dictionary[7:8].clone()
    alone = concept_cosines(direction, dictionary).strongest_opposed[0]
    dictionary[20] = -2 * dictionary[7]
    paired = concept_cosines(direction, dictionary).strongest_opposed[0]
    assert alone < 0.8
    assert paired == pytest.approx(1)
    assert concept_cosines(-direction, dictionary).strongest_opposed[0] == pytest.approx(1)


def test_the_first_component_of_separate_poles_is_their_direction() -> None:
    x, pole, axis = two_poles()
    dictionary = torch.cat([rows(5), -4 * axis[None]])
    found = concept_pca(x, pole, dictionary, latents=[5, 0], poles=("small", "large"))
    assert found.poles == ("small", "large")
    assert found.alignment > 0.99
    assert found.coordinates[pole == 1, 0].min() > found.coordinates[pole == 0, 0].max()
    assert found.explained_variance_ratio[0] > 0.8
    torch.testing.assert_close(found.decoder_rows[0, 0], torch.tensor(-1.0).double(), atol=0.01, rtol=0)
    assert found.decoder_rows[1].norm() < 0.9
    torch.testing.assert_close(found.components @ axis.double(), found.difference_in_means, atol=0.05, rtol=0)


def test_it_is_scikit_learns_pca_up_to_sign() -> None:
    x, pole, _ = two_poles()
    found = concept_pca(x, pole, rows(3), latents=[1], n_components=4)
    theirs = PCA(4).fit(x.double().numpy())
    torch.testing.assert_close(found.explained_variance_ratio, torch.from_numpy(theirs.explained_variance_ratio_))
    torch.testing.assert_close(found.coordinates.abs(), torch.from_numpy(theirs.transform(x.double().numpy())).abs())
    torch.testing.assert_close(
        found.coordinates @ found.components + found.mean,
        torch.from_numpy(theirs.inverse_transform(theirs.transform(x.double().numpy()))),
    )


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: concept_cosines(rows(2), rows(3)[:, :5]), "directions (2, 16) and W_dec (3, 5) must be"),
        (lambda: concept_cosines(rows(2), rows(3), names=["one"]), "1 names for 2 directions"),
        (lambda: concept_cosines(rows(2), rows(3), k=4), "k=4 must lie between 1 and the 3 latents"),
        (lambda: concept_cosines(0 * rows(1), rows(9), names=["mood"]), "the direction of mood is zero"),
        (lambda: concept_pca(rows(4), torch.zeros(4), rows(3), latents=[0]), "texts are [0]; there must be texts of"),
        (lambda: concept_pca(rows(4), torch.arange(3), rows(3), latents=[0]), "x (4, 16), pole (3,) and W_dec (3, 16)"),
        (lambda: concept_pca(rows(2), torch.arange(2), rows(3), latents=[3]), "latents=[3] must be a list of numbers"),
        (
            lambda: concept_pca(rows(2), torch.arange(2), rows(3), latents=[0], n_components=3),
            "n_components=3 must lie between 1 and 2",
        ),
    ],
)
def test_what_has_no_answer_is_refused(call: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        call()
