"""Draws the recorded curves of ``step_time.py --curves`` and writes tables and numbers into the pages that tell them.

    python benchmarks/chart.py

Reads records; nothing is measured.
"""

import json
import re
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from statistics import mean, median
from typing import Any

import matplotlib.pyplot as plt

from sae_lens_abstopk.figures.style import paper_style
from sae_lens_abstopk.interop.saebench_evals import EVALS

ROOT = Path(__file__).parent
CLONE = ROOT.parent
LABELS = {"d_sae": "latents F", "k": "latents kept K", "tokens": "tokens B"}
SERIES = {
    "sae_lens abstopk": ("SAELens abstopk", "#b35806"),
    "abstopk": ("abstopk (this package)", "#2166ac"),
    "float32 encoder product": ("float32 encoder product alone", "#888888"),
}


def draw(curves: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """One panel for each size that varies, on logarithmic axes."""
    with paper_style():
        figure, axes = plt.subplots(1, len(curves), figsize=(10, 3.2), sharey=True, layout="constrained")
        for axis, (varied, points) in zip(axes, curves.items(), strict=True):
            sizes = [point[varied] for point in points]
            for name, (label, colour) in SERIES.items():
                axis.plot(sizes, [point[name]["median"] for point in points], marker="o", color=colour, label=label)
            axis.set(xscale="log", yscale="log", xlabel=LABELS[varied])
            axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
            axis.minorticks_off()
            axis.grid(alpha=0.25)
        axes[0].set_yticks((0.1, 1), ("0.1", "1"))
        axes[0].set_ylabel("seconds per training step")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})


def table(sizes: list[dict[str, Any]]) -> str:
    """The step times as Markdown."""
    lines = ["| d_sae | SAE | seconds | times faster | memory, gradients included |", "|---|---|---|---|---|"]
    for size in sizes:
        for name, seconds in size["seconds"].items():
            memory = size["peak_bytes"].get(name)
            lines.append(
                f"| {size['d_sae']:,} | {name} | {seconds['median']:.3f} ({seconds['least']:.3f} to {seconds['most']:.3f}) "
                f"| {size['sae_lens_abstopk_over'][name]:.1f} | {f'{memory / 2**20:,.0f} MiB' if memory else '-'} |"
            )
    return "\n".join(lines)


def alone_table(sizes: list[dict[str, Any]]) -> str:
    """Step times of SAEs in processes of their own as Markdown."""
    lines = ["| d_sae | one process each | seconds, each round | times ours |", "|---|---|---|---|"]
    for size in sizes:
        alone = size["seconds_alone"]
        for name, seconds in alone.items():
            ratios = span((value / own for value, own in zip(seconds, alone["abstopk"], strict=True)), ".1f")
            told = "1" if name == "abstopk" else " to ".join(dict.fromkeys(ratios))
            lines.append(f"| {size['d_sae']:,} | {name} | {', '.join(f'{value:.3f}' for value in seconds)} | {told} |")
    return "\n".join(lines)


def inference_table(times: list[dict[str, Any]]) -> str:
    """Times of encode and decode as Markdown."""
    lines = [
        "| d_sae | tokens | SAELens encode, decode | encode_topk, decode_topk | times faster |",
        "|---|---|---|---|---|",
    ]
    for one in times:
        theirs, ours = (one["seconds"][name]["median"] for name in ("sae_lens abstopk", "abstopk"))
        lines.append(f"| {one['d_sae']:,} | {one['tokens']:,} | {theirs:.3f} | {ours:.3f} | {theirs / ours:.1f} |")
    return "\n".join(lines)


def run_table(record: dict[str, Any]) -> str:
    """Speed of whole runs as Markdown."""
    speed = record["tokens_per_second"]
    rows = {
        "`abstopk train`": speed["ours"],
        "SAELens's runner": speed["sae_lens"],
        "the language model alone, to the hook": record["pipeline"]["bare_tokens_per_second"],
    }
    return "\n".join(["| run | tokens per second |", "|---|---|", *(f"| {k} | {v:,.0f} |" for k, v in rows.items())])


