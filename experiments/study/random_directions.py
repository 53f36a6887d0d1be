"""Probe untrained SAEs as a control for pole coverage, by how often their latents fire.

    python -m experiments.study.random_directions --text corpus.jsonl.gz --work runs/evidence

The SAEs have random weights and are otherwise like the study's AbsTopK. In the *matched* ones, latent j fires on as
many tokens as the trained latent j. In the others k is larger, and with it the density of all latents. The record is
`results/random_directions.json`. (The random directions of steering are vectors added to the model, not these SAEs.)
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

from experiments.pages import markdown_table
from experiments.study.arguments import add_local, overrides_of, parsed, plain_errors, study_parser
from experiments.study.columns import spread
from experiments.study.fill import fill
from experiments.study.record import numbers, require_text_of_record, rounded
from experiments.study.runs import HERE, Run, config_of, digest_of, read_study, train_run, tuned_rates, weights_digest
from sae_lens_abstopk.cli.app import pairs
from sae_lens_abstopk.evaluation.probing.untrained import untrained_sae
from sae_lens_abstopk.evaluation.results.facts import weights_sha256
from sae_lens_abstopk.evaluation.results.schema import Results
from sae_lens_abstopk.evaluation.suite.evaluate import evaluate
from sae_lens_abstopk.evaluation.suite.suite import load_suite
from sae_lens_abstopk.saes import SignedJumpReLUSAE, SignedJumpReLUSAEConfig
from sae_lens_abstopk.saes.derive import derive
from sae_lens_abstopk.system.errors import TrainingStopped
from sae_lens_abstopk.system.files import write_whole
from sae_lens_abstopk.system.yaml_files import CONFIG_FILENAME
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.source.activation_cache import ActivationCache

RECORD = HERE / "results" / "random_directions.json"
SHARES = (0.0125, 0.05, 0.25, 0.5, 1.0)
"""Shares of active latents per token."""
SAMPLE_BATCHES, MATCH_BATCHES = 2, 16
"""Batches to centre the SAEs of larger k on; to centre and match the matched ones on."""
MATCHED, DRAWS = "matched", range(3)
CHUNK = 1024
HIGH = 0.7  # docs/evidence.md counts tasks above this coverage


def make(cfg: TrainingConfig, out: Path) -> dict[str, Path]:
    """Make the untrained SAEs for a run's SAE, by name, each in a folder with the run's config."""
    fill([cfg])
    if "diverged" in (facts := train_run(cfg)):
        raise TrainingStopped(
            f"{cfg.output_path} has diverged ({facts['diverged']}), so there is no SAE to compare with."
        )
    folder = Path(cfg.output_path or "")
    blocks = list(islice(ActivationCache.of_run(cfg).blocks(lambda _: iter(())), MATCH_BATCHES))
    trained: Any = SAE.load_from_disk(folder)
    x = torch.cat(blocks)
    made: dict[str, SAE[Any]] = {f"{MATCHED}{seed}": matched_sae(trained, x, seed=seed) for seed in DRAWS}
    for share in SHARES:
        trained.cfg.k = trained.activation_fn.k = round(share * trained.cfg.d_sae)
        made[f"k{trained.cfg.k}"] = untrained_sae(trained, torch.cat(blocks[:SAMPLE_BATCHES]))
    for name, sae in made.items():
        sae.save_model(out / name)
        shutil.copy(folder / CONFIG_FILENAME, out / name)
    return {name: out / name for name in made}


@torch.no_grad()
def matched_sae(trained: SAE[Any], x: torch.Tensor, *, seed: int) -> SignedJumpReLUSAE:
    """Make an SAE with random weights whose latent j fires on as many rows of ``x`` [n, d_in] as in ``trained``."""
    fresh: Any = untrained_sae(trained, x, seed=seed)
    n_on = sum(((trained.encode(part) != 0).sum(0) for part in x.split(CHUNK)), torch.zeros(fresh.cfg.d_sae).long())
    score = torch.cat([(fresh.process_sae_in(part) @ fresh.W_enc + fresh.b_enc).abs() for part in x.split(CHUNK)])
    ranked = torch.cat([score.sort(dim=0, descending=True).values, torch.zeros_like(score[:1])])
    threshold = ranked.gather(0, n_on[None])[0]  # a score above the threshold fires
    weights = dict(fresh.state_dict()) | {"threshold": threshold}
    return derive(SignedJumpReLUSAE, SignedJumpReLUSAEConfig, fresh, weights)


def lines_of(results: Results, known: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a line per SAE: the latent of best coverage on every task, and the ``known`` facts."""
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
    """Return the record: one line per SAE."""
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else []


def random_table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Make a table of best coverage, number of tasks above :data:`HIGH`, and density, by firing rate."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        on = f"{line['name'].removeprefix('k')} of {line['d_sae']} on in a token"
        is_matched = line["name"].startswith(MATCHED)
        groups.setdefault("each latent as often as that of AbsTopK" if is_matched else on, []).append(line)
    rows = []
    for name, group in groups.items():
        covered = [[value for value, _, _ in line["best_coverage"].values()] for line in group]
        above = spread([sum(value > HIGH for value in each) for each in covered], ".0f")
        density = spread([mean(line["density"].values()) for line in group], ".0%")
        found = spread([mean(each) for each in covered], ".3f")
        rows.append((name, str(len(group)), found, above, density))
    return markdown_table(("how often latents fire", "draws", "best coverage", f"tasks above {HIGH}", "density"), rows)


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
    # the SAE with this hash is in runs.jsonl
    lines = lines_of(results, {"text_sha256": text, "trained_sha256": weights_sha256(cfg.output_path or "")})
    RECORD.parent.mkdir(exist_ok=True)
    write_whole(RECORD, json.dumps(lines, indent=1) + "\n")
    print(random_table(lines))


if __name__ == "__main__":
    main()
