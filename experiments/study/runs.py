"""The runs of the study (`study.yaml`), their configs, and the training of one."""

import csv
import gzip
import hashlib
import itertools
import json
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from sae_lens_abstopk.evaluation.results.facts import weights_sha256
from sae_lens_abstopk.system.files import write_whole
from sae_lens_abstopk.system.provenance import commit, environment, processor
from sae_lens_abstopk.system.threads import one_thread
from sae_lens_abstopk.training.checkpoints.resume import is_finished, require_same_run, resume_if_started
from sae_lens_abstopk.training.config.config_file import load_config
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.run_folder import METRICS_FILENAME, checkpoint_root
from sae_lens_abstopk.training.step_control import DivergedError
from sae_lens_abstopk.training.sweeps.comparison import Variant, with_variants
from sae_lens_abstopk.training.train import train

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TUNING = HERE / "results" / "tuning.json"


@dataclass(frozen=True)
class Run:
    """One SAE of the study."""

    layer: int
    expansion: int
    """d_sae over d_in, before ``times_wider`` of the variant."""
    k: int
    variant: str
    seed: int

    @property
    def place(self) -> dict[str, int]:
        """Layer, expansion and k, shared by runs that are compared."""
        return {"layer": self.layer, "expansion": self.expansion, "k": self.k}

    @property
    def name(self) -> str:
        """Name of the run and of its folder."""
        return f"layer{self.layer}_x{self.expansion}_k{self.k}_{self.variant}_seed{self.seed}"


def read_study() -> dict[str, Any]:
    """Return the study file."""
    return yaml.safe_load((HERE / "study.yaml").read_text(encoding="utf-8"))


def runs_of(study: Mapping[str, Any]) -> Iterator[Run]:
    """Return the runs of a study file, in its order."""
    for entry in study["runs"]:
        variants = entry.get("variants") or study["variants"]
        expansions = entry.get("expansions", [study["main"]["expansion"]])
        axes = (expansions, entry.get("k", study["k"]), variants, entry["seeds"])
        for expansion, k, variant, seed in itertools.product(*axes):
            yield Run(entry["layer"], expansion, k, variant, seed)


def is_steered(run: Run, study: Mapping[str, Any]) -> bool:
    """Return whether this run's latents are steered with."""
    return run.place == study["main"] and run.seed == 0 and run.variant in study["steered"]


def shared_config(study: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config file of a study."""
    return yaml.safe_load((HERE / study["config"]).read_text(encoding="utf-8"))


def settings_of(run: Run, study: Mapping[str, Any]) -> str:
    """Hash a run's settings, without its name, learning rate and divergence factor."""
    shared = shared_config(study)
    del shared["lr"], shared["divergence_factor"]
    settings = json.dumps([shared, study["variants"][run.variant]], sort_keys=True)
    return hashlib.sha256(settings.encode()).hexdigest()[:12]


def rates_of(study: Mapping[str, Any]) -> dict[str, float]:
    """Return the learning rate of each variant: the recorded choice for it, or for its origin, or config.yaml's."""
    usual, origins = float(shared_config(study)["lr"]), study.get("rate_of", {})
    best = json.loads(TUNING.read_text(encoding="utf-8"))["best"] if TUNING.is_file() else {}
    return {name: best.get(name) or best.get(origins.get(name)) or usual for name in study["variants"]}


def config_of(
    run: Run, study: Mapping[str, Any], common: list[str], work: Path, *, rates: Mapping[str, float]
) -> TrainingConfig:
    """Return the checked config of a run with the overrides ``common``, at its rate in ``rates``."""
    source = str(HERE / study["config"])
    overrides = [
        *common,
        f"layer={run.layer}",
        f"sae.expansion_factor={run.expansion}",
        f"seed={run.seed}",
        f"activation_cache={work / 'activations' / f'layer{run.layer}'}",
    ]
    if rate := rates.get(run.variant):
        overrides.append(f"lr={rate}")
    options = study["variants"][run.variant]
    assert "lr_multiple" not in options, "rates come from results/tuning.json"
    base = load_config(source, overrides)
    output = str(work / "saes" / f"{run.name}_lr{base.lr:g}")
    return with_variants(base, {run.variant: Variant(**options)}, run.k, where=run.name, output_path=output)


@one_thread()
def train_run(cfg: TrainingConfig) -> dict[str, Any]:
    """
    Train a run unless it is done, and return its training facts.

    If it diverged, now or before, ``"diverged"`` says how and at which step.
    """
    record = run_file(cfg)
    require_same_run(record.parent, cfg)
    if not record.is_file():
        start, code = time.perf_counter(), commit()
        resume_if_started(cfg)
        end: dict[str, Any] = {}
        try:
            if not is_finished(cfg):
                train(cfg, console=Console(quiet=True))
        except DivergedError as error:  # the error's message names the remedy
            end = {"diverged": str(error.__context__ or error)}
        else:
            last = metrics_of(cfg)[-1]
            # dead over the last dead_feature_window steps
            end = {
                "dead_latents": int(last["dead_latents"]),
                "dead_window_tokens": cfg.dead_feature_window * cfg.train_batch_size_tokens,
            }
        facts = {
            "commit": code,
            "environment": environment(cfg.device) | {"processor": processor()},
            "text_sha256": digest_of(cfg.dataset_path),
            "seconds": round(time.perf_counter() - start),
            "resumed": cfg.resume_from_checkpoint is not None,
            "tokens": cfg.total_training_steps * cfg.train_batch_size_tokens,
            "lr": cfg.lr,
            "batch": cfg.train_batch_size_tokens,
            **end,
        }
        write_whole(record, json.dumps(facts, indent=1) + "\n")
    shutil.rmtree(checkpoint_root(cfg), ignore_errors=True)
    return json.loads(record.read_text(encoding="utf-8"))


def metrics_of(cfg: TrainingConfig) -> list[dict[str, str]]:
    """Return the rows that a run has logged."""
    with (run_file(cfg).parent / METRICS_FILENAME).open() as file:
        return list(csv.DictReader(file))


def run_file(cfg: TrainingConfig) -> Path:
    """Return the path of ``run.json``, the facts of a finished run."""
    assert cfg.output_path is not None
    return Path(cfg.output_path) / "run.json"


def weights_digest(folders: Iterable[str | Path]) -> str:
    """Return a digest of the weights of SAEs, for the folder name of their results."""
    return hashlib.sha256("".join(str(weights_sha256(folder)) for folder in folders).encode()).hexdigest()[:8]


def digest_of(text: str | Path) -> str:
    """
    Return twelve digits of the SHA-256 of an unpacked corpus: gzip files of one text may differ.
    """
    opened = gzip.open if Path(text).suffix == ".gz" else open
    with opened(text, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
