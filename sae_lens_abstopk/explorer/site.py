"""
The explorer as a folder of static files that opens from disk.

Browsers let a page on disk load scripts but not JSON, so every data file is a script that hands one JSON value to the
page: ``data/S/overview.js`` for SAE number S, ``data/S/shard-N.js`` for each run of ``SHARD`` latents, and ``data/concepts.js``
where results of an evaluation were given. Text of the model is only ever data; the page puts it in text nodes.
"""

import shutil
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from sae_lens_abstopk.explorer.catalogue import Catalogue
from sae_lens_abstopk.explorer.data_files import Strings, short, write_data
from sae_lens_abstopk.explorer.latents import Effect, Latent, Neighbour, Pole, Provenance, ShownContext
from sae_lens_abstopk.explorer.snippet import snippet
from sae_lens_abstopk.explorer.steered import STRENGTHS
from sae_lens_abstopk.saes.poles import pole_statistics
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.folder_lock import HOLDER, LOCK

SHARD = 128
# what the pass is taken up from; the pages do not need it
CHECKPOINT, UNFINISHED = ".collection.pt", ".collection.tmp"
# what a labeler answered
ANSWERS = ".labels.jsonl"
# how the page.js of every version begins
MARKER = "// The frame of the explorer:"
SCRIPTS = ("page.js", "draw.js", "overview.js", "latent.js", "concept.js")
TOKENS_TO_SEARCH = 6


