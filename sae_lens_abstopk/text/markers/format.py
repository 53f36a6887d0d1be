"""How a text is laid out."""

import math
import re
from collections import Counter

from sae_lens_abstopk.text.markers.text_parts import Marker, TextParts, found_in

ITEM = re.compile(r"\s*(?:[-*+•‣◦]|\d{1,3}[.)]|[a-zA-Z][.)]|\*\*\d{1,3}[.)])\s")
_NUMBERED = re.compile(r"\s*(?:\*\*)?\d{1,3}[.)]\s|\s*(?:step|point) \d", re.IGNORECASE)
_HEADING = re.compile(r"\s{0,3}#{1,6}\s|\s*\*\*[^*]+\*\*:?\s*$|\s*[A-Z][^.!?]{2,60}:\s*$")
_FENCE = re.compile(r"\s{0,3}(?:```|~~~)")
_CODE = re.compile(
    r"[;{}]\s*$|\s*(?:def|import|from|return|class|const|let|var|if \(|for \(|#include|</?\w+>)\b.*[:;(>{]?"
)
_TABLE_ROW = re.compile(r"\s*\|.*\||.*\t.*\t")
_JSON = re.compile(r"\s*[{\[]\s*(?:[\"{\[]|$)|\s*\"[^\"]+\"\s*:")
_ENDS = re.compile(r"[.!?…:\"'”’)\]}*_`~>|。！？」\-]\s*$|[^\w\s]\s*$")
_TURN = re.compile(
    r"\s*(?:\*\*)?(?:human|user|assistant|ai|bot|customer|agent|speaker \d|[A-Z][a-z]+)(?:\*\*)?:\s+\S", re.I
)


def _code_share(parts: TextParts) -> float:
    fenced, count = False, 0
    for line in parts.lines:
        fence = _FENCE.match(line) is not None
        fenced ^= fence
        count += fenced or fence or (line.startswith(("    ", "\t")) and not ITEM.match(line))
    return count / max(len(parts.lines), 1)


def _repeated(parts: TextParts) -> float:
    """Return the share of runs of four words that occurred before."""
    runs = Counter(zip(*(parts.words[start:] for start in range(4)), strict=False))
    return sum(count - 1 for count in runs.values()) / (SMALL + runs.total())


def _verse(parts: TextParts) -> float:
    """Return 1 for at least four lines, most of them short, without bullets and full stops."""
    lines = parts.lines
    short = sum(
        2 <= len(line.split()) <= 12 and not ITEM.match(line) and not line.rstrip().endswith((":", "**"))
        for line in lines
    )
    return float(len(lines) >= 4 and short > 0.7 * len(lines))


SMALL = 20
MARKERS = {
    "length": Marker("long", "short", lambda parts: math.log1p(len(parts.words))),
    "list items": Marker("lists", "running text", lambda parts: parts.line_share(ITEM)),
    "numbered steps": Marker("numbered lists", "no numbered list", lambda parts: parts.line_share(_NUMBERED)),
    "headings": Marker("headings", "no headings", lambda parts: parts.line_share(_HEADING)),
    "bold": Marker("bold words", "no bold", lambda parts: parts.per_word(parts.text.count("**") // 2)),
    "tables": Marker("tables", "no table", lambda parts: parts.line_share(_TABLE_ROW)),
    "code": Marker("code blocks", "no code", _code_share),
    "JSON": Marker("JSON", "no JSON", lambda parts: parts.line_share(_JSON)),
    "formulas": Marker(
        "formulas", "no formulas", found_in(r"\$[^$\n]+\$|\\[a-z]{3,}\b|\\\(|\d\s*[=×^+*/]\s*\d|\w\^\d")
    ),
    "links": Marker("links", "no links", found_in(r"https?://|www\.|\]\(")),
    "emoji": Marker("emoji", "no emoji", found_in("[\u2600-\u27bf\U0001f300-\U0001faff]")),
    "paragraphs": Marker("many paragraphs", "one paragraph", lambda parts: math.log(max(parts.paragraphs, 1))),
    "verse": Marker("verse", "prose", _verse),
    "turns": Marker("dialogue turns", "no dialogue turns", lambda parts: parts.line_share(_TURN)),
    "numbers": Marker("numbers", "no numbers", found_in(r"\d+(?:[.,]\d+)*(?![.)]\s)\b")),
    "capitals": Marker(
        "capital letters", "lower case", lambda parts: parts.character_count(str.isupper) / max(parts.letters, 1)
    ),
    "quotations": Marker("quotation marks", "no quotation marks", found_in('["“”„«»]')),
    "brackets": Marker("asides in brackets", "no brackets", found_in(r"\([^)\n]{3,}\)")),
    "dashes": Marker("dashes and semicolons", "plain punctuation", found_in(" - |[—–;]")),
    "blanks": Marker(
        "blanks to fill in",
        "no blanks to fill in",
        found_in(r"\[[A-Za-z][^\]\n]{1,40}\](?!\()|_{3,}|<[A-Za-z][\w ]{1,30}>"),
    ),
    "cut off": Marker(
        "cut off mid-sentence",
        "finished",
        lambda parts: float(bool(parts.text.strip()) and not _ENDS.search(parts.text) and len(parts.words) > SMALL),
    ),
    "repetition": Marker("repeats itself", "no repetition", _repeated),
    "sentence length": Marker(
        "long sentences", "short sentences", lambda parts: math.log1p(len(parts.words) / max(len(parts.sentences), 1))
    ),
    "bare": Marker("a bare answer", "a full sentence", lambda parts: float(0 < len(parts.words) <= 3)),
}
