"""The text of token ids."""

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

from transformers.convert_slow_tokenizer import bytes_to_unicode

PIECE = "\ufffd"
# most byte tokens of one character
LONGEST = 4
# byte-level tokenizers write one character per byte; SentencePiece falls back to <0xE2>
BYTES = {character: byte for byte, character in bytes_to_unicode().items()}
FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class MarkedText(NamedTuple):
    """The text around a token, without special tokens and parts of characters."""

    before: str
    token: str
    """With the rest of its character; a special token or a part of a character stays."""
    after: str
    readable: bool
    """Whether the token, and half of the others, is text."""


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

    def marked(self, before: Sequence[int], token: int, after: Sequence[int]) -> MarkedText:
        """Return the text of ``token`` and of the tokens around it."""
        tokens, at, texts = (*before, token, *after), len(before), ["", "", ""]
        read, readable = 0, False
        for text, there in self.pieces(tokens):
            part = 1 if at in there else 0 if there.stop <= at else 2
            is_text = tokens[there.start] not in self._special and (
                len(there) > 1 or self._lookup(tokens[there.start])[1]
            )
            readable |= is_text and part == 1
            read += len(there) if is_text else 0
            texts[part] += text if is_text or part == 1 else ""
        return MarkedText(texts[0], texts[1], texts[2], readable and 2 * read >= len(tokens))

    @cached_property
    def _special(self) -> set[int]:
        added = self._tokenizer.added_tokens_decoder.items()
        return {*self._tokenizer.all_special_ids, *(token for token, about in added if about.special)}

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
