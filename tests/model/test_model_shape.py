import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub.errors import GatedRepoError

from sae_lens_abstopk import ConfigError, load_config
from sae_lens_abstopk.model import model_shape as model_config
from sae_lens_abstopk.model.model_shape import model_shape, name_on_hub, read_model_config


def test_without_a_network_the_quickstart_model_is_found_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABSTOPK_CACHE", str(tmp_path))
    copy = tmp_path / model_config.QUICKSTART_MODEL
    copy.mkdir()
    with pytest.raises(ConfigError, match=f"model_name={copy}"):
        load_config("quickstart")


@pytest.mark.parametrize(("token", "state"), [("", "HF_TOKEN is not set"), ("x", "HF_TOKEN is set but has no access")])
def test_a_gated_model_asks_for_the_token(monkeypatch: pytest.MonkeyPatch, token: str, state: str) -> None:
    def refuse(_: str) -> None:
        raise OSError("no access") from GatedRepoError.__new__(GatedRepoError)

    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(model_config.AutoConfig, "from_pretrained", refuse)
    with pytest.raises(ConfigError, match=state):
        model_shape("google/gemma-2-2b", "AutoModelForCausalLM")


def test_a_model_whose_config_contradicts_itself_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    config = json.loads((tiny_llama / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_attention_heads": 3}))
    with pytest.raises(ConfigError, match=r"could not be loaded .*multiple of the number of attention heads"):
        model_shape(str(tmp_path), "AutoModelForCausalLM")


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("gemma-2-2b", "google/gemma-2-2b"),
        ("somebody/gpt2-small", "somebody/gpt2-small"),
        ("nobody-knows", "nobody-knows"),
    ],
)
def test_a_short_name_of_transformer_lens_stands_for_the_name_on_the_hub(
    short: str, full: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert name_on_hub(short) == full
    monkeypatch.setattr(model_config, "AutoConfig", SimpleNamespace(from_pretrained=lambda name: name))
    assert read_model_config(short) == full
