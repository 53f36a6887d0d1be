"""From a file of pairs to axes of a language model, and back into it by steering."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE
from transformers import AutoModelForCausalLM, AutoTokenizer

from sae_lens_abstopk import ConfigError, PairAxes, publish, steer
from sae_lens_abstopk.explorer.steering_server import Steerer, SteeringRequest, sources_of_site
from sae_lens_abstopk.workflows.steered_prompts import steer_prompts

pytestmark = pytest.mark.slow

A, B = ["The river froze.", "We loved it."], ["The river was warm.", "They hated it."]


def test_axes_of_a_language_model_code_further_texts_and_are_reported(axes: PairAxes, tmp_path: Path) -> None:
    assert axes.sae.cfg.metadata.hook_name == "model.layers.3"
    assert axes.table().row_count == 8
    codes = axes.encode(A, B)
    assert codes.shape == (2, 8)
    assert codes.any()
    assert torch.equal(axes.encode(B, A), -codes)
    page = axes.report(tmp_path / "site")
    assert page == tmp_path / "site" / "index.html"
    again = SAE.load_from_disk(tmp_path / "site" / "sae")
    assert torch.equal(again.W_dec, axes.sae.W_dec)


def test_the_card_of_published_axes_says_how_to_code_two_texts(
    axes: PairAxes, tiny_llama: Path, tmp_path: Path
) -> None:
    axes.report(tmp_path / "site")
    publish({"axes": tmp_path / "site" / "sae"}, "someone/axes", dry_run_folder=tmp_path / "release")
    card = (tmp_path / "release" / "README.md").read_text()
    code = card.split("## Encode")[1].split("```python\n")[1].split("```")[0]
    scope: dict[str, Any] = {"sae": SAE.load_from_disk(tmp_path / "release" / "axes")}
    exec(code.replace(f'"{tiny_llama.name}"', repr(str(tiny_llama))), scope)
    assert torch.equal(scope["codes"], axes.encode(["She left."], ["He left."]))
    (tmp_path / "site" / "pairs.json").write_text("{")
    with pytest.raises(ConfigError, match=r"pairs\.json is missing or damaged .* fit the pairs again"):
        publish({"axes": tmp_path / "site" / "sae"}, "someone/axes", dry_run_folder=tmp_path / "again")


def test_an_axis_steers_the_model_by_its_latent_and_by_its_direction(
    axes: PairAxes, tiny_llama: Path, tmp_path: Path
) -> None:
    axes.report(tmp_path / "site")
    saved: SAE[Any] = SAE.load_from_disk(tmp_path / "site" / "sae")
    axis = max(axes.results.axes, key=lambda axis: axis.share_active).latent
    size = axes.scale(axis) * float(axes.direction(axis).norm())
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_llama), AutoTokenizer.from_pretrained(tiny_llama)
    inputs = tokenizer(A[0], return_tensors="pt")
    hook = axes.sae.cfg.metadata.hook_name
    with torch.no_grad():
        plain = model(**inputs).logits
        with steer(model, saved, latent=axis, strength=-2.0, scale=axes.scale):
            by_latent = model(**inputs).logits
        with steer(model, direction=axes.direction(axis), strength=-2.0, scale=size, hook_name=hook):
            by_direction = model(**inputs).logits
    assert not torch.allclose(by_latent, plain)
    torch.testing.assert_close(by_latent, by_direction)
    for source in (tmp_path / "site", tmp_path / "site" / "sae"):
        found = steer_prompts(source, axis, A, strengths=[2], max_new_tokens=2)
        assert (found.scale, found.strengths) == (axes.scale(axis), (-2, 0, 2))


def test_the_page_of_an_axis_steers_as_the_command_does(axes: PairAxes, tmp_path: Path) -> None:
    axes.report(tmp_path)
    steerer = Steerer(sources_of_site(tmp_path))
    axis = max(axes.results.axes, key=lambda axis: axis.share_active)
    assert axis.scale is not None
    asked = SteeringRequest(sae=0, latent=axis.latent, prompt=A[0], strength=4.0, scale=axis.scale, operator="cap")
    by_command = steer_prompts(tmp_path, axis.latent, [A[0]], strengths=[4], operator="cap").texts[0].texts
    assert tuple(steerer.texts(asked).values()) == by_command
