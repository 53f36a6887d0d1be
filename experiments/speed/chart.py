"""Draw the recorded curves of training steps, and write the recorded tables and numbers into the pages.

python -m experiments.speed.chart
"""

import json
from itertools import chain
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib.pyplot as plt

from experiments.pages import filled, retold
from experiments.speed.tables import (
    agreement_table,
    alone_table,
    collecting_table,
    inference_table,
    long_table,
    probing_table,
    reading_table,
    run_table,
    shared_table,
    span,
    step_table,
    tpp_table,
)
from sae_lens_abstopk.evaluation.figures.style import paper_style

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LABELS = {"d_sae": "latents F", "k": "latents kept K", "tokens": "tokens B"}
SERIES = {
    "sae_lens abstopk": ("SAELens abstopk", "#b35806"),
    "abstopk": ("abstopk (this package)", "#2166ac"),
    "float32 encoder product": ("float32 encoder product alone", "#888888"),
}


def draw(curves: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw seconds over size on logarithmic axes, one panel for each size that varies."""
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


def result(name: str) -> dict[str, Any]:
    """Return a record of ``experiments/speed/results``."""
    return json.loads((HERE / "results" / name).read_text())


def times_faster() -> list[float]:
    """Return the speed of an ``abstopk`` step over SAELens's, at every recorded size."""
    sizes = [size["seconds"] for size in result("step_time.json")["sizes"]]
    points = chain(sizes, *result("curves.json")["curves"].values())
    return [point["sae_lens abstopk"]["median"] / point["abstopk"]["median"] for point in points]


def share_of(step: dict[str, Any], words: tuple[str, ...]) -> str:
    """Return the percentage of a profiled step in operations with one of ``words`` in their names."""
    seconds = sum(s for name, s in step["seconds_by_operation"].items() if any(word in name for word in words))
    return f"{100 * seconds / step['seconds']:.0f}"


def overheads(seconds: dict[str, list[float]]) -> list[float]:
    """Return the percentages by which eight pipeline batches take longer than the bare passes right after them."""
    pipeline, bare = seconds["pipeline"], seconds["bare language model to the hook"]
    return [100 * (ours / alone - 1) for ours, alone in zip(pipeline, bare, strict=True)]


def phrases() -> dict[Path, dict[str, tuple[str, ...]]]:
    """Return the sentences with recorded numbers, and the value at each {}, by page."""
    steps, profile, whole, scaling = (
        result(f"{name}.json") for name in ("step_time", "profile", "end_to_end", "scaling")
    )
    sizes, versions = steps["sizes"], steps["environment"]
    peers = sizes[0]["peers"]
    speed = {case: f"{mean(found):,.0f}" for case, found in scaling["tokens_per_second"].items()}
    return {
        ROOT / "README.md": {
            "a step of `abstopk` is {} to {} times as fast as SAELens's on two CPU cores": span(times_faster(), ".1f"),
            "a whole run with its language model {} times": (f"{whole['ours_over_sae_lens']:.1f}",),
        },
        HERE / "README.md": {
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
            "takes {} % more time per batch in the median (pairs of eight batches each: {} to {} %)": (
                f"{round(100 * whole['pipeline']['overhead'])}",
                *span(overheads(whole["pipeline"]["seconds_per_batch"])),
            ),
        },
        ROOT / "docs" / "distributed.md": {
            "two processes train {} times as fast as one that has two threads": (
                f"{scaling['two_processes_over_two_threads']:.2f}",
            ),
            "({} against {} tokens per second": (speed["two processes"], speed["one process, two threads"]),
            "and {} times as fast as one with one thread ({};": (
                f"{scaling['two_processes_over_one_thread']:.2f}",
                speed["one process"],
            ),
        },
    }


def tables() -> dict[Path, dict[str, str]]:
    """Return the tables of each page, by mark."""
    sizes, explorer = result("step_time.json")["sizes"], result("explorer.json")
    saebench = json.loads((ROOT / "evals" / "results" / "saebench.json").read_text())
    return {
        HERE / "README.md": {
            "steps": step_table(sizes),
            "alone": alone_table(sizes),
            "inference": inference_table(result("inference.json")["times"]),
            "run": run_table(result("end_to_end.json")),
            "shared": shared_table(result("shared_cores.json")),
            "collecting": collecting_table(explorer),
            "long": long_table(explorer),
            "reading": reading_table(explorer),
        },
        ROOT / "docs" / "saebench.md": {
            "agreement": agreement_table(saebench),
            "probing": probing_table(saebench),
            "tpp": tpp_table(saebench),
        },
    }


def pages() -> dict[Path, str]:
    """Return every page with current recorded numbers."""
    parts, sentences = tables(), phrases()
    texts = {}
    for page in parts | sentences:
        texts[page] = filled(page.read_text(), parts.get(page, {}))
        for phrase, values in sentences.get(page, {}).items():
            texts[page] = retold(texts[page], phrase, values)
    return texts


def main() -> None:
    draw(result("curves.json")["curves"], HERE / "results" / "curves.svg")
    for page, text in pages().items():
        page.write_text(text)


if __name__ == "__main__":
    main()
