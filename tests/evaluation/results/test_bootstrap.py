import numpy as np
import pytest

from sae_lens_abstopk.evaluation.probing.statistics import ResampledAUROC
from sae_lens_abstopk.evaluation.results.bootstrap import bootstrap, mean_estimate, ratio_estimates


def test_the_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=400)
    found = mean_estimate(values, resamples=4000)
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.08)
    assert found.n_units == 400


def test_copies_of_a_text_in_one_group_are_no_evidence() -> None:
    values = np.random.default_rng(0).normal(size=50)
    once = mean_estimate(values)
    copied = np.repeat(values, 20)
    by_group = mean_estimate(copied, groups=[f"template {i}" for i in np.repeat(np.arange(50), 20)])
    assert (by_group.low, by_group.high) == pytest.approx((once.low, once.high))
    by_row = mean_estimate(copied)
    assert by_row.high - by_row.low < (once.high - once.low) / 3


@pytest.mark.parametrize("n", [6, 60])
def test_intervals_cover_the_truth_about_as_often_as_they_say(n: int) -> None:
    generator = np.random.default_rng(1)
    hits = 0
    for seed in range(300):
        found = mean_estimate(generator.normal(size=n), resamples=300, seed=seed)
        hits += found.low <= 0 <= found.high
    assert 0.90 <= hits / 300 <= 0.98


def test_resamples_without_a_value_are_left_out_until_they_are_half() -> None:
    def seldom(share: float):
        generator = np.random.default_rng(0)
        return lambda weights: np.where(generator.random(len(weights)) < share, np.nan, weights[:, 0])

    some, most = bootstrap(seldom(0.3), 5), bootstrap(seldom(0.7), 5)
    assert (some.low, some.high) == (0, 4)
    assert (most.low, most.high) == (None, None)


@pytest.mark.parametrize(
    ("values", "groups", "mean"),
    [([1.0] * 24, None, "1.000 (no spread)"), ([0.0, 1.0], ["a", "a"], "0.500 (few groups)")],
)
def test_equal_resamples_and_a_single_group_give_no_interval(
    values: list[float], groups: list[str] | None, mean: str
) -> None:
    found = mean_estimate(values, groups=groups)
    assert (found.low, found.high, str(found)) == (None, None, mean)


def test_a_seed_draws_the_same_resamples_again_and_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels = np.random.default_rng(0).normal(size=(2, 100))
    statistic = ResampledAUROC(scores, (labels > 0).astype(int))
    found = bootstrap(statistic, 100, seed=3)
    assert found == bootstrap(statistic, 100, seed=3)
    assert found != bootstrap(statistic, 100, seed=4)
    monkeypatch.setattr("sae_lens_abstopk.evaluation.results.bootstrap._CHUNK_BYTES", 8 * 100 * 7)
    assert found == bootstrap(statistic, 100, seed=3)


def test_ratios_of_columns_have_the_intervals_of_their_own_bootstraps() -> None:
    generator = np.random.default_rng(0)
    groups = generator.integers(0, 30, 900).tolist()
    below = (generator.random((900, 3)) < [0.9, 0.3, 0]).astype(float)
    above = below * (generator.random((900, 3)) < 0.4)
    found = ratio_estimates(above, below, groups=groups, seed=5)
    for column in (0, 1):
        ratio = bootstrap(
            lambda weights, column=column: (weights @ above[:, column]) / (weights @ below[:, column]),
            900,
            groups=groups,
            seed=5,
        )
        assert (found[column].value, found[column].low) == pytest.approx((ratio.value, ratio.low))
        assert found[column].high == pytest.approx(ratio.high)
    assert (found[2].value, found[2].low, found[2].n_units) == (None, None, 0)
