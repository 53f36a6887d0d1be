"""Tokens as text: bytes of one character are one piece."""

from typing import Any

from sae_lens_abstopk.text.token_text import TokenText


def test_bytes_of_one_character_are_one_piece_and_parts_of_one_are_escaped(tokenizer: Any) -> None:
    text = "the 猫 sat"
    ids = tokenizer(text)["input_ids"]
    pieces = TokenText(tokenizer).pieces(ids)
    assert "".join(piece for piece, _ in pieces) == text
    assert any("猫" in piece for piece, _ in pieces)
    assert [i for _, there in pieces for i in there] == list(range(len(ids)))
    ids = tokenizer("猫")["input_ids"]
    assert len(ids) == 3
    assert TokenText(tokenizer).joined(ids[:2]) == r"\xe7\x8c"
    assert TokenText(tokenizer)(ids[2]) == r"\xab"


def test_byte_fallback_tokens_are_bytes() -> None:
    class Fallback:
        def decode(self, ids: list[int], **_: Any) -> str:
            return bytes(ids).decode("utf-8", errors="replace")

        def convert_ids_to_tokens(self, token: int) -> str:
            return f"<0x{token:02X}>"

    assert TokenText(Fallback()).pieces([0xE2, 0x80, 0x99, 0xE2, 0x80]) == [
        ("’", range(3)),
        (r"\xe2", range(3, 4)),
        (r"\x80", range(4, 5)),
    ]


def test_the_text_around_a_token_has_no_special_tokens_and_no_parts_of_characters(tokenizer: Any) -> None:
    he, cat = tokenizer(" he")["input_ids"], tokenizer("猫")["input_ids"]
    marked = TokenText(tokenizer).marked
    assert marked([cat[2], *he, 0], cat[0], [*cat[1:], *he, cat[0]]) == (" he", "猫", " he", True)
    assert marked([0, 1, 0], he[-1], [1]).readable is False, "most of it is special"
    assert marked(he, 0, he) == (" he", "<s>", " he", False)
    assert marked(he, cat[0], he) == (" he", r"\xe7", " he", False)
