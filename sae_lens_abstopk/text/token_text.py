"""The text of token ids."""

import re
from collections.abc import Sequence
from typing import Any

from transformers.convert_slow_tokenizer import bytes_to_unicode

PIECE = "\ufffd"
# most byte tokens of one character
LONGEST = 4
# byte-level tokenizers write one character per byte; SentencePiece falls back to <0xE2>
BYTES = {character: byte for byte, character in bytes_to_unicode().items()}
FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenText:
    """Text of single tokens, looked up once each; a part of a character is written as bytes: ``\\xe2\\x80``."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, tuple[str, bool]] = {}

    def __call__(self, token: int) -> str:
        return self._lookup(token)[0]

    def pieces(self, tokens: Sequence[int]) -> list[tuple[str, range]]:
        """Return the pieces of text of consecutive tokens, each with the indices of its tokens."""
        found: list[tuple[str, range]] = []
        start = 0
        while start < len(tokens):
            (text, whole), stop = self._lookup(tokens[start]), start + 1
            if not whole:
                for end in range(start + 2, min(start + LONGEST, len(tokens)) + 1):
                    joined = self._decoded(tokens[start:end])
                    if PIECE not in joined:
                        text, stop = joined, end
                        break
            found.append((text, range(start, stop)))
            start = stop
        return found

    def joined(self, tokens: Sequence[int]) -> str:
        """Return the text of consecutive tokens."""
        return "".join(text for text, _ in self.pieces(tokens))

    def _lookup(self, token: int) -> tuple[str, bool]:
        """Return the text of a token, and whether it is complete text."""
        if token not in self._known:
            text, piece = self._decoded([token]), self._tokenizer.convert_ids_to_tokens(token)
            whole = PIECE not in text
            if not whole and (there := _bytes(piece)):
                text = there.decode("utf-8", errors="backslashreplace")
            # SentencePiece decoders drop the space before a word
            if isinstance(piece, str) and piece.startswith("▁") and not text.startswith(" "):
                text = f" {text}"
            self._known[token] = text, whole
        return self._known[token]

    def _decoded(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False)


def _bytes(piece: Any) -> bytes:
    """Return the bytes of a token; empty if the tokenizer is not byte-level."""
    if not isinstance(piece, str):
        return b""
    if fallback := FALLBACK.fullmatch(piece):
        return bytes.fromhex(fallback[1])
    return bytes(BYTES[character] for character in piece) if all(character in BYTES for character in piece) else b""
