"""What an evaluation found, brought together with the SAEs that are explored."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sae_lens_abstopk import ConfigError, explore, train
from sae_lens_abstopk.evaluation.results.facts import weights_sha256
from sae_lens_abstopk.evaluation.results.schema import Results
from sae_lens_abstopk.explorer.concepts import BEST_COVERAGE, BEST_SINGLE, STEERED, load_concepts
from sae_lens_abstopk.explorer.exploration import Exploration
from sae_lens_abstopk.training.config.config_file import build_config
from tests.evaluation.results_document import results_document
from tests.explorer.planted import PLANTED
from tests.explorer.test_site import data


def test_latents_are_listed_once_with_all_that_they_were_chosen_as(evaluated: Exploration) -> None:
    gender, tense = evaluated.concepts
    assert (gender["name"], gender["poles"]) == ("gender", ("he", "she"))
    first, *others = gender["saes"][0]["latents"]
    assert (first["latent"], first["roles"]) == (PLANTED, [BEST_SINGLE, BEST_COVERAGE, STEERED])
    assert (first["orientation"], first["cosine"]) == (1, 0.8), "the orientation is of the texts"
    assert [each["roles"] for each in others] == [
        ["best pair, positive side for A"],
        ["best pair, negative side for B"],
    ]
    assert [other for other, _ in gender["cosines"]] == ["tense"]
    assert all(tense["saes"])


def test_the_data_file_holds_what_the_results_say(evaluated_results: Results, evaluated_site: Path) -> None:
    found = data(evaluated_site.parent / "data" / "concepts.js")
    signed = found[0]["saes"][0]
    auroc = evaluated_results.tasks["gender"].saes["signed"].probes["single latent"].auroc
    assert signed["latents"][0]["auroc"] == pytest.approx([auroc.value, auroc.low, auroc.high, auroc.n_units], rel=1e-3)
    record = evaluated_results.steering["gender"]["signed"]
    assert (signed["steering"]["orientation"], signed["steering"]["scale"]) == (-1, 12.5)
    curves = dict(signed["steering"]["curves"])
    assert curves["latent"] == [
        [dose.strength, pytest.approx(dose.log_odds, rel=1e-3)] for dose in record.interventions["latent"].doses
    ]
    assert set(curves) == {"random", "latent", "clamp", "difference in means"}
    clamp = record.interventions["clamp"]
    (effects,) = (effects for name, *effects in signed["steering"]["effects"] if name == "clamp")
    told = [each.value for each in (clamp.towards_a.log_odds, clamp.towards_b.log_odds, clamp.symmetry)]
    assert [value for value, *_ in effects] == pytest.approx(told, rel=1e-3)
    assert [control for name, _, control in signed["probes"] if name.endswith("permuted")] == [True] * 8
    assert found[0]["saes"][1]["steering"] is not None


def test_saes_are_recognised_by_their_weights_not_by_their_names(raw_config: dict[str, Any], tmp_path: Path) -> None:
    folder = train(build_config(raw_config), console=Console(quiet=True)).folders["sae"]
    document = results_document(saes={"mine": None}, tasks={"gender": ("he", "she")})
    for record in (document.tasks["gender"].saes["mine"].latent, document.tasks["gender"].saes["mine"].best_coverage):
        record.latent %= 64
    document.steering["gender"]["mine"].latent = 5
    document.write(tmp_path / "others.json")
    with pytest.raises(ConfigError, match=r"measured there \(mine\) has the weights of abstopk"):
        explore(folder, n_tokens=128, results=[tmp_path / "others.json"])
    document.saes["mine"].weights_sha256 = weights_sha256(folder)
    document.write(tmp_path / "ours.json")
    found = explore(folder, n_tokens=128, results=[tmp_path / "ours.json"])
    assert [concept["name"] for concept in found.concepts] == ["gender"]


def test_what_a_second_file_steered_is_shown_and_says_the_orientation(tmp_path: Path) -> None:
    probed, steered = (results_document(saes={"a": None}, tasks={"gender": ("he", "she")}) for _ in range(2))
    steered.reconstruction["a"].fvu = 0.5  # so that the files contradict each other
    record, pair = steered.steering["gender"]["a"], steered.tasks["gender"].saes["a"].pair
    record.latent = probed.tasks["gender"].saes["a"].pair.latent_a = pair.latent_a
    probed.steering = {}
    (tmp_path / "sae_weights.safetensors").write_text("of both")
    for name, document in (("1.json", probed), ("2.json", steered)):
        document.saes["a"].weights_sha256 = weights_sha256(tmp_path)
        document.write(tmp_path / name)
    (concept,) = load_concepts([tmp_path / "1.json", tmp_path / "2.json"], {"a": tmp_path})
    (found,) = concept["saes"]
    assert (found["steering"]["latent"], found["steering"]["prompt"]) == (record.latent, record.text_prompt)
    (latent,) = (each for each in found["latents"] if STEERED in each["roles"])
    assert (len(latent["roles"]), latent["orientation"]) == (2, record.orientation)
