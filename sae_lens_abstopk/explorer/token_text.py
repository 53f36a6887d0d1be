"""Token ids as the text that they stand for."""

from collections.abc import Sequence
from typing import Any

PIECE = "\ufffd"
# a character is four bytes at most, so as many byte tokens
LONGEST = 4


class TokenText:
    """Text of single tokens, looked up once each; a piece of a character that is no text by itself becomes U+FFFD."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, str] = {}

    def __call__(self, token: int) -> str:
        text = self._known.get(token)
        if text is None:
            text = self._tokenizer.decode([token], clean_up_tokenization_spaces=False)
            # SentencePiece decoders drop the space that a word begins with
            piece = self._tokenizer.convert_ids_to_tokens(token)
            if isinstance(piece, str) and piece.startswith("▁") and not text.startswith(" "):
                text = f" {text}"
            self._known[token] = text
        return text

    def pieces(self, tokens: Sequence[int]) -> list[tuple[str, range]]:
        """Text of a run of tokens: a text and the indices of its tokens, several where they make up one character."""
        found: list[tuple[str, range]] = []
        start = 0
        while start < len(tokens):
            text, stop = self(tokens[start]), start + 1
            if PIECE in text:
                for end in range(start + 2, min(start + LONGEST, len(tokens)) + 1):
                    joined = self._tokenizer.decode(list(tokens[start:end]), clean_up_tokenization_spaces=False)
                    if PIECE not in joined:
                        text, stop = joined, end
                        break
            found.append((text, range(start, stop)))
            start = stop
        return found
