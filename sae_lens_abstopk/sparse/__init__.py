"""Sparse encode and decode for codes in which a token keeps few of many latents: plain torch, CPU and CUDA."""

from sae_lens_abstopk.sparse.autoencode import sparse_decode, sparse_encode
from sae_lens_abstopk.sparse.codes import SparseCodes
from sae_lens_abstopk.sparse.over_ranks import select_over_ranks
from sae_lens_abstopk.sparse.selection import EncoderWeights, pole_limits, select_over_batch, select_per_token

__all__ = [
    "EncoderWeights",
    "SparseCodes",
    "pole_limits",
    "select_over_batch",
    "select_over_ranks",
    "select_per_token",
    "sparse_decode",
    "sparse_encode",
]
