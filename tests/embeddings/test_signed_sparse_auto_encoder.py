"""The module for sentence-transformers: codes, files, and what its tools do with negative values."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE, AbsTopKSAE, AbsTopKSAEConfig, TopKSAE, TopKSAEConfig
from sentence_transformers import SentenceTransformer, SparseEncoder
from sentence_transformers.sparse_encoder.evaluation import SparseInformationRetrievalEvaluator

from sae_lens_abstopk import (
    ConfigError,
    SignedJumpReLUSAE,
    SignedJumpReLUSAEConfig,
    SignedSparseAutoEncoder,
    mirror,
)
from tests.embeddings.sentence_model import TEXTS, WIDTH
from tests.saes.test_signed_saes import with_random_weights

pytestmark = pytest.mark.slow

F, K = 40, 5
QUERIES, DOCUMENTS = TEXTS[:8], TEXTS[8:80]
LOADS = """
import sys, torch
import sae_lens_abstopk
sae_lens_abstopk.SignedSparseAutoEncoder
assert "sentence_transformers" not in sys.modules
from sentence_transformers import SparseEncoder
for folder in sys.argv[1:4]:
    model = SparseEncoder(folder, device="cpu", trust_remote_code=True)
    torch.save(model.encode(sys.argv[4:]).to_dense(), f"{folder}/codes.pt")
