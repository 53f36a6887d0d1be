"""The code to copy from a latent's page."""

from dataclasses import replace
from pathlib import Path

import pytest
from sae_lens import SAE

from sae_lens_abstopk import explore
from sae_lens_abstopk.explorer.latents import Provenance
from sae_lens_abstopk.explorer.snippet import snippet


def filled(code: str) -> str:
    return code.replace("{latent}", "3").replace("{scale}", "5.0")


@pytest.mark.parametrize("is_home", [False, True])
def test_the_snippet_of_a_page_runs(
    is_home: bool, folders: list[Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = explore(folders[0], n_tokens=128)
    home = Path(*folders[0].parts[:3])  # of the SAE and the model
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home if is_home else home / "elsewhere"))
    code = snippet(found.saes["batch_abstopk"].source, found.about)
    assert (str(home) in code) != is_home
    capsys.readouterr()
    exec(filled(code), {})
    printed = capsys.readouterr().out
    assert printed.startswith("-4.0 I think that")
    assert "\n4.0 I think that" in printed
    assert "sae = SAE.from_pretrained('USER/NAME', 'layer_3/mine')" in snippet("USER/NAME:layer_3/mine", found.about)


def test_the_snippet_fits_the_model(folders: list[Path], tiny_llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, hook, model = str(folders[0]), "blocks.2.mlp.hook_out", str(tiny_llama)
    sae = SAE.load_from_disk(source)
    sae.cfg.metadata.hook_name = hook
    sae.save_model(source)
    base = Provenance(model, model, hook, "text", held_out=True, tokens_read=1, context_size=1)
    code = snippet(source, replace(base, model_class="TransformerBridge"))
    exec(filled(code), {})
    assert capsys.readouterr().out.startswith("-4.0 I think that")
    assert "do_sample=False, verbose=False, use_past_kv_cache=False)" in code
    as_hooked = replace(base, model_class="HookedTransformer", model_source="gpt2-small")
    hooked = snippet(source, replace(as_hooked, loaded_with={"center_writing_weights": True}))
    compile(filled(hooked), "snippet", "exec")
    assert "HookedTransformer.from_pretrained_no_processing('gpt2-small', center_writing_weights=True)" in hooked
    assert "do_sample=False, verbose=False)" in hooked
    as_bridge = replace(base, model_class="TransformerBridge", model_source="pythia-70m")
    bridged = snippet(source, replace(as_bridge, loaded_with={"revision": "step3000"}))
    assert "AutoTokenizer.from_pretrained('EleutherAI/pythia-70m')" in bridged, "transformers knows no short names"
    assert "AutoModelForCausalLM.from_pretrained('EleutherAI/pythia-70m', revision='step3000')" in bridged
    one_head = snippet(source, replace(base, all_heads=False))
    assert "steer(" not in one_head
    assert one_head.startswith("import sae_lens_abstopk")
