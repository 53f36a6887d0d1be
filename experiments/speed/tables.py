"""Tables of the records of the benchmarks and of SAEBench, as Markdown."""

from collections.abc import Iterable
from statistics import mean
from typing import Any

from experiments.pages import formatted_table, markdown_table


def span(values: Iterable[float], form: str = ",.0f") -> tuple[str, str]:
    """Format the least and the most."""
    values = list(values)
    return f"{min(values):{form}}", f"{max(values):{form}}"


def step_table(sizes: list[dict[str, Any]]) -> str:
    """Make the table of time and memory of training steps."""
    rows = []
    for size in sizes:
        for name, seconds in size["seconds"].items():
            memory = size["peak_bytes"].get(name)
            measured = f"{seconds['median']:.3f} ({seconds['least']:.3f} to {seconds['most']:.3f})"
            faster = f"{size['sae_lens_abstopk_over'][name]:.1f}"
            rows.append((f"{size['d_sae']:,}", name, measured, faster, f"{memory / 2**20:,.0f} MiB" if memory else "-"))
    return markdown_table(("d_sae", "SAE", "seconds", "times faster", "memory, gradients included"), rows)


def alone_table(sizes: list[dict[str, Any]]) -> str:
    """Make the table of step times, each SAE in its own process."""
    rows = []
    for size in sizes:
        alone = size["seconds_alone"]
        for name, seconds in alone.items():
            ratios = span((value / own for value, own in zip(seconds, alone["abstopk"], strict=True)), ".1f")
            times = "1" if name == "abstopk" else " to ".join(dict.fromkeys(ratios))
            rows.append((f"{size['d_sae']:,}", name, ", ".join(f"{value:.3f}" for value in seconds), times))
    return markdown_table(("d_sae", "one process each", "seconds, each round", "times ours"), rows)


def inference_table(times: list[dict[str, Any]]) -> str:
    """Make the table of encode and decode times."""
    rows = []
    for size in times:
        theirs, ours = (size["seconds"][name]["median"] for name in ("sae_lens abstopk", "abstopk"))
        rows.append(size | {"theirs": theirs, "ours": ours, "faster": theirs / ours})
    columns = {
        "d_sae": "{d_sae:,}",
        "tokens": "{tokens:,}",
        "SAELens encode, decode": "{theirs:.3f}",
        "encode_topk, decode_topk": "{ours:.3f}",
        "times faster": "{faster:.1f}",
    }
    return formatted_table(columns, rows)


def run_table(record: dict[str, Any]) -> str:
    """Make the table of the speed of whole runs."""
    speed = record["tokens_per_second"]
    runs = {
        "`abstopk train`": speed["ours"],
        "SAELens's runner": speed["sae_lens"],
        "the language model alone, to the hook": record["pipeline"]["bare_tokens_per_second"],
    }
    return markdown_table(("run", "tokens per second"), [(run, f"{tokens:,.0f}") for run, tokens in runs.items()])


COLLECTING = {"with collecting": "{collecting_seconds:.1f} s", "times": "{times_bare:.2f}"}


def collecting_table(record: dict[str, Any]) -> str:
    """Make the table of time and memory that the explorer adds to the language model's pass."""
    both = {"bare pass, before and after": "{bare_seconds[0]:.1f} s and {bare_seconds[1]:.1f} s"}
    columns = {"latents": "{d_sae:,}", "tokens": "{tokens:,}", **both, **COLLECTING}
    return formatted_table(columns | {"memory added": "{added_peak_mib:,.0f} MiB"}, record["collecting"])


def long_table(record: dict[str, Any]) -> str:
    """Make the same table for a long text: piece by piece, and in all."""
    rows = [
        piece
        | {"so_far": f"{piece['tokens_so_far']:,}", "times_bare": piece["collecting_seconds"] / piece["bare_seconds"]}
        | {"added": f"{piece['added_peak_mib']:,.0f} MiB", "kept": f"{piece['kept_mib']:,.0f} MiB"}
        for piece in record["long_collecting"]["pieces"]
    ]
    rows.append(record["long_collecting"] | {"so_far": "all", "added": "", "kept": ""})
    columns = {"tokens so far": "{so_far}", "bare pass": "{bare_seconds:.1f} s", **COLLECTING}
    return formatted_table(columns | {"memory added": "{added}", "kept on disk": "{kept}"}, rows)


def reading_table(record: dict[str, Any]) -> str:
    """Make the table of the time until a site is readable."""
    columns = {
        "latents": "{d_sae:,}",
        "site": "{mib:,.0f} MiB",
        "first paint": "{first_paint_ms:,.0f} ms",
        "rows of the table": "{rows_ms:,.0f} ms",
        "a search": "{search_ms:,.0f} ms",
        "a latent's page": "{latent_ms:,.0f} ms",
    }
    return formatted_table(columns, record["reading"])


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
    """Make the table of SAEBench's core metrics beside ours."""
    both = record["parts"]["core"]["both"]
    rows = [(shown, *(f"{both[name][by]:.5f}" for by in ("saebench", "ours"))) for name, shown in AGREEING.items()]
    return markdown_table(("on the same tokens", "SAEBench, through the mirror", "ours, of the signed SAE"), rows)


def probing_table(record: dict[str, Any]) -> str:
    """Make the table of the accuracy of sparse probes by the number of latents or poles."""
    ks = (1, 2, 5, 10)
    rows = []
    for shown, name in (("k poles, through the mirror", "mirror"), ("k latents, as it is", "as it is")):
        found = record["parts"]["probing"][name]["metrics"]["sae"]
        rows.append((shown, *(f"{found[f'sae_top_{k}_test_accuracy']:.3f}" for k in ks)))
    return markdown_table(("test accuracy with", *map(str, ks)), rows)


def tpp_table(record: dict[str, Any]) -> str:
    """Make the table of targeted probe perturbation by the number of ablated poles."""
    found = record["parts"]["tpp"]["mirror"]["metrics"]["tpp_metrics"]
    ns = [name.split("_")[2] for name in found if name.endswith("_total_metric")]
    measures = {"accuracy lost on the class meant": "intended_diff_only", "on others": "unintended_diff_only"}
    rows = [(shown, *(f"{found[f'tpp_threshold_{n}_{name}']:.3f}" for n in ns)) for shown, name in measures.items()]
    return markdown_table(("poles ablated", *ns), rows)


def shared_table(record: dict[str, Any]) -> str:
    """Make the table of processes that share the cores."""
    rows = []
    for case, found in record["tokens_per_second, or seconds of the tests"].items():
        unit = "s" if case.startswith("tests") else "tokens/s"
        rows.append((case, *(f"{mean(found[name]):,.0f} {unit}" for name in ("OpenMP's default", "the package's"))))
    return markdown_table(("two threads each; the tests have one", "OpenMP's default", "the package's"), rows)
