"""``explore`` on tiny language models, from Python and from the command line."""

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from sae_lens import SAE
from sae_lens.load_model import load_model
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from sae_lens_abstopk import ConfigError, explore
from sae_lens_abstopk.cli import app
from sae_lens_abstopk.evaluation.inspection.inspect_saes import inspect_saes
from sae_lens_abstopk.explorer import pass_cache
from sae_lens_abstopk.explorer.axes import axis_matches
from sae_lens_abstopk.explorer.latents import Provenance
from sae_lens_abstopk.explorer.logit_lens import TOKENS, token_effects
from sae_lens_abstopk.explorer.site import SCRIPTS
from sae_lens_abstopk.explorer.snippet import snippet
from sae_lens_abstopk.explorer.steered import STRENGTHS
from sae_lens_abstopk.saes.loading import load_sae
from sae_lens_abstopk.system.folder_lock import run_folder_lock
from sae_lens_abstopk.text.token_text import TokenText
from tests.evaluation.results_document import results_document


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


def test_the_command_writes_a_site_and_takes_a_pass_up_again(folders: list[Path], tmp_path: Path) -> None:
    def run(tokens: int) -> Any:
        arguments = ["explore", str(folders[0]), "--out", str(tmp_path / "site"), "--tokens", str(tokens)]
        return CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, arguments)

    with run_folder_lock(tmp_path / "site"):
        assert "site' is being written by process" in run(256).stderr
    (tmp_path / "site").mkdir(exist_ok=True)
    (tmp_path / "site" / ".collection.pt").write_bytes(b"a pickle of an earlier version, which is not loaded")
    with pytest.warns(UserWarning, match=r"collection\.pt was removed: passes .* cache"):
        done = run(256)
    assert done.exit_code == 0, done.output
    assert f"passes over texts are kept in {pass_cache.passes_folder()}" in done.output
    assert done.output.strip().endswith("index.html")
    assert "were read" not in done.output
    site = {path.name for path in (tmp_path / "site").iterdir()}
    assert site == {"index.html", "data", *SCRIPTS, ".lock"}
    overview = tmp_path / "site" / "data" / "0" / "overview.js"
    first = overview.read_text()
    assert run(256).exit_code == 0
    assert overview.read_text() == first
    assert run(512).exit_code == 0
    assert overview.read_text() != first
    assert re.search(
        r"has only \d[\d,]+ tokens in whole batches, not 1,000,000: all were read\.", run(1_000_000).output
    )


def test_steered_texts_are_those_of_the_model_with_the_row_added(
    folders: list[Path], tiny_llama: Path, tokenizer: Any
) -> None:
    found = explore(folders, n_tokens=512, prompts=["The old lighthouse", "He"], steered_latents=2)
    sae = found.saes["batch_abstopk"]
    steered = [latent for latent in sae if latent.steered]
    assert [latent.index for latent in steered] == sorted(sae.collected.strongest.suggested(2))
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
    with pytest.raises(ConfigError, match="has no tokens"):
        explore(sae, model=str(tiny_llama), text=str(texts), n_tokens=128, prompts=[""], on_progress=pytest.fail)


@pytest.mark.parametrize("is_home", [False, True])
def test_the_snippet_of_a_page_runs(
    is_home: bool, folders: list[Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = explore(folders[0], n_tokens=128)
    home = Path(*folders[0].parts[:3])  # of the SAE and the model
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home if is_home else home / "elsewhere"))
    code = snippet(found.saes["batch_abstopk"].source, found.about).replace("{latent}", "3").replace("{scale}", "5.0")
    assert (str(home) in code) != is_home
    capsys.readouterr()
    exec(code, {})
    printed = capsys.readouterr().out
    assert printed.startswith("-4.0 I think that")
    assert "\n4.0 I think that" in printed


