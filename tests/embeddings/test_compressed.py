"""Documents as they are stored: bytes, what 8 bits change, and codes that are those of the SAE and of its mirror."""

import numpy as np
import pytest
import torch
from sae_lens import SAE, AbsTopKSAE, AbsTopKSAEConfig, TopKSAE, TopKSAEConfig
from scipy.sparse import csr_array
from sklearn.decomposition import PCA

from sae_lens_abstopk import SignedJumpReLUSAEConfig, mirror
from sae_lens_abstopk.embeddings.code_rows import StoredCodes, code_rows, decoded_rows, mirrored
from sae_lens_abstopk.embeddings.compressed import fit_pca, float32, int8, of_codes, pca_int8
from sae_lens_abstopk.saes.signed_jumprelu import SignedJumpReLUSAE
from sae_lens_abstopk.vectors import vectors as vectors_of_files
from sae_lens_abstopk.vectors.vectors import Vectors

D, F = 16, 48
X = np.random.default_rng(0).normal(size=(200, D)).astype(np.float32)


def abstopk() -> SAE:
    torch.manual_seed(0)
    sae = AbsTopKSAE(AbsTopKSAEConfig(d_in=D, d_sae=F, k=5, rescale_acts_by_decoder_norm=True))
    sae.b_dec.data.normal_()
    return sae


def topk() -> SAE:
    torch.manual_seed(0)
    return TopKSAE(TopKSAEConfig(d_in=D, d_sae=F, k=5))


def jumprelu() -> SAE:
    torch.manual_seed(0)
    sae = SignedJumpReLUSAE(SignedJumpReLUSAEConfig(d_in=D, d_sae=F))
    sae.threshold.data.fill_(0.2)
    return sae


@pytest.mark.parametrize("make", [abstopk, topk, jumprelu])
def test_sparse_rows_are_the_codes_and_decode_like_them(make) -> None:
    sae, x = make(), torch.from_numpy(X)
    codes = sae.encode(x)
    rows = code_rows(sae, x)
    assert np.allclose(rows.toarray(), codes.detach().numpy(), atol=1e-5)
    assert (np.diff(rows.indptr) == (codes != 0).sum(1).numpy()).all()
    assert np.allclose(decoded_rows(sae, rows), sae.decode(codes).detach().numpy(), atol=1e-5)


def test_mirrored_rows_are_the_codes_of_the_mirror() -> None:
    sae, x = abstopk(), torch.from_numpy(X)
    assert np.allclose(mirrored(code_rows(sae, x)).toarray(), mirror(sae).encode(x).detach().numpy(), atol=1e-5)


def test_stored_codes_are_within_half_a_step_and_keep_their_signs() -> None:
    rows = code_rows(abstopk(), torch.from_numpy(X))
    stored = StoredCodes.of([rows[:150], rows[150:]], signed=True)
    before, after = rows.toarray(), np.concatenate([block.toarray() for block in stored.blocks])
    step = np.abs(before).max(axis=0) / 255
    assert (np.abs(after - before) <= np.maximum(step / 2, step * (np.abs(before) < step / 2)) + 1e-6).all()
    assert (np.sign(after) == np.sign(before)).all()


def test_bytes_are_those_of_the_stated_encoding() -> None:
    same = csr_array(np.array([[1.0, 2, 0, 0, 0], [0, 0, -1, 0, 3]], dtype=np.float32))
    assert StoredCodes.of([same], signed=True).bytes == 3  # two latents of 3 + 1 + 8 bits
    assert StoredCodes.of([same], signed=False).bytes == 3  # 22 bits
    varying = csr_array(np.array([[1.0, 2, 0, 0, 0], [1, 1, 1, 1, 0], [0] * 5], dtype=np.float32))
    # 3 bits say 0 to 4; then 2 and 4 entries of 11 bits, and none
    assert StoredCodes.of([varying], signed=False).bytes == pytest.approx((4 + 6 + 1) / 3)


def test_dense_vectors_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors_of_files, "BLOCK", 30)
    documents = Vectors.of_array(X)
    whole = float32(X, documents)
    assert (whole.bytes, np.concatenate(list(whole.blocks())).tolist()) == (4 * D, X.tolist())
    quantised = int8(X, documents)
    assert quantised.bytes == D
    assert (np.abs(np.concatenate(list(quantised.blocks())) - X) <= np.abs(X).max(axis=0) / 254 + 1e-6).all()
    pca = fit_pca(documents)
    exact = PCA(5).fit(X)
    stored = pca_int8(X, documents, pca, 5)
    expected = exact.inverse_transform(exact.transform(X))
    assert stored.bytes == 5
    assert np.abs(np.concatenate(list(stored.blocks())) - expected).max() < 0.1
    assert np.allclose(np.abs(pca.rows[:5]), np.abs(exact.components_), atol=1e-3)


def test_methods_of_an_sae_score_what_they_say() -> None:
    sae, documents = abstopk(), Vectors.of_array(X)
    codes, decoded, both = of_codes(sae, X[:3], documents)
    assert [codes.method, decoded.method, both.method] == ["codes", "decoded", "mirror"]
    assert [each.method for each in of_codes(topk(), X[:3], documents)] == ["codes", "decoded"]
    a, b = (each.toarray() for each in (codes.queries, next(codes.blocks())))
    positive_terms = np.maximum(a[:, None] * b[None], 0).sum(-1)
    scores = both.queries.toarray() @ next(both.blocks()).toarray().T
    assert np.allclose(scores, positive_terms, rtol=0.01)
    x_hat = sae.decode(sae.encode(torch.from_numpy(X))).detach().numpy()
    assert np.allclose(next(decoded.blocks()), x_hat, atol=0.03)
    # index (6 bits), sign and magnitude of 5 latents: 75 bits; the mirror: 7 bits of index, no sign
    assert (codes.bytes, decoded.bytes, both.bytes, codes.active) == (10, 10, 10, 5)
