"""What the signs of latents cover that were never trained, by how often these fire: what trained latents are held against.

    python -m experiments.study.random_directions --text corpus.jsonl.gz --work runs/evidence

SAEs with fresh weights, otherwise like AbsTopK's of the study, are probed as that is. In some latent j fires on as many tokens
as the trained latent j, so that there are as many latents of each density to choose the best from. In the others k is
larger, and with it the density of all latents; with k = F each fires on every token. `results/random_directions.json` is
what the page shows. These are whole SAEs, the controls of the page, and not the random directions of steering, which are
vectors that are added to the model.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from sae_lens import SAE

from experiments.study.arguments import add_local, overrides_of, parsed, plain_errors, study_parser
from experiments.study.columns import spread
from experiments.study.fill import fill
from experiments.study.record import numbers, require_text_of_record, rounded
from experiments.study.runs import HERE, Run, config_of, digest_of, read_study, train_run, tuned_rates, weights_digest
from sae_lens_abstopk.cli.arguments import pairs
from sae_lens_abstopk.evaluation.probing.untrained import untrained_sae
from sae_lens_abstopk.evaluation.results.sae_facts import weights_sha256
from sae_lens_abstopk.evaluation.results.schema import Results
from sae_lens_abstopk.evaluation.suite.evaluate import evaluate
from sae_lens_abstopk.evaluation.suite.suite import load_suite
from sae_lens_abstopk.model.run_record import CONFIG_FILENAME
from sae_lens_abstopk.saes import SignedJumpReLUSAE, SignedJumpReLUSAEConfig
from sae_lens_abstopk.saes.derive import derive
from sae_lens_abstopk.system.errors import TrainingStopped
from sae_lens_abstopk.system.files import write_whole
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.source.activation_cache import ActivationCache

RECORD = HERE / "results" / "random_directions.json"
SHARES = (0.0125, 0.05, 0.25, 0.5, 1.0)
"""Latents that are on in a token, of all."""
SAMPLE_BATCHES, MATCH_BATCHES = 2, 16
"""Batches that the SAEs of larger k are centred on, and that matched ones are centred and matched on."""
MATCHED, DRAWS = "matched", range(3)
CHUNK = 1024
HIGH = 0.7  # the coverage above which docs/evidence.md counts tasks


def make(cfg: TrainingConfig, out: Path) -> dict[str, Path]:
    """SAEs with fresh weights for that of a run, with its config, which says what text is held out, by name."""
    fill([cfg])
    if "diverged" in (facts := train_run(cfg)):
        raise TrainingStopped(
            f"{cfg.output_path} has diverged ({facts['diverged']}), and there is nothing to hold against."
        )
    folder = Path(cfg.output_path or "")
    blocks = list(islice(ActivationCache.of_run(cfg).blocks(lambda _: iter(())), MATCH_BATCHES))
    trained, x = SAE.load_from_disk(folder), torch.cat(blocks)
    made: dict[str, SAE[Any]] = {f"{MATCHED}{seed}": matched_sae(trained, x, seed=seed) for seed in DRAWS}
    for share in SHARES:
        trained.cfg.k = round(share * trained.cfg.d_sae)
        made[f"k{trained.cfg.k}"] = untrained_sae(trained, torch.cat(blocks[:SAMPLE_BATCHES]))
    for name, sae in made.items():
        sae.save_model(out / name)
        shutil.copy(folder / CONFIG_FILENAME, out / name)
    return {name: out / name for name in made}


@torch.no_grad()
def matched_sae(trained: SAE[Any], x: torch.Tensor, *, seed: int) -> SignedJumpReLUSAE:
    """Fresh weights of ``seed``, and thresholds by which latent j fires on as many of ``x`` [n, d_in] as that of ``trained``."""
    fresh: Any = untrained_sae(trained, x, seed=seed)
    n_on = sum(((trained.encode(part) != 0).sum(0) for part in x.split(CHUNK)), torch.zeros(fresh.cfg.d_sae).long())
    score = torch.cat([(fresh.process_sae_in(part) @ fresh.W_enc + fresh.b_enc).abs() for part in x.split(CHUNK)])
    ranked = torch.cat([score.sort(dim=0, descending=True).values, torch.zeros_like(score[:1])])
    threshold = ranked.gather(0, n_on[None])[0]  # what is above it fires
    weights = dict(fresh.state_dict()) | {"threshold": threshold}
    return derive(SignedJumpReLUSAE, SignedJumpReLUSAEConfig, fresh, weights)


def lines_of(results: Results, known: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is recorded: of each SAE the latent of best coverage of every task, beside what is ``known`` of all."""
    best = {name: {task: of.saes[name].best_coverage for task, of in results.tasks.items()} for name in results.saes}
    return [
        {
            "name": name,
            "d_sae": results.saes[name].d_sae,
            "commit": results.commit,
            "environment": results.environment,
            **known,
            "best_coverage": {task: numbers(one.coverage) for task, one in of.items()},
            "density": {task: rounded(one.density) for task, one in of.items()},
        }
        for name, of in best.items()
    ]


def random_lines() -> list[dict[str, Any]]:
    """What is recorded, an SAE a line."""
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else []


def random_table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Best coverage, how many tasks have it above :data:`HIGH`, and its density, by how often latents fire."""
    if not lines:
        return "Nothing is recorded yet."
    rows = [
        f"| how often latents fire | draws | best coverage | tasks above {HIGH} | density |",
        "|---|---|---|---|---|",
    ]
    of_densities = [line for line in lines if not line["name"].startswith(MATCHED)]
    groups = {
        f"{int(line['name'].removeprefix('k')):,} of {line['d_sae']:,} on in a token": [line] for line in of_densities
    }
    matched = [line for line in lines if line["name"].startswith(MATCHED)]
    for what, group in {"each latent as often as that of AbsTopK": matched, **groups}.items():
        if not group:
            continue
        covered = [[value for value, _, _ in line["best_coverage"].values()] for line in group]
        above = spread([sum(value > HIGH for value in each) for each in covered], ".0f")
        density = spread([mean(line["density"].values()) for line in group], ".0%")
        found = spread([mean(each) for each in covered], ".3f")
        rows.append(f"| {what} | {len(group)} | {found} | {above} | {density} |")
    return "\n".join(rows)


def main() -> None:
    parser = study_parser(__doc__)
    add_local(parser)
    args = parsed(parser)
    study, text = read_study(), digest_of(args.text)
    require_text_of_record(RECORD, [line.get("text_sha256") for line in random_lines()], text)
    run = Run(**study["main"], variant="abstopk", seed=0)
    with plain_errors(parser):
        cfg = config_of(run, study, overrides_of(args), args.work, rates=tuned_rates())
        saes = make(cfg, args.work / "random_directions")
        results = evaluate(
            saes,
            suite=load_suite(HERE / "probing.yaml").model_copy(update={"untrained": False}),
            out=args.work / "evaluations" / f"random_directions_{weights_digest(saes.values())}",
            model_name=str(args.model),
            local=pairs(args.local, "--local"),
        )
    # the SAE is the one whose line in runs.jsonl has this hash
    lines = lines_of(results, {"text_sha256": text, "trained_sha256": weights_sha256(cfg.output_path or "")})
    RECORD.parent.mkdir(exist_ok=True)
    write_whole(RECORD, json.dumps(lines, indent=1) + "\n")
    print(random_table(lines))


if __name__ == "__main__":
    main()
