"""SAEs of one attention head: trained, measured and inspected at that head; what takes a hook whole refuses them."""

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sae_lens_abstopk import ConfigError, train
from sae_lens_abstopk.evaluation.inspection.inspect_saes import inspect_saes
from sae_lens_abstopk.evaluation.steering.latent_scale import latent_scale
from sae_lens_abstopk.evaluation.steering.steer import steer
from sae_lens_abstopk.evaluation.suite.evaluate import evaluate
from sae_lens_abstopk.explorer.exploration import explore
from sae_lens_abstopk.saes.loading import load_sae
from sae_lens_abstopk.training.config.config_file import build_config
from tests.conftest import six_steps
from tests.specs import model_of

ALONE = r"reads only head 1 of blocks\.2\.attn\.hook_z, but .* is for all heads together"


@pytest.fixture(scope="module")
def raw_config(tiny_llama: Path, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    raw = six_steps(tiny_llama, texts, tmp_path_factory.mktemp("one_head") / "run")
    raw |= {"model_class_name": "TransformerBridge", "hook_name": "blocks.2.attn.hook_z", "hook_head_index": 1}
    raw["sae"] |= {"d_in": 16}
    return raw


@pytest.fixture(scope="module")
def folder(raw_config: dict[str, Any]) -> Path:
    return train(build_config(raw_config), console=Console(quiet=True)).folders["sae"]


def test_a_run_measures_its_loss_and_can_be_inspected(folder: Path) -> None:
    with (folder / "metrics.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    (found,) = inspect_saes([folder], n_tokens=256).on_text.reconstruction.values()
    loss = found.loss
    assert loss.zero == pytest.approx(float(last["loss_recovered_zero"]), abs=1e-4)
    assert loss.ce_zero != loss.ce_clean


def test_heads_are_not_measured_as_one(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "other")
    cfg = tmp_path / "other" / "cfg.json"
    cfg.write_text(cfg.read_text().replace('"hook_head_index": 1', '"hook_head_index": 0'))
    for run in (inspect_saes, explore):
        with pytest.raises(ConfigError, match=r"read different hooks \(head 0 of blocks.2.attn.hook_z, head 1 of"):
            run([folder, tmp_path / "other"])


def test_steering_is_refused(folder: Path, raw_config: dict[str, Any], tmp_path: Path) -> None:
    sae, model = load_sae(folder), model_of(build_config(raw_config))
    for run in (
        lambda: steer(model, sae, latent=1, strength=1.0, scale=1.0),
        lambda: latent_scale(model, sae, [], latents=[1]),
        lambda: explore(folder, prompts=["The old"]),
        lambda: evaluate([folder], suite="full", out=tmp_path / "out"),
    ):
        with pytest.raises(ConfigError, match=ALONE):
            run()
