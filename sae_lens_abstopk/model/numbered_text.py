"""
Contexts whose tokens carry the number of their document, for intervals that resample documents.

Document n, counted from 1, adds n * 2**32 to the absolute value of its token ids, so that numbers stay with the tokens
when documents are joined and cut into contexts. Its first token and tokens between documents carry none, so that the
joining compares them as ever.
"""

from collections.abc import Generator

import torch
from jaxtyping import Int
from typing_extensions import override

from sae_lens_abstopk.model.text_store import TextStore

STEP = 2**32


class NumberedTextStore(TextStore):
    """A store of numbered tokens; :func:`unnumbered` splits them again."""

    @override
    def _iterate_raw_dataset_tokens(self) -> Generator[torch.Tensor, None, None]:
        for number, tokens in enumerate(super()._iterate_raw_dataset_tokens(), 1):
            numbered = tokens + torch.where(tokens < 0, -1, 1) * number * STEP
            numbered[:1] = tokens[:1]
            yield numbered


def unnumbered(
    tokens: Int[torch.Tensor, "batch context"],
) -> tuple[Int[torch.Tensor, "batch context"], Int[torch.Tensor, "batch context"]]:
    """Return the token ids, and the document of each token; in a row without numbers, 0."""
    numbers = tokens.abs() // STEP
    ids = tokens - tokens.sign() * numbers * STEP
    # numbers rise along a row: a token without one belongs to the next document, or at the end to the last
    after = numbers.masked_fill(numbers == 0, STEP).flip(1).cummin(1).values.flip(1)
    return ids, torch.where(after == STEP, numbers.cummax(1).values, after)
