"""Training and held-out pairs share no prompt and no text."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.pairs.pair_set import PairColumns, PairCounts, PairSet
from sae_lens_abstopk.pairs.split import components, held_out_rows

Items = list[tuple[int, int, int]]


def pairs_of(items: Items) -> PairSet:
    """Pairs of numbered prompts and texts; prompt 0 is none."""
    n = len(items)
    return PairSet(
        name="pairs",
        a=[f"text {a}" for _, a, _ in items],
        b=[f"text {b}" for _, _, b in items],
        prompts=[(("user", f"text {prompt}"),) if prompt else () for prompt, _, _ in items],
        preferred=np.full(n, np.nan),
        groups=None,
        rows=np.arange(n),
        swapped=np.zeros(n, dtype=bool),
        counts=PairCounts(n),
        columns=PairColumns("a", "b"),
    )


def share_something(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    return bool(one[0] and one[0] == other[0]) or bool({*one[1:]} & {*other[1:]})


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=30))
def test_components_are_those_of_pairs_that_share_a_prompt_or_a_text(items: Items) -> None:
    expected = list(range(len(items)))
    for _ in items:  # every round joins neighbours of neighbours
        for one in items:
            near = [j for j, other in enumerate(items) if share_something(one, other)]
            least = min(expected[j] for j in near)
            for j in near:
                expected[j] = least
    found = components(pairs_of(items))
    assert (found[:, None] == found).tolist() == (np.array(expected)[:, None] == expected).tolist()
    assert set(found.tolist()) == set(range(found.max() + 1))


@given(st.lists(st.integers(1, 9), min_size=40, max_size=80), st.integers(0, 5), st.sampled_from([0.2, 0.5]))
def test_whole_components_are_held_out_up_to_the_share(sizes: list[int], seed: int, share: float) -> None:
    numbers = np.repeat(np.arange(len(sizes)), sizes)
    held_out = held_out_rows(numbers, share=share, seed=seed)
    assert not set(numbers[held_out]) & set(numbers[~held_out])
    assert share * len(numbers) - max(sizes) < held_out.sum() <= share * len(numbers)
    np.testing.assert_array_equal(held_out, held_out_rows(numbers, share=share, seed=seed))


def test_a_giant_component_is_never_held_out() -> None:
    numbers = np.repeat(np.arange(101), [30, *[2] * 100])  # it would fit
    for seed in range(20):
        held_out = held_out_rows(numbers, seed=seed)
        assert not held_out[0]
        assert held_out.sum() == 46
    few = np.repeat(np.arange(5), 20)  # all are large
    assert {tuple(np.unique(few[held_out_rows(few, seed=seed)])) for seed in range(20)} == {(i,) for i in range(5)}


@pytest.mark.parametrize(
    ("numbers", "share", "sentence"),
    [
        ([0] * 50, 0.2, "0 of 50 pairs would .* 1 groups of shared prompts or texts.*add pairs of other prompts"),
        (
            [0] * 97 + [1, 2, 3],
            0.2,
            "3 of 100 pairs would be held out, fewer than 5: they are 4 groups.*largest with 97",
        ),
        (range(50), 0.9, "share=0.9 must be above 0 and at most 0.5"),
    ],
)
def test_what_cannot_be_split_is_refused(numbers: list[int], share: float, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        held_out_rows(np.array(numbers), share=share)
