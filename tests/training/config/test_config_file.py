"""Config files: what is accepted, what is refused and in which words, and that the comments are current."""

import contextlib
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import sae_lens
import torch
from sae_lens import LanguageModelSAETrainingRunner
from sae_lens.training.optim import get_lr_scheduler
from torch.torch_version import TorchVersion

from sae_lens_abstopk import AbsTopKTrainingSAEConfig, ConfigError, load_config
from sae_lens_abstopk.model.text_store import saelens_notes_off
from sae_lens_abstopk.training.config.checks import SCHEDULERS, require_machine
from sae_lens_abstopk.training.config.config_file import (
    build_config,
    dump_config,
)
from sae_lens_abstopk.training.config.training_config import TrainingConfig

NESTED = {"architecture": "matryoshka_batchtopk", "d_in": 32, "d_sae": 64, "k": 4}
"""SAELens's own nested SAE, without its prefixes."""

LAYER_NORM = {"matryoshka_widths": [8], "normalize_activations": "layer_norm"}

SIGNED = {"architecture": "batch_abstopk", "d_in": 32, "k": 4, "signed_expansion_factor": 0.25}
"""Few signed latents, without the number of all."""

QUADRATIC = {"architecture": "jumprelu", "d_in": 32, "d_sae": 64, "jumprelu_sparsity_loss_mode": "quadratic"}
"""JumpReLU whose loss aims at an L0, without the L0."""


