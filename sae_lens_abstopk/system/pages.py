"""The frame of pages: their templates, and the style and scripts that all of them have."""

import math
import re
import unicodedata
from collections.abc import Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from sae_lens_abstopk.system.files import whole_file

FRAME_STYLE = "frame.css"
FRAME_SCRIPTS = ("elements.js", "tools.js", "histogram.js")
# of the pages that are one file
LIST_STYLE, LIST_SCRIPTS = "list.css", ("bars.js", "list.js")
# draws something only where a server runs the model
STEERING = "steer.js"
# zero-width joiners, allowed inside a word or an emoji
JOINERS = "\u200c\u200d"


def assets(room: str) -> Traversable:
    """Return the folder of a room's templates, styles and scripts; those of the frame are in ``system``."""
    return files(f"sae_lens_abstopk.{room}") / "assets"


def style_of(room: str, *names: str) -> str:
    """Return the style of the frame with others after it, of the room or of the frame."""
    found = [assets("system") / FRAME_STYLE]
    for name in names:
        own = assets(room) / name
        found.append(own if own.is_file() else assets("system") / name)
    return "\n".join(each.read_text("utf-8") for each in found)


def templates(room: str, *, autoescape: bool = True) -> Environment:
    """Open the templates of a room, which may extend ``frame.html.j2``; by default, values are escaped."""
    found = Environment(
        loader=ChoiceLoader([PackageLoader(f"sae_lens_abstopk.{each}", "assets") for each in (room, "system")]),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters["escape_invisible"] = escape_invisible
    return found


def write_one_file(index: Path, room: str, *, scripts: Sequence[str], meta: dict[str, Any]) -> Path:
    """
    Write a page that opens from disk and loads nothing: data, style and scripts are inside.

    The room's template, ``ROOM.html.j2``, is rendered with the JSON ``meta``, the style, and the texts of the scripts:
    those of the frame, of lists and of steering, then the room's ``scripts``.
    """
    texts = [(assets("system") / name).read_text("utf-8") for name in (*FRAME_SCRIPTS, *LIST_SCRIPTS, STEERING)]
    texts += [(assets(room) / name).read_text("utf-8") for name in scripts]
    found = templates(room)
    found.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    style = style_of(room, LIST_STYLE, f"{room}.css")
    page = found.get_template(f"{room}.html.j2").render(meta=meta, style=style, scripts=texts)
    index.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(index) as partial:
        partial.write_text(page, encoding="utf-8", errors="replace")  # UTF-8 cannot encode lone surrogates
    return index


def short(value: float | None) -> float | None:
    """Round to four digits, the most that a page shows; None for NaN and infinity, which JSON lacks."""
    if value == 0:  # most codes are 0
        return 0
    return float(f"{value:.4g}") if value is not None and math.isfinite(value) else None


def escape_invisible(text: str) -> str:
    """
    Replace line breaks and tabs by symbols, long runs of spaces by their count, and other invisible or reordering
    characters by their code point: ``⟨U+200B⟩``.
    """
    text = text.replace("\n", "⏎").replace("\r", "␍").replace("\t", "⇥")
    if not text.isprintable():
        text = "".join(f"⟨U+{ord(sign):04X}⟩" if _is_hidden(text, at) else sign for at, sign in enumerate(text))
    return re.sub(" {3,}", lambda run: f"␣×{len(run[0])}", text)


def _is_hidden(text: str, at: int) -> bool:
    if text[at] in JOINERS:
        beside = (text[at - 1 : at], text[at + 1 : at + 2])
        return not all(each and unicodedata.category(each)[0] not in "CZ" for each in beside)
    return text[at] == "\xa0" or unicodedata.category(text[at]) in ("Cc", "Cf", "Zl", "Zp")
