"""Models of every kind that steering works on, and SAEs for them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sae_lens import HookedSAETransformer, TopKSAE, TopKSAEConfig
from sae_lens.load_model import HookedProxyLM
from sae_lens.saes.sae import SAEMetadata
from torch import nn
from transformer_lens import HookedTransformerConfig
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from sae_lens_abstopk import SignedJumpReLUSAE, SignedJumpReLUSAEConfig
from sae_lens_abstopk.model.hook_places import find_place
from tests.conftest import VOCABULARY
from tests.saes.test_signed_saes import with_random_weights

HOOKS = {
    "pythia-70m": "gpt_neox.layers.3",
    "gpt2": "transformer.h.3",
    "gemma-2-2b": "model.layers.3",
    "qwen3-4b": "model.layers.3",
    "gemma-3-12b": "model.language_model.layers.3",
    "llama-3.1-8b": "model.layers.3",
    "gpt-neo": "transformer.h.3",
}
KINDS = [*HOOKS, "proxy", "bridge", "hooked"]
GPT2 = HOOKS["gpt2"]
Models = Callable[[str], Any]


def random_tokens(rows: int = 2, width: int = 7, seed: int = 0) -> torch.Tensor:
    return torch.randint(2, VOCABULARY, (rows, width), generator=torch.Generator().manual_seed(seed))


def model_of(kind: str, folders: dict[str, Path]) -> Any:
    """A tiny model: a preset's transformers class, or Llama as ``proxy`` or ``bridge``, or a HookedSAETransformer."""
    if kind == "hooked":
        torch.manual_seed(0)
        # without a tokenizer, its generate counts learned positions twice (TransformerLens 3.9); rotary ones are right
        sizes: dict[str, Any] = {"positional_embedding_type": "rotary", "rotary_dim": 16}
        sizes |= {"n_layers": 5, "d_model": 32, "n_ctx": 64, "d_head": 16, "n_heads": 2, "d_vocab": VOCABULARY}
        return HookedSAETransformer(HookedTransformerConfig(**sizes, act_fn="gelu", device="cpu")).eval()  # pyright: ignore
    folder = str(folders[kind if kind in folders else "llama-3.1-8b"])
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    if kind in HOOKS:
        return model
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if kind == "proxy":
        return HookedProxyLM(model, tokenizer, hook_names=["model.layers.3"])
    return TransformerBridge.boot_transformers(folder, hf_model=model, tokenizer=tokenizer, device="cpu")


def tiny_gemma4(folder: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A folder with a model of six layers, of which the last three read keys and values of the first three."""
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 6, "intermediate_size": 48, "head_dim": 16}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 1, "global_head_dim": 16, "num_kv_shared_layers": 3}
    sizes |= {"hidden_size_per_layer_input": 8, "vocab_size": VOCABULARY, "vocab_size_per_layer_input": VOCABULARY}
    kinds = ["sliding_attention", "sliding_attention", "full_attention"] * 2
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "gemma4_text", **sizes, layer_types=kinds, bos_token_id=0, eos_token_id=1, pad_token_id=1
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def hook_of(kind: str) -> str:
    return HOOKS.get(kind, "model.layers.3" if kind == "proxy" else "blocks.3.hook_resid_post")


def signed_sae(hook: str = "model.layers.3", **metadata: Any) -> SignedJumpReLUSAE:
    """A signed SAE, 32 wide, on which most latents fire on most tokens."""
    cfg = SignedJumpReLUSAEConfig(d_in=32, d_sae=64, metadata=SAEMetadata(hook_name=hook, **metadata))
    sae = with_random_weights(SignedJumpReLUSAE(cfg))
    sae.threshold.data.fill_(1e-3)
    return sae


def topk_sae(hook: str = "model.layers.3", **options: Any) -> TopKSAE:
    cfg = TopKSAEConfig(d_in=32, d_sae=64, k=8, metadata=SAEMetadata(hook_name=hook), **options)
    return with_random_weights(TopKSAE(cfg))


def logits_of(model: Any, tokens: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    """Logits [batch, width, vocabulary] of any of the models."""
    with torch.no_grad():
        out = model(tokens, **kwargs)
    return out if isinstance(out, torch.Tensor) else out.logits


def activations_of(model: Any, hook: str, tokens: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    """[batch, width, 32] that the layers above the hook see."""
    seen: list[torch.Tensor] = []

    def look(_: nn.Module, __: Any, output: Any) -> None:
        seen.append((output[0] if isinstance(output, tuple) else output).detach())

    handle = find_place(model, hook).module.register_forward_hook(look)
    try:
        logits_of(model, tokens, **kwargs)
    finally:
        handle.remove()
    return seen[0]
