"""A signed SAE on a tiny model, in a folder, as other tools are given one."""

from pathlib import Path

import pytest
import torch
from sae_lens import SAE
from sae_lens.load_model import load_model
from sae_lens.saes.sae import SAEMetadata
from transformers import AutoModelForCausalLM, AutoTokenizer

from sae_lens_abstopk import SignedJumpReLUSAE, SignedJumpReLUSAEConfig
from sae_lens_abstopk.model.language_model import load_bridge
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.text.documents import open_dataset

HOOK, LAYER, D, F, L0 = "model.layers.2", 2, 32, 64, 6
CONTEXT = 32
BLOCKS = "blocks.2.hook_resid_post"


@pytest.fixture(scope="session")
def tiny_llama(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Llama with larger embeddings, so that its activations are of the size that probes are tuned for."""
    folder = tmp_path_factory.mktemp("loud") / "llama"
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(100)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_llama).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def signed_folder(tiny_llama: Path, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``signed_jumprelu`` SAE roughly fitted to the tiny model: centred, six codes per token, both signs."""
    model = load_model("AutoModelForCausalLM", str(tiny_llama), device="cpu", hook_names=[HOOK])
    rows = [row["text"] for row in list(open_dataset(str(texts)))[:8]]
    tokens = model.tokenizer(rows, return_tensors="pt", truncation=True, max_length=CONTEXT).input_ids
    _, cache = model.run_with_cache(tokens, names_filter=[HOOK], prepend_bos=False)
    x = cache[HOOK][:, 1:].flatten(0, 1).float()
    metadata = SAEMetadata(
        model_name=str(tiny_llama),
        hook_name=HOOK,
        model_class_name="AutoModelForCausalLM",
        context_size=CONTEXT,
        prepend_bos=False,
        seqpos_slice=[1, None],
        label="mine",
    )
    sae = SignedJumpReLUSAE(SignedJumpReLUSAEConfig(d_in=D, d_sae=F, metadata=metadata))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        directions = torch.randn(F, D, generator=generator)
        scale = torch.linspace(0.5, 2, F)[:, None]
        directions = directions / directions.norm(dim=1, keepdim=True)
        sae.W_dec.copy_(directions * scale)
        sae.W_enc.copy_((directions / scale).T)
        sae.b_dec.copy_(x.mean(0))
        hidden = (x - sae.b_dec) @ sae.W_enc
        sae.threshold.copy_(hidden.abs().quantile(1 - L0 / F, dim=0))
    folder = tmp_path_factory.mktemp("signed") / "sae"
    sae.save_model(folder)
    return folder


@pytest.fixture(scope="session")
def passes(tiny_llama: Path) -> ModelPasses:
    return ModelPasses(load_bridge(str(tiny_llama), "cpu", {}).eval(), BLOCKS)


@pytest.fixture
def signed(signed_folder: Path) -> SignedJumpReLUSAE:
    sae = SAE.load_from_disk(signed_folder)
    assert isinstance(sae, SignedJumpReLUSAE)
    return sae
