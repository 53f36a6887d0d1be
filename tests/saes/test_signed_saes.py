"""Selection: what holds for every signed SAE."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sae_lens import SAE
from sae_lens import AbsTopKTrainingSAE as StockAbsTopKTrainingSAE
from sae_lens import AbsTopKTrainingSAEConfig as StockAbsTopKTrainingSAEConfig
from sae_lens.saes.sae import TrainStepInput

from sae_lens_abstopk import (
    AbsTopKTrainingSAE,
    AbsTopKTrainingSAEConfig,
    BatchAbsTopKTrainingSAE,
    BatchAbsTopKTrainingSAEConfig,
    SignedJumpReLUSAE,
    SignedJumpReLUSAEConfig,
    encode_topk,
    mirror,
)
from sae_lens_abstopk.saes.topk import SparseBatchTopKTrainingSAE, SparseBatchTopKTrainingSAEConfig

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


def test_only_the_first_latents_fire_on_both_sides() -> None:
    codes = step(per_batch(signed_share=0.25), tokens(64)).feature_acts.to_dense()
    assert codes[:, :6].lt(0).any()
    assert not codes[:, 6:].lt(0).any()
    assert codes.ne(0).sum() == 5 * 64


def test_a_share_of_none_is_batch_topk_and_of_all_is_abstopk() -> None:
    x, dead = tokens(16), torch.arange(24) < 7  # more than the loss of dead latents takes
    for backend in ("sparse", "dense"):
        # SAELens's own step, also for the loss of dead latents
        cfg = SparseBatchTopKTrainingSAEConfig(d_in=8, d_sae=24, k=5, sparse_backend="dense")
        topk = step(with_random_weights(SparseBatchTopKTrainingSAE(cfg)), x, dead=dead)
        none = step(per_batch(signed_share=0, sparse_backend=backend), x, dead=dead)
        torch.testing.assert_close(none.feature_acts.to_dense(), topk.feature_acts)
        torch.testing.assert_close(none.sae_out, topk.sae_out)
        torch.testing.assert_close(
            none.losses["auxiliary_reconstruction_loss"], topk.losses["auxiliary_reconstruction_loss"]
        )
        assert none.losses["auxiliary_reconstruction_loss"] > 0
    all_signed, default = (step(sae, x, dead=dead) for sae in (per_batch(signed_share=1.0), per_batch()))
    assert torch.equal(all_signed.feature_acts.to_dense(), default.feature_acts.to_dense())


@pytest.mark.parametrize("backend", ["sparse", "dense"])
def test_a_dead_latent_comes_back_from_the_side_that_is_closed(backend: str) -> None:
    sae = per_batch(signed_share=0.25, sparse_backend=backend)
    dead = torch.arange(24) == 20
    with torch.no_grad():
        sae.b_enc[20] = -100.0
    output = step(sae, tokens(16), dead=dead)
    assert not output.feature_acts.to_dense()[:, 20].any()
    output.loss.backward()
    assert sae.W_enc.grad[:, 20].abs().sum() > 0


def test_a_closed_pole_is_closed_in_what_is_saved_in_its_mirror_and_in_compact_codes(tmp_path: Path) -> None:
    sae = per_batch(signed_share=0.25)
    x = tokens(64)
    for _ in range(50):
        step(sae, x)
    sae.eval()
    sae.save_inference_model(tmp_path)
    saved = SAE.load_from_disk(tmp_path)
    codes = saved.encode(x)
    torch.testing.assert_close(codes, sae.encode(x))
    assert codes[:, :6].lt(0).any()
    assert not codes[:, 6:].lt(0).any()
    for one in (sae, saved):
        compact = encode_topk(one, x)
        torch.testing.assert_close(torch.zeros_like(codes).scatter_add(1, compact.indices, compact.values), codes)
    mirrored = mirror(saved)
    assert type(mirrored).__module__.startswith("sae_lens.")
    torch.testing.assert_close(mirrored(x), saved(x))
