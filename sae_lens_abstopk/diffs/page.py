"""
The page of a comparison of two models: one file that opens from disk and loads nothing.

Its data are JSON inside the page; its scripts put texts only into text nodes.
"""

from pathlib import Path
from typing import Any

from sae_lens_abstopk.diffs.diff_files import SAE_FOLDER, Diff
from sae_lens_abstopk.diffs.diff_results import (
    DiffContext,
    DiffLatentRecord,
    LatentContexts,
    strongest_tokens,
)
from sae_lens_abstopk.evaluation.results.fit_record import fit_label
from sae_lens_abstopk.evaluation.results.records import Interval
from sae_lens_abstopk.system.files import without_path
from sae_lens_abstopk.system.pages import short, write_one_file

CONTEXTS = 4000
"""Most contexts of latents on the page; with many latents, each has fewer, but at least one a pole."""
REPORTED, REPORTED_CONTEXTS = 10, 2
"""Latents of the report, and contexts of each pole."""
_SCRIPTS = ("contexts.js", "latent.js", "latents.js")


def write_page(diff: Diff, folder: Path) -> Path:
    """Write ``index.html`` into ``folder``, and return its path."""
    contexts = max(1, CONTEXTS // (2 * len(diff.results.latents)))
    return _write(folder / "index.html", page_data(diff, contexts=contexts) | {"report": False})


def write_report(diff: Diff, file: Path) -> Path:
    """Write the first latents, one below the other, as a page to send to a colleague, and return its path."""
    found = page_data(diff, contexts=REPORTED_CONTEXTS, latents=REPORTED)
    return _write(file, found | {"report": True})


def _write(file: Path, meta: dict[str, Any]) -> Path:
    return write_one_file(file, "diffs", scripts=_SCRIPTS, meta=meta)


def page_data(diff: Diff, *, contexts: int, latents: int | None = None) -> dict[str, Any]:
    """Return the data of a page: the first latents, numbers of four digits, positive poles first."""
    results, shown = diff
    parts = zip(results.latents[:latents], shown.latents, strict=False)
    writing = shown.writing
    return {
        "sae": SAE_FOLDER,
        "models": [without_path(results.tuned), without_path(results.base)],
        "hook": results.hook,
        "about": f"{results.n_tokens:,} held-out tokens of {results.n_units:,} {results.unit}s of {results.data}",
        "nLatents": len(results.latents),
        "judge": results.judge,
        "kl": _interval(results.kl),
        "recovered": [
            ["these latents", _interval(results.kl_recovered)],
            ["the difference itself", _interval(results.kl_ceiling)],
            ["the mean difference", _interval(results.kl_mean_difference)],
            *([f"PCA, {each.directions} directions", _interval(each.kl_recovered)] for each in results.pca),
        ],
        "meanEnergy": _interval(results.mean_energy),
        "fits": [[fit_label(kind, fit), _interval(fit.fvu)] for kind, fit in results.fits.items()]
        + [[f"PCA, {each.directions} directions", [short(each.fvu), None, None]] for each in results.pca],
        "latents": [_latent(record, of, contexts) for record, of in parts],
        "written": writing and list(zip(writing.prompts, writing.tuned, writing.base, strict=True)),
        "writing": {
            each.latent: [each.side, short(abs(each.code)), each.base_with, each.tuned_without]
            for each in (writing.latents if writing else ())
        },
        "parting": [_context(each) for each in shown.parting],
    }


def _latent(record: DiffLatentRecord, contexts: LatentContexts, most: int) -> dict[str, Any]:
    sides = (
        (record.positive, contexts.positive, contexts.positive_promotes),
        (record.negative, contexts.negative, contexts.negative_promotes),
    )
    return {
        "latent": record.latent,
        "share": _interval(record.kl_share),
        "estimate": short(record.kl_estimate),
        "active": short(record.share_active),
        "stability": short(record.stability),
        "halves": short(record.stability_halves),
        "meanCosine": short(record.mean_cosine),
        "names": record.label and [record.label.positive, record.label.negative],
        "relation": record.label and record.label.relation,
        "poles": [
            {
                "share": _interval(pole.kl_share),
                "estimate": short(pole.kl_estimate),
                "active": short(pole.share_active),
                "scale": short(pole.scale),
                "tokens": strongest_tokens(of),
                "promotes": promotes,
                "contexts": [_context(each) for each in of[:most]],
            }
            for pole, of, promotes in sides
        ],
    }


def _context(context: DiffContext) -> dict[str, Any]:
    return {
        "tokens": context.tokens,
        "at": context.at,
        "kl": [short(each) for each in context.kl],
        "codes": [short(each) for each in context.codes],
        "next": [context.tuned_next, context.base_next],
    }


def _interval(interval: Interval | None) -> list[float | None] | None:
    if interval is None or interval.value is None:
        return None
    return [short(interval.value), short(interval.low), short(interval.high)]
