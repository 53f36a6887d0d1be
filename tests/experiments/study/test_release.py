"""The released dictionaries: they are whole, small, in the canonical gauge, and load by one line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE

from sae_lens_abstopk import mirror
from sae_lens_abstopk.hub.manifest import MANIFEST_FILENAME, published_file
from sae_lens_abstopk.saes.poles import PoleActivity
from sae_lens_abstopk.saes.signed import signed_latents

pytestmark = pytest.mark.slow

RELEASE = Path(__file__).parents[3] / "evals" / "releases" / "smollm2-135m-instruct"
BASE_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
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


def test_its_mirror_is_a_stock_sae_of_the_same_reconstruction(sae_id: str) -> None:
    # in half precision, several codes may tie for the place of the k-th
    released = SAE.load_from_disk(RELEASE / sae_id, dtype="float32")
    x = torch.randn(16, released.cfg.d_in, generator=torch.manual_seed(0)) * 20
    mirrored = mirror(released)
    assert type(mirrored).__module__.startswith("sae_lens.")
    assert mirrored.encode(x).min() >= 0
    torch.testing.assert_close(mirrored(x), released(x), rtol=1e-4, atol=1e-3)


def test_sae_lens_alone_loads_the_one_of_its_own_architecture() -> None:
    code = (
        "import sys; from sae_lens import SAE; "
        f"sae = SAE.load_from_disk({str(RELEASE / 'layer15_k57_abstopk')!r}); "
        "assert 'sae_lens_abstopk' not in sys.modules; print(sae.cfg.architecture())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "abstopk", done.stderr
