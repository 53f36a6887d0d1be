"""An SAE and its trainer, new, as a run makes them."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAETrainer, TrainingSAE
from sae_lens.registry import get_sae_training_class
from sae_lens.saes.sae import TrainingSAEConfig
from sae_lens.training.types import DataProvider

from sae_lens_abstopk.saes.batch_abstopk import BatchAbsTopKTrainingSAE
from sae_lens_abstopk.saes.signed_training import SignedTrainingSAE
from sae_lens_abstopk.system.ranks import n_ranks
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.distributed import RankTrainer
from sae_lens_abstopk.training.inference_start import is_for_inference, start_from


def new_trainer(cfg: TrainingConfig, name: str, sae: TrainingSAE[Any], data: DataProvider) -> SAETrainer[Any, Any]:
    """The trainer of the SAE ``name`` of a run: SAELens's, or that of one of several ranks."""
    kind = SAETrainer if n_ranks() == 1 else RankTrainer
    of_run, multiple = cfg.to_sae_trainer_config(), cfg.lr_multiples.get(name, 1)
    own = replace(of_run, lr=of_run.lr * multiple, lr_end=of_run.lr_end and of_run.lr_end * multiple)
    trainer = kind(cfg=own, sae=sae, data_provider=data)
    if cfg.compile_sae:
        compiled = torch.compile(sae.training_forward_pass, mode=cfg.sae_compilation_mode)
        sae.training_forward_pass = compiled  # type: ignore[method-assign]
    return use_fused_adam(trainer)


def new_sae(
    cfg: TrainingSAEConfig, seed: int, *, weights_of: str | Path | None = None, section: str = "sae"
) -> TrainingSAE[Any]:
    """
    An SAE with a config of its own, which training changes where it folds a scale into the weights.

    Args:
        cfg: Its config, which stays as it is.
        seed: Of the weights; one seed gives the same ones to every architecture of the same shape.
        weights_of: A checkpoint or a finished SAE whose weights it starts from instead.
        section: Where the config of the run has its keys, for errors.

    Raises:
        ConfigError: the finished SAE will not do (:func:`~.inference_start.start_from`).
    """
    torch.manual_seed(seed)
    sae = get_sae_training_class(cfg.architecture())[0](deepcopy(cfg))
    if weights_of is not None:
        if is_for_inference(Path(weights_of)):
            start_from(sae, Path(weights_of), section=section)
        else:
            sae.load_weights_from_checkpoint(weights_of)
        # what that run counted is no part of this one, and its k may have been another
        if isinstance(sae, SignedTrainingSAE):
            sae.pole_counts.zero_()
        if isinstance(sae, BatchAbsTopKTrainingSAE):
            sae.topk_threshold.zero_()
    return sae


def use_fused_adam(trainer: SAETrainer[Any, Any]) -> SAETrainer[Any, Any]:
    """Let Adam update all parameters in one pass over memory instead of about ten; the numbers are the same."""
    for group in trainer.optimizer.param_groups:
        group.update(fused=True, foreach=False)
    return trainer