def test_the_snippet_fits_the_model(folders: list[Path], tiny_llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(folders[0])
    sae = SAE.load_from_disk(source)
    sae.cfg.metadata.hook_name = "blocks.2.mlp.hook_out"
    sae.save_model(source)
    hook, model = "blocks.2.mlp.hook_out", str(tiny_llama)
    base = Provenance(model, model, hook, "text", held_out=True, tokens_read=1, context_size=1)
    code = snippet(source, replace(base, model_class="TransformerBridge"))
    exec(code.replace("{latent}", "3").replace("{scale}", "5.0"), {})
    assert capsys.readouterr().out.startswith("-4.0 I think that")
    assert "do_sample=False, verbose=False, use_past_kv_cache=False)" in code
    as_hooked = replace(base, model_class="HookedTransformer", model_source="gpt2-small")
    hooked = snippet(source, replace(as_hooked, loaded_with={"center_writing_weights": True}))
    compile(hooked.replace("{latent}", "3").replace("{scale}", "5.0"), "snippet", "exec")
    assert "HookedTransformer.from_pretrained_no_processing('gpt2-small', center_writing_weights=True)" in hooked
    assert "do_sample=False, verbose=False)" in hooked
    as_bridge = replace(base, model_class="TransformerBridge", model_source="pythia-70m")
    bridged = snippet(source, replace(as_bridge, loaded_with={"revision": "step3000"}))
    assert "AutoTokenizer.from_pretrained('EleutherAI/pythia-70m')" in bridged, "transformers knows no short names"
    assert "AutoModelForCausalLM.from_pretrained('EleutherAI/pythia-70m', revision='step3000')" in bridged
    one_head = snippet(source, replace(base, all_heads=False))
    assert "steer(" not in one_head
    assert one_head.startswith("import sae_lens_abstopk")


def test_the_snippet_of_a_release_loads_it_from_the_hub(folders: list[Path]) -> None:
    about = explore(folders[0], n_tokens=128).about
    assert "sae = SAE.from_pretrained('USER/NAME', 'layer_3/mine')" in snippet("USER/NAME:layer_3/mine", about)


def test_a_folder_of_the_name_of_an_sae_in_memory_is_not_its_own(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sae = load_sae(folders[1])
    monkeypatch.chdir(folders[1].parent)
    assert Path(sae.cfg.architecture(), "cfg.json").is_file()
    with pytest.raises(ConfigError, match=r"the topk SAE in memory has no config\.yaml"):
        explore(sae)


def test_mistakes_are_answered_before_anything_runs(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sae_lens_abstopk.evaluation.subjects.subjects.load_language_model", None)
    with pytest.raises(ConfigError, match=r"nowhere\.txt.*no such file"):
        explore(folders[0], text=str(tmp_path / "nowhere.txt"))
    with pytest.raises(ConfigError, match="3 SAEs were given"):
        explore([*folders, folders[0]])
    results_document().write(tmp_path / "results.json")
    with pytest.raises(ConfigError, match="none of the SAEs measured there"):
        explore(folders[0], results=str(tmp_path / "results.json"))
    (tmp_path / "mine.txt").write_text("")
    done = CliRunner().invoke(app, ["explore", str(folders[0]), "--out", str(tmp_path)])
    assert done.exit_code == 2
    done = CliRunner().invoke(app, ["explore", str(tmp_path / "nowhere"), "--out", str(tmp_path / "new")])
    assert done.exit_code == 2
    assert not (tmp_path / "new").exists()
    done = CliRunner().invoke(
        app, ["explore", str(folders[0]), "--labeler", "http://x/v1", "-o", str(tmp_path / "new")]
    )
    assert done.exit_code == 2
    assert "--labeler-model NAME" in " ".join(done.output.split())


@pytest.mark.parametrize("preset", ["pythia-70m", "gpt2", "gemma-2-2b", "llama-3.1-8b"])
def test_the_logit_lens_is_what_the_direction_does_to_the_logits(preset: str, tiny_models: dict[str, Path]) -> None:
    model: Any = load_model("AutoModelForCausalLM", str(tiny_models[preset]), device="cpu", hook_names=[])
    rows = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    effects, opposite = (token_effects(model, sign * rows, "model.layers.2") for sign in (1, -1))
    assert effects is not None
    assert opposite is not None
    # the last hidden state of transformers is after the final norm: its difference to that of no stream at all
    norms = [module for name, module in model.model.named_modules() if type(module).__name__.endswith("Norm")]
    final = norms[-1]
    with torch.no_grad():
        logits = model.model.get_output_embeddings()(final(1e3 * rows)) - model.model.get_output_embeddings()(
            final(torch.zeros_like(rows))
        )
    assert effects.tokens[0].tolist() == logits.topk(TOKENS).indices.tolist()
    assert torch.equal(effects.tokens[0], opposite.tokens[1])
    assert torch.allclose(effects.by[0], -opposite.by[1], atol=1e-4)


@pytest.mark.parametrize(
    ("hook", "width", "in_stream"),
    [
        ("model.layers.2", 32, True),
        ("transformer.h.3.mlp", 32, True),
        ("blocks.2.hook_resid_pre", 32, True),
        ("blocks.2.hook_attn_out", 32, True),
        ("model.layers.2", 48, False),
        ("blocks.2.attn.hook_z", 32, False),
        ("model.layers.2.self_attn.q_proj", 32, False),
        ("blocks.2.ln2.hook_normalized", 32, False),
    ],
)
def test_the_lens_is_for_directions_of_the_residual_stream(
    hook: str, width: int, in_stream: bool, tiny_llama: Path
) -> None:
    model = load_model("AutoModelForCausalLM", str(tiny_llama), device="cpu", hook_names=[])
    assert (token_effects(model, torch.randn(3, width), hook) is not None) == in_stream


@pytest.mark.parametrize(
    ("hook", "in_stream"),
    [("model.layers.2", True), ("model.layers.2.mlp", False), ("model.layers.2.self_attn", False)],
)
def test_the_lens_is_not_for_what_goes_through_a_norm_first(
    hook: str, in_stream: bool, tiny_models: dict[str, Path]
) -> None:
    model = load_model("AutoModelForCausalLM", str(tiny_models["gemma-2-2b"]), device="cpu", hook_names=[])
    assert (token_effects(model, torch.randn(3, 32), hook) is not None) == in_stream


def test_the_lens_names_no_row_of_the_vocabulary_that_is_no_token(tiny_llama: Path) -> None:
    model: Any = load_model("AutoModelForCausalLM", str(tiny_llama), device="cpu", hook_names=[])
    rows = torch.randn(3, 32)
    plain = token_effects(model, rows, "model.layers.2")
    model.model.resize_token_embeddings(len(model.tokenizer) + 100)
    padded = token_effects(model, rows, "model.layers.2")
    assert plain is not None
    assert padded is not None
    assert torch.equal(padded.tokens, plain.tokens)
    assert torch.equal(padded.by, plain.by)


def test_the_nearest_direction_of_either_sign_is_found() -> None:
    generator = torch.Generator().manual_seed(0)
    ours, theirs = torch.randn(30, 6, generator=generator), torch.randn(50, 6, generator=generator)
    unit = torch.nn.functional.normalize(ours) @ torch.nn.functional.normalize(theirs).T
    all_of, third = torch.ones(50).bool(), torch.arange(50) % 3 == 0
    for fires in ((all_of, ~all_of), (all_of, all_of), (all_of, third), (third, ~third)):
        found = axis_matches(ours, theirs, fires=torch.stack(fires))
        for side, sign in enumerate((1, -1)):
            cosines = torch.stack([sign * unit, -sign * unit], dim=-1)  # by pole of the other
            cosines[:, ~torch.stack(fires, dim=-1)] = -2
            best = cosines.flatten(1).max(1)
            assert torch.allclose(found.cosine[side], best.values)
            assert found.latent[side].tolist() == (best.indices // 2).tolist()
            assert found.pole[side].tolist() == (best.indices % 2).tolist()