def collecting_table(record: dict[str, Any]) -> str:
    """What the explorer's pass costs beside the language model's own as Markdown."""
    lines = [
        "| latents | tokens | bare pass, before and after | with collecting | times | memory added |",
        "|---|---|---|---|---|---|",
    ]
    for size in record["collecting"]:
        bare = " and ".join(f"{seconds:.1f} s" for seconds in size["bare_seconds"])
        lines.append(
            f"| {size['d_sae']:,} | {size['tokens']:,} | {bare} | {size['collecting_seconds']:.1f} s "
            f"| {size['times_bare']:.2f} | {size['added_peak_mib']:,.0f} MiB |"
        )
    return "\n".join(lines)


def long_table(record: dict[str, Any]) -> str:
    """The same over a long text, piece by piece and in all, as Markdown."""
    found = record["long_collecting"]
    lines = [
        "| tokens so far | bare pass | with collecting | times | memory added | kept on disk |",
        "|---|---|---|---|---|---|",
    ]
    for piece in found["pieces"]:
        bare, collecting = piece["bare_seconds"], piece["collecting_seconds"]
        lines.append(
            f"| {piece['tokens_so_far']:,} | {bare:.1f} s | {collecting:.1f} s | {collecting / bare:.2f} "
            f"| {piece['added_peak_mib']:,.0f} MiB | {piece['kept_mib']:,.0f} MiB |"
        )
    lines.append(
        f"| all | {found['bare_seconds']:.1f} s | {found['collecting_seconds']:.1f} s | {found['times_bare']:.2f} | | |"
    )
    return "\n".join(lines)


AGREEING = {
    "l0": "L0",
    "cosine": "cosine of x and its reconstruction",
    "explained_variance_legacy": "`explained_variance_legacy`",
    "ce_clean": "cross-entropy, nats",
    "ce_sae": "through the SAE",
    "ce_zero": "with the hook at 0",
    "ce_loss_score": "`ce_loss_score`",
}


def agreement_table(record: dict[str, Any]) -> str:
    """SAEBench's core metrics beside ours, as Markdown."""
    both = record["parts"]["core"]["both"]
    lines = ["| on the same tokens | SAEBench, through the mirror | ours, of the signed SAE |", "|---|---|---|"]
    for name, shown in AGREEING.items():
        lines.append(f"| {shown} | {both[name]['saebench']:.5f} | {both[name]['ours']:.5f} |")
    return "\n".join(lines)


def probing_table(record: dict[str, Any]) -> str:
    """Accuracy of sparse probes by the number of latents, or poles, they are given, as Markdown."""
    runs = record["parts"]["probing"]
    ks = (1, 2, 5, 10)
    lines = [f"| test accuracy with | {' | '.join(map(str, ks))} |", f"|---|{'---|' * len(ks)}"]
    for shown, name in (("k poles, through the mirror", "mirror"), ("k latents, as it is", "as it is")):
        found = [runs[name]["metrics"]["sae"][f"sae_top_{k}_test_accuracy"] for k in ks]
        lines.append(f"| {shown} | {' | '.join(f'{accuracy:.3f}' for accuracy in found)} |")
    return "\n".join(lines)


def tpp_table(record: dict[str, Any]) -> str:
    """Effects of targeted probe perturbation by the number of poles that are ablated, as Markdown."""
    found = record["parts"]["tpp"]["mirror"]["metrics"]["tpp_metrics"]
    ns = [int(name.split("_")[2]) for name in found if name.endswith("_total_metric")]
    lines = [f"| poles ablated | {' | '.join(map(str, ns))} |", f"|---|{'---|' * len(ns)}"]
    for shown, name in (
        ("accuracy lost on the class meant", "intended_diff_only"),
        ("on others", "unintended_diff_only"),
    ):
        values = [found[f"tpp_threshold_{n}_{name}"] for n in ns]
        lines.append(f"| {shown} | {' | '.join(f'{value:.3f}' for value in values)} |")
    return "\n".join(lines)


