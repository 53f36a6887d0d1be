"""The released dictionary: it is whole, small, in the canonical gauge, and loads by one line."""

import json
from pathlib import Path

import pytest
import torch
from sae_lens import SAE

from evidence.release import BASE_MODEL, NAME, RELEASES, SAE_ID
from sae_lens_abstopk import SignedJumpReLUSAE, mirror
from sae_lens_abstopk.hub.manifest import MANIFEST_FILENAME, published_file
from sae_lens_abstopk.saes.pole_activity import PoleActivity

RELEASE = RELEASES / NAME


@pytest.fixture(scope="module")
def released() -> SignedJumpReLUSAE:
    sae = SAE.load_from_disk(RELEASE / SAE_ID)
    assert isinstance(sae, SignedJumpReLUSAE)
    return sae


def test_every_file_is_the_one_of_the_manifest_and_all_are_small() -> None:
    manifest = json.loads((RELEASE / MANIFEST_FILENAME).read_text())
    assert manifest["saes"][SAE_ID]["gauge"] == "canonical"
    files = manifest["saes"][SAE_ID]["files"]
    for path, known in files.items():
        assert published_file(RELEASE / path).sha256 == known["sha256"], path
    assert published_file(RELEASE / "README.md").sha256 == manifest["card"]["sha256"]
    on_disk = [path for path in RELEASE.rglob("*") if path.is_file()]
    assert {str(path.relative_to(RELEASE)) for path in on_disk} == {*files, "README.md", MANIFEST_FILENAME}
    assert sum(path.stat().st_size for path in on_disk) < 12e6


def test_it_is_half_precision_of_the_model_on_the_hub(released: SignedJumpReLUSAE) -> None:
    assert released.W_dec.dtype == torch.bfloat16
    assert released.cfg.metadata.model_name == BASE_MODEL
    assert not Path(released.cfg.metadata.dataset_path).is_absolute()


def test_the_stronger_pole_of_every_latent_is_the_positive_one() -> None:
    energy = PoleActivity.load(RELEASE / SAE_ID).energy
    assert (energy[0] >= energy[1]).all()


def test_its_mirror_is_a_stock_sae_of_the_same_reconstruction(released: SignedJumpReLUSAE) -> None:
    x = torch.randn(16, released.cfg.d_in, generator=torch.manual_seed(0)) * 20
    mirrored = mirror(released)
    assert type(mirrored).__module__.startswith("sae_lens.")
    assert mirrored.encode(x.bfloat16()).min() >= 0
    torch.testing.assert_close(mirrored(x.bfloat16()).float(), released(x.bfloat16()).float(), rtol=0.02, atol=0.5)


def test_its_card_names_what_was_measured() -> None:
    card = (RELEASE / "README.md").read_text()
    for words in (SAE_ID, BASE_MODEL, "FVU", "sentiment"):
        assert words in card, words
