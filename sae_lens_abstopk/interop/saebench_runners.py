"""Each evaluation of SAEBench with settings that suit an SAE on one machine."""

import math
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from sae_lens import SAE, ActivationsStore
from transformer_lens.HookedRootModule import HookedRootModule

from sae_lens_abstopk.evaluation.subjects.measured_tokens import LOGITS_OF_A_PASS
from sae_lens_abstopk.interop.class_sets import ClassSet, joined
from sae_lens_abstopk.interop.saebench_session import bench_module
from sae_lens_abstopk.text.documents import load_text
from sae_lens_abstopk.training.config.training_config import TrainingConfig

DTYPE = "float32"
# codes that SAEBench holds at one time: 512 MiB of float32
CODES_AT_ONCE = 2**27
CONTEXT = 128
CORE_PARTS = (
    "compute_kl",
    "compute_ce_loss",
    "compute_l2_norms",
    "compute_sparsity_metrics",
    "compute_variance_metrics",
    "compute_featurewise_density_statistics",
    "compute_featurewise_weight_based_metrics",
)


@dataclass(frozen=True)
class BenchInput:
    """An SAE with what SAEBench is to run it on."""

    name: str
    """In the results."""
    sae: SAE[Any]
    model: HookedRootModule
    model_name: str
    """Without the path of a local folder."""
    cfg: TrainingConfig
    text: str | None
    """Text for ``core``; None for the held-out text of the run."""
    tasks: tuple[ClassSet, ...]
    """Data sets in place of SAEBench's own; none for those."""
    n_tokens: int
    """For ``core``."""
    seed: int

    @property
    def text_length(self) -> int:
        """
        Tokens that SAEBench pads every labelled text to, BOS included: no more than the longest of ``tasks`` has.

        Codes of padding are masked, but computed: texts of 20 tokens padded to 128 take six times as long.
        """
        texts = [
            text for one in self.tasks for split in (one.train, one.test) for rows in split.values() for text in rows
        ]
        if not texts:
            return CONTEXT
        tokenizer: Any = self.model.tokenizer
        return min(max(len(tokenizer(text).input_ids) for text in texts), CONTEXT)

    def labelled(self) -> dict[str, Any]:
        """Options that the evaluations on labelled texts share."""
        length = self.text_length
        return {
            "random_seed": self.seed,
            "model_name": self.model_name,
            "llm_batch_size": 32,
            "llm_dtype": DTYPE,
            "context_length": length,
            "sae_batch_size": max(1, min(125, CODES_AT_ONCE // (length * self.sae.cfg.d_sae))),
        }


def _core(subject: BenchInput, folder: Path, _artifacts: Path) -> None:
    core, general_utils, utils = (
        bench_module(name) for name in ("evals.core.main", "sae_bench_utils.general_utils", "sae_bench_utils")
    )
    sae_id, sae, _ = general_utils.load_and_format_sae(subject.name, subject.sae, str(subject.cfg.device))
    tokenizer: Any = subject.model.tokenizer
    length = sae.cfg.context_size
    codes, logits = CODES_AT_ONCE // (length * sae.cfg.d_sae), LOGITS_OF_A_PASS // (length * len(tokenizer))
    prompts = max(1, min(subject.cfg.store_batch_size_prompts, codes, logits))
    batches = math.ceil(subject.n_tokens / (prompts * length))
    config = bench_module("evals.core.eval_config").CoreEvalConfig(
        model_name=subject.model_name,
        llm_dtype=DTYPE,
        batch_size_prompts=prompts,
        n_eval_reconstruction_batches=batches,
        n_eval_sparsity_variance_batches=batches,
        dataset=subject.text or "held-out text of the run",
        context_size=length,
        exclude_special_tokens_from_reconstruction=True,
        **dict.fromkeys(CORE_PARTS, True),
    )
    store = ActivationsStore.from_sae(
        subject.model,
        sae,
        load_text(subject.cfg, "all" if subject.text else "held_out"),
        store_batch_size_prompts=prompts,
        device=str(subject.cfg.device),
    )
    scalars, features = core.run_evals(
        sae=sae,
        activation_store=store,
        model=subject.model,
        eval_config=config,
        ignore_tokens={tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id},
    )
    scalars["misc_metrics"] = core.calculate_misc_metrics(features)
    found = {"sae_id": sae_id, "sae_set": subject.name, "metrics": scalars, "feature_metrics": features}
    core.save_single_eval_result(
        core.replace_nans_with_negative_one(found) | {"eval_cfg": config},
        utils.get_eval_uuid(),
        utils.get_sae_lens_version(),
        utils.get_sae_bench_version(),
        general_utils.get_results_filepath(str(folder), subject.name, sae_id),
        sae,
    )


def _sparse_probing(subject: BenchInput, folder: Path, artifacts: Path) -> None:
    config = bench_module("evals.sparse_probing.eval_config").SparseProbingEvalConfig(
        k_values=[1, 2, 5, 10],
        **subject.labelled(),
        **({"dataset_names": [one.name for one in subject.tasks]} if subject.tasks else {}),
    )
    _run("sparse_probing", config, subject, folder, artifacts_path=str(artifacts), save_activations=False)


def _tpp(subject: BenchInput, folder: Path, artifacts: Path) -> None:
    names = {"dataset_names": [joined(subject.tasks).name]} if subject.tasks else {}
    _scr_or_tpp(subject, folder, artifacts, perform_scr=False, **names)


def _scr(subject: BenchInput, folder: Path, artifacts: Path) -> None:
    _scr_or_tpp(subject, folder, artifacts, perform_scr=True)


def _scr_or_tpp(subject: BenchInput, folder: Path, artifacts: Path, **options: Any) -> None:
    config = bench_module("evals.scr_and_tpp.eval_config").ScrAndTppEvalConfig(
        n_values=[n for n in (2, 5, 10, 20, 50, 100, 500) if n <= subject.sae.cfg.d_sae],
        **subject.labelled(),
        **options,
    )
    _run("scr_and_tpp", config, subject, folder, artifacts_path=str(artifacts), save_activations=False)


def _absorption(subject: BenchInput, folder: Path, artifacts: Path) -> None:
    config = bench_module("evals.absorption.eval_config").AbsorptionEvalConfig(
        random_seed=subject.seed, model_name=subject.model_name, llm_dtype=DTYPE
    )
    # by itself it keeps probes beside its own code, under the model's name, and more in the working directory
    main, probed = bench_module("evals.absorption.main"), {"probes_dir": artifacts / "probes"}
    sparse, full = artifacts / "k_sparse_probing", artifacts / "feature_absorption"
    first = partial(main.run_k_sparse_probing_experiment, experiment_dir=sparse, **probed)
    second = partial(
        main.run_feature_absortion_experiment, experiment_dir=full, sparse_probing_experiment_dir=sparse, **probed
    )
    with (
        patch.object(main, "run_k_sparse_probing_experiment", first),
        patch.object(main, "run_feature_absortion_experiment", second),
        chdir(artifacts),
    ):
        _run("absorption", config, subject, folder)


def _sae_probes(subject: BenchInput, folder: Path, artifacts: Path) -> None:
    config = bench_module("evals.sparse_probing_sae_probes.eval_config").SparseProbingSaeProbesEvalConfig(
        random_seed=subject.seed,
        model_name=subject.model_name,
        results_path=str(artifacts / "sae_probes"),
        model_cache_path=str(artifacts / "sae_probes_activations"),
    )
    _run("sparse_probing_sae_probes", config, subject, folder)


def _run(module: str, config: Any, subject: BenchInput, folder: Path, **options: Any) -> None:
    # of one SAE: activations, which may be 100 GB, would be kept for the next
    bench_module(f"evals.{module}.main").run_eval(
        config, [(subject.name, subject.sae)], str(subject.cfg.device), str(folder), force_rerun=True, **options
    )


RUNNERS: dict[str, Callable[[BenchInput, Path, Path], None]] = {
    "core": _core,
    "sparse_probing": _sparse_probing,
    "sparse_probing_sae_probes": _sae_probes,
    "tpp": _tpp,
    "scr": _scr,
    "absorption": _absorption,
}
