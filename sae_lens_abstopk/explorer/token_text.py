"""Token ids as the text that they stand for, each by itself."""

from typing import Any


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