def changed(raw: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    *sections, last = key.split(".")
    at = raw
    for section in sections:
        at = at.setdefault(section, {})
    at[last] = value
    return raw


BAD: list[tuple[str, Any, str]] = [
    ("train_batch_size", 64, "did you mean 'train_batch_size_tokens'?"),
    ("sae.topk", 4, "unknown key 'topk' of the architecture abstopk in sae"),
    ("logger.log_wandb", True, "did you mean 'log_to_wandb'?"),
    ("sae.architecture", "abstop", "did you mean 'abstopk'?"),
    ("lr", True, "lr=True has the wrong type"),
    ("lr", float("nan"), "lr=nan must be above 0"),
    ("lr_scheduler_name", "linear", "one of constant, cosineannealing"),
    ("llm_device", "gpu", "llm_device='gpu' is not a torch device"),
    ("model_name", "", "model_name is missing"),
    ("divergence_factor", 1.0, "divergence_factor=1.0 must be above 1, or null"),
    ("train_batch_size_tokens", 1000, "train_batch_size_tokens=1000 must be at most 384 (training_tokens)"),
    ("lr_warm_up_steps", 7, "lr_warm_up_steps + lr_decay_steps=7 must be at most 6, since the run has 6 steps"),
    ("b_dec_init_method", "median", "one of mean, geometric_median, zeros"),
    ("b_dec_init_method", "zeros", "has no effect here; leave it out: sae.b_dec_init_method is"),
    ("autocast", True, "has no effect here; leave it out: SAEs on the sparse kernels train in float32"),
    ("n_batches_in_buffer", 2, "at most 62, the tokens of the mixing buffer; raise n_batches_in_buffer=2 to at least"),
    ("layer", 3, "layer=3 has no effect"),
    ("training_steps", 5, "give training_steps or training_tokens, not both"),
    ("seqpos_slice", [40, None], "results in an empty range"),
    ("sae.k", 2.5, "sae.k=2.5 has the wrong type"),
    ("sae.expansion_factor", 2, "give sae.expansion_factor or sae.d_sae, not both"),
    ("sae.signed_expansion_factor", 0.25, "sae.signed_expansion_factor is not a key of the architecture abstopk"),
    ("sae.architecture", "standard", "set target_l0.sae (in a sweep, in an entry of its own), or if a preset gives it"),
    ("sae", SIGNED | {"d_sae": 64, "signed_expansion_factor": 0}, "signed_expansion_factor=0.0 must be above 0"),
    ("sae", SIGNED, "sae.d_sae is missing; give it, or for d_sae an expansion_factor"),
    ("sae.normalize_activations", "layer_norm", "scales each activation by itself, and the dead-latent loss"),
    ("logger.eval_every_n_wandb_logs", 5, "has no effect here; leave it out: perf_log_freq"),
    ("logger.wandb_log_frequency", 0, "logger.wandb_log_frequency=0 must be at least 1"),
    ("cached_activations_path", "acts", "has no effect here; leave it out: it is read with use_cached_activations"),
    ("sae.reshape_activations", "hook_z", "sae.reshape_activations='hook_z' is for a hook whose name ends in _z"),
    ("sae", NESTED, "sae.matryoshka_widths is missing"),
    ("sae", NESTED | {"matryoshka_widths": [8, 4]}, "sae.matryoshka_widths=[8, 4] must increase"),
    ("sae", NESTED | LAYER_NORM, "scales each activation by itself, and the losses of"),
    ("sae", QUADRATIC, "sae.target_l0 is missing"),
    ("sae", QUADRATIC | {"k": 5, "target_l0": 6.0}, "give sae.target_l0 or sae.k, not both"),
    ("companions", {"plain": {"architecture": "standard", "d_sae": 0}}, "companions.plain.d_sae=0 must be at least 1"),
    ("companions", {"aux": {}}, "the name 'aux' cannot be that of a folder"),
    ("companions", {"Checkpoints": {}}, "the name 'Checkpoints' cannot be that of a folder"),
    ("companions", {"TopK": {}, "topk": {}}, "no name that differs only in case from another"),
    ("companions", {1: {}}, "companions={1: {}} has the wrong type"),
    ("companions", {"topk": {"architecture": "topk", "k": 0}}, "companions.topk.k=0 must be at least 1"),
    ("companions", {"topk": {"architecture": "topk", "d_in": 16}}, "companions.topk.d_in=16 differs"),
    ("target_l0", {"nobody": 3.0}, "target_l0 names 'nobody', which is not trained; SAEs: sae"),
    ("target_l0", {"sae": 3.0}, "target_l0.sae: sparse_abstopk has no sparsity coefficient"),
]


@pytest.mark.parametrize(("key", "value", "sentence"), BAD)
def test_a_bad_value_is_refused_with_its_key_and_the_remedy(
    raw_config: dict[str, Any], key: str, value: Any, sentence: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        build_config(changed(raw_config, key, value), where="my.yaml")
    assert sentence in str(refused.value)
    assert str(refused.value).startswith("my.yaml: ")


def test_shorthands_stand_for_saelens_keys(raw_config: dict[str, Any]) -> None:
    raw_config |= {"hook_name": "model.layers.{layer}", "layer": 3, "training_steps": 7}
    raw_config["activation_cache"] = "cache-{layer}"
    del raw_config["training_tokens"]
    raw_config["sae"] = SIGNED | {"expansion_factor": 4, "k_fraction": 0.125}
    del raw_config["sae"]["k"]
    cfg = build_config(raw_config)
    assert (cfg.hook_name, cfg.training_tokens, cfg.sae.d_sae, cfg.sae.k) == ("model.layers.3", 7 * 64, 128, 4)
    assert cfg.sae.n_signed == 8
    assert cfg.activation_cache == "cache-3"


@pytest.mark.parametrize("key", ["token", "use_auth_token"])
def test_a_token_is_refused_and_not_repeated(key: str, raw_config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"holds a {key}, .* set HF_TOKEN") as refused:
        build_config(raw_config | {"model_from_pretrained_kwargs": {key: "hf_secret"}})
    assert "hf_secret" not in str(refused.value)
    assert build_config(raw_config | {"model_from_pretrained_kwargs": {key: True}})


def test_a_tilde_is_the_home_folder_and_the_width_that_of_the_model(
    raw_config: dict[str, Any], tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tiny_llama.parent))
    monkeypatch.setenv("USERPROFILE", str(tiny_llama.parent))
    del raw_config["sae"]["d_in"]
    cfg = build_config(raw_config | {"model_name": f"~/{tiny_llama.name}", "output_path": "~/runs/x"})
    assert (cfg.model_name, cfg.output_path) == (str(tiny_llama), str(tiny_llama.parent / "runs/x"))
    assert cfg.sae.d_in == 32


def test_the_end_of_the_schedule_goes_with_the_rate_unless_it_was_given(
    tmp_path: Path, raw_config: dict[str, Any]
) -> None:
    for given, end in (({}, 2e-4), ({"lr_end": 5e-5}, 5e-5)):
        (tmp_path / "config.yaml").write_text(dump_config(build_config(raw_config | {"lr": 1e-3} | given)))
        assert load_config(tmp_path / "config.yaml", ["lr=0.002"]).lr_end == end


def test_a_config_reads_back_equal_from_its_file_and_from_its_dictionary(
    tmp_path: Path, raw_config: dict[str, Any]
) -> None:
    raw_config["sae"] |= {"architecture": "batch_abstopk", "signed_share": 0.5}
    raw_config["companions"] = {"topk": {"architecture": "topk"}, "jump": {"architecture": "standard"}}
    raw_config["logger"] = {"log_to_mlflow": True}
    cfg = build_config(raw_config)
    (tmp_path / "config.yaml").write_text(dump_config(cfg))
    of_json = TrainingConfig.from_dict(json.loads(json.dumps(cfg.to_dict())))
    for again in (load_config(tmp_path / "config.yaml"), of_json):
        assert again.to_dict() == cfg.to_dict()
        assert dump_config(again) == dump_config(cfg)


def test_saelens_own_runner_refuses_a_config_with_keys_that_it_does_not_read(raw_config: dict[str, Any]) -> None:
    cfg = build_config(raw_config | {"dataset_path": str(Path(raw_config["dataset_path"]).parent), "streaming": False})
    with pytest.raises(ConfigError, match=r"use sae_lens_abstopk\.train\(cfg\)"), saelens_notes_off():
        LanguageModelSAETrainingRunner(cfg)


def test_a_companion_takes_from_the_sae_what_its_architecture_has_and_it_does_not_replace(
    raw_config: dict[str, Any],
) -> None:
    raw_config["sae"] = SIGNED | {"expansion_factor": 4, "k_fraction": 0.25, "unit_norm_encoder": True}
    del raw_config["sae"]["k"]
    raw_config["companions"] = {"relu": {"architecture": "standard"}, "topk": {"architecture": "topk"}}
    raw_config["companions"] |= {"own": {"d_sae": 100, "k": 5}, "wide": {"expansion_factor": 8}}
    relu, *others = build_config(raw_config).companions.values()
    assert relu.d_sae == 128
    assert [(sae.d_sae, sae.k) for sae in others] == [(128, 8), (100, 5), (256, 8)]
    raw_config["companions"] = {"both": {"d_sae": 100, "expansion_factor": 8}}
    with pytest.raises(ConfigError, match=r"give companions\.both\..*\.d_sae, not both"):
        build_config(raw_config)


def test_the_aim_of_a_companion_is_its_own_or_the_k_of_the_sae(raw_config: dict[str, Any]) -> None:
    raw_config["companions"] = {"same": QUADRATIC, "own": QUADRATIC | {"target_l0": 6.0}}
    aims = [sae.target_l0 for sae in build_config(raw_config).companions.values()]
    assert aims == [4.0, 6.0]
    raw_config |= {"sae": QUADRATIC | {"target_l0": 6.0}, "companions": {"own": {"k": 5}}}
    assert build_config(raw_config).companions["own"].target_l0 == 5.0


def test_a_gpu_that_the_machine_lacks_and_a_torch_that_gets_a_step_wrong_on_it_are_refused(
    raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match="llm_device='cuda:2' is not one of the 2 CUDA devices"):
        require_machine(build_config(raw_config | {"llm_device": "cuda:2"}))

    def check(version: str, device: str, tokens: int) -> None:
        monkeypatch.setattr(torch, "__version__", TorchVersion(version))
        wide = {"architecture": "abstopk", "d_in": 4096, "d_sae": 65_536, "k": 410}
        batch = {"train_batch_size_tokens": tokens, "training_tokens": 10 * tokens, "n_batches_in_buffer": tokens}
        require_machine(build_config(raw_config | {"sae": wide, "device": device} | batch))

    for fine in (("2.9.1+cu128", "cuda:1", 4_096), ("2.9.1+cu128", "cpu", 16_384), ("2.10.0", "cuda", 16_384)):
        check(*fine)
    with pytest.raises(ConfigError, match="install torch 2"):
        check("2.9.1+cu128", "cuda", 16_384)


def test_the_schedules_that_saelens_fails_on_are_those_that_are_refused(raw_config: dict[str, Any]) -> None:
    rates = itertools.product(SCHEDULERS, (0, 1, 5, 6), (0, 1, 5), (0, 1, 5, 7), (0.0, 1e-4, 2e-3))
    for name, warm_up, decay, cycles, lr_end in rates:
        if warm_up + decay > 6:
            continue
        keys = {"lr_scheduler_name": name, "lr_warm_up_steps": warm_up, "lr_decay_steps": decay}
        keys |= {"n_restart_cycles": cycles, "lr_end": lr_end}
        refused = works = True
        with contextlib.suppress(ConfigError):
            build_config(raw_config | keys)
            refused = False
        optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
        try:
            scheduler = get_lr_scheduler(name, optimizer, 6, 1e-3, warm_up, decay, lr_end, cycles)
            for _ in range(6):
                optimizer.step()
                scheduler.step()
        except (ValueError, ZeroDivisionError):
            works = False
        leaves_none = name != "constant" and warm_up + decay == 6
        assert refused == (leaves_none or not works), keys


def test_the_type_of_cached_activations_can_be_chosen(raw_config: dict[str, Any]) -> None:
    cached = raw_config | {"dtype": "bfloat16", "use_cached_activations": True, "held_out_every": None}
    assert build_config(cached | {"seqpos_slice": [None]}).dtype == "bfloat16"
    with pytest.raises(ConfigError, match=r"seqpos_slice=\(1, None\) must be \[null\] with use_cached_activations"):
        build_config(cached)
    with pytest.raises(ConfigError, match=r"dtype='bfloat16' rounds the token ids .* set dtype to float32"):
        build_config(cached | {"seqpos_slice": [None], "exclude_special_tokens": [256]})
    with pytest.raises(ConfigError, match="held_out_every=20 must be null with use_cached_activations"):
        build_config(cached | {"seqpos_slice": [None], "held_out_every": 20})


def test_the_stock_abstopk_of_saelens_has_a_name_beside_ours(tmp_path: Path, raw_config: dict[str, Any]) -> None:
    raw_config["sae"] |= {"architecture": "abstopk"}
    raw_config["companions"] = {"stock": {"architecture": "sae_lens_abstopk"}}
    cfg = build_config(raw_config)
    (tmp_path / "config.yaml").write_text(dump_config(cfg))
    for found in (cfg, load_config(tmp_path / "config.yaml")):
        assert type(found.sae) is AbsTopKTrainingSAEConfig
        assert type(found.companions["stock"]) is sae_lens.AbsTopKTrainingSAEConfig
