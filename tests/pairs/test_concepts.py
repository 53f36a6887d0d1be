"""The shipped concepts as pairs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from sklearn.metrics import roc_auc_score

from sae_lens_abstopk.model.answer_tokens import Answer
from sae_lens_abstopk.pairs.concepts import concept_pairs, fit_concepts
from sae_lens_abstopk.pairs.pair_results import PairResults
from sae_lens_abstopk.pairs.pair_vectors import TextVectors
from sae_lens_abstopk.pairs.telling_apart import auroc, best_latent, best_pair, directions_apart
from sae_lens_abstopk.vectors.vectors import Vectors

WIDTH = 32


class PlantedVectors(TextVectors):
    """Noise, and for each concept a direction of its own from pole B to pole A."""

    def read(self, answers: list[Answer], *, console: Console | None = None) -> Vectors:
        del console
        pairs, _, poles = concept_pairs()
        number = {name: n for n, name in enumerate(poles)}
        generator = torch.Generator().manual_seed(0)
        x = 0.1 * torch.randn(len(answers), WIDTH, generator=generator)
        rows = {answer.text: row for row, answer in enumerate(answers)}
        for a, b, name in zip(pairs.a, pairs.b, pairs.groups or [], strict=True):
            for text, sign in ((a, 1), (b, -1)):
                x[rows[text], number[name]] = sign
        return Vectors.of_array(x, name="planted")


@pytest.mark.slow
def test_each_planted_concept_is_an_axis_with_its_name_on_the_page(tmp_path: Path) -> None:
    vectors = PlantedVectors("planted", "layer", device="cpu", float32=True)
    found = fit_concepts(vectors, out=tmp_path / "site", d_sae=12, k=1, seeds=1)
    assert found.mean(lambda each: each.saes["signed"], "coverage") > 0.95
    assert found.mean(lambda each: each.saes["signed"], "auroc") > 0.95
    # a latent that fires on one side only covers half of the pairs at most, two of them cover both
    assert found.mean(lambda each: each.saes["one_sided_F"], "coverage") <= 0.5
    assert found.mean(lambda each: each.latent_pairs["one_sided_2F"], "coverage") > 0.6
    assert found.mean(lambda each: each.mean_difference, "auroc") > 0.99
    assert found.mean(lambda each: each.component, "auroc") > 0.95
    assert {kind: round(fit.l0, 1) for kind, fit in found.fits.items()} == dict.fromkeys(found.fits, 1)
    results = PairResults.model_validate(json.loads((tmp_path / "site" / "pairs.json").read_text()))
    named = {axis.latent: axis.label for axis in results.axes}
    gender = next(each for each in found.concepts if each.concept == "gender").saes["signed"]
    # the two texts of a pair are 2 apart, whatever their difference is scaled to
    assert results.axes[gender.latent].scale == pytest.approx(2, rel=0.1)
    label = named[gender.latent]
    assert label is not None
    names = [label.positive, label.negative][:: gender.sign]
    assert [name.split(", ")[0] for name in names] == ["he", "she"]
    assert "he" in (tmp_path / "site" / "index.html").read_text()


def test_the_auroc_is_scikit_learns() -> None:
    codes = np.random.default_rng(0).normal(size=(2, 50, 3)).round(1)
    truth = np.repeat([1, 0], 50)
    expected = [roc_auc_score(truth, codes[:, :, latent].ravel()) for latent in range(3)]
    np.testing.assert_allclose(auroc(codes), expected)


def test_both_texts_of_a_pair_have_equal_fillers_and_unseen_templates_are_held_out() -> None:
    pairs, held_out, poles = concept_pairs(["gender"])
    assert poles == {"gender": ("he", "she")}
    assert 0.1 < held_out.mean() < 0.3
    assert all(set(a.split()) & set(b.split()) for a, b in zip(pairs.a, pairs.b, strict=True))
    assert not {pairs.a[row] for row in np.flatnonzero(held_out)} & {pairs.a[row] for row in np.flatnonzero(~held_out)}


def test_two_one_sided_latents_cover_what_one_signed_latent_does() -> None:
    amount = np.random.default_rng(0).uniform(0.5, 1, size=40) * np.where(np.arange(40) < 34, 1, -1)
    both = np.stack([amount, -amount])
    one_sided = np.stack([both.clip(min=0), (-both).clip(min=0), np.zeros_like(both)], axis=-1)
    train = np.arange(40) % 2 == 0
    signed = best_latent(both[..., None], train, ~train)
    pair = best_pair(one_sided, train, ~train)
    assert pair.latents == (0, 1)
    assert (pair.auroc, pair.coverage) == (signed.auroc, signed.coverage)
    assert signed.coverage == pytest.approx(17 / 20)
    assert best_latent(one_sided, train, ~train).coverage == pytest.approx(17 / 40)


def test_the_mean_difference_and_the_best_component_are_chosen_on_training_pairs() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(100, 4)) * [0.1, 3, 0.1, 0.1] + [2, 0, 0, 0]
    train = np.arange(100) < 60
    mean_difference, component = directions_apart(x, np.eye(4), train, ~train)
    assert (component.auroc, component.coverage) == (1, 1)
    assert mean_difference.auroc > 0.95
