"""Which pole a generated text shows, judged by its words."""

import re
import sys
import unicodedata
from collections.abc import Iterable
from functools import cache, lru_cache

from sae_lens_abstopk.evaluation.tasks.task import Scorer
from sae_lens_abstopk.system.errors import ConfigError

# of scripts without spaces between words: Thai and Lao, Burmese, Khmer, kana, Chinese characters
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)


def pole_score(scorer: Scorer, text: str) -> float:
    """
    The pole that ``text`` shows, in [-1, 1], higher towards pole B.

    ``words``: (b - a) / (a + b) for the whole words of A and of B that occur, whatever the case; 0 where none does. A
    word inside a longer one of the list ("not" in "not at all") counts as the longer one. In scripts without spaces
    (Chinese, Japanese, Thai, Lao, Khmer, Burmese) words are found anywhere.
    ``prefixes``: -1 where the text starts with one of pole A's, else 0.

    Raises:
        ConfigError: another kind.
    """
    # the words of steering.tokens begin with a space, and those of a scorer are words
    pole_a, pole_b = (tuple(plain(pattern).strip() for pattern in pole) for pole in scorer.patterns)
    if scorer.kind == "words":
        found = _words(pole_a + pole_b).findall(plain(text))
        a, b = (sum(word in pole for word in found) for pole in (pole_a, pole_b))
        return (b - a) / (a + b) if a + b else 0.0
    if scorer.kind == "prefixes":
        return -float(_starts_with(text, pole_a))
    raise ConfigError(f"a scorer of kind {scorer.kind!r} is not known; allowed: words, prefixes.")


def _starts_with(text: str, prefixes: Iterable[str]) -> bool:
    """Whether ``text`` starts with one of ``prefixes``, whatever the case, quotation marks and space before it."""
    return (
        plain(text)
        .lstrip(" \t\n\"'\u2018\u201c\u201d\u00ab\u00bb")
        .startswith(tuple(plain(prefix) for prefix in prefixes))
    )


def plain(text: str) -> str:
    """The text as patterns are compared with it: straight apostrophes, no case."""
    return text.replace("\u2019", "'").casefold()


@lru_cache(maxsize=64)
def _words(words: tuple[str, ...]) -> re.Pattern[str]:
    # longest first
    alternatives = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    letter, unspaced, mark = rf"[^\W{UNSPACED}]", f"[{UNSPACED}]", f"[{_marks()}]"
    start = f"(?:(?={unspaced})|(?<!{letter})(?<!{mark}))"
    end = f"(?!{mark})(?:(?<={unspaced})|(?!{letter}))"
    return re.compile(f"{start}(?:{alternatives}){end}")


@cache
def _marks() -> str:
    """Signs that are written onto a letter, as most Indic vowels are, which ``\\w`` leaves out; not those onto an emoji."""
    signs = (chr(code) for code in range(sys.maxunicode + 1) if not 0xFE00 <= code <= 0xFE0F)
    return "".join(sign for sign in signs if unicodedata.category(sign) in ("Mn", "Mc"))
