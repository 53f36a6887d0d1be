"""
Measure whether one latent of an SAE of the map carries both poles of a concept, beside untrained ones of its density.

    python -m experiments.map.coverage FOLDER --model HuggingFaceTB/SmolLM2-135M-Instruct --text TEXT.txt ... \
        --kinds "attention output, layer 15" --f-over-d 1 --k 32

FOLDER is what `collect.py` wrote from the same model. SAEs of a cell, signed and one-sided ones of F and of 2F latents,
train as for `loss.py`, and are probed on the shipped concepts. Beside each signed SAE stands one of random weights,
whose latent j is active on as many vectors as its latent j. Appends a line a cell to `results/coverage.jsonl`; what is
there is skipped.
"""

import json
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE

from experiments.map.kinds import CHOOSING, REPORTED, KindVectors, read_kind
from experiments.map.loss import kept_tokens, known_cells, loss_parser, passes_of, trained
from experiments.map.run import Cell, measure
from experiments.speed.recording import command
from experiments.study.random_directions import matched_sae
from experiments.study.record import rounded
from sae_lens_abstopk.evaluation.probing.code_probes import probe_codes
from sae_lens_abstopk.evaluation.probing.method_names import SINGLE
from sae_lens_abstopk.evaluation.probing.probe_score import Labelled
from sae_lens_abstopk.evaluation.results.facts import origin_facts
from sae_lens_abstopk.evaluation.suite.suite import load_suite, tasks_of_suite
from sae_lens_abstopk.evaluation.tasks.task import Task
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.representations import represent
from sae_lens_abstopk.model.text_batches import ReadingRules

RECORD = Path(__file__).resolve().parent / "results" / "coverage.jsonl"


def with_controls(saes: dict[str, SAE[Any]], vectors: KindVectors) -> dict[str, SAE[Any]]:
    """Add an untrained SAE of the same densities for each signed one."""
    x = vectors.rows(vectors.numbers(CHOOSING))
    signed = {name: sae for name, sae in saes.items() if name.startswith("signed")}
    controls = {
        name.replace("signed", "untrained"): matched_sae(sae, x, seed=seed)
        for seed, (name, sae) in enumerate(signed.items())
    }
    return saes | controls


def probed(
    passes: ModelPasses, tokenizer: Any, saes: dict[str, SAE[Any]], tasks: dict[str, Task], rules: ReadingRules
) -> dict[str, dict[str, Any]]:
    """Return coverage of the latent that covers best, AUROC of the best latent, and the former's number, by SAE."""
    found: dict[str, dict[str, Any]] = {name: {"coverage": {}, "auroc": {}, "latent": {}} for name in saes}
    for key, task in tasks.items():
        read = represent(passes, tokenizer, saes, task.texts, reads=task.reads, markers=task.markers, rules=rules)
        data = Labelled(task.labels, task.split(0), task.groups, 0)
        for name in saes:
            (probes,) = probe_codes(read, [data], name)
            found[name]["coverage"][key] = rounded(probes.best_coverage.coverage.value)
            found[name]["auroc"][key] = rounded(probes.scores[SINGLE].auroc.value)
            found[name]["latent"][key] = probes.best_coverage.latent
    return found


@torch.no_grad()
def densities(sae: SAE[Any], vectors: KindVectors, latents: dict[str, int]) -> dict[str, float | None]:
    """Return the share of reported vectors on which the latent of each task is active."""
    active = (sae.encode(vectors.rows(vectors.numbers(REPORTED))) != 0).float().mean(0)
    return {task: rounded(float(active[latent])) for task, latent in latents.items()}


def main() -> None:
    args = loss_parser(__doc__, RECORD).parse_args()
    known, tasks = known_cells(args.record), tasks_of_suite(load_suite("probing"))
    for kind in args.kinds:
        if (kind, args.f_over_d, args.k) in known:
            continue
        vectors, source = read_kind(args.folder, kind)
        passes, tokenizer = passes_of(kind, args, vectors)
        cell = Cell(kind, "batch", args.f_over_d, args.k)
        saes = with_controls(trained(cell, vectors, args.seeds), vectors)
        found = probed(passes, tokenizer, saes, tasks, ReadingRules(False, kept_tokens(vectors)))
        rows = vectors.numbers(REPORTED)
        line = {"kind": kind, "f_over_d": args.f_over_d, "k": args.k, "rows": len(vectors) - 2 * len(rows)}
        line["saes"] = {
            name: measure(sae, vectors, rows)
            | found[name]
            | {"density": densities(sae, vectors, found[name]["latent"])}
            for name, sae in saes.items()
        }
        line |= origin_facts("cpu") | {"source": source, "command": command()}
        with args.record.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(kind, {name: sum(each["coverage"].values()) / len(tasks) for name, each in found.items()}, flush=True)


if __name__ == "__main__":
    main()
