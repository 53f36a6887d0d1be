"""AUROC against scikit-learn, ties and signs included, scores of many latents at once, and thresholds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import roc_auc_score

from sae_lens_abstopk.evaluation.probing.statistics import (
    LatentScores,
    ResampledAUROC,
    _score_firing,
    accuracy_threshold,
    auroc,
    column_auroc,
    score_latents,
)

# few values, so that ties are the rule; -0.0 is what a masked negative code is
CODES = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=12),
    elements=st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, -2.5, 1e-38, -1e-38, 3e37, -3e37]),
)


@given(CODES, st.randoms(use_true_random=False))
def test_every_column_is_scikit_learns_with_ties_and_either_side(codes, random) -> None:
    labels = np.array([0, 1, *(random.randint(0, 1) for _ in range(len(codes) - 2))])
    (found,) = column_auroc(codes, [labels])
    for column in range(codes.shape[1]):
        z = codes[:, column]
        assert found[0, column] == pytest.approx(roc_auc_score(labels, z), abs=1e-12)
        assert found[1, column] == pytest.approx(roc_auc_score(labels, np.maximum(z, 0)), abs=1e-12)
        assert found[2, column] == pytest.approx(roc_auc_score(labels, np.maximum(-z, 0)), abs=1e-12)
        assert auroc(z, labels) == pytest.approx(found[0, column], abs=1e-12)


def test_many_labellings_share_a_sort_and_change_no_bit() -> None:
    generator = np.random.default_rng(0)
    codes = generator.normal(size=(60, 7)).astype(np.float32) * (generator.random((60, 7)) < 0.4)
    labellings = [generator.permutation(np.arange(60) % 2) for _ in range(70)]
    for labels, found in zip(labellings, column_auroc(codes, labellings), strict=True):
        np.testing.assert_array_equal(found, column_auroc(codes, [labels])[0])


def test_weights_count_as_repeated_rows() -> None:
    generator = np.random.default_rng(0)
    scores, labels = generator.integers(0, 6, 40).astype(float), generator.integers(0, 2, 40)
    weights = generator.multinomial(40, np.full(40, 1 / 40), size=5)
    expected = [roc_auc_score(np.repeat(labels, drawn), np.repeat(scores, drawn)) for drawn in weights]
    np.testing.assert_allclose(ResampledAUROC(scores, labels)(weights.astype(float)), expected, atol=1e-12)


def test_leaving_out_latents_that_never_fire_changes_no_bit() -> None:
    generator = np.random.default_rng(0)
    labellings = [generator.permutation(np.arange(300) % 2) for _ in range(2)]
    for firing in (0, 1, 2, 5, 40):
        codes = np.where(generator.random((300, 40)) < 0.5, np.float32(0), np.float32(-0.0))
        chosen = generator.choice(40, firing, replace=False)
        fires = generator.random((300, firing)) < 0.3
        codes[:, chosen] = np.where(fires, generator.normal(size=(300, firing)), 0)
        expected = [LatentScores(*scores) for scores in _score_firing(codes, labellings)]
        for found, whole in zip(score_latents([codes], labellings), expected, strict=True):
            for name, values in vars(whole).items():
                np.testing.assert_array_equal(getattr(found, name), values)


@pytest.mark.parametrize(
    ("scores", "labels", "threshold"),
    [
        ([1, 2, 3, 4], [0, 0, 1, 1], 2.5),
        ([4, 1, 3, 2], [1, 0, 1, 0], 2.5),
        ([0, 0, 0, 5], [0, 1, 0, 1], 2.5),
        ([1, 2], [1, 1], -np.inf),
        ([1, 2], [0, 0], np.inf),
        ([3, 3], [0, 1], -np.inf),
    ],
)
def test_thresholds_lie_half_way_and_never_inside_a_tie(scores: list[int], labels: list[int], threshold: float) -> None:
    assert accuracy_threshold(np.array(scores, dtype=np.float32), np.array(labels)) == threshold
