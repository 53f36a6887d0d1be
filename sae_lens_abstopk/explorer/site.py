"""
The explorer as a folder of static files that opens from disk.

Browsers let a page on disk load scripts but not JSON, so every data file is a script that hands one JSON value to the
page: ``data/S/overview.js`` for SAE number S, ``data/S/shard-N.js`` for every ``SHARD`` latents, and
``data/concepts.js`` for results of an evaluation. The page puts the model's text only into text nodes.
"""

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from sae_lens_abstopk.evaluation.labelling.labeler import ANSWERS
from sae_lens_abstopk.explorer.catalogue import Catalogue
from sae_lens_abstopk.explorer.latents import Latent, Pole, Provenance
from sae_lens_abstopk.explorer.snippet import snippet
from sae_lens_abstopk.explorer.steered import STRENGTHS
from sae_lens_abstopk.saes.poles import pole_statistics
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.files import home_as_tilde
from sae_lens_abstopk.system.folder_lock import HOLDER, LOCK
from sae_lens_abstopk.system.pages import FRAME_SCRIPTS, STEERING, assets, short, style_of, templates
from sae_lens_abstopk.system.terminal import PassProgress

SHARD = 128
TOKENS_TO_SEARCH = 6
# earlier versions pickled the pass into the output folder
OLD_PASS = ".collection.pt"
# the page.js of every version begins with this
MARKER = b"// The frame of the explorer:"
SCRIPTS = ("page.js", "draw.js", "overview.js", "latent.js", "concept.js")
SHARED_SCRIPTS = (*FRAME_SCRIPTS, STEERING)


def write_site(
    saes: Sequence[Catalogue],
    about: Provenance,
    folder: Path,
    *,
    concepts: Sequence[dict[str, Any]] = (),
    on_progress: PassProgress | None = None,
) -> Path:
    """
    Write the site of one or two SAEs into ``folder`` and return its first page.

    ``on_progress`` is called with (latents written, latents in all).

    Raises:
        ConfigError: ``folder`` holds files that are not an explorer's.
    """
    check_site_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # page.js first: it marks the folder as an explorer's if writing is interrupted
    for room, scripts in (("explorer", SCRIPTS), ("system", SHARED_SCRIPTS)):
        for script in scripts:
            (folder / script).write_bytes((assets(room) / script).read_bytes())
    written = folder / "data.new"  # an earlier site stays intact until this one is complete
    shutil.rmtree(written, ignore_errors=True)
    done, total = 0, sum(len(sae) for sae in saes)
    for number, sae in enumerate(saes):
        (written / str(number)).mkdir(parents=True)
        _write_data(written, f"{number}/overview", overview(sae))
        for start in range(0, len(sae), SHARD):
            latents = [sae[index] for index in range(start, min(start + SHARD, len(sae)))]
            _write_data(written, f"{number}/shard-{start // SHARD}", shard(latents))
            done += len(latents)
            if on_progress is not None:
                on_progress(done, total)
    if concepts:
        _write_data(written, "concepts", concepts)
    meta = {
        "unit": about.unit,
        "shard": SHARD,
        "strengths": STRENGTHS,
        "judge": about.judge,
        "concepts": [concept["name"] for concept in concepts],
        "saes": [
            {"name": sae.name, "source": home_as_tilde(sae.source), "snippet": snippet(sae.source, about)}
            for sae in saes
        ],
    }
    template = templates("explorer").get_template("index.html.j2")
    style, scripts = style_of("explorer", "explorer.css"), (*SHARED_SCRIPTS, *SCRIPTS)
    page = template.render(about=about, saes=saes, meta=meta, style=style, scripts=scripts)
    shutil.rmtree(folder / "data", ignore_errors=True)
    written.rename(folder / "data")
    index = folder / "index.html"
    index.write_text(page, encoding="utf-8")
    (folder / OLD_PASS).unlink(missing_ok=True)
    return index


def check_site_folder(folder: Path) -> None:
    """Raise if ``folder`` is a file, or has files that are not an explorer's."""
    before_a_site = (OLD_PASS, ANSWERS, LOCK, HOLDER)
    script = folder / "page.js"
    is_site = script.is_file() and script.read_bytes().startswith(MARKER)
    others = folder.is_dir() and any(path.name not in before_a_site for path in folder.iterdir())
    if folder.is_file() or (others and not is_site):
        raise ConfigError(f"{folder} is neither empty nor an explorer's site; give a new folder, or such a site.")


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
        "dead": sae.dead_latents,
        "deadTokens": sae.dead_latents_tokens,
        "silent": len(sae) - found.live_latents,
        "deadPoles": found.dead_poles - closed,
        "closedPoles": closed,
        "twoSided": short(found.mean_two_sidedness),
    }


def overview(sae: Catalogue) -> dict[str, Any]:
    """Return the first page's data, column by column; positive poles before negative ones."""
    collected = sae.collected
    strings: dict[str, int] = {}  # each is written once per file
    tokens: tuple[list[list[int]], ...] = ([], [])
    labels: tuple[list[str], ...] = ([], [])
    for index in range(len(sae)):
        for pole in (0, 1):
            top = sae.pole_tokens(index, pole)
            labels[pole].append(sae.label(index, pole, top))
            tokens[pole].append([strings.setdefault(token.text, len(strings)) for token in top[:TOKENS_TO_SEARCH]])
    return {
        "architecture": sae.architecture,
        "tokens": collected.n_tokens,
        "signed": sae.fires_negatively,
        "summary": summary(sae),
        "fires": collected.pole_counts.tolist(),
        "cofiringTokens": collected.cofiring.tokens_seen,
        "suggested": sae.suggested(len(sae)),
        "scale": [short(value) for value in sae.scale.tolist()],
        "labels": labels,
        "verdicts": [sae.verdict(index) for index in range(len(sae))],
        "strings": list(strings),
        "top": tokens,
        "comparedWith": sae.compared_with,
        # cosine of the worse matched pole
        "axis": None if sae.matches is None else [short(v) for v in sae.matches.cosine.min(0).values.tolist()],
    }


def shard(latents: Iterable[Latent]) -> dict[str, Any]:
    """Return the data of some latents' pages, with their table of strings."""
    strings: dict[str, int] = {}
    return {"latents": [_json(latent, strings) for latent in latents], "strings": list(strings)}


def _json(value: Any, strings: dict[str, int]) -> Any:
    """Convert dataclasses to objects and tuples to arrays, with numbers for strings and four digits for floats."""
    if isinstance(value, float):
        return short(value)
    if isinstance(value, tuple):
        return [
            strings.setdefault(each, len(strings)) if isinstance(each, str) else _json(each, strings) for each in value
        ]
    if isinstance(value, Latent | Pole):
        return {field.name: _json(getattr(value, field.name), strings) for field in fields(value)}
    return value


def _write_data(folder: Path, key: str, value: Any) -> None:
    """Write ``value`` as a script that passes it to the page under ``key``."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # UTF-8 cannot encode lone surrogates
    (folder / f"{key}.js").write_bytes(f"explorer.take({json.dumps(key)},{text});\n".encode(errors="replace"))
