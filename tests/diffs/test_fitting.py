"""`abstopk diff` on a tiny model and a tiny adapter."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from sae_lens import SAE
from safetensors.torch import load_file, save_file

from sae_lens_abstopk.diffs import fitting
from sae_lens_abstopk.diffs.diff_files import Diff
from sae_lens_abstopk.diffs.fitting import difference_config, fit_difference
from sae_lens_abstopk.diffs.patched_prompts import patch_prompts
from sae_lens_abstopk.explorer.steering_server import Steerer, SteeringRequest, sources_of_site
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.workflows.steered_prompts import steer_prompts
from tests.cli.test_cli import invoke

pytestmark = pytest.mark.slow

SIZES = ("--seeds", "2", "--tokens", "2048", "--d-sae", "8", "--k", "2", "--context-size", "32", "--device", "cpu")


def test_one_command_trains_signed_and_one_sided_saes_and_reads_them_again(
    tiny_llama: Path, tiny_adapter: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["diff", "--base", str(tiny_llama), "--adapter", str(tiny_adapter), "--layer", "3", "--data", str(texts)]
    fit = [*command, "--out", str(tmp_path / "out"), *SIZES, "--halves", "--measure-tokens", "300"]
    done = invoke(*fit)
    assert done.exit_code == 0, done.output
    found = Diff.read(tmp_path / "out")
    assert len(found.results.latents) == 8
    assert found.results.fits.keys() == {"signed", "one_sided_F", "one_sided_2F"}
    assert found.results.latents[0].stability_halves in (0, 0.5, 1)
    assert "KL share" in done.output
    assert found.contexts.writing is not None
    assert len(found.contexts.writing.latents) == 8
    assert (tmp_path / "out" / "index.html").is_file()
    sae = SAE.load_from_disk(tmp_path / "out" / "sae")
    assert (sae.cfg.metadata.hook_name, sae.cfg.metadata.adapter) == ("model.layers.3", str(tiny_adapter))
    writing = found.contexts.writing
    for each in writing.latents[:2]:
        base, tuned = (
            steer_prompts(tmp_path / "out", each.latent, writing.prompts, scale=each.code, tuned=of_tuned)
            for of_tuned in (False, True)
        )
        assert [[row.texts[1] for row in of.texts] for of in (base, tuned)] == [writing.base, writing.tuned]
        assert [row.texts[2] for row in base.texts] == each.base_with
        of_latent = patch_prompts(tmp_path / "out", each.latent, writing.prompts)
        assert [row.base for row in of_latent] == writing.base
        assert [row.tuned_patched for row in of_latent] == each.tuned_without
    command = ["diff", "patch", str(tmp_path / "out"), "--latent", str(writing.latents[0].latent), "--json"]
    shown = json.loads(invoke(*command, "--prompt", writing.prompts[0]).stdout)["tables"][0]
    (row,) = patch_prompts(tmp_path / "out", writing.latents[0].latent, writing.prompts[:1])
    assert [each["continuation"] for each in shown["rows"]] == [repr(text) for text in row[1:]]
    recorded = found.results.latents[0]
    by_record = steer_prompts(tmp_path / "out" / "sae", recorded.latent, ["We"], max_new_tokens=1)
    assert by_record.scale == max(recorded.positive.scale, recorded.negative.scale)
    asked = SteeringRequest(
        sae=0, latent=recorded.latent, prompt="We", strength=1.0, scale=by_record.scale, operator="add"
    )
    for of_tuned in (False, True):
        served = Steerer(sources_of_site(tmp_path / "out"), tuned=of_tuned).texts(asked)
        by_command = steer_prompts(tmp_path / "out", recorded.latent, ["We"], tuned=of_tuned)
        assert tuple(served.values()) == by_command.texts[0].texts
    with pytest.raises(ConfigError, match="scale of latent 0 in the record"):  # the record is of another SAE
        steer_prompts(tmp_path / "out" / "run", 0, ["We"])
    monkeypatch.setattr(fitting, "train_once", None)  # a finished run is read, not trained again
    config = tmp_path / "out" / "run" / "config.yaml"
    config.write_text(config.read_text().replace("device: cpu", "device: cuda"))  # as if trained on a GPU
    done = invoke(*fit, "--show", "one-sided-2F")
    assert done.exit_code == 0, done.output
    wide = Diff.read(tmp_path / "out")
    assert (wide.results.kind, len(wide.results.latents)) == ("one_sided_2F", 16)
    assert wide.results.fits == found.results.fits
    assert all(each.negative.share_active == 0 for each in wide.results.latents)
    assert SAE.load_from_disk(tmp_path / "out" / "sae").cfg.d_sae == 16
    assert len(list((tmp_path / "out").glob("*_half_one_sided_2F"))) == 2
    sizes: dict[str, Any] = {"d_sae": 8, "k": 2, "n_seeds": 2, "training_tokens": 2048, "context_size": 32}
    cfg = difference_config(
        str(tiny_llama),
        tmp_path / "out",
        text={"dataset_path": str(texts)},
        adapter=str(tiny_adapter),
        layer=3,
        device="cpu",
        **sizes,
        use_chat_formatting=False,
        exclude_chat_template=False,
    )
    fitted = fit_difference(cfg, console=Console(quiet=True))
    widths = {kind: [each.cfg.d_sae for each in of_kind] for kind, of_kind in fitted.saes.items()}
    assert widths == {"signed": [8, 8], "one_sided_F": [8, 8], "one_sided_2F": [16, 16]}
    shown = fitted.saes["signed"][found.results.shown_seed]
    assert torch.equal(shown.W_dec.abs(), sae.W_dec.abs())  # turned to the poles of more energy
    x = fitted.pair.read(torch.arange(2, 34)[None], fitted.token_filter).x
    signed, one_sided = (fitted.saes[kind][0].encode(x) for kind in ("signed", "one_sided_F"))
    assert (signed < 0).any()
    assert (one_sided >= 0).all()


def test_a_run_of_other_weights_or_another_text_is_not_read_again(
    tiny_llama: Path, tiny_adapter: Path, texts: Path, tmp_path: Path
) -> None:
    adapter, data = shutil.copytree(tiny_adapter, tmp_path / "adapter"), shutil.copy(texts, tmp_path / "texts.jsonl")
    command = ["diff", "--base", str(tiny_llama), "--adapter", str(adapter), "--data", str(data), *SIZES[2:]]
    command += ["--seeds", "1", "--no-baselines", "--measure-tokens", "100", "--out", str(tmp_path / "out")]
    command += ["--set", "lr=2e-3", "--set", "perf_log_freq=0"]
    assert invoke(*command).exit_code == 0
    assert SAE.load_from_disk(tmp_path / "out" / "sae").cfg.metadata.lr == 2e-3
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({name: 2 * weight for name, weight in weights.items()}, adapter / "adapter_model.safetensors")
    assert re.search(r"run is of other files of the tuned model than .* --out", invoke(*command).output)
    with data.open("a") as file:
        file.write('{"text": "One more"}\n')
    assert "files of the tuned model and the text than" in invoke(*command).output


def test_two_folders_on_two_devices_are_compared_as_the_adapter_is(
    tiny_llama: Path, tiny_adapter: Path, tiny_tuned: Path, texts: Path, tmp_path: Path
) -> None:
    found = []
    for name, tuned in {"one": ("--adapter", str(tiny_adapter)), "two": ("--tuned", str(tiny_tuned))}.items():
        command = ["diff", "--base", str(tiny_llama), *tuned, "--layer", "3", "--data", str(texts), *SIZES[2:]]
        command += ["--seeds", "1", "--no-baselines", "--measure-tokens", "100", "--out", str(tmp_path / name)]
        done = invoke(*command, *(["--tuned-device", "cpu"] if name == "two" else []))
        assert done.exit_code == 0, done.output
        found.append(Diff.read(tmp_path / name).results)
    for key in ("fvu", "kl", "kl_recovered", "kl_ceiling"):
        one, two = (getattr(each, key).value for each in found)
        assert one == pytest.approx(two, rel=1e-3), key
