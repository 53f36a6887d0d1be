"""Codes of vectors as sparse rows of scipy, a block at a time; what is stored of them in 8 bits, and its bytes."""

from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from sae_lens import SAE
from scipy.sparse import csr_array, hstack
from torch import Tensor

from sae_lens_abstopk.saes.topk_codes import TopKCodes, decode_topk, encode_topk
from sae_lens_abstopk.system.errors import require_choice

LEVELS = 255
"""Magnitudes of a value in 8 bits, 1 to 255; an active latent is never 0."""


class StoredCodes(NamedTuple):
    """Codes of documents as an index holds them: values are multiples of 1 / 255 of the largest of their latent."""

    blocks: tuple[csr_array, ...]
    """Consecutive documents, each [n, d_sae]."""
    bytes: float
    """Mean bytes of a document; each takes whole bytes."""
    active: float
    """Mean active latents of a document."""

    @classmethod
    def of(cls, blocks: Iterable[csr_array], *, signed: bool) -> "StoredCodes":
        """
        Quantise codes; the scale of each latent is shared by all documents.

        An active latent takes the bits of its index, a sign bit if ``signed``, and 8 bits of magnitude. The number of
        active latents takes bits too, unless all documents have the same.
        """
        found = tuple(blocks)
        scale = np.maximum.reduce([abs(block).max(axis=0).toarray().ravel() for block in found]) / LEVELS
        counts = np.concatenate([_counts(block) for block in found])
        of_count = 0 if (counts == counts[0]).all() else _bits(int(counts.max()) + 1)
        bits = of_count + counts * (_bits(len(scale)) + signed + 8)
        quantised = tuple(_quantised(block, scale) for block in found)
        return cls(quantised, float(np.ceil(bits / 8).mean()), float(counts.mean()))


def code_rows(sae: SAE[Any], x: Float[Tensor, "n D"]) -> csr_array:
    """Return the codes [n, d_sae] of vectors; errors as :func:`~.topk_codes.encode_topk`."""
    found = encode_topk(sae, x.to(sae.W_enc))
    values, latents = found.values.float().cpu().numpy(), found.indices.cpu().numpy().astype(np.int32)
    on = values != 0
    offsets = np.concatenate([[0], on.sum(1).cumsum()]).astype(np.int32)
    return csr_array((values[on], latents[on], offsets), shape=(len(x), sae.cfg.d_sae))


def require_decoder(name: str, sae: SAE[Any]) -> None:
    """Raise a ConfigError if codes do not hold all that the decoder needs."""
    remedy = f" ({name}): the decoder of others needs the norm of each vector, which codes do not hold"
    require_choice("normalize_activations", sae.cfg.normalize_activations, ("none",), remedy=remedy)


def decoded_rows(sae: SAE[Any], codes: csr_array) -> npt.NDArray[np.float32]:
    """Decode codes [n, d_sae] to vectors [n, d_in]."""
    counts = _counts(codes)
    place = np.arange(counts.max(initial=0)) < counts[:, None]
    values, latents = np.zeros(place.shape, dtype=np.float32), np.zeros(place.shape, dtype=np.int64)
    values[place], latents[place] = codes.data, codes.indices
    padded = TopKCodes(*(torch.from_numpy(part).to(sae.W_dec.device) for part in (values, latents)))
    return decode_topk(sae, padded).float().cpu().numpy()


def mirrored(codes: csr_array) -> csr_array:
    """Return [relu(z), relu(-z)], the codes [n, 2 d_sae] of the mirrored SAE."""
    return cast(csr_array, hstack([codes.maximum(0), (-codes).maximum(0)], format="csr", dtype=np.float32))


def _quantised(codes: csr_array, scale: npt.NDArray[np.float32]) -> csr_array:
    step = scale[codes.indices]
    levels = np.rint(np.abs(codes.data) / step).clip(1, LEVELS)
    return csr_array((np.copysign(levels * step, codes.data), codes.indices, codes.indptr), shape=codes.shape)


def _counts(codes: csr_array) -> npt.NDArray[np.int64]:
    return np.diff(codes.indptr).astype(np.int64)


def _bits(n: int) -> int:
    """Return the bits of a number below ``n``."""
    return (n - 1).bit_length()
