"""Score the pole of a generated text by its words."""

import re
from functools import lru_cache

from sae_lens_abstopk.evaluation.tasks.task import Scorer
from sae_lens_abstopk.text.words import UNSPACED, marks, plain


def pole_score(scorer: Scorer, text: str) -> float:
    """
    Score ``text`` in [-1, 1], higher towards pole B.

    ``words``: (b - a) / (a + b) for the number of whole words of A and of B, ignoring case; 0 if there are none. The
    longest match counts ("not at all" before "not"). In scripts without spaces (Chinese, Japanese, Thai, Lao, Khmer,
    Burmese) words match anywhere.
    ``prefixes``: -1 if the text starts with one of pole A's, ignoring case, quotation marks and space, else 0.
    """
    # words may begin with a space, as in steering.tokens
    pole_a, pole_b = (tuple(plain(pattern).strip() for pattern in pole) for pole in scorer.patterns)
    if scorer.kind == "prefixes":
        start = plain(text).lstrip(" \t\n\"'\u2018\u201c\u201d\u00ab\u00bb")
        return -float(start.startswith(pole_a))
    found = _words(pole_a + pole_b).findall(plain(text))
    a, b = (sum(word in pole for word in found) for pole in (pole_a, pole_b))
    return (b - a) / (a + b) if a + b else 0.0


@lru_cache(maxsize=64)
def _words(words: tuple[str, ...]) -> re.Pattern[str]:
    # longest first
    alternatives = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    letter, unspaced, mark = rf"[^\W{UNSPACED}]", f"[{UNSPACED}]", f"[{marks()}]"
    start = f"(?:(?={unspaced})|(?<!{letter})(?<!{mark}))"
    end = f"(?!{mark})(?:(?<={unspaced})|(?!{letter}))"
    return re.compile(f"{start}(?:{alternatives}){end}")
