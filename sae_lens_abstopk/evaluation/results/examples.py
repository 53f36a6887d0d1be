"""A few latents with their strongest contexts, as text that needs no tokenizer to be read."""

import math
from typing import Any

from sae_lens_abstopk.dictionary.contexts import PoleContexts
from sae_lens_abstopk.evaluation.results.schema import ExampleRecord
from sae_lens_abstopk.text.token_text import TokenText

LATENTS, CONTEXTS = 4, 2


def code_text(code: float) -> str:
    """A code with its sign, to three digits that count: hooks differ in the size of their activations by thousands."""
    return f"{code:+.{max(0, 2 - math.floor(math.log10(abs(code))))}f}"


def examples(contexts: PoleContexts, tokenizer: Any) -> list[ExampleRecord]:
    """Two contexts of each pole of the four latents that :meth:`PoleContexts.suggested` puts first."""
    text_of = TokenText(tokenizer)
    return [
        ExampleRecord(
            latent=latent,
            code=context.code,
            before=text_of.joined(context.before),
            token=text_of(context.token),
            after=text_of.joined(context.after),
        )
        for latent in contexts.suggested(LATENTS)
        for pole in (0, 1)
        for context in contexts.of(latent, pole)[:CONTEXTS]
    ]
