"""Example pairs of an axis."""

import numpy as np

from sae_lens_abstopk.pairs.describing import BINS, _histogram
from sae_lens_abstopk.pairs.examples import SPREAD, STRONGEST, example_pairs, strongest_pairs


def test_examples_go_from_the_strongest_code_to_the_weakest_of_either_pole() -> None:
    code = np.random.default_rng(0).permutation(np.r_[np.arange(1, 101), -np.arange(1, 51), np.zeros(20)])
    positive, negative = example_pairs(code, np.arange(len(code)), None)
    assert len(positive) == len(negative) == STRONGEST + SPREAD
    assert code[positive][:STRONGEST].tolist() == [100, 99, 98, 97, 96]
    assert (np.diff(code[positive]) < 0).all()
    assert code[positive][-1] == 1
    weaker = code[positive][STRONGEST:]
    assert np.abs(np.diff(weaker) + 18).max() <= 1, "equal steps"
    assert (code[negative][0], code[negative][-1]) == (-50, -1)
    few, none = example_pairs(np.array([0.0, 2, 3]), np.arange(3), None)
    assert (few, none) == ([2, 1], [])


def test_a_prompt_has_one_example_and_groups_take_turns() -> None:
    code, prompts = np.array([1.0, -4, 3, 2]), np.array([0, 0, 1, 1])
    assert strongest_pairs(code, prompts).tolist() == [1, 2]
    code = np.arange(100.0, 0, -1)
    groups = ["common"] * 7 + ["rare"] + ["common"] * 92
    positive, _ = example_pairs(code, np.arange(100), groups)
    assert positive[:STRONGEST] == [0, 1, 2, 3, 7]


def test_the_histogram_counts_each_pole_from_zero() -> None:
    histogram = _histogram(np.array([0, 0, 1.0, -0.01, 0.99, -1]))
    assert histogram is not None
    assert (histogram.limit, sum(histogram.positive), sum(histogram.negative)) == (1, 2, 2)
    assert (histogram.positive[-1], histogram.negative[0], histogram.negative[-1]) == (2, 1, 1)
    assert len(histogram.positive) == BINS
    assert _histogram(np.zeros(3)) is None
