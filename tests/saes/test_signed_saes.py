"""Selection: what holds for every signed SAE."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sae_lens import AbsTopKTrainingSAE as StockAbsTopKTrainingSAE
from sae_lens import AbsTopKTrainingSAEConfig as StockAbsTopKTrainingSAEConfig
from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY
from sae_lens.saes.sae import TrainStepInput

from sae_lens_abstopk import (
    AbsTopKTrainingSAE,
    AbsTopKTrainingSAEConfig,
    BatchAbsTopKTrainingSAE,
    BatchAbsTopKTrainingSAEConfig,
    SignedJumpReLUSAE,
    SignedJumpReLUSAEConfig,
)
from sae_lens_abstopk.saes.load_note import needed_import

Signed = AbsTopKTrainingSAE | BatchAbsTopKTrainingSAE
DTYPES = st.sampled_from(["float32", "bfloat16"])


def per_token(**options: Any) -> AbsTopKTrainingSAE:
    return with_random_weights(
        AbsTopKTrainingSAE(AbsTopKTrainingSAEConfig(**{"d_in": 8, "d_sae": 24, "k": 5} | options))
    )


def per_batch(**options: Any) -> BatchAbsTopKTrainingSAE:
    cfg = BatchAbsTopKTrainingSAEConfig(**{"d_in": 8, "d_sae": 24, "k": 5} | options)
    return with_random_weights(BatchAbsTopKTrainingSAE(cfg))


@torch.no_grad()
def with_random_weights(sae: Any, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sae.named_parameters():
        if name != "threshold":
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return sae


def tokens(n: int, d_in: int = 8, seed: int = 1) -> torch.Tensor:
    return torch.randn(n, d_in, generator=torch.Generator().manual_seed(seed))


def step(sae: Any, x: torch.Tensor, *, n: int = 1, dead: torch.Tensor | None = None) -> Any:
    return sae.training_forward_pass(
        TrainStepInput(sae_in=x, coefficients={}, dead_neuron_mask=dead, n_training_steps=n, is_logging_step=False)
    )


@given(st.integers(1, 24), st.integers(1, 9), DTYPES)
def test_each_token_keeps_exactly_k_latents_with_their_signs(k: int, n: int, dtype: str) -> None:
    sae = per_token(k=k, dtype=dtype)
    codes, hidden_pre = sae.encode_with_hidden_pre(tokens(n))
    assert ((codes != 0).sum(-1) == k).all()
    assert torch.equal(codes[codes != 0], hidden_pre[codes != 0])
    kept_least = codes.abs().masked_fill(codes == 0, torch.inf).amin(-1)
    dropped_most = hidden_pre.abs().masked_fill(codes != 0, 0).amax(-1)
    assert (kept_least >= dropped_most).all()


@given(st.floats(1, 24), st.integers(1, 9), DTYPES)
def test_a_batch_keeps_k_times_its_tokens_with_their_signs(k: float, n: int, dtype: str) -> None:
    codes, hidden_pre = per_batch(k=k, dtype=dtype).encode_with_hidden_pre(tokens(n))
    on = codes != 0
    assert int(on.sum()) == int(k * n)
    assert torch.equal(codes[on], hidden_pre[on])
    assert codes[on].abs().min() >= hidden_pre.abs().masked_fill(on, 0).max()


def test_per_token_equals_saelens_in_codes_loss_and_gradients() -> None:
    ours = per_token(sparse_backend="dense")
    stock = StockAbsTopKTrainingSAE(StockAbsTopKTrainingSAEConfig(d_in=8, d_sae=24, k=5))
    stock.load_state_dict(ours.state_dict(), strict=False)
    x, dead = tokens(16), torch.arange(24) % 3 == 0
    a, b = step(ours, x, dead=dead), step(stock, x, dead=dead)
    assert torch.equal(a.feature_acts, b.feature_acts)
    assert torch.equal(a.loss, b.loss)
    assert a.losses["auxiliary_reconstruction_loss"] > 0
    a.loss.backward()
    b.loss.backward()
    for name, parameter in stock.named_parameters():
        # the encoder is laid out another way in memory, so sums may round another way
        torch.testing.assert_close(ours.get_parameter(name).grad, parameter.grad, rtol=1e-5, atol=1e-5, msg=name)


def test_a_batch_of_one_token_is_per_token() -> None:
    for x in tokens(10).split(1):
        assert torch.equal(per_batch().encode(x), per_token().encode(x))


def signed_jumprelu(dtype: str = "float32") -> SignedJumpReLUSAE:
    sae = with_random_weights(SignedJumpReLUSAE(SignedJumpReLUSAEConfig(d_in=8, d_sae=24, dtype=dtype)))
    sae.threshold.data = torch.linspace(0, 6, 24, dtype=sae.dtype)
    return sae


def test_signed_jumprelu_keeps_what_exceeds_its_threshold_in_magnitude() -> None:
    sae, x = signed_jumprelu(), tokens(30)
    hidden_pre = sae.process_sae_in(x) @ sae.W_enc + sae.b_enc
    expected = torch.where(hidden_pre.abs() > sae.threshold, hidden_pre, 0)
    assert torch.equal(sae.encode(x), expected)
    assert (expected < 0).any()
    assert (expected == 0).any()


@pytest.mark.parametrize("make", [per_token, per_batch, signed_jumprelu])
def test_contexts_and_batches_of_any_shape_are_encoded_alike(make: Any) -> None:
    sae, x = make(), tokens(12)
    torch.testing.assert_close(sae.encode(x.view(3, 4, 8)).flatten(0, 1), sae.encode(x))
    torch.testing.assert_close(sae(x.view(3, 4, 8)).flatten(0, 1), sae(x))


def test_what_needs_the_import_is_what_it_registers() -> None:
    names = {*SAE_CLASS_REGISTRY, *SAE_TRAINING_CLASS_REGISTRY}
    ours = {name for name in names if needed_import(name) == "sae_lens_abstopk"}
    assert ours == {
        *("signed_jumprelu", "sparse_abstopk", "sparse_topk", "sparse_batchtopk"),
        *("batch_abstopk", "matryoshka_batch_abstopk"),
    }
