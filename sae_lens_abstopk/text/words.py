"""The words of a text, in any script."""

import re
import sys
import unicodedata
from functools import cache

# scripts without spaces between words: Thai and Lao, Burmese, Khmer, kana, Chinese characters
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_LISTED = """
    a about above across after again against ain't all almost along already also although always am among an and
    another any anybody anyone anything are aren't around as at away back be became because become been before behind
    being below beside besides between beyond both but by came can can't cannot come could couldn't d did didn't do
    does doesn't doing don't done down during each either else enough etc even ever every everybody everyone
    everything except few for from further gave get gets getting give given go goes going got had hadn't has hasn't
    have haven't having he he'd he'll he's hence her here here's hers herself him himself his how how's however i i'd
    i'll i'm i've if in indeed instead into is isn't it it'd it'll it's its itself just keep kept know known least
    less let let's ll made make makes making many may maybe me might mine more moreover most much must my myself near
    need never next no nobody none nor not nothing now of off often on once one one's ones only onto or other others
    otherwise our ours ourselves out over own per perhaps put quite rather re really s said same say says see seem
    seems seen several shall she she'd she'll she's should shouldn't since so some somebody someone something
    sometimes somewhere soon still such t take taken takes taking than that that'll that's the their theirs them
    themselves then thence there there's thereby therefore these they they'd they'll they're they've thing things this
    those though through throughout thus till to together too toward towards two under until up upon us use used uses
    using ve very via want wants was wasn't way ways we we'd we'll we're we've well went were weren't what what's
    whatever when when's where where's whereas whether which while who who's whoever whole whom whose why will with
    within without won't would wouldn't yet you you'd you'll you're you've your yours yourself yourselves
"""
FUNCTION_WORDS = frozenset(_LISTED.split())
"""English words that every text has; what a text is about is in the others."""
_ASCII_WORD = re.compile("[a-z][a-z0-9]*(?:['-][a-z0-9]+)*")
_LETTER, _LATER = rf"[^\W\d_{UNSPACED}]", rf"[^\W_{UNSPACED}]"


def plain(text: str) -> str:
    """Normalise case and apostrophes, to compare texts."""
    return text.replace("\u2019", "'").casefold()


@cache
def marks() -> str:
    """Return combining signs that ``\\w`` lacks: most Indic vowels, but not the variation selectors of emoji."""
    signs = (chr(code) for code in range(sys.maxunicode + 1) if not 0xFE00 <= code <= 0xFE0F)
    return "".join(sign for sign in signs if unicodedata.category(sign) in ("Mn", "Mc"))


def words_of(text: str) -> list[str]:
    """Return the words of ``text`` in lower case; in scripts without spaces, its characters."""
    found = plain(text)
    return (_ASCII_WORD if found.isascii() else _any_word()).findall(found)


@cache
def _any_word() -> re.Pattern[str]:
    return re.compile(rf"{_LETTER}{_LATER}*(?:['-]{_LATER}+|[{marks()}]+{_LATER}*)*|[{UNSPACED}]")
