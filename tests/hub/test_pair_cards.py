"""Cards of SAEs of pairs and of vectors, and the released ones."""

from pathlib import Path

import pytest
import torch
from sae_lens import SAE

from sae_lens_abstopk import publish, pull
from sae_lens_abstopk.hub.manifest import CARD_FILENAME, MANIFEST_FILENAME, Manifest, published_file
from sae_lens_abstopk.pairs.concepts import CONCEPTS, ConceptResults
from sae_lens_abstopk.pairs.pair_files import RESULTS
from sae_lens_abstopk.pairs.telling_apart import ApartRecord, ConceptLatentRecord, ConceptRecord
from sae_lens_abstopk.saes.poles import PoleActivity
from tests.cli.test_cli import invoke
from tests.hub.published import REPO, an_sae
from tests.hub.server import HubServer
from tests.pairs.page_example import example_results

RELEASES = Path(__file__).parents[2] / "evals" / "releases"


def fit_folder(folder: Path) -> Path:
    """Write what `abstopk pairs concepts` leaves in a folder; return that of the SAE."""
    sae = an_sae()
    sae.cfg.metadata.source, sae.cfg.metadata.random_signs = "vectors", True
    sae.save_model(folder / "sae")
    results = example_results()
    (folder / RESULTS).write_text(results.model_dump_json())
    concept = ConceptRecord(
        concept="gender",
        poles=("he", "she"),
        n_train=30,
        n_test=12,
        saes={"signed": ConceptLatentRecord(latent=7, sign=-1, auroc=0.987, coverage=0.876)},
        latent_pairs={},
        mean_difference=ApartRecord(auroc=1, coverage=1),
        component=ApartRecord(auroc=1, coverage=1),
    )
    shared = {key: getattr(results, key) for key in ("created", "command", "commit", "environment", "vectors")}
    found = ConceptResults(**shared, d_sae=8, k=2, seed=0, fits={}, concepts=[concept])
    (folder / CONCEPTS).write_text(found.model_dump_json())
    return folder / "sae"


def test_a_card_of_pairs_has_each_axis_with_both_poles_and_fvu_beside_one_sided_saes(
    hub: HubServer, tmp_path: Path
) -> None:
    folder = fit_folder(tmp_path / "fit")
    publish({"axes": folder}, REPO)
    publish({"tokens": an_sae("abstopk")}, REPO)  # writes the card anew, from the manifest
    card = hub.repos[REPO].files()["README.md"].content.decode()
    numbers = "| 4.0 | 0.566 [0.546, 0.586] | 0.621 [0.601, 0.641] | 0.594 [0.574, 0.614] |"
    assert f"| `axes` {numbers} 2 pairs of pairs & &lt;b>more&lt;/b>, held out |" in card
    axes = [line for line in card.split("### Axes: axes")[1].split("\n\n")[1].splitlines() if line[2:3].isdigit()]
    assert [line.split(" | ")[1:3] for line in axes] == [
        ["complies", "refuses, “&lt;b>no&lt;/b>”"],
        [r"\$10 & &lt;b>\$20&lt;/b>", "no prices"],
        ["short", "long"],
        ["unnamed", "unnamed"],
    ]
    assert axes[0].endswith("| 50 % | 75 % | 0.70 [0.68, 0.72] |")
    assert "| gender | he / she | 7 | 0.99 | 0.88 | 12 |" in card
    assert "the vector of A minus that of B" in card
    assert "In `axes` the positive pole is the one that was preferred more often in training pairs." in card
    assert "The signs of `tokens` are as training left them" in card
    assert "2 pairs of pairs" in invoke("pull", REPO, "axes").output


@pytest.mark.usefixtures("hub")
def test_signs_of_axes_are_as_their_names_say_whichever_pole_is_more_active(tmp_path: Path) -> None:
    folder = fit_folder(tmp_path / "fit")
    sae = SAE.load_from_disk(folder)
    activity = PoleActivity.zeros(sae.cfg.d_sae)
    activity.update(-torch.ones(3, sae.cfg.d_sae))
    publish({"axes": folder}, REPO, poles={"axes": activity})
    assert torch.equal(pull(REPO, "axes").sae.W_dec, sae.W_dec)


def test_a_card_of_embeddings_says_how_to_make_them(tmp_path: Path) -> None:
    sae = an_sae("abstopk")
    for key, value in {"source": "vectors", "hook_name": None, "model_name": "someone/embedder"}.items():
        sae.cfg.metadata[key] = value
    publish({"texts": sae}, REPO, dry_run_folder=tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert 'SentenceTransformer("someone/embedder")' in card
    assert "codes = sae.encode(x)" in card
    assert "TransformerLens" not in card
    assert "one hook" not in card


@pytest.mark.parametrize("folder", sorted(path.parent for path in RELEASES.glob("*/*/cfg.json")), ids=lambda p: p.name)
def test_a_released_dictionary_loads_and_has_the_hashes_of_its_manifest(folder: Path) -> None:
    sae = SAE.load_from_disk(folder, dtype="float32")
    manifest = Manifest.from_json((folder.parent / MANIFEST_FILENAME).read_bytes(), "")
    assert published_file(folder.parent / CARD_FILENAME) == manifest.card
    record = manifest.saes[folder.name]
    assert {path: published_file(folder.parent / path) for path in record.files} == record.files
    x = torch.randn(32, sae.cfg.d_in, generator=torch.Generator().manual_seed(0))
    codes = sae.encode(x)
    assert (codes < 0).any()
    if record.codes == "pairs":
        assert torch.equal(sae.encode(-x), -codes)
        assert torch.equal(sae(-x), -sae(x))
