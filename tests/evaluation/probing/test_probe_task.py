"""Planted directions, which the probes must find and the controls must not, without a look at test."""

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.evaluation.probing.code_probes import probe_codes
from sae_lens_abstopk.evaluation.probing.probe_score import Labelled
from sae_lens_abstopk.evaluation.probing.probe_task import PERMUTATIONS, TaskProber, TaskProbes
from sae_lens_abstopk.evaluation.tasks.task import TaskSplit
from sae_lens_abstopk.model.representations import Representations
from tests.evaluation.same_numbers import assert_same
from tests.evaluation.stored_arrays import stored_arrays

PLANTED = 5


@dataclass(frozen=True)
class Planted:
    """x with a concept along one direction, coded by a signed SAE, by a non-negative one, and by noise."""

    x: np.ndarray
    codes: dict[str, np.ndarray]
    labels: np.ndarray
    groups: list[str]
    split: TaskSplit

    def stored(self) -> Representations:
        return stored_arrays({"last": self.x}, {name: {"last": z} for name, z in self.codes.items()})

    def probe(self, sae: str = "signed", **options: Any) -> TaskProbes:
        with self.stored() as stored:
            return TaskProber(stored, self.labels, self.split, groups=self.groups).probe(sae, **options)


def planted(n: int = 600, d: int = 16, seed: int = 0) -> Planted:
    generator = np.random.default_rng(seed)
    labels = np.tile([0, 1], n // 2)
    direction = generator.normal(size=d)
    direction /= np.linalg.norm(direction)
    x = (generator.normal(size=(n, d)) + 5 * np.outer(2 * labels - 1, direction)).astype(np.float32)
    dictionary = generator.normal(size=(d, 40))
    dictionary /= np.linalg.norm(dictionary, axis=0)
    dictionary[:, PLANTED] = -direction  # its negative side is pole B
    # the others carry the concept by as much as they happen to lie along it: take that out
    others = np.arange(40) != PLANTED
    dictionary[:, others] -= np.outer(direction, direction @ dictionary[:, others])
    u = (x @ dictionary).astype(np.float32)
    doubled = np.maximum(np.hstack([u, -u]), 0)
    codes = {
        "signed": u * (abs(u) > 1),
        "non-negative": doubled * (doubled > 1),
        "noise": generator.normal(size=(n, 40)).astype(np.float32),
    }
    groups = [f"template {i // 10}" for i in range(n)]
    return Planted(x, codes, labels, groups, TaskSplit(*np.split(np.arange(n), [n * 3 // 5, n * 4 // 5])))


@pytest.fixture(scope="module")
def found() -> TaskProbes:
    return planted().probe(untrained_name="noise")


def test_every_method_tells_the_poles_apart_and_no_control_does(found: TaskProbes) -> None:
    best, score = found.codes.single, found.codes.scores["single latent"]
    assert (best.latent, best.orientation, score.read) == (PLANTED, -1, "last")
    assert min(score.train_auroc, score.val_auroc, score.auroc.value) > 0.99
    for name, score in found.scores().items():
        if name.endswith(("permuted", "untrained SAE")):
            assert score.auroc.low - 0.05 < 0.5 < score.auroc.high + 0.05, name
        else:
            assert score.auroc.value > 0.99, name
            assert score.accuracy.value > 0.97, name
    assert len(found.scores()) == 8 + 8 + 6
    assert (found.n, found.n_test_groups, found.majority) == ((360, 120, 120), 12, 0.5)


def test_a_signed_latent_covers_both_poles_and_a_non_negative_one_no_more_than_half(found: TaskProbes) -> None:
    other = planted().probe("non-negative")
    assert found.codes.single.coverage.value > 0.97
    assert (found.codes.best_coverage.latent, found.codes.best_coverage.orientation) == (PLANTED, -1)
    assert found.codes.best_coverage.coverage.value > 0.97
    assert found.codes.train_coverage > 0.97
    assert other.codes.single.coverage.value <= 0.5
    assert other.codes.best_coverage.coverage.value <= 0.5
    assert other.codes.train_coverage <= 0.5
    assert all(codes.single.coverage.value < 0.65 for codes in found.permuted_codes)


def test_the_pair_is_two_sides_of_one_signed_latent_or_two_non_negative_ones(found: TaskProbes) -> None:
    signed, other = found.codes, planted().probe("non-negative").codes
    sides = {"latent_a": PLANTED, "sign_a": 1, "latent_b": PLANTED, "sign_b": -1}
    assert signed.pair.model_dump(exclude={"coverage"}) == sides
    assert other.pair.model_dump(exclude={"coverage"}) == {**sides, "latent_b": PLANTED + 40, "sign_b": 1}
    assert other.pair.coverage.value > 0.97
    assert other.scores["pair"].auroc.value == pytest.approx(signed.scores["pair"].auroc.value)
    data = planted()
    data.codes["always on"] = np.random.default_rng(0).normal(size=(600, 8)).astype(np.float32) + 10
    on = data.probe("always on").codes
    assert on.pair.coverage.value == 0
    assert on.single.coverage.value == pytest.approx(0.5)


def test_numbers_on_each_part_are_scikit_learns() -> None:
    data = planted()
    # a harder task: a tenth of the poles are wrong
    flipped = np.random.default_rng(1).random(600) < 0.1
    data = replace(data, labels=data.labels ^ flipped)
    found = data.probe()
    train, _, test = data.split
    z, score = -data.codes["signed"][:, PLANTED], found.codes.scores["single latent"]
    for part, value in zip(data.split, (score.train_auroc, score.val_auroc, score.auroc.value), strict=True):
        assert value == pytest.approx(roc_auc_score(data.labels[part], z[part]))
    right = lambda part, t: ((z[part] > t) == data.labels[part]).mean()  # noqa: E731
    threshold = max([-np.inf, *np.sort(z[train])], key=lambda t: right(train, t))
    above = z[train][z[train] > threshold]
    assert score.accuracy.value == right(test, (threshold + above.min()) / 2)
    mean, spread = data.x[train].mean(0), data.x[train].std(0)
    theirs = LogisticRegression(C=found.activations.C, tol=1e-6)
    theirs.fit((data.x[train] - mean) / spread, data.labels[train])
    scores = theirs.decision_function((data.x[test] - mean) / spread)
    dense = found.activations.scores["logistic regression"]
    assert dense.auroc.value == pytest.approx(roc_auc_score(data.labels[test], scores), abs=2e-3)


def choices(found: TaskProbes) -> list[Any]:
    """All that was picked or fitted."""
    picked = []
    for codes in (found.codes, *found.permuted_codes, found.untrained):
        picked += [codes.single.latent, codes.single.orientation]
        picked.append(codes.pair.model_dump(exclude={"coverage"}))
        picked += [codes.strongest, codes.best_coverage.latent, codes.best_coverage.orientation, codes.train_coverage]
    for probes in (found.activations, *found.permuted_activations):
        picked += [probes.difference_in_means.direction.tolist(), probes.C]
    picked += [(score.read, score.train_auroc, score.val_auroc) for score in found.scores().values()]
    return picked


def test_nothing_is_chosen_on_test() -> None:
    data = planted(n=300)
    _, _, test = data.split
    generator, other = np.random.default_rng(7), deepcopy(data)
    other.labels[test] = 1 - other.labels[test]
    for values in (other.x, *other.codes.values()):
        values[test] = 100 * generator.normal(size=values[test].shape)
    before, after = data.probe(untrained_name="noise"), other.probe(untrained_name="noise")
    assert choices(before) == choices(after)
    assert before.codes.scores["single latent"].auroc != after.codes.scores["single latent"].auroc


def test_the_read_position_is_chosen_on_val_for_each_method_apart() -> None:
    data = planted(n=300)
    _, val, test = data.split
    noise = np.random.default_rng(0).normal(size=data.x.shape).astype(np.float32)
    not_test, not_val = data.x.copy(), data.x.copy()
    not_test[test], not_val[val] = noise[test], noise[val]
    z = data.codes["signed"]
    no_val, no_test = z.copy(), z.copy()
    no_val[val] = no_test[test] = 0
    x = {"last": not_val, "mean": not_test}
    codes = {"signed": {"last": z, "mean": 0 * z}, "on val": {"last": no_val, "mean": no_test}}
    with stored_arrays(x, codes) as stored:
        prober = TaskProber(stored, data.labels, data.split, groups=data.groups)
        found = prober.probe("signed")
        assert prober.probe("on val").codes.best_coverage.coverage.value == 0  # of "mean", which is useless on test
    dense = found.activations.scores["logistic regression"]
    assert dense.read == "mean"  # though it is useless on test
    assert dense.auroc.value < 0.75
    assert found.codes.scores["single latent"].read == "last"


def test_a_seed_gives_the_same_numbers_and_x_is_probed_once_for_several_saes(found: TaskProbes) -> None:
    data = planted()
    with data.stored() as stored:
        prober = TaskProber(stored, data.labels, data.split, groups=data.groups)
        assert_same(prober.probe("signed", untrained_name="noise"), found)
        assert prober.probe("non-negative").activations is prober.probe("signed").activations


def test_permuted_controls_are_the_mean_and_range_over_permutations(found: TaskProbes) -> None:
    aurocs = [codes.scores["single latent"].auroc.value for codes in found.permuted_codes]
    covers = [codes.best_coverage.coverage.value for codes in found.permuted_codes]
    assert len(set(aurocs)) == PERMUTATIONS
    controls, scores = found.coverage_controls(), found.scores()
    for control, values in ((scores["single latent, permuted"].auroc, aurocs), (controls["permuted"], covers)):
        assert control.value == pytest.approx(np.mean(values))
        assert (control.low, control.high, control.n_units) == (min(values), max(values), PERMUTATIONS)
    assert controls["untrained SAE"] == found.untrained.best_coverage.coverage
    assert all(control.value < 0.65 for control in controls.values())
    assert list(planted().probe().coverage_controls()) == ["permuted"]


def test_texts_that_are_left_out_are_seen_by_no_probe() -> None:
    """Rows of a massive activation in every part: neither probes on codes nor those on x may see them."""
    data = planted()
    massive = [int(rows[i]) for rows in data.split for i in (0, 1)]
    wild = deepcopy(data)
    wild.x[massive] = 1e4 * np.random.default_rng(0).normal(size=wild.x[massive].shape)
    wild.codes["signed"][massive] *= -1e4
    split = TaskSplit(*(np.setdiff1d(rows, massive) for rows in data.split))
    clean = replace(data, split=split).probe()
    with wild.stored() as stored:
        left_out = replace(stored, left_out=tuple(massive))
        seen = TaskProber(left_out, wild.labels, wild.split, groups=wild.groups).probe("signed")
    assert_same(seen, clean)
    assert seen.n == tuple(len(rows) - 2 for rows in data.split)


def test_permuted_poles_are_probed_together_as_one_by_one_and_without_intervals(found: TaskProbes) -> None:
    data = planted()
    labelled = Labelled(data.labels, data.split, data.groups, 0)
    with data.stored() as stored:
        for number, together in enumerate(found.permuted_codes):
            shuffled = labelled.permuted(number)
            for rows in data.split:
                assert shuffled.labels[rows].sum() == labelled.labels[rows].sum()
                assert (shuffled.labels[rows] != labelled.labels[rows]).any()
            (alone,) = probe_codes(stored, [shuffled], "signed")
            assert_same(together, alone)
            assert together.scores["single latent"].auroc.low is None
            (plain,) = probe_codes(stored, [replace(shuffled, resamples=1000)], "signed")
            assert plain.scores["pair"].auroc.value == alone.scores["pair"].auroc.value
            assert plain.best_coverage.coverage.value == alone.best_coverage.coverage.value


def test_parts_without_a_pole_or_with_a_common_group_are_refused() -> None:
    data = planted(n=300)
    with data.stored() as stored:
        with pytest.raises(ConfigError, match=r"the train part has 180 texts with poles \[0\]; it needs both"):
            TaskProber(stored, np.zeros(300, int), data.split)
        with pytest.raises(ConfigError, match="group 'same' is in train and val; split by group"):
            TaskProber(stored, data.labels, data.split, groups=["same"] * 300)
