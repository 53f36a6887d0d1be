"""Sparse encode and decode for codes in which a token keeps few of many latents: plain torch, CPU and CUDA."""

from sae_lens_abstopk.sparse.codes import SparseCodes, row_norms, sparse_decode, sparse_encode
from sae_lens_abstopk.sparse.encoder import EncoderWeights
from sae_lens_abstopk.sparse.selection import select_over_batch, select_over_ranks, select_per_token

__all__ = [
    "EncoderWeights",
    "SparseCodes",
    "row_norms",
    "select_over_batch",
    "select_over_ranks",
    "select_per_token",
    "sparse_decode",
    "sparse_encode",
]
