"""
The results of a fit in its folder, among them the page: one file that opens from disk and loads nothing.

The page has the frame of the explorer. Its data are JSON inside the page; its scripts put texts only into
text nodes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sae_lens_abstopk.evaluation.figures.style import paper_style
from sae_lens_abstopk.evaluation.results.fit_record import fit_label
from sae_lens_abstopk.evaluation.results.records import Interval
from sae_lens_abstopk.pairs.pair_figure import effects_figure
from sae_lens_abstopk.pairs.pair_files import AXES, RESULTS, SAE_FOLDER
from sae_lens_abstopk.pairs.pair_results import AxisRecord, DisagreementRecord, PairResults
from sae_lens_abstopk.pairs.pair_set import PairSet
from sae_lens_abstopk.pairs.tables import ordered
from sae_lens_abstopk.pairs.telling_apart import ConceptRecord
from sae_lens_abstopk.pairs.word_difference import differing_words
from sae_lens_abstopk.system.files import write_whole
from sae_lens_abstopk.system.pages import short, write_one_file
from sae_lens_abstopk.text.markers.measure import MARKERS

CARDS = 12
"""Most axes with a card at the head of the page."""
CLEAR = 300
"""Characters of a text beyond which a pair makes no clear example of an axis."""
CHARACTERS = 4000
"""Most characters of a text on the page."""
ALL_CHARACTERS = 12_000_000
"""Most characters of all texts; with many axes, each text gets fewer."""
_SCRIPTS = ("axis.js", "axes.js")


def write_views(
    folder: Path,
    results: PairResults,
    pairs: PairSet,
    codes: Float[np.ndarray, "n F"],
    *,
    concepts: Sequence[ConceptRecord] = (),
) -> Path:
    """Write ``pairs.json``, ``axes.csv``, the page, and with preferences ``effects.svg``; return the page."""
    write_whole(folder / RESULTS, results.model_dump_json(indent=1) + "\n")
    write_whole(folder / AXES, results.csv())
    if results.preference is not None:
        with paper_style():
            effects_figure(results).savefig(folder / "effects.svg", metadata={"Date": None})
    return write_page(results, pairs, codes, folder, concepts=concepts)


def write_page(
    results: PairResults,
    pairs: PairSet,
    codes: Float[np.ndarray, "n F"],
    folder: Path,
    *,
    concepts: Sequence[ConceptRecord] = (),
) -> Path:
    """
    Write ``index.html`` into ``folder``, and return its path; ``codes`` are positive where A has more.

    Known ``concepts`` stand in a table.
    """
    meta = page_data(results, pairs, codes) | {"concepts": [_concept(concept) for concept in concepts]}
    return write_one_file(folder / "index.html", "pairs", scripts=_SCRIPTS, meta=meta)


def page_data(results: PairResults, pairs: PairSet, codes: Float[np.ndarray, "n F"]) -> dict[str, Any]:
    """Return the data of the page: numbers of four digits, intervals as [value, low, high], positive poles first."""
    axes = ordered(results.axes)
    examples = [_examples(axis, pairs, codes) for axis in axes]
    place = {n: at for at, n in enumerate(dict.fromkeys(n for rows in examples for n in rows))}
    n_texts = sum(2 + len(pairs.prompts[n]) for n in place)
    characters = min(CHARACTERS, ALL_CHARACTERS // max(n_texts, 1))
    shown = {n: _pair(pairs, n, characters) for n in place}
    found = results.preference
    return {
        "data": results.data,
        "sae": SAE_FOLDER,
        "about": _about(results),
        "fits": [[fit_label(kind, fit), _interval(fit.fvu)] for kind, fit in results.fits.items()],
        "aucs": found
        and [
            ["codes", _interval(found.auc_codes)],
            ["all of the vector", _interval(found.auc_vector)],
            ["length only", _interval(found.auc_length)],
        ],
        "axes": [
            _axis(axis)
            | {
                "examples": [[place[n], short(float(codes[n, axis.latent]))] for n in rows],
                "clearest": _clearest([(shown[n], float(codes[n, axis.latent])) for n in rows]),
            }
            for axis, rows in zip(axes, examples, strict=True)
        ],
        "cards": CARDS,
        "pairs": list(shown.values()),
        "characters": characters,
        "judge": results.judge,
        "grouped": any(axis.disagreement for axis in results.axes),
    }


def _examples(axis: AxisRecord, pairs: PairSet, codes: Float[np.ndarray, "n F"]) -> list[int]:
    """Return the numbers of the pairs that are listed for both poles, strongest first."""
    listed = np.searchsorted(pairs.rows, [*axis.examples_positive, *axis.examples_negative]).tolist()
    return sorted(listed, key=lambda n: -abs(codes[n, axis.latent]))


def _clearest(examples: list[tuple[dict[str, Any], float]]) -> int | None:
    """
    Return the place of the example that shows an axis best; None without examples.

    Of those with at least four fifths of the strongest code: one with short texts that have most of their words in
    common, and of these the one that differs least.
    """
    if not examples:
        return None

    def rank(at: int) -> tuple[bool, bool, int]:
        texts = examples[at][0]["texts"]
        too_long = max(len("".join(parts)) for parts in texts) > CLEAR
        return too_long, not any(len(parts) > 1 for parts in texts), sum(len("".join(parts[1::2])) for parts in texts)

    least = 0.8 * abs(examples[0][1])
    return min((at for at, (_, code) in enumerate(examples) if abs(code) >= least), key=rank)


def _about(results: PairResults) -> str:
    """Return the model, the hook and the numbers of pairs in one line."""
    vectors = [str(value) for value in results.vectors.values() if not isinstance(value, list)]
    sizes = f"{results.n_pairs:,} pairs, {results.n_held_out:,} held out"
    return " · ".join([*vectors, sizes])


def _axis(axis: AxisRecord) -> dict[str, Any]:
    correlations = [(f"{MARKERS[key].more} / {MARKERS[key].less}", short(rho)) for key, rho in axis.markers.items()]
    return {
        "latent": axis.latent,
        "scale": short(axis.scale),
        "names": axis.pole_names(),
        "relation": axis.label and axis.label.relation,
        "words": [axis.words_positive, axis.words_negative],
        "stability": short(axis.stability),
        "active": short(axis.share_active),
        "markers": [each for each in correlations if each[1]],
        "named": axis.named,
        "sure": axis.is_named and axis.is_stable,
        "histogram": axis.histogram and [axis.histogram.limit, axis.histogram.positive, axis.histogram.negative],
        "fidelity": _interval(axis.fidelity),
        "effect": _interval(axis.effect),
        "winRate": _interval(axis.win_rate),
        "q": short(axis.q),
        "confirmed": axis.confirmed,
        "disagreement": axis.disagreement and _disagreement(axis.disagreement),
    }


def _concept(concept: ConceptRecord) -> dict[str, Any]:
    signed = concept.saes["signed"]
    parts = [signed, *concept.latent_pairs.values(), concept.mean_difference]
    return {
        "poles": concept.poles,
        "latent": signed.latent,
        "told": [[short(part.auroc), short(part.coverage)] for part in parts],
    }


def _disagreement(found: DisagreementRecord) -> dict[str, Any]:
    return {
        "q": short(found.q),
        "found": found.found,
        "groups": [[name, _interval(rate)] for name, rate in zip(found.groups, found.win_rates, strict=True)],
    }


def _pair(pairs: PairSet, n: int, characters: int) -> dict[str, Any]:
    """Return a pair with its texts cut off, and split where they differ; ``left_out`` counts characters."""
    texts = (pairs.a[n], pairs.b[n])
    columns = (pairs.columns.a, pairs.columns.b)
    return {
        "row": int(pairs.rows[n]),
        "prompt": [
            [role, text[:characters], max(0, len(text) - characters)] for role, text in pairs.prompts[n] if text
        ],
        "texts": differing_words(*(text[:characters] for text in texts)),
        "leftOut": [max(0, len(text) - characters) for text in texts],
        "columns": columns[::-1] if pairs.swapped[n] else columns,
        "preferred": short(float(pairs.preferred[n])),
        "group": pairs.groups and pairs.groups[n],
    }


def _interval(interval: Interval | None) -> list[float | None] | None:
    if interval is None or interval.value is None:
        return None
    return [short(interval.value), short(interval.low), short(interval.high)]
