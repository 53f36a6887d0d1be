"""Each preset against a tiny randomly initialised model of the same class: hook found, right width, two steps run."""

import math
from pathlib import Path

import pytest
from sae_lens import SAE

from sae_lens_abstopk import AbsTopKTrainingSAEConfig, BatchAbsTopKTrainingSAEConfig, load_config, train
from sae_lens_abstopk.system.yaml_files import yaml_document
from sae_lens_abstopk.training.config.config_file import (
    preset_names,
    read_raw,
    variant_names,
)
from sae_lens_abstopk.training.sweeps.sweep import load_sweep
from tests.cli.test_cli import invoke
from tests.conftest import small_run
from tests.training.runs import QUIET, rows

MODELS = [name for name in preset_names() if name not in ("quickstart", "vectors", "pairs", "diff")]


# the hook and the width are the model's, whatever the variant
@pytest.mark.parametrize(
    ("model", "variant"), [*((model, "") for model in MODELS), (MODELS[0], "/abstopk"), (MODELS[0], "/batch_abstopk")]
)
def test_a_preset_trains_on_a_model_of_its_class(
    model: str, variant: str, tiny_models: dict[str, Path], texts: Path, tmp_path: Path
) -> None:
    overrides = [*small_run(tiny_models[model], texts), f"output_path={tmp_path / 'run'}", "sae.k=4"]
    result = train(load_config(f"{model}{variant}", overrides), console=QUIET)
    last = rows(tmp_path / "run")[-1]
    assert last["step"] == "2"
    assert last.pop("sparsity_coefficient") == "", "k decides the L0"
    assert all(math.isfinite(float(value)) for value in last.values())
    assert result.saes["sae"].cfg.d_in == 32


@pytest.mark.parametrize("model", MODELS)
def test_a_preset_signs_a_quarter_of_its_dimensions_and_the_papers_variants_all(model: str) -> None:
    sae, narrow = load_config(model).sae, load_config(model, "sae.expansion_factor=8").sae
    assert isinstance(sae, BatchAbsTopKTrainingSAEConfig)
    assert sae.n_signed == narrow.n_signed == sae.d_in / 4
    assert sae == load_config(f"{model}/mixed").sae
    everything = load_config(f"{model}/batch_abstopk").sae
    assert everything.signed_share == 1
    assert isinstance(load_config(f"{model}/abstopk").sae, AbsTopKTrainingSAEConfig)


@pytest.mark.parametrize("variant", [name for name in variant_names() if "abstopk" not in name])
def test_another_variant_trains(variant: str, tiny_models: dict[str, Path], texts: Path, tmp_path: Path) -> None:
    overrides = [*small_run(tiny_models["pythia-70m"], texts), f"output_path={tmp_path / 'run'}"]
    overrides += ["sae.k=4" if variant in ("topk", "batchtopk", "mixed") else "target_l0.sae=4"]
    result = train(load_config(f"pythia-70m/{variant}", overrides), console=QUIET)
    own_kernels = {"mixed": "batch_abstopk", "topk": "sparse_topk", "batchtopk": "sparse_batchtopk"}
    assert result.saes["sae"].cfg.architecture() == own_kernels.get(variant, variant)
    assert (tmp_path / "run" / "sae_weights.safetensors").is_file()


@pytest.mark.parametrize("variant", ["batch_abstopk", "matryoshka_batch_abstopk"])
def test_the_papers_variants_sign_all_latents_of_a_config_with_a_share(variant: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    sae = {"architecture": "batch_abstopk", "d_in": 512, "d_sae": 64, "k": 4, "signed_share": 0.1}
    mine.write_text(yaml_document(read_raw("pythia-70m")[0] | {"sae": sae}))
    some, signed = (load_config(name).sae.to_dict()["signed_share"] for name in (mine, f"{mine}/{variant}"))
    assert (some, signed) == (0.1, 1)


@pytest.mark.parametrize("config", ["quickstart", "mine.yaml"])
@pytest.mark.parametrize("variant", variant_names())
def test_a_variant_can_follow_any_config(
    config: str, variant: str, tiny_llama: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(
        f"{{model_name: {tiny_llama}, hook_name: model.layers.1, dataset_path: {texts}, target_l0: {{sae: 57}},"
        " lr_multiples: {other: 2}, companions: {other: {architecture: gated}},"
        " n_batches_in_buffer: 32, sae: {architecture: jumprelu, d_sae: 256, l0_coefficient: 2}}"
    )
    cfg = load_config(f"{config}/{variant}", f"model_name={tiny_llama}")
    assert cfg.sae.architecture().removeprefix("sparse_") == {"mixed": "batch_abstopk"}.get(variant, variant)
    assert (cfg.target_l0.get("sae") or cfg.sae.to_dict()["k"]) == 57
    assert (cfg.companions, cfg.lr_multiples, cfg.sae.d_sae) == ({}, {}, 256)


def test_a_variant_trains_on_a_local_folder_of_weights_by_one_command(
    tiny_llama: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = [f"model_name={tiny_llama}", "hook_name=model.layers.1", f"dataset_path={texts}", "training_steps=2"]
    small = [each for each in small_run(tiny_llama, texts) if not each.startswith(("model_name", "layer", "sae.d_in"))]
    done = invoke("train", "pythia-70m/topk", *dict.fromkeys([*mine, *small]))
    assert done.exit_code == 0, done.output
    assert SAE.load_from_disk("runs/pythia-70m-topk").cfg.d_in == 32


def test_the_paper_sweep_covers_its_models_layers_and_variants() -> None:
    runs = load_sweep("paper")
    assert len(runs) == 4 * 2 * 8
    layers = {run.config(Path("x")).hook_name for run in runs if run.source == "qwen3-4b/topk"}
    assert layers == {"model.layers.18", "model.layers.20"}
    wide = load_sweep("paper-2F")
    assert len(wide) == 4 * 2 * 2
    widths = {run.config(Path("x")).sae.d_sae for run in (*runs, *wide) if run.source == "gpt2/batchtopk"}
    assert widths == {16 * 768, 32 * 768}, "BatchTopK with F and with 2F latents"


@pytest.mark.parametrize("variant", variant_names())
@pytest.mark.parametrize(
    "model", [name for name in preset_names() if name not in ("quickstart", "vectors", "pairs", "diff")]
)
def test_every_preset_loads_with_every_variant(model: str, variant: str) -> None:
    cfg = load_config(f"{model}/{variant}", ["device=cpu"])
    assert cfg.sae.architecture().removeprefix("sparse_") == {"mixed": "batch_abstopk"}.get(variant, variant)
    assert cfg.total_training_steps == 30_000
    assert (cfg.lr, cfg.adam_beta1, cfg.adam_beta2) == (3e-4, 0.9, 0.99)
    assert cfg.sae.d_sae == 16 * cfg.sae.d_in
    assert (cfg.perf_log_freq, cfg.checkpoint_freq) == (1000, 5000)
    k = load_config(model, ["device=cpu"]).sae.k
    assert cfg.target_l0 == ({} if hasattr(cfg.sae, "k") else {"sae": k})
    assert getattr(cfg.sae, "k", k) == k
