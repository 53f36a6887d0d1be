"""The recipes of the map: each is a signed SAE where its extra parameters say nothing, and all of them learn."""

from typing import get_args

import pytest
import torch

from experiments.map import recipes
from experiments.map.kinds import REPORTED, KindVectors
from experiments.map.recipes import Kind, RecipeSAE, kept, measured, threshold_of, trained


@pytest.mark.parametrize("kind", ["two biases", "two encoders", "closed poles", "signed, dense"])
def test_at_first_a_recipe_is_a_signed_sae(kind: Kind) -> None:
    x, saes = torch.randn(50, 8), []
    for each in ("signed", kind):
        torch.manual_seed(0)
        saes.append(RecipeSAE(each, 16, x.mean(0)))
    signed, other = (sae.codes(x) for sae in saes)
    assert torch.allclose(signed.values, other.values, atol=1e-6)
    assert torch.allclose(signed.magnitudes, other.magnitudes, atol=1e-6)
    codes = kept(signed, threshold_of(signed.magnitudes, 3))
    assert int((codes != 0).sum()) == 150
    assert torch.allclose(*(sae.decoded(codes, x) for sae in saes), atol=1e-6)


def test_a_pole_is_closed_by_its_bias_or_by_the_mask() -> None:
    x = torch.randn(50, 8)
    sae = RecipeSAE("two biases", 16, x.mean(0))
    with torch.no_grad():
        sae.b_enc[1] = -1e3
    assert (kept(sae.codes(x), 1e-6) >= 0).all()
    sae = RecipeSAE("closed poles", 16, x.mean(0))
    sae.open_poles[1] = False
    assert (kept(sae.codes(x), 1e-6) >= 0).all()


def test_all_recipes_learn(vectors: KindVectors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "ROWS", 100 * recipes.BATCH)
    x = vectors.rows(vectors.to_train_on())
    found = {
        kind: measured(trained(kind, x, 16, 2, rate=1e-2, seed=0), vectors, 2, 1.0, part=REPORTED)
        for kind in get_args(Kind)
    }
    for kind, each in found.items():
        assert each["fvu"] < 0.9, kind
        assert each["l0"] == pytest.approx(2, rel=0.25), kind
        assert (each["weaker_side"] == 0) == kind.startswith("one-sided"), kind
