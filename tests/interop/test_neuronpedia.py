"""Features for Neuronpedia show planted latents, and SAEDashboard's own classes read the files."""

import json
from pathlib import Path
from typing import Any

import pytest

from sae_lens_abstopk.explorer.catalogue import Catalogue
from sae_lens_abstopk.explorer.exploration import Exploration
from sae_lens_abstopk.explorer.neuronpedia import sides, write_neuronpedia
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.system.errors import ConfigError
from tests.cli.test_cli import invoke
from tests.explorer.planted import D_SAE, PLANTED, QUIET, planted_exploration

NAMES: dict[str, Any] = {"model_id": "planted-model", "sae_set": "res-abstopk", "layer": 3, "suffix": "small"}


@pytest.fixture(scope="module")
def exploration() -> Exploration:
    return planted_exploration()


@pytest.fixture(scope="module")
def folder(exploration: Exploration, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("neuronpedia") / "features"
    write_neuronpedia(exploration, out, **NAMES)
    return out


def batches(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in folder.glob("batch-*.json")]
    return sorted(found, key=lambda batch: batch["features"][0]["feature_index"])


def features(folder: Path) -> dict[int, dict[str, Any]]:
    return {feature["feature_index"]: feature for batch in batches(folder) for feature in batch["features"]}


def test_the_two_poles_of_a_latent_are_two_features_by_their_index_in_the_mirror(folder: Path) -> None:
    she, he = features(folder)[PLANTED], features(folder)[D_SAE + PLANTED]
    for feature, word in ((she, " she"), (he, " he")):
        assert feature["activations"]
        for context in feature["activations"]:
            assert context["tokens"][context["qualifying_token_index"]] == word
            assert len(context["values"]) == len(context["tokens"])
            assert min(context["values"]) >= 0
            assert context["values"][context["qualifying_token_index"]] > 0
            for token, value in zip(context["tokens"], context["values"], strict=True):
                assert (value > 0) == (token == word) or token not in (" he", " she")
    assert she["pos_str"][0] == he["neg_str"][0] == " she"
    assert she["neg_str"][0] == he["pos_str"][0] == " he"
    assert she["neuron_alignment_indices"][0] == 2
    assert he["neuron_alignment_indices"][0] == 1
    assert he["neuron_alignment_values"][0] == 2
    assert he["neuron_alignment_l1"][0] == 0.5


def test_every_pole_is_there_once_also_where_it_never_fired(folder: Path, exploration: Exploration) -> None:
    fires = exploration.saes["signed"].collected.pole_counts.flatten()
    n_tokens = exploration.saes["signed"].collected.n_tokens
    found = features(folder)
    assert sorted(found) == list(range(2 * D_SAE))
    skipped = json.loads((folder / "skipped_indexes.json").read_text())
    assert (skipped["log_sparsity"], skipped["skipped_indexes"]) == (-6, [])
    for silent in (found[QUIET], found[D_SAE + QUIET]):
        assert silent["pos_str"]
        assert silent["activations"] == silent["freq_hist_data_bar_values"] == []
    for index, feature in found.items():
        assert feature["frac_nonzero"] == pytest.approx(int(fires[index]) / n_tokens)
        assert sum(feature["freq_hist_data_bar_heights"]) == int(fires[index])
        assert feature["dataset"] == "words <b>"
        assert (feature["n_tokens_in_prompt"], feature["n_prompts_total"]) == (16, 16)


def test_without_a_sign_the_features_are_the_latents(exploration: Exploration, tmp_path: Path) -> None:
    write_neuronpedia(exploration, tmp_path, **NAMES, sae="topk")
    assert sorted(features(tmp_path)) == list(range(len(exploration.saes["topk"])))
    with pytest.MonkeyPatch.context() as silent:
        silent.setattr(Catalogue, "fires_negatively", False)
        assert sides(exploration.saes["signed"]) == (0, 1), "its mirror has twice the latents, whatever fired"


def test_a_file_holds_128_features_and_says_whose_they_are(folder: Path) -> None:
    found = batches(folder)
    assert [len(batch["features"]) for batch in found[:-1]] == [128] * (len(found) - 1)
    for batch in found:
        assert batch["model_id"] == "planted-model"
        assert (batch["layer"], batch["sae_set"], batch["sae_id_suffix"]) == (3, "res-abstopk", "small")


@pytest.mark.interop
def test_the_classes_of_saedashboard_read_every_file_and_write_it_as_it_is(folder: Path) -> None:
    from sae_dashboard.neuronpedia.neuronpedia_dashboard import NeuronpediaDashboardBatch

    for content in batches(folder):
        assert NeuronpediaDashboardBatch(**content).to_dict() == content


def test_what_cannot_be_written_is_refused_with_the_remedy(
    exploration: Exploration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="sae='mine' must be one of signed, topk"):
        write_neuronpedia(exploration, tmp_path / "out", **NAMES, sae="mine")
    with pytest.raises(ConfigError, match="the hook 'hook' names no layer; give it as a number: --layer N"):
        write_neuronpedia(exploration, tmp_path / "out", **NAMES | {"layer": None})
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(exploration.saes["signed"], "architecture", "mine")
        with pytest.raises(ConfigError, match="codes of 'mine' are negative too"):
            write_neuronpedia(exploration, tmp_path / "mine", **NAMES)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="not an empty folder"):
        write_neuronpedia(exploration, tmp_path, **NAMES)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_command_writes_the_features_of_a_run(
    signed_folder: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--out", str(tmp_path / "out"), "--model-id", "tiny", "--set", "res-abstopk", "--text", str(texts)]
    with monkeypatch.context() as broken:
        broken.setattr("sae_lens_abstopk.explorer.neuronpedia.write_neuronpedia", lambda *_, **__: 1 / 0)
        assert invoke("neuronpedia", str(signed_folder), *arguments, "--tokens", "800").exit_code != 0
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(ModelPasses, "activations", None)  # the saved pass is reused
    done = invoke("neuronpedia", str(signed_folder), *arguments, "--tokens", "800")
    assert done.exit_code == 0, done.output
    assert "feature 64 + j its negative pole" in " ".join(done.output.split())
    found = features(tmp_path / "out")
    assert any(index >= 64 for index in found)
    assert batches(tmp_path / "out")[0]["layer"] == 2
    assert invoke("neuronpedia", str(signed_folder), *arguments).exit_code == 2