"""


def abstopk() -> AbsTopKSAE:
    return with_random_weights(AbsTopKSAE(AbsTopKSAEConfig(d_in=WIDTH, d_sae=F, k=K)))


def signed_jumprelu() -> SignedJumpReLUSAE:
    sae = with_random_weights(SignedJumpReLUSAE(SignedJumpReLUSAEConfig(d_in=WIDTH, d_sae=F)))
    sae.threshold.data.fill_(4.0)
    return sae


def topk() -> TopKSAE:
    return with_random_weights(TopKSAE(TopKSAEConfig(d_in=WIDTH, d_sae=F, k=K)))


def encoder(embedder: SentenceTransformer, sae: Any, **options: Any) -> SparseEncoder:
    return SparseEncoder(modules=[*embedder, SignedSparseAutoEncoder.from_sae(sae, **options)], device="cpu")


def centred(embedder: SentenceTransformer) -> AbsTopKSAE:
    """An SAE whose codes have products of both signs."""
    sae = abstopk()
    sae.b_dec.data = embedder.encode(TEXTS, convert_to_tensor=True).mean(0)
    return sae


def test_codes_are_those_of_the_sae_also_after_saving_and_in_another_process(
    embedder: SentenceTransformer, tmp_path: Path
) -> None:
    codes = {}
    for make in (abstopk, signed_jumprelu, topk):
        sae: Any = make()
        model = encoder(embedder, sae)
        found = model.encode(TEXTS)
        expected = sae.encode(embedder.encode(TEXTS, convert_to_tensor=True))
        assert found.is_sparse
        torch.testing.assert_close(found.to_dense(), expected)
        assert (expected < 0).any() == (make is not topk)
        assert model.get_embedding_dimension() == F
        model.save_pretrained(str(tmp_path / make.__name__))
        folder = tmp_path / make.__name__ / "2_SignedSparseAutoEncoder"
        assert torch.equal(SAE.load_from_disk(folder).W_enc, sae.W_enc)
        assert 'load_from_disk("2_SignedSparseAutoEncoder")' in (folder / "README.md").read_text()
        codes[tmp_path / make.__name__] = found.to_dense()
    subprocess.run([sys.executable, "-c", LOADS, *codes, *TEXTS], check=True)
    for folder, expected in codes.items():
        torch.testing.assert_close(torch.load(folder / "codes.pt"), expected)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # sentence-transformers makes tensors without them
def test_similarity_pruning_and_intersection_keep_signs(embedder: SentenceTransformer) -> None:
    model: Any = encoder(embedder, centred(embedder))
    a, b = model.encode(QUERIES), model.encode(DOCUMENTS)
    x, y = a.to_dense(), b.to_dense()
    similarities = {
        "dot": x @ y.T,
        "cosine": torch.cosine_similarity(x[:, None], y[None], dim=-1),
        "euclidean": -torch.cdist(x, y),
        "manhattan": -torch.cdist(x, y, p=1),
    }
    assert (similarities["dot"] < 0).any()
    assert model.similarity_fn_name == "dot"
    for name, expected in similarities.items():
        model.similarity_fn_name = name
        torch.testing.assert_close(model.similarity(a, b), expected, rtol=1e-4, atol=1e-3)
    pruned = model.encode(QUERIES, max_active_dims=2).to_dense()
    least = x.abs().topk(2).values[:, -1:]
    assert torch.equal(pruned, x.where(x.abs() >= least, 0))
    assert (pruned < 0).any()
    shared = model.intersection(a[0], b).to_dense()
    torch.testing.assert_close(shared, (x[0] * y).clamp(min=0))


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_evaluator_ranks_by_the_product_of_codes(embedder: SentenceTransformer, mirrored: bool) -> None:
    sae = centred(embedder)
    model = encoder(embedder, sae, mirrored=mirrored)
    relevant = {str(i): {str(3 * i), str(3 * i + 1)} for i in range(len(QUERIES))}
    queries, documents = ({str(i): text for i, text in enumerate(texts)} for texts in (QUERIES, DOCUMENTS))
    found = SparseInformationRetrievalEvaluator(queries, documents, relevant, batch_size=16, write_csv=False)(model)
    coder = mirror(sae) if mirrored else sae
    x, y = (coder.encode(embedder.encode(texts, convert_to_tensor=True)) for texts in (QUERIES, DOCUMENTS))
    ranks = (x @ y.T).argsort(dim=1, descending=True).argsort(dim=1)
    best = [min(int(ranks[i, int(j)]) for j in relevant[str(i)]) for i in range(len(QUERIES))]
    assert found["dot_mrr@10"] == pytest.approx(sum(1 / (1 + rank) for rank in best if rank < 10) / len(best))
    assert found["query_active_dims"] == found["corpus_active_dims"] == K
    assert found["avg_flops"] == pytest.approx(((x != 0).float().mean(0) @ (y != 0).float().mean(0)).item())


def test_the_mirror_has_no_negative_codes_and_counts_no_opposite_signs(embedder: SentenceTransformer) -> None:
    signed, mirrored = (
        encoder(embedder, centred(embedder), mirrored=each).encode(TEXTS).to_dense() for each in (False, True)
    )
    assert mirrored.shape == (len(TEXTS), 2 * F)
    torch.testing.assert_close(mirrored, torch.cat([signed.relu(), (-signed).relu()], dim=1))
    products = (signed[:, None] * signed[None]).relu().sum(-1)
    torch.testing.assert_close(mirrored @ mirrored.T, products, rtol=1e-4, atol=1e-3)


def test_a_model_in_half_precision_gives_codes_in_float32(embedder: SentenceTransformer, tmp_path: Path) -> None:
    abstopk().save_model(tmp_path / "sae")
    model = encoder(embedder, tmp_path / "sae")
    codes = model.encode(TEXTS).to_dense()
    model[-1].bfloat16()
    half = model.encode(TEXTS)
    assert half.dtype == torch.float32
    assert model.similarity(half, half).shape == (len(TEXTS), len(TEXTS))
    torch.testing.assert_close(half.to_dense().norm(dim=1), codes.norm(dim=1), rtol=0.05, atol=0)


def test_saes_that_do_not_fit_are_refused(embedder: SentenceTransformer, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mirror needs a signed SAE"):
        SignedSparseAutoEncoder.from_sae(topk(), mirrored=True)
    with pytest.raises(ConfigError, match="no such folder"):
        SignedSparseAutoEncoder.from_sae(tmp_path / "none")
    narrow = AbsTopKSAE(AbsTopKSAEConfig(d_in=8, d_sae=F, k=K))
    with pytest.raises(ConfigError, match=r"this model is 16 wide, and .* takes 8"):
        encoder(embedder, narrow).encode(TEXTS)
