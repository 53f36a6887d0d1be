"""A tiny fine-tune, its held-out contexts, an SAE of its differences, and the browser of the explorer's tests."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE, AbsTopKSAEConfig

from sae_lens_abstopk.diffs.held_out import HeldOut
from sae_lens_abstopk.model.model_pair import ModelPair
from sae_lens_abstopk.model.model_spec import ModelPairSpec
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.text.text_spec import TextSpec
from tests.explorer.conftest import browser

__all__ = ["browser"]

HOOK = "model.layers.4"


@pytest.fixture(scope="session")
def text(texts: Path) -> TextSpec:
    small: dict[str, Any] = {"context_size": 24, "store_batch_size_prompts": 4, "sequence_separator_token": "eos"}
    return TextSpec(dataset_path=str(texts), **small)


@pytest.fixture(scope="session")
def pair(tiny_llama: Path, tiny_adapter: Path, text: TextSpec) -> ModelPair:
    spec = ModelPairSpec(model_name=str(tiny_llama), hook_name=HOOK, device="cpu", adapter=str(tiny_adapter))
    return ModelPair.load(spec, text)


@pytest.fixture(scope="session")
def held_out(pair: ModelPair, text: TextSpec) -> HeldOut:
    return HeldOut.read(pair, text, 900, token_filter=TokenFilter((1, None)), d_sae=32)


@pytest.fixture(scope="session")
def sae(held_out: HeldOut) -> SAE[Any]:
    """A signed SAE of principal components of the differences, some with their signs turned."""
    found: SAE[Any] = SAE.from_dict(AbsTopKSAEConfig(d_in=32, d_sae=12, k=6).to_dict())
    rows = torch.linalg.svd(held_out.x, full_matrices=False).Vh[:12] * torch.tensor([1, -1] * 6)[:, None]
    found.load_state_dict(
        {"W_enc": rows.T.contiguous(), "W_dec": rows, "b_enc": torch.zeros(12), "b_dec": torch.zeros(32)}
    )
    return found
