"""Sparse kernels against plain references: selection, values, gradients."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sae_lens_abstopk.sparse import (
    EncoderWeights,
    SparseCodes,
    candidates,
    encoder,
    select_over_batch,
    select_per_token,
    selection,
    sparse_decode,
    sparse_encode,
)
from sae_lens_abstopk.sparse.encoder import TopEntries, top_entries

SIGNED = st.sampled_from([0, 5, 17])


def problem(b: int = 13, d: int = 6, f: int = 17, seed: int = 0, dtype: Any = torch.float64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"x": (b, d), "W_enc": (d, f), "b_enc": (f,), "W_dec": (f, d), "b_dec": (d,)}
    return {name: torch.randn(shape, generator=generator, dtype=dtype) for name, shape in shapes.items()}


def random_scale(n: int, dtype: Any = torch.float64) -> torch.Tensor:
    return torch.rand(n, dtype=dtype, generator=torch.Generator().manual_seed(1)) + 0.1


def expected_codes(encoder: EncoderWeights, x: torch.Tensor, n: int, *, over_batch: bool) -> torch.Tensor:
    """The ``n`` best entries of each token or of all, from all pre-activations."""
    u = x @ encoder.W_enc + encoder.b_enc
    scaled = u if encoder.scale is None else u * encoder.scale
    signed = torch.arange(u.shape[1]) < (u.shape[1] if encoder.n_signed is None else encoder.n_signed)
    scores = torch.where(signed, scaled.abs(), scaled.relu())
    pool = scores.view(1, -1) if over_batch else scores
    chosen = torch.zeros_like(pool, dtype=torch.bool).scatter_(-1, pool.topk(n).indices, True).view_as(u)
    return u * (chosen & (scores > 0))


def assert_same_codes(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-12) -> None:
    assert torch.equal(found != 0, expected != 0)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)  # other blocks round differently


@pytest.mark.parametrize("over_batch", [False, True], ids=["per token", "over a batch"])
@given(data=st.data(), scaled=st.booleans(), n_signed=SIGNED, block=st.integers(1, 60))
def test_selection_equals_topk_on_everything(
    over_batch: bool, data: st.DataObject, scaled: bool, n_signed: int, block: int
) -> None:
    p, n = problem(), data.draw(st.integers(1, 13 * 17 if over_batch else 17))
    weights = EncoderWeights(p["W_enc"], p["b_enc"], random_scale(17) if scaled else None, n_signed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "CPU_BLOCK", block)
        codes = (select_over_batch if over_batch else select_per_token)(weights, p["x"], n)
    assert_same_codes(codes.to_coo(17).to_dense(), expected_codes(weights, p["x"], n, over_batch=over_batch))
    assert codes.offsets[-1] == len(codes.latents)
    if n_signed == 17:
        assert len(codes.values) == (n if over_batch else 13 * n)


@given(
    seed=st.integers(0, 10_000),
    k=st.sampled_from([1, 7, 40]),
    n_signed=st.sampled_from([0, 100, 300]),
    scaled=st.booleans(),
    spread=st.sampled_from([0.0, 1.0, 3.0]),
    alike=st.sampled_from([0.0, 0.9, 1.0]),
)
def test_candidates_in_half_precision_give_the_selection_of_float32(
    seed: int, k: int, n_signed: int, scaled: bool, spread: float, alike: float
) -> None:
    # rows of very different norms, and rows so alike that rounding to bfloat16 cannot tell them apart
    generator = torch.Generator().manual_seed(seed)
    d, f = 24, 300
    x = torch.randn(40, d, generator=generator) * torch.randn(40, 1, generator=generator).mul(spread).exp()
    x[0] = 0
    W = torch.randn(d, f, generator=generator) * torch.randn(f, generator=generator).mul(spread).exp()
    W = alike * W[:, :1] + (1 - alike) * W + 1e-3 * torch.randn(d, f, generator=generator)
    b = torch.randn(f, generator=generator)
    plain = EncoderWeights(W, b, random_scale(f, torch.float32) if scaled else None, n_signed)
    u = x @ W + b
    # float32 sums in another order differ in the last bits, which may swap entries that are equal but for those
    tolerance = {"rtol": 1e-5, "atol": 1e-5 * float(x.norm(dim=1).max() * W.norm(dim=0).max())}
    with always_by_candidates():
        for select, n in ((select_per_token, k), (select_over_batch, 40 * k)):
            slow, fast = select(plain, x, n), select(plain._replace(half_precision=True), x, n)
            torch.testing.assert_close(fast.values, u[fast.rows, fast.latents], **tolerance)
            scores = [plain.scores(codes.values, codes.latents).sort().values for codes in (slow, fast)]
            common = min(len(part) for part in scores)  # unsigned: an entry at the last bit above zero or below
            torch.testing.assert_close(scores[0][-common:], scores[1][-common:], **tolerance)
            assert abs(len(scores[0]) - len(scores[1])) <= (0 if n_signed == f else 2)
            assert len(torch.unique(fast.rows * f + fast.latents)) == len(fast.latents)


@contextmanager
def always_by_candidates() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("MOST_CANDIDATES", 1.0), ("PROBED_TOKENS", 5), ("LEAST_TOKENS", 1)):
            patch.setattr(candidates, name, value)
        yield


def test_what_half_precision_cannot_prove_is_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 64, generator=generator)
    W = torch.randn(64, 500, generator=generator)
    # the tokens that are probed keep far more, of the same norm, than the others
    low = torch.arange(64) % 2 == 1
    x[low, 32:], x[~low, :32] = 0, 0
    W[:32] *= 0.1
    monkeypatch.setattr(candidates, "PROBED_TOKENS", 32)
    monkeypatch.setattr(candidates, "LEAST_TOKENS", 32)
    plain = EncoderWeights(W, torch.zeros(500))
    plainly: list[int] = []

    def counted(weights: EncoderWeights, x_BD: torch.Tensor, width: int) -> TopEntries:
        plainly.append(len(x_BD))
        return top_entries(weights, x_BD, width)

    monkeypatch.setattr(selection, "top_entries", counted)
    for select, k, again in ((select_per_token, 5, 32), (select_over_batch, 64 * 5, 64)):
        exact = select(plain, x, k).to_coo(500).to_dense()
        plainly.clear()
        proven = select(plain._replace(half_precision=True), x, k).to_coo(500).to_dense()
        assert torch.equal(proven != 0, exact != 0)
        assert plainly[0] >= again
    # where the tokens are alike there is nothing to compute again
    plainly.clear()
    select_over_batch(plain._replace(half_precision=True), x[~low], 32 * 5)
    assert plainly == []


def test_a_token_with_many_candidates_is_computed_again() -> None:
    generator = torch.Generator().manual_seed(0)
    x, W = torch.randn(1024, 64, generator=generator), torch.randn(64, 2048, generator=generator)
    odd = 7  # which is not probed; nearly all of its entries rank alike
    W[0], x[:, 0], x[odd] = 4.0, 0.0, 0.0
    x[odd, 0] = 10.0
    plain = EncoderWeights(W, torch.zeros(2048))
    half = plain._replace(half_precision=True)
    # the odd token's entries are equal, so which of them it keeps is open
    alike = torch.arange(1024) != odd
    sparse, dense = (select_per_token(weights, x, 8).to_coo(2048).to_dense() for weights in (half, plain))
    assert torch.equal(sparse[alike] != 0, dense[alike] != 0)
    assert sparse[odd].count_nonzero() == 8


@pytest.mark.parametrize("select", [select_per_token, select_over_batch])
def test_weights_that_are_not_finite_are_selected_as_in_float32(select: Any) -> None:
    x, W = torch.randn(8, 4), torch.randn(4, 50)
    W[0] = torch.nan
    plain = EncoderWeights(W, torch.zeros(50))
    with always_by_candidates():
        found = select(plain._replace(half_precision=True), x, 3)
    assert torch.equal(found.latents, select(plain, x, 3).latents)


def uneven(p: dict[str, torch.Tensor], n: int = 31) -> SparseCodes:
    return select_over_batch(EncoderWeights(p["W_enc"], p["b_enc"]), p["x"] - p["b_dec"], n)


def test_values_and_gradients_equal_the_dense_computation() -> None:
    p = {name: tensor.requires_grad_() for name, tensor in problem().items()}
    selected = uneven({name: tensor.detach() for name, tensor in p.items()})
    mask = selected._replace(values=torch.ones_like(selected.values)).to_coo(17).to_dense()
    weight = torch.randn(13, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    dense = ((p["x"] - p["b_dec"]) @ p["W_enc"] + p["b_enc"]) * mask
    out = dense @ p["W_dec"] + p["b_dec"]
    expected = torch.autograd.grad((out * weight).sum() + dense.square().sum(), list(p.values()))

    codes = sparse_encode(p["x"], p["b_dec"], p["W_enc"], p["b_enc"], selected)
    sparse_out = sparse_decode(codes, p["W_dec"]) + p["b_dec"]
    torch.testing.assert_close(sparse_out, out)
    found = torch.autograd.grad((sparse_out * weight).sum() + codes.values.square().sum(), list(p.values()))
    for name, a, b in zip(p, found, expected, strict=True):
        torch.testing.assert_close(a, b, msg=name)


def test_gradients_pass_gradcheck() -> None:
    p = {name: tensor.requires_grad_() for name, tensor in problem(b=5, d=4, f=7).items()}
    selected = uneven(p, 11)

    def autoencode(
        x: torch.Tensor, W_enc: torch.Tensor, b_enc: torch.Tensor, W_dec: torch.Tensor, b_dec: torch.Tensor
    ) -> torch.Tensor:
        values = ((x - b_dec)[selected.rows] * W_enc.T[selected.latents]).sum(-1) + b_enc[selected.latents]
        codes = sparse_encode(x, b_dec, W_enc, b_enc, selected._replace(values=values.detach()))
        return sparse_decode(codes, W_dec)

    assert torch.autograd.gradcheck(autoencode, list(p.values()))
