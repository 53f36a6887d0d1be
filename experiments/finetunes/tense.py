"""Find English verbs in the past tense, and put them into the present."""

import re
from pathlib import Path

from sae_lens_abstopk.system.yaml_files import read_yaml

_VERBS = read_yaml(Path(__file__).with_name("verbs.yaml"))
_PLURAL = {"i", "you", "we", "they", "people", "children", "men", "women", "brothers", "who"}
# after these, -ed is a participle, not the past tense
_PARTICIPLE = re.compile(
    r"^(?:am|is|are|was|were|be|been|being|has|have|had|get|gets|a|an|the|his|her|their|its|by|of|with|in|very|more)$"
)
_ED = re.compile(r"^[a-z]{2,}ed$")
_NOT_VERBS = {"need", "indeed", "speed", "seed", "feed", "bed", "red", "hundred", "sacred", "naked", "bleed", "breed"}
_WORD = re.compile(r"[A-Za-z]+")


def _past(base: str) -> str:
    """Return the regular past form of a base: try -> tried, stop -> stopped, love -> loved, walk -> walked."""
    if base in _VERBS["doubled"]:
        return f"{base}{base[-1]}ed"
    return base[:-1] + "ied" if re.search(r"[^aeiou]y$", base) else base.removesuffix("e") + "ed"


BASES = {_past(base): base for base in _VERBS["regular"]} | {past: base for base, past in _VERBS["irregular"].items()}
"""Base forms by past form, without forms that are often something else (`read`, `put`)."""


def past_verbs(text: str) -> list[str]:
    """Return the finite verbs of ``text`` that are in the past tense, as far as word lists tell."""
    words = _WORD.findall(text.lower())
    return [
        word
        for before, word in zip(["", *words], words, strict=False)
        if word in {"was", "were"} or ((word in BASES or _is_regular(word)) and not _PARTICIPLE.match(before))
    ]


def in_present(text: str) -> str:
    """Put the verbs of ``text`` that the lists know into the present; their number follows the word before."""
    pieces = re.split(r"([A-Za-z]+)", text)
    before = ""
    for place in range(1, len(pieces), 2):
        word = pieces[place].lower()
        plural = before in _PLURAL or (before.endswith("s") and not before.endswith("ss") and len(before) > 3)
        if word in {"was", "were"}:
            pieces[place] = "are" if word == "were" else "am" if before == "i" else "is"
        elif word in BASES and not _PARTICIPLE.match(before):
            present = _present(BASES[word], plural=plural)
            pieces[place] = present.capitalize() if pieces[place][0].isupper() else present
        before = word
    return "".join(pieces)


def _is_regular(word: str) -> bool:
    return bool(_ED.match(word)) and word not in _NOT_VERBS


def _present(base: str, *, plural: bool) -> str:
    if plural:
        return base
    if base == "have":
        return "has"
    if re.search(r"(?:[sxz]|ch|sh|[^o]o|^do|^go)$", base):
        return base + "es"
    return base[:-1] + "ies" if re.search(r"[^aeiou]y$", base) else base + "s"
