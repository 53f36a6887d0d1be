"""Codes as values and latents, against SAELens's encode and decode."""

from typing import Any

import pytest
import torch
from sae_lens import AbsTopKSAEConfig, BatchTopKTrainingSAEConfig, JumpReLUSAEConfig, StandardSAEConfig, TopKSAEConfig
from sae_lens.registry import get_sae_class, get_sae_training_class

from sae_lens_abstopk import (
    AbsTopKTrainingSAEConfig,
    BatchAbsTopKTrainingSAEConfig,
    ConfigError,
    MatryoshkaBatchAbsTopKTrainingSAEConfig,
    SignedJumpReLUSAEConfig,
)
from sae_lens_abstopk import decode_topk as decode
from sae_lens_abstopk import encode_topk as encode
from sae_lens_abstopk.saes.topk import SparseBatchTopKTrainingSAEConfig


def build(cfg: Any, get_class: Any = get_sae_class) -> Any:
    sae = get_class(cfg.architecture())[0](cfg)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in sae.named_parameters():
        random = torch.randn(parameter.shape, generator=generator)
        parameter.data = (random.abs() if name.endswith("threshold") else random).to(parameter.dtype)
    return sae


SIZES = {"d_in": 8, "d_sae": 40}
CONFIGS = [
    AbsTopKSAEConfig(**SIZES, k=5),
    AbsTopKSAEConfig(**SIZES, k=5, rescale_acts_by_decoder_norm=True),
    AbsTopKSAEConfig(**SIZES, k=5, normalize_activations="layer_norm"),
    AbsTopKSAEConfig(**SIZES, k=5, apply_b_dec_to_input=False, dtype="float64"),
    TopKSAEConfig(**SIZES, k=30),  # fewer than 30 are positive
    TopKSAEConfig(**SIZES, k=5, rescale_acts_by_decoder_norm=True),
    SignedJumpReLUSAEConfig(**SIZES),
    SignedJumpReLUSAEConfig(**SIZES, normalize_activations="constant_norm_rescale"),
    SignedJumpReLUSAEConfig(**SIZES, pole_thresholds=True),
    JumpReLUSAEConfig(**SIZES),
]


@pytest.mark.parametrize("shape", [(13,), (3, 5), (1,), ()])
@pytest.mark.parametrize("cfg", CONFIGS, ids=lambda cfg: cfg.architecture())
@torch.no_grad()
def test_codes_and_reconstructions_are_those_of_saelens(cfg: Any, shape: tuple[int, ...]) -> None:
    sae = build(cfg)
    x = torch.randn(*shape, 8, dtype=sae.dtype, generator=torch.Generator().manual_seed(1))
    expected = sae.encode(x)
    expected_output = sae.decode(expected)
    codes = encode(sae, x)
    assert codes.values.shape[:-1] == shape
    dense = torch.zeros_like(expected).scatter_add(-1, codes.indices, codes.values)
    torch.testing.assert_close(dense, expected)
    torch.testing.assert_close(decode(sae, codes), expected_output)


TRAINING = [
    AbsTopKTrainingSAEConfig(**SIZES, k=5),
    BatchAbsTopKTrainingSAEConfig(**SIZES, k=4.5),
    BatchAbsTopKTrainingSAEConfig(**SIZES, k=4.5, rescale_acts_by_decoder_norm=False),
    MatryoshkaBatchAbsTopKTrainingSAEConfig(**SIZES, k=6),
    SparseBatchTopKTrainingSAEConfig(**SIZES, k=4.5),
]


@pytest.mark.parametrize("mode", ["training", "threshold", "no threshold yet"])
@pytest.mark.parametrize("cfg", TRAINING, ids=lambda cfg: cfg.architecture())
@torch.no_grad()
def test_those_of_training_saes_are_the_same(cfg: Any, mode: str) -> None:
    sae = build(cfg, get_sae_training_class).train(mode == "training")
    if mode == "threshold" and hasattr(sae, "topk_threshold"):
        sae.topk_threshold.fill_(6.0)
    x = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1))
    codes = encode(sae, x)
    dense = torch.zeros(2, 3, 40).scatter_add(-1, codes.indices, codes.values)
    expected = sae.encode(x)
    assert (expected < 0).any() == ("abstopk" in cfg.architecture())
    torch.testing.assert_close(dense, expected)
    torch.testing.assert_close(decode(sae, codes), sae.decode(expected))


def test_a_token_for_which_nothing_is_on_decodes_to_the_bias() -> None:
    sae = build(SignedJumpReLUSAEConfig(**SIZES))
    sae.threshold.data.fill_(1e9)
    codes = encode(sae, torch.randn(4, 8))
    assert codes.values.shape == (4, 0)
    torch.testing.assert_close(decode(sae, codes), sae.b_dec.detach().expand(4, 8))


def test_saes_of_other_architectures_are_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match="'standard' are not supported; abstopk, topk"):
        encode(build(StandardSAEConfig(**SIZES)), torch.randn(2, 8))
    in_training = build(BatchTopKTrainingSAEConfig(**SIZES, k=5), get_sae_training_class)
    with pytest.raises(ConfigError, match=r"'batchtopk' are not supported.* save it for inference first"):
        encode(in_training, torch.randn(2, 8))


@pytest.mark.parametrize("cfg", CONFIGS, ids=lambda cfg: cfg.architecture())
def test_autocast_changes_nothing_and_values_may_be_of_any_type(cfg: Any) -> None:
    sae = build(cfg)
    x = torch.randn(13, 8, dtype=sae.dtype, generator=torch.Generator().manual_seed(1))
    codes = encode(sae, x)
    expected = decode(sae, codes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = encode(sae, x)
        assert torch.equal(again.values, codes.values)
        assert torch.equal(decode(sae, again), expected)
    halves = decode(sae, encode(sae, x)._replace(values=codes.values.half()))
    assert halves.dtype == sae.dtype
    torch.testing.assert_close(halves, expected, rtol=1e-2, atol=0.1)
