"""Inspection of SAEs from runs and from elsewhere, and what it prints."""

import io
import re
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from sae_lens import (
    SAE,
)
from sae_lens.load_model import HookedProxyLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from sae_lens_abstopk import explore, train
from sae_lens_abstopk.evaluation.inspection.inspect_saes import inspect_saes, print_inspection
from sae_lens_abstopk.evaluation.steering.latent_scale import latent_scale
from sae_lens_abstopk.model.generation import TextModel
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.training.config.config_file import build_config
from tests.evaluation.steerable import signed_sae


def test_two_saes_are_measured_on_the_same_held_out_text(folders: list[Path]) -> None:
    steps = []
    found = inspect_saes(folders, n_tokens=256, on_progress=lambda done, total: steps.append((done, total)))
    assert steps[-1][0] == steps[-1][1] == 2 * 5
    assert list(found.results.saes) == ["batch_abstopk", "topk"]
    assert found.results.held_out
    signed, plain = found.on_text.reconstruction.values()
    assert signed.n_tokens == plain.n_tokens
    assert plain.l0 == 4
    assert int(plain.pole_counts[1].sum()) == 0 < int(signed.pole_counts[1].sum())
    assert signed.loss.ce_clean == plain.loss.ce_clean
    out = io.StringIO()
    print_inspection(found, Console(file=out, width=80), latents=2)
    assert "batch_abstopk" in out.getvalue()
    assert out.getvalue().count("fired") == 2
    for name, record in found.results.saes.items():  # as training recorded them
        dead = rf"over the last {record.dead_latents_tokens:,} training tokens: .*{name} {record.dead_latents:,} "
        assert re.search(dead, " ".join(out.getvalue().split()))
    lines = out.getvalue().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80
    row = next(line.split() for line in lines if line.startswith("topk "))
    assert row[:3] == ["topk", "64", "4.0"]
    assert row[3:7] == [f"{value:.3f}" for value in (plain.fvu, plain.nmse, plain.loss.zero, plain.loss.mean)]
    found.results.saes["batch_abstopk"].d_sae = 131_072
    print_inspection(found, Console(file=out, width=80), latents=0)
    assert re.search("^batch_abstopk +131,072 ", out.getvalue(), re.MULTILINE), "a name of that length is on one line"
    document = found.results
    assert document.suite == "inspect"
    assert document.reconstruction["batch_abstopk"].l0 == signed.l0
    assert torch.__version__.startswith(document.environment["torch"])
    both, one = document.examples["batch_abstopk"], document.examples["topk"]
    first = found.on_text.contexts["batch_abstopk"].suggested(1)[0]
    assert both[0].code == found.on_text.contexts["batch_abstopk"].of(first, 0)[0].code
    assert {each.code > 0 for each in both if each.latent == first} == {True, False}
    assert one
    assert all(each.code > 0 for each in one), "a one-sided SAE has its strongest latents there"


def test_a_run_of_a_config_that_is_refused_today_can_still_be_measured(folders: list[Path], texts: Path) -> None:
    path = folders[0] / "config.yaml"
    written = yaml.safe_load(path.read_text())
    refused = {
        "dtype": "bfloat16",
        "dead_feature_threshold": 1e-6,
        "target_l0": {"sae": 5.0},
        "lr_multiples": {"topk": 2},
    }
    path.write_text(yaml.safe_dump(written | refused))
    assert inspect_saes(folders, n_tokens=128).results.held_out
    # nor are cached activations read, which may have been deleted since
    cached = {"held_out_every": None, "use_cached_activations": True, "cached_activations_path": "deleted"}
    path.write_text(yaml.safe_dump(written | cached))
    assert not inspect_saes(folders, text=str(texts), n_tokens=128).results.held_out


def test_an_sae_of_attention_heads_is_measured_and_explored(raw_config: dict[str, Any]) -> None:
    raw_config |= {"model_class_name": "TransformerBridge", "hook_name": "blocks.2.attn.hook_z"}
    raw_config["sae"]["reshape_activations"] = "hook_z"
    run = train(build_config(raw_config), console=Console(quiet=True))
    (found,) = inspect_saes([run.folders["sae"]], n_tokens=256).results.reconstruction.values()
    assert found.l0 == 4
    assert found.loss is not None
    sae = SAE.load_from_disk(run.folders["sae"])
    sae.turn_on_forward_pass_hook_z_reshaping()
    explored = explore(sae, model=raw_config["model_name"], text=raw_config["dataset_path"], n_tokens=128)
    assert int(next(iter(explored.saes.values())).collected.pole_counts.sum()) > 0
    assert sae.hook_z_reshaping_mode, "the caller's SAE stays as it was"


def test_a_model_in_training_is_measured_without_dropout(tiny_llama: Path) -> None:
    hf: Any = AutoModelForCausalLM.from_pretrained(
        tiny_llama, attention_dropout=0.5, attn_implementation="eager"
    ).train()
    proxy = HookedProxyLM(hf, AutoTokenizer.from_pretrained(tiny_llama), hook_names=["model.layers.2"])
    hf.model.norm.eval()  # what is not in training stays so
    passes, tokens = ModelPasses(proxy, "model.layers.2"), torch.arange(2, 34)[None]
    first, second = passes.clean(tokens), passes.clean(tokens)
    assert torch.equal(first.losses, second.losses)
    assert torch.equal(passes.activations(tokens), first.activations)
    text = TextModel(hf, AutoTokenizer.from_pretrained(tiny_llama))
    prompts = text.encode(["The old lighthouse"])
    assert torch.equal(text.next_logits(prompts), text.next_logits(prompts))
    sae = signed_sae("model.layers.2")
    scales = [latent_scale(hf, sae, [tokens], latents=[3]) for _ in range(2)]
    assert scales[0] == scales[1]
    assert hf.training
    assert hf.model.layers[0].training
    assert not hf.model.norm.training
