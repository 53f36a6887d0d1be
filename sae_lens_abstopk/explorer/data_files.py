"""Data files of the site: JSON that a script hands to the page."""

import json
import math
from pathlib import Path
from typing import Any


class Strings:
    """Strings by number, so that each is written once a file."""

    def __init__(self) -> None:
        self.table: list[str] = []
        self._number: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        number = self._number.setdefault(text, len(self.table))
        if number == len(self.table):
            self.table.append(text)
        return number


def short(value: float | None) -> float | None:
    """Four digits, which is what a page shows at most; JSON knows no NaN."""
    return float(f"{value:.4g}") if value is not None and math.isfinite(value) else None


def write_data(path: Path, key: str, value: Any) -> None:
    """Write ``value`` as what the page knows by ``key``."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # a lone surrogate is no UTF-8
    path.write_bytes(f"explorer.take({json.dumps(key)},{text});\n".encode(errors="replace"))
