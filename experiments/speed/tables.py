"""Records of the benchmarks and of SAEBench as Markdown tables."""

from collections.abc import Iterable
from typing import Any


def span(values: Iterable[float], form: str = ",.0f") -> tuple[str, str]:
    """The least and the most, as they are told."""
    values = list(values)
    return f"{min(values):{form}}", f"{max(values):{form}}"


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