def reading_table(record: dict[str, Any]) -> str:
    """How soon a site can be read as Markdown."""
    lines = [
        "| latents | site | first paint | rows of the table | a search | a latent's page | plotly's scatter |",
        "|---|---|---|---|---|---|---|",
    ]
    keys = ("first_paint_ms", "rows_ms", "search_ms", "latent_ms", "plotly_ms")
    for size in record["reading"]:
        times = " | ".join(f"{size[key]:,.0f} ms" if key in size else "-" for key in keys)
        lines.append(f"| {size['d_sae']:,} | {size['mib']:,.0f} MiB | {times} |")
    return "\n".join(lines)


def result(name: str) -> dict[str, Any]:
    """A record of ``benchmarks/results``."""
    return json.loads((ROOT / "results" / name).read_text())


def times_faster() -> list[float]:
    """How many times as fast as SAELens's a step of ``abstopk`` is, at every size that is recorded."""
    sizes = [size["seconds"] for size in result("step_time.json")["sizes"]]
    points = chain(sizes, *result("curves.json")["curves"].values())
    return [point["sae_lens abstopk"]["median"] / point["abstopk"]["median"] for point in points]


# variants of the study that SAELens's own classes train
SAELENS_VARIANTS = {"jumprelu", "gated", "sae_lens_abstopk"}
RELU = "standard"


def training_minutes() -> dict[str, list[float]]:
    """Minutes that the study's runs at 4,608 latents trained without a stop: ours, SAELens's, and SAELens's ReLU."""
    lines = (CLONE / "evidence" / "results" / "runs.jsonl").read_text().splitlines()
    found: dict[str, list[float]] = {"ours": [], "sae_lens": [], RELU: []}
    for line in map(json.loads, lines):
        training, variant = line["training"], line["variant"]
        if line["sae"]["d_sae"] == 4608 and not training["resumed"]:
            whose = RELU if variant == RELU else "sae_lens" if variant in SAELENS_VARIANTS else "ours"
            found[whose].append(training["seconds"] / 60)
    return found


def share_of(step: dict[str, Any], words: tuple[str, ...]) -> str:
    """Share of a profiled step that operations with one of ``words`` in their names take, in percent."""
    seconds = sum(s for name, s in step["seconds_by_operation"].items() if any(word in name for word in words))
    return f"{100 * seconds / step['seconds']:.0f}"


def span(values: Iterable[float], form: str = ",.0f") -> tuple[str, str]:
    """The least and the most, as they are told."""
    values = list(values)
    return f"{min(values):{form}}", f"{max(values):{form}}"


def phrases() -> dict[Path, dict[str, tuple[str, ...]]]:
    """Sentences that tell a recorded number, with what stands at each {}, by page."""
    steps, profile, whole, scaling = (
        result(f"{name}.json") for name in ("step_time", "profile", "end_to_end", "scaling")
    )
    sizes, versions = steps["sizes"], steps["environment"]
    peers = sizes[0]["peers"]
    speed = {case: f"{mean(found):,.0f}" for case, found in scaling["tokens_per_second"].items()}
    memory = {name: [size["peak_bytes"][name] / 2**20 for size in sizes] for name in ("abstopk", "sae_lens abstopk")}
    minutes = training_minutes()
    return {
        CLONE / "README.md": {
            "a step of `abstopk` is {} to {} times as fast as SAELens's on two CPU cores": span(times_faster(), ".1f"),
            "a whole run with its language model {} times": (f"{whole['ours_over_sae_lens']:.1f}",),
        },
        ROOT / "README.md": {
            "on a CPU with {} threads, torch {} and SAELens {}": (
                str(versions["threads"]),
                versions["torch"],
                versions["sae-lens"],
            ),
            "The step of `abstopk` is {} to {} times as fast as SAELens's": span(times_faster(), ".1f"),
            "eai-sparsify {} and dictionary-learning {} (torch {})": (
                peers["sparsify"]["eai-sparsify"],
                peers["dictionary_learning"]["dictionary-learning"],
                peers["sparsify"]["torch"],
            ),
            "spends {} % of its time on reading and writing the rows": (
                share_of(profile, ("embedding_bag", "sampled_addmm")),
            ),
            "and {} % on dense products": (share_of(profile, ("::addmm", "::mm")),),
            "Ours is {} times as fast as SAELens's": (f"{whole['ours_over_sae_lens']:.1f}",),
            "takes {} % more time": (f"{100 * whole['pipeline']['overhead']:.0f}",),
        },
        CLONE / "docs" / "distributed.md": {
            "two processes train {} times as fast as one that has two threads": (
                f"{scaling['two_processes_over_two_threads']:.2f}",
            ),
            "({} against {} tokens per second": (speed["two processes"], speed["one process, two threads"]),
            "and {} times as fast as one with one thread ({};": (
                f"{scaling['two_processes_over_one_thread']:.2f}",
                speed["one process"],
            ),
        },
        CLONE / "docs" / "faq.md": {
            "{} to {} minutes (median {})": (*span(minutes["ours"]), f"{median(minutes['ours']):.0f}"),
            "SAELens's own JumpReLU, Gated and AbsTopK take {} to {} minutes": span(minutes["sae_lens"]),
            "its ReLU {}": (f"{median(minutes[RELU]):.0f}",),
            "Memory of an `abstopk` step, gradients included: {} to {} MiB": span(memory["abstopk"]),
            "of SAELens's, {} to {} MiB": span(memory["sae_lens abstopk"]),
        },
    }


