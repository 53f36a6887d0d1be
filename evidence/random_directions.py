"""What the signs of latents cover that were never trained, by how often these fire: what trained latents are held against.

    python -m evidence.random_directions --text corpus.jsonl.gz --work runs/evidence

AbsTopK SAEs with fresh weights, otherwise like that of the study, are probed as those are. The larger their k, the denser
their latents; with k = F every latent fires on every token. `results/random_directions.json` is what the page shows.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from sae_lens import SAE

from evidence.arguments import add_local, overrides_of, study_parser
from evidence.record import numbers, rounded
from evidence.runs import HERE, Run, config_of, read_study, train_run, tuned_rates
from evidence.tune import EXPANSION, LAYER
from sae_lens_abstopk.cli.app import pairs
from sae_lens_abstopk.evaluation.evaluate import evaluate
from sae_lens_abstopk.evaluation.results import Results
from sae_lens_abstopk.evaluation.suite import load_suite
from sae_lens_abstopk.evaluation.untrained import untrained_sae
from sae_lens_abstopk.training.activation_cache import ActivationCache
from sae_lens_abstopk.training.config import TrainingConfig
from sae_lens_abstopk.training.resume import CONFIG_FILENAME

RECORD = HERE / "results" / "random_directions.json"
SHARES = (0.0125, 0.05, 0.25, 0.5, 1.0)
"""Latents that are on in a token, of all."""
SAMPLE_BATCHES = 2
"""Batches of the language model whose mean the SAEs are centred on."""


def make(cfg: TrainingConfig, out: Path) -> dict[str, Path]:
    """SAEs with fresh weights for that of a run, with its config, which says what text is held out; by their k."""
    train_run(cfg)
    folder = Path(cfg.output_path or "")
    blocks = ActivationCache.of_run(cfg).blocks(lambda _: iter(()))
    x = torch.cat([next(blocks) for _ in range(SAMPLE_BATCHES)])
    sae, made = SAE.load_from_disk(folder), {}
    for share in SHARES:
        sae.cfg.k = round(share * sae.cfg.d_sae)
        name = f"k{sae.cfg.k}"
        made[name] = out / name
        untrained_sae(sae, x).sae.save_model(made[name])
        shutil.copy(folder / CONFIG_FILENAME, made[name])
    return made


def lines_of(results: Results) -> list[dict[str, Any]]:
    """What is recorded: of each SAE the latent of best coverage of every task."""
    best = {name: {task: of.saes[name].best_coverage for task, of in results.tasks.items()} for name in results.saes}
    return [
        {
            "k": int(name.removeprefix("k")),
            "d_sae": results.saes[name].d_sae,
            "commit": results.commit,
            "best_coverage": {task: numbers(one.coverage) for task, one in of.items()},
            "density": {task: rounded(one.density) for task, one in of.items()},
        }
        for name, of in best.items()
    ]


def random_lines() -> list[dict[str, Any]]:
    """What is recorded, by k."""
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else []


def random_table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Best coverage and its density, mean over the tasks, by k."""
    if not lines:
        return "Nothing is recorded yet."
    rows = ["| latents on in a token | best coverage | its density |", "|---|---|---|"]
    for line in lines:
        covered = [value for value, _, _ in line["best_coverage"].values()]
        share = f"{line['k']:,} of {line['d_sae']:,}"
        rows.append(f"| {share} | {mean(covered):.3f} | {mean(line['density'].values()):.0%} |")
    return "\n".join(rows)


def main() -> None:
    parser = study_parser(__doc__)
    add_local(parser)
    args = parser.parse_args()
    study = read_study()
    run = Run(LAYER, EXPANSION, max(study["k"]), "abstopk", seed=0)
    common = overrides_of(args)
    results = evaluate(
        make(config_of(run, study, common, args.work, rates=tuned_rates()), args.work / "random_directions"),
        suite=load_suite(HERE / "probing.yaml").model_copy(update={"untrained": False}),
        out=args.work / "evaluations" / "random_directions",
        model_name=str(args.model),
        local=pairs(args.local, "--local"),
    )
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(lines_of(results), indent=1) + "\n", encoding="utf-8")
    print(random_table(lines_of(results)))


if __name__ == "__main__":
    main()
