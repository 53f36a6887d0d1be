"""The strongest contexts of a few latents as text, readable without a tokenizer."""

import math
from typing import Any

from sae_lens_abstopk.dictionary.contexts import PoleContexts
from sae_lens_abstopk.evaluation.results.sae_records import ExampleRecord
from sae_lens_abstopk.text.token_text import TokenText

LATENTS, CONTEXTS = 4, 2


def code_text(code: float) -> str:
    """Format a code with its sign and three significant digits: scales differ by thousands between hooks."""
    return f"{code:+.{max(0, 2 - math.floor(math.log10(abs(code))))}f}"


def examples(
    contexts: PoleContexts, tokenizer: Any, *, latents: int = LATENTS, n: int = CONTEXTS
) -> list[ExampleRecord]:
    """Return ``n`` contexts of each pole of the first ``latents`` of :meth:`PoleContexts.suggested`."""
    text_of = TokenText(tokenizer)
    return [
        ExampleRecord(
            latent=latent,
            code=context.code,
            before=text_of.joined(context.before),
            token=text_of(context.token),
            after=text_of.joined(context.after),
        )
        for latent in contexts.suggested(latents)
        for pole in (0, 1)
        for context in contexts.of(latent, pole)[:n]
    ]