def tables() -> dict[Path, dict[str, str]]:
    """What stands between the marks of a page, by page and mark."""
    sizes, explorer = result("step_time.json")["sizes"], result("explorer.json")
    saebench = json.loads((CLONE / "evals" / "results" / "saebench.json").read_text())
    return {
        ROOT / "README.md": {
            "steps": table(sizes),
            "alone": alone_table(sizes),
            "inference": inference_table(result("inference.json")["times"]),
            "run": run_table(result("end_to_end.json")),
            "collecting": collecting_table(explorer),
            "long": long_table(explorer),
            "reading": reading_table(explorer),
        },
        CLONE / "docs" / "saebench.md": {
            "verdicts": verdict_table(),
            "agreement": agreement_table(saebench),
            "probing": probing_table(saebench),
            "tpp": tpp_table(saebench),
        },
    }


def verdict_table() -> str:
    """What each evaluation of SAEBench makes of signed SAEs."""
    rows = ["| evaluation | signed SAE as it is | through the mirror |", "|---|---|---|"]
    for evaluation in EVALS.values():
        rows.append(
            f"| `{evaluation.name}` | **{evaluation.signed}**. {evaluation.why_signed} "
            f"| **{evaluation.mirrored}**. {evaluation.why_mirrored} |"
        )
    return "\n".join(rows)


def filled(text: str, parts: dict[str, str]) -> str:
    """
    ``text`` with each of ``parts`` between the marks of its name.

    Raises:
        ValueError: a part has no marks, or not one of each.
    """
    for name, content in parts.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
            raise ValueError(f"the page needs one {start} and after it one {end}")
        text = f"{text[: text.index(start)]}{start}\n{content}\n{text[text.index(end) :]}"
    return text


def retold(text: str, phrase: str, values: tuple[str, ...]) -> str:
    """
    ``text`` with ``values`` at the {} of ``phrase``, however its lines are broken.

    Raises:
        ValueError: the text does not have the phrase, with a number at each {}, exactly once.
    """
    parts = [r"\s+".join(map(re.escape, part.split(" "))) for part in phrase.split("{}")]
    found = list(re.finditer(r"(-?\d(?:[\w.,+]*\w)?)".join(parts), text))
    if len(found) != 1:
        raise ValueError(f"the page has {phrase!r} {len(found)} times; it needs it once")
    for n, value in reversed(list(enumerate(values, start=1))):
        text = text[: found[0].start(n)] + value + text[found[0].end(n) :]
    return text


def pages() -> dict[Path, str]:
    """The pages that tell records, as they have to read."""
    parts, told = tables(), phrases()
    texts = {}
    for page in parts | told:
        texts[page] = filled(page.read_text(), parts.get(page, {}))
        for phrase, values in told.get(page, {}).items():
            texts[page] = retold(texts[page], phrase, values)
    return texts


def main() -> None:
    draw(result("curves.json")["curves"], ROOT / "results" / "curves.svg")
    for page, text in pages().items():
        page.write_text(text)


if __name__ == "__main__":
    main()
