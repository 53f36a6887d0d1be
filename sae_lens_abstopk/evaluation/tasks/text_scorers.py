"""The pole that a generated text shows, judged by its words."""

import re
import sys
import unicodedata
from functools import cache, lru_cache

from sae_lens_abstopk.evaluation.tasks.task import Scorer

# letters of scripts without spaces between words: Thai and Lao, Burmese, Khmer, kana, Chinese characters
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)


def pole_score(scorer: Scorer, text: str) -> float:
    """
    Score ``text`` in [-1, 1], higher towards pole B.

    ``words``: (b - a) / (a + b) for the whole words of A and of B that occur, in any case; 0 if none does. A word
    inside a longer one of the list ("not" in "not at all") counts as the longer one. In scripts without spaces
    (Chinese, Japanese, Thai, Lao, Khmer, Burmese) words are found anywhere.
    ``prefixes``: -1 if the text starts with one of pole A's, in any case and after quotation marks and space, else 0.
    """
    # as in steering.tokens, words may begin with a space
    pole_a, pole_b = (tuple(plain(pattern).strip() for pattern in pole) for pole in scorer.patterns)
    if scorer.kind == "prefixes":
        start = plain(text).lstrip(" \t\n\"'\u2018\u201c\u201d\u00ab\u00bb")
        return -float(start.startswith(pole_a))
    found = _words(pole_a + pole_b).findall(plain(text))
    a, b = (sum(word in pole for word in found) for pole in (pole_a, pole_b))
    return (b - a) / (a + b) if a + b else 0.0


def plain(text: str) -> str:
    """Straight apostrophes and no case, for comparing texts."""
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
    """Combining signs, which ``\\w`` leaves out: most Indic vowels, but not the variation selectors of emoji."""
    signs = (chr(code) for code in range(sys.maxunicode + 1) if not 0xFE00 <= code <= 0xFE0F)
    return "".join(sign for sign in signs if unicodedata.category(sign) in ("Mn", "Mc"))
