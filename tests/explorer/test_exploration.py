"""``explore`` on tiny language models, from Python and from the command line."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from sae_lens.load_model import load_model
from transformers import AutoModelForCausalLM

from sae_lens_abstopk import ConfigError, explore
from sae_lens_abstopk.evaluation.inspection.inspect_saes import inspect_saes
from sae_lens_abstopk.explorer import pass_cache
from sae_lens_abstopk.explorer.steered import STRENGTHS
from sae_lens_abstopk.saes.loading import load_sae
from sae_lens_abstopk.system.folder_lock import run_folder_lock
from sae_lens_abstopk.text.token_text import TokenText
from tests.cli.test_cli import invoke
from tests.evaluation.results_document import results_document

pytestmark = pytest.mark.slow


def test_it_agrees_with_inspect_on_the_same_text(folders: list[Path]) -> None:
    found, inspected = explore(folders, n_tokens=512), inspect_saes(folders, n_tokens=512)
    assert list(found.saes) == list(inspected.results.saes) == ["batch_abstopk", "topk"]
    for name, reconstruction in inspected.on_text.reconstruction.items():
        collected = found.saes[name].collected
        assert torch.equal(collected.pole_counts, reconstruction.pole_counts)
        assert collected.sums.fvu() == pytest.approx(reconstruction.fvu)
        for latent in range(0, 64, 7):
            for pole in (0, 1):
                shown = [context.code for context in collected.strongest.of(latent, pole)[:3]]
                assert shown == [context.code for context in inspected.on_text.contexts[name].of(latent, pole)]
    assert found.about.held_out
    assert "batch_abstopk" in found._repr_html_()


def test_an_sae_and_a_model_in_memory_will_do(folders: list[Path], tiny_llama: Path, texts: Path) -> None:
    sae = load_sae(folders[0])
    model = load_model("AutoModelForCausalLM", str(tiny_llama), device="cpu", hook_names=["model.layers.2"])
    found = explore(sae, model=model, text=str(texts), n_tokens=256)
    assert not found.about.held_out
    assert found.saes["batch_abstopk"].collected.n_tokens > 200
    assert found.saes["batch_abstopk"][3].positive.match is None
    sae.cfg.metadata.model_name = None
    sae.cfg.metadata.model_from_pretrained_kwargs = {"fold_ln": False, "dtype": "float32"}
    console = Console(file=(shown := io.StringIO()))
    one = explore(
        sae, model=model, text=str(texts), n_tokens=128, prompts="When I was", steered_latents=1, console=console
    )
    assert shown.getvalue() == "collecting: done\nsteering: done\n"
    assert one.about.model == tiny_llama.name
    assert one.about.loaded_with == {"fold_ln": False}
    (steered,) = [latent for latent in one.saes["batch_abstopk"] if latent.steered]
    assert [row.prompt for row in steered.steered] == ["When I was"]


def test_the_command_writes_a_site_and_extends_a_pass(folders: list[Path], tmp_path: Path) -> None:
    def run(tokens: int) -> Any:
        return invoke("explore", str(folders[0]), "--out", str(tmp_path / "site"), "--tokens", str(tokens))

    with run_folder_lock(tmp_path / "site"):
        assert "site' is being written by process" in run(256).stderr
    done = run(256)
    assert done.exit_code == 0, done.output
    assert f"passes are kept in {pass_cache.passes_folder()}" in done.output
    assert done.output.strip().endswith("index.html")
    assert "were read" not in done.output
    overview = tmp_path / "site" / "data" / "0" / "overview.js"
    first = overview.read_text()
    assert run(256).exit_code == 0
    assert overview.read_text() == first
    assert run(512).exit_code == 0
    assert overview.read_text() != first
    assert re.search(r"has only \d[\d,]+ tokens .* not 1,000,000: all were read\.", run(1_000_000).output)


def test_steered_texts_are_those_of_the_model_with_the_row_added(
    folders: list[Path], tiny_llama: Path, tokenizer: Any
) -> None:
    found = explore(folders, n_tokens=512, prompts=["The old lighthouse", "He"], steered_latents=2)
    sae = found.saes["batch_abstopk"]
    steered = [latent for latent in sae if latent.steered]
    assert [latent.index for latent in steered] == sorted(sae.suggested(2))
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    for latent in steered:
        assert [row.prompt for row in latent.steered] == ["The old lighthouse", "He"]
        # with a BOS, as in training
        ids = tokenizer(tokenizer.bos_token + "The old lighthouse", return_tensors="pt")["input_ids"]
        for text, strength in zip(latent.steered[0].texts, STRENGTHS, strict=True):
            row = load_sae(folders[0]).W_dec[latent.index].detach()

            def add(_: Any, __: Any, output: Any, added: Any = strength * latent.scale * row) -> Any:
                hidden = output[0] if isinstance(output, tuple) else output
                hidden[:, 1 if hidden.shape[1] > 1 else 0 :] += added  # the first position is left alone
                return output

            hook = model.model.layers[2].register_forward_hook(add)
            whole = model.generate(ids, max_new_tokens=24, do_sample=False, pad_token_id=1)
            hook.remove()
            new = [i for i in whole[0, ids.shape[1] :].tolist() if i not in tokenizer.all_special_ids]
            assert TokenText(tokenizer).joined(new) == text


def test_a_prompt_without_tokens_is_refused_before_the_pass(folders: list[Path], texts: Path, tiny_llama: Path) -> None:
    sae = load_sae(folders[0])
    sae.cfg.metadata.prepend_bos = False
    with pytest.raises(ConfigError, match="has no token"):
        explore(sae, model=str(tiny_llama), text=str(texts), n_tokens=128, prompts=[""], on_progress=pytest.fail)


def test_mistakes_are_answered_before_anything_runs(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sae_lens_abstopk.evaluation.subjects.subjects.load_language_model", None)
    with pytest.raises(ConfigError, match=r"nowhere\.txt.*no such file"):
        explore(folders[0], text=str(tmp_path / "nowhere.txt"))
    with pytest.raises(ConfigError, match=r"number of SAEs=3 must be .* at most 2"):
        explore([*folders, folders[0]])
    results_document().write(tmp_path / "results.json")
    with pytest.raises(ConfigError, match="none of the SAEs measured there"):
        explore(folders[0], results=str(tmp_path / "results.json"))
