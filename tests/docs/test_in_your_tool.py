"""The page on other tools: its blocks run in order, on a tiny model in place of the one named."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE
from sae_lens.saes.sae import SAEMetadata
from transformers import AutoModelForCausalLM

from sae_lens_abstopk import SignedJumpReLUSAE, SignedJumpReLUSAEConfig
from tests.cli.test_cli import invoke
from tests.conftest import at_layer_3
from tests.docs.test_pages import blocks
from tests.saes.test_converters import reference_weights
from tests.saes.test_signed_saes import with_random_weights


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_blocks_run(tiny_llama: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = SignedJumpReLUSAEConfig(d_in=32, d_sae=64, metadata=SAEMetadata(hook_name="model.layers.3"))
    sae = with_random_weights(SignedJumpReLUSAE(cfg))
    sae.threshold.data.fill_(4.0)
    sae.save_model("runs/tokens")
    reference_weights(Path("checkpoints"))
    scope: dict[str, Any] = {}
    assert [kind for kind, _ in blocks("in-your-tool")] == ["bash", *["python"] * 6, "bash", *["python"] * 3]
    for kind, code in blocks("in-your-tool"):
        if kind == "bash":
            arguments = shlex.split(code)[1:]
            if arguments[0] == "neuronpedia":  # it asks for model and text where no run recorded them
                arguments += ["--model", str(tiny_llama), "--text", str(texts), "--tokens", "500"]
            done = invoke(*arguments)
            assert done.exit_code == 0, done.output
        else:
            small = code.replace("HuggingFaceTB/SmolLM2-135M-Instruct", str(tiny_llama)).replace("768", "8")
            exec(at_layer_3(small), scope)
    assert scope["kept"].tolist() == [[False] + [True] * (scope["tokens"].shape[1] - 1)]
    torch.testing.assert_close(scope["loss"], loss_without_first_token(scope), rtol=1e-4, atol=1e-4)
    assert (scope["codes"] < 0).any()
    assert (scope["codes"] > 0).any()
    assert torch.equal(scope["signed"].W_enc, SAE.load_from_disk("runs/tokens").W_enc)
    assert scope["text"].shape[1] == scope["tokens"].shape[1] + 8
    assert list(Path("neuronpedia").glob("batch-*.json"))
    (steered,) = torch.load("steering.pt", weights_only=True).values()
    vector = steered["steering_vector"] * steered["steering_coefficient"]
    torch.testing.assert_close(vector, -24.0 * scope["signed"].W_dec[7].detach())
    assert len(scope["merged"].pairs) == 64
    assert SAE.load_from_disk("converted").cfg.d_sae == scope["converted"].cfg.d_sae


def loss_without_first_token(scope: dict[str, Any]) -> torch.Tensor:
    """The loss of the model of ``transformers`` through the SAE at all tokens but the first."""
    model, sae, tokens = AutoModelForCausalLM.from_pretrained(scope["name"]), scope["signed"], scope["tokens"]

    def reconstruct(_: Any, __: Any, output: Any) -> torch.Tensor:
        x = output[0] if isinstance(output, tuple) else output
        return torch.cat([x[:, :1], sae(x)[:, 1:]], dim=1)

    model.model.layers[3].register_forward_hook(reconstruct)
    return model(tokens, labels=tokens).loss