def environment() -> Environment:
    """Templates of the explorer; everything that is put into them is escaped."""
    return Environment(
        loader=PackageLoader("sae_lens_abstopk.explorer", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_site(
    saes: Sequence[Catalogue],
    about: Provenance,
    folder: Path,
    *,
    concepts: Sequence[dict[str, Any]] = (),
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """
    Write the site of one or two SAEs into ``folder`` and return its first page.

    ``on_progress`` is called with (latents written, latents in all).

    Raises:
        ConfigError: ``folder`` holds files that are not an explorer's.
    """
    check_site_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with as_file(files("sae_lens_abstopk.explorer") / "assets") as assets:
        for script in SCRIPTS:  # first, as they say whose folder this is, should the rest be interrupted
            shutil.copyfile(assets / script, folder / script)
        style = (assets / "explorer.css").read_text(encoding="utf-8")
    written = folder / "data.new"  # an earlier site is whole until this one is
    shutil.rmtree(written, ignore_errors=True)
    done, total = 0, sum(len(sae) for sae in saes)
    for number, sae in enumerate(saes):
        data = written / str(number)
        data.mkdir(parents=True)
        write_data(data / "overview.js", f"{number}/overview", overview(sae))
        for start in range(0, len(sae), SHARD):
            latents = [sae[index] for index in range(start, min(start + SHARD, len(sae)))]
            write_data(data / f"shard-{start // SHARD}.js", f"{number}/shard-{start // SHARD}", shard(latents))
            done += len(latents)
            if on_progress is not None:
                on_progress(done, total)
    if concepts:
        write_data(written / "concepts.js", "concepts", concepts)
    meta = {
        "shard": SHARD,
        "strengths": STRENGTHS,
        "judge": about.judge,
        "concepts": [concept["name"] for concept in concepts],
        "saes": [{"name": sae.name, "snippet": snippet(sae.source, about)} for sae in saes],
    }
    page = environment().get_template("index.html.j2").render(about=about, saes=saes, meta=meta, style=style)
    shutil.rmtree(folder / "data", ignore_errors=True)
    written.rename(folder / "data")
    index = folder / "index.html"
    index.write_text(page, encoding="utf-8")
    return index


def check_site_folder(folder: Path) -> None:
    """Refuse to write among files that are not an explorer's, before anything is collected."""
    if folder.is_file():
        raise ConfigError(f"{folder} is a file; give a folder for the site.")
    before_a_site = (CHECKPOINT, UNFINISHED, ANSWERS, LOCK, HOLDER)
    others = folder.is_dir() and any(path.name not in before_a_site for path in folder.iterdir())
    if others and not _is_ours(folder / "page.js"):
        raise ConfigError(
            f"{folder} is not empty and is not an explorer's site; give a new folder, or a site to overwrite."
        )


def _is_ours(script: Path) -> bool:
    return script.is_file() and script.read_bytes().startswith(MARKER.encode())


def overview(sae: Catalogue) -> dict[str, Any]:
    """What the first page knows of all latents, column by column; poles in the order positive, negative."""
    collected = sae.collected
    found = pole_statistics(collected.pole_counts)
    strings = Strings()
    tokens: tuple[list[list[int]], ...] = ([], [])
    labels: tuple[list[str], ...] = ([], [])
    for index in range(len(sae)):
        for pole in (0, 1):
            found_tokens = sae.pole_tokens(index, pole)
            labels[pole].append(sae.label(index, pole, found_tokens))
            tokens[pole].append([strings(token.text) for token in found_tokens[:TOKENS_TO_SEARCH]])
    return {
        "architecture": sae.architecture,
        "tokens": collected.n_tokens,
        "signed": sae.fires_negatively,
        "summary": {
            "fvu": short(collected.sums.fvu()),
            "nmse": short(collected.sums.nmse()),
            "reconstructed": collected.sums.n_tokens,
            "l0": short(int(collected.pole_counts.sum()) / max(collected.n_tokens, 1)),
            "dead": len(sae) - found.live_latents,
            "deadPoles": found.dead_poles - sae.closed_poles,
            "closedPoles": sae.closed_poles,
            "twoSided": short(found.mean_two_sidedness),
        },
        "fires": collected.pole_counts.tolist(),
        "cofiringTokens": collected.cofiring.tokens_seen,
        "suggested": collected.suggested(len(sae)),
        "scale": [short(value) for value in sae.scale.tolist()],
        "labels": labels,
        "relations": [sae.relation(index) for index in range(len(sae))] if sae.judgements else None,
        "strings": strings.table,
        "top": tokens,
        "comparedWith": sae.compared_with,
        # an axis is shared as far as its less well matched side is
        "axis": None if sae.matches is None else [short(v) for v in sae.matches.cosine.min(0).values.tolist()],
    }


def shard(latents: Iterable[Latent]) -> dict[str, Any]:
    """Pages of some latents, with their strings apart."""
    strings = Strings()
    pages = [_latent(latent, strings) for latent in latents]
    return {"strings": strings.table, "latents": pages}


def _latent(latent: Latent, strings: Strings) -> dict[str, Any]:
    return {
        "twoSided": short(latent.two_sidedness),
        "scale": short(latent.scale),
        "limit": short(latent.limit),
        "norm": short(latent.norm),
        "strongest": short(latent.strongest),
        "poles": [_pole(pole, strings) for pole in latent.poles],
        "aligned": [_neighbour(each) for each in latent.aligned],
        "opposed": [_neighbour(each) for each in latent.opposed],
        "cofiring": [[c.latent, short(c.overlap), short(c.same_side)] for c in latent.cofiring],
        "relation": latent.relation,
        "steered": [[each.prompt, each.texts] for each in latent.steered],
    }


def _pole(pole: Pole, strings: Strings) -> dict[str, Any]:
    return {
        "label": pole.label,
        "closed": pole.closed,
        "fires": pole.fires,
        "density": short(pole.density),
        "scale": short(pole.scale),
        "tokens": [[strings(token.text), short(token.share), token.firings] for token in pole.tokens],
        "sampledFirings": pole.sampled_firings,
        "histogram": pole.histogram,
        "contexts": [_context(context, strings) for context in pole.strongest],
        "sampled": [_context(context, strings) for context in pole.sampled],
        "promoted": [_effect(effect, strings) for effect in pole.promoted],
        "demoted": [_effect(effect, strings) for effect in pole.demoted],
        "match": _neighbour(pole.match) if pole.match else None,
    }


def _context(context: ShownContext, strings: Strings) -> list[Any]:
    codes = [0 if code == 0 else short(code) for code in context.codes]
    tokens = [strings(text) for text in context.tokens]
    return [short(context.code), context.at, short(context.share_below), tokens, codes]


def _effect(effect: Effect, strings: Strings) -> list[Any]:
    return [strings(effect.text), short(effect.by)]


def _neighbour(neighbour: Neighbour) -> list[Any]:
    return [neighbour.latent, short(neighbour.cosine), neighbour.pole]
