"""The tokens that stand for the poles of a concept."""

from typing import Any

from sae_lens_abstopk.model.generation import answer_ids
from sae_lens_abstopk.system.errors import ConfigError

# words are tokenised after this, which few tokenizers join with what follows
ANCHOR = "\n"


def first_tokens(
    tokenizer: Any, continuations: tuple[tuple[str, ...], tuple[str, ...]], *, chat: bool = False
) -> tuple[list[int], list[int]]:
    """
    Distinct first tokens of the continuations of pole A and of pole B, as they follow other text or a chat prompt.

    Raises:
        ConfigError: a pole has none, or both poles share one.
    """

    def ids_of(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    def tokens_after(word: str) -> list[int]:
        if chat and (answer := answer_ids(tokenizer, word)):
            return answer
        # Llama 2 puts a space before every text, so a word tokenised by itself begins with an empty piece
        row, n = ids_of(ANCHOR + word), len(anchor)
        return row[n:] if row[:n] == anchor else ids_of(word)

    anchor = ids_of(ANCHOR)
    pole_a, pole_b = (sorted({row[0] for row in map(tokens_after, words) if row}) for words in continuations)
    for name, ids, words in zip("AB", (pole_a, pole_b), continuations, strict=True):
        if not ids:
            raise ConfigError(f"steering.tokens of pole {name} have no tokens: {words!r}; give words of that pole.")
    if both := sorted(set(pole_a) & set(pole_b)):
        shared = ", ".join(repr(tokenizer.decode([i])) for i in both)
        raise ConfigError(
            f"steering.tokens: words of both poles begin with {shared} for this tokenizer; use words that differ in "
            "the first token."
        )
    return pole_a, pole_b
