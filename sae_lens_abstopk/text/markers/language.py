"""In which language and script a text is."""

import unicodedata
from functools import cache

from sae_lens_abstopk.text.markers.text_parts import Marker, TextParts
from sae_lens_abstopk.text.words import FUNCTION_WORDS

_OTHERS = {
    "Spanish": "el la los las de que y en un una por con para no se del al es su como más pero sus lo este está muy",
    "French": "le la les des et est une un du que qui dans pour pas sur au avec ce il elle sont plus par vous je nous",
    "German": "der die das und ist ein eine nicht mit den von zu für auf im sich auch es dem wird sind ich sie wir",
}


@cache
def _is_latin(character: str) -> bool:
    return character.isalpha() and unicodedata.name(character, "").startswith(("LATIN", "FULLWIDTH LATIN"))


def _other_script(parts: TextParts) -> float:
    return (parts.letters - parts.character_count(_is_latin)) / max(parts.letters, 1)


def _english(parts: TextParts) -> float:
    """Return the share of English function words; texts without them are lists of names, or of another language."""
    return parts.per_word(parts.word_count(FUNCTION_WORDS.__contains__))


def _marker(language: str) -> Marker:
    words = frozenset(_OTHERS[language].split()) - FUNCTION_WORDS
    return Marker(language, f"not {language}", lambda parts: parts.per_word(parts.word_count(words.__contains__)))


MARKERS = {
    "script": Marker("another script", "Latin script", _other_script),
    "accents": Marker(
        "accented letters",
        "no accents",
        lambda parts: (
            parts.character_count(lambda each: not each.isascii() and _is_latin(each)) / max(parts.letters, 1)
        ),
    ),
    "sentences": Marker("whole sentences", "catchwords", _english),
    **{language: _marker(language) for language in _OTHERS},
}
