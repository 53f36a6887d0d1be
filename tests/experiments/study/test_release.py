"""The released dictionaries: they are whole, small, in the canonical gauge, and load by one line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE

from experiments.study.release import BASE_MODEL, NAME, RELEASES
from sae_lens_abstopk.hub.manifest import MANIFEST_FILENAME, published_file
from sae_lens_abstopk.saes.poles import PoleActivity
from sae_lens_abstopk.saes.signed import signed_latents

pytestmark = pytest.mark.slow

RELEASE = RELEASES / NAME
SIGNED = {"layer15_k57": 144, "layer15_k57_abstopk": 4608}


@pytest.fixture(scope="module", params=SIGNED)
def sae_id(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def released(sae_id: str) -> SAE[Any]:
    return SAE.load_from_disk(RELEASE / sae_id)


def test_every_file_is_the_one_of_the_manifest_and_all_are_small() -> None:
    manifest = json.loads((RELEASE / MANIFEST_FILENAME).read_text())
    assert manifest["saes"].keys() == SIGNED.keys()
    assert {sae["gauge"] for sae in manifest["saes"].values()} == {"canonical"}
    files = {path: known for sae in manifest["saes"].values() for path, known in sae["files"].items()}
    for path, known in files.items():
        assert published_file(RELEASE / path).sha256 == known["sha256"], path
    assert published_file(RELEASE / "README.md").sha256 == manifest["card"]["sha256"]
    on_disk = [path for path in RELEASE.rglob("*") if path.is_file()]
    assert {str(path.relative_to(RELEASE)) for path in on_disk} == {*files, "README.md", MANIFEST_FILENAME}
    for sae_id in SIGNED:
        assert sum(path.stat().st_size for path in (RELEASE / sae_id).iterdir()) < 12e6


def test_it_is_half_precision_of_the_model_on_the_hub(released: SAE[Any], sae_id: str) -> None:
    assert released.W_dec.dtype == torch.bfloat16
    assert released.cfg.metadata.model_name == BASE_MODEL
    assert not Path(released.cfg.metadata.dataset_path).is_absolute()
    assert int(signed_latents(released).sum()) == SIGNED[sae_id]


def test_the_stronger_pole_of_every_latent_is_the_positive_one(sae_id: str) -> None:
    energy = PoleActivity.load(RELEASE / sae_id).energy
    assert (energy[0] >= energy[1]).all()
