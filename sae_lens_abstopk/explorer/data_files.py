"""Data files of the site: scripts that pass JSON to the page."""

import json
import math
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from sae_lens_abstopk.explorer.catalogue import Catalogue
from sae_lens_abstopk.explorer.latents import Latent, Pole
from sae_lens_abstopk.saes.poles import pole_statistics

TOKENS_TO_SEARCH = 6


class Strings(dict[str, int]):
    """Table of strings, so that each is written once per file."""

    def number(self, text: str) -> int:
        return self.setdefault(text, len(self))


def short(value: float | None) -> float | None:
    """Round to four digits, the most that a page shows; None for NaN and infinity, which JSON lacks."""
    if value == 0:  # most codes are 0
        return 0
    return float(f"{value:.4g}") if value is not None and math.isfinite(value) else None


def write_data(path: Path, key: str, value: Any) -> None:
    """Write ``value`` as a script that passes it to the page under ``key``."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # UTF-8 cannot encode lone surrogates
    path.write_bytes(f"explorer.take({json.dumps(key)},{text});\n".encode(errors="replace"))


def summary(sae: Catalogue) -> dict[str, float | None]:
    """Return the numbers of one SAE as a whole."""
    counts, sums = sae.collected.pole_counts, sae.collected.sums
    found = pole_statistics(counts)
    closed = int((sae.closed.any(0) & (counts.sum(0) > 0)).sum())  # live latents only: each counts as a dead pole
    return {
        "fvu": short(sums.fvu()),
        "nmse": short(sums.nmse()),
        "reconstructed": sums.n_tokens,
        "l0": short(int(counts.sum()) / max(sae.collected.n_tokens, 1)),
        "dead": len(sae) - found.live_latents,
        "deadPoles": found.dead_poles - closed,
        "closedPoles": closed,
        "twoSided": short(found.mean_two_sidedness),
    }


def overview(sae: Catalogue) -> dict[str, Any]:
    """Return the first page's data, column by column; positive poles before negative ones."""
    collected, strings = sae.collected, Strings()
    tokens: tuple[list[list[int]], ...] = ([], [])
    labels: tuple[list[str], ...] = ([], [])
    for index in range(len(sae)):
        for pole in (0, 1):
            top = sae.pole_tokens(index, pole)
            labels[pole].append(sae.label(index, pole, top))
            tokens[pole].append([strings.number(token.text) for token in top[:TOKENS_TO_SEARCH]])
    return {
        "architecture": sae.architecture,
        "tokens": collected.n_tokens,
        "signed": sae.fires_negatively,
        "summary": summary(sae),
        "fires": collected.pole_counts.tolist(),
        "cofiringTokens": collected.cofiring.tokens_seen,
        "suggested": collected.suggested(len(sae)),
        "scale": [short(value) for value in sae.scale.tolist()],
        "labels": labels,
        "relations": [sae.relation(index) for index in range(len(sae))] if sae.judgements else None,
        "strings": list(strings),
        "top": tokens,
        "comparedWith": sae.compared_with,
        # cosine of the worse matched pole
        "axis": None if sae.matches is None else [short(v) for v in sae.matches.cosine.min(0).values.tolist()],
    }


def shard(latents: Iterable[Latent]) -> dict[str, Any]:
    """Return the data of some latents' pages, with their table of strings."""
    strings = Strings()
    return {"latents": [_json(latent, strings) for latent in latents], "strings": list(strings)}


def _json(value: Any, strings: Strings) -> Any:
    """Convert dataclasses to objects and tuples to arrays, with numbers for strings and four digits for floats."""
    if isinstance(value, float):
        return short(value)
    if isinstance(value, tuple):
        return [strings.number(each) if isinstance(each, str) else _json(each, strings) for each in value]
    if isinstance(value, Latent | Pole):
        return {field.name: _json(getattr(value, field.name), strings) for field in fields(value)}
    return value
