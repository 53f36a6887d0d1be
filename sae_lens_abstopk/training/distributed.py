"""Data parallelism: every rank has its own language model and its own documents, and all take one step together."""

import copy
import inspect
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from sae_lens import SAETrainer, TrainingSAE
from sae_lens.saes.sae import TrainingSAEConfig, TrainStepInput, TrainStepOutput
from torch.nn.parallel import DistributedDataParallel
from typing_extensions import override

from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.ranks import OtherRankError, barrier, n_ranks, summed, this_rank
from sae_lens_abstopk.training.config.sae_checks import section_of
from sae_lens_abstopk.training.config.training_config import TrainingConfig

# a rank that waits longer than this for the others ends with an error; the first measures held-out text alone
TIMEOUT = timedelta(hours=2)
# words by which gloo and NCCL say that the other end is gone
GONE = ("connection", "peer", "timed out", "nccl", "gloo", "socket")
DENSE_OVER_BATCH = ("batchtopk", "matryoshka_batchtopk")
"""Architectures of SAELens whose step sees only the tokens of one rank, though it selects over the batch."""
# the buffers of an SAE are the same on all ranks by what fills them; the option has changed its name
_SYNC_BUFFERS = "forward_sync_buffers"
_HAS_NEW_NAME = _SYNC_BUFFERS in inspect.signature(DistributedDataParallel).parameters
_BUFFERS_STAY: dict[str, Any] = {_SYNC_BUFFERS if _HAS_NEW_NAME else "broadcast_buffers": False}


def launched_ranks() -> int:
    """Processes that ``torchrun`` started for this run; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def require_one_process(command: str) -> None:
    """
    Refuse ``torchrun`` for a command that does not share its work.

    Raises:
        ConfigError: naming the command.
    """
    if launched_ranks() > 1:
        raise ConfigError(
            f"{command} runs in one process, and torchrun started {launched_ranks()}; start it without torchrun. Only "
            "`train` shares a run between ranks."
        )


@contextmanager
def ranks_started(cfg: TrainingConfig) -> Iterator[None]:
    """
    Join the processes that ``torchrun`` started (its variables say which); alone, do nothing.

    CUDA tensors go by NCCL, all others by gloo. A process left by an exception ends with it, and torchrun ends the others.

    Raises:
        ConfigError: the run cannot be shared between ranks, or has not as many GPUs.
        OtherRankError: another rank is gone.
    """
    if launched_ranks() == 1 or n_ranks() > 1:
        yield
        return
    require_shareable(cfg, launched_ranks())
    on_gpus = "cuda" in _devices(cfg).values()
    if on_gpus:
        torch.cuda.set_device(_local_rank())
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo", timeout=TIMEOUT)
    try:
        yield
        barrier()
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or (type(error) is RuntimeError and _is_about_others(error)):
            raise OtherRankError(
                f"another rank ended, or kept this one waiting for {TIMEOUT.seconds // 3600} hours, so rank {this_rank()} stops too "
                f"({_short(error)}); that rank's output says why. Fix it, then continue with --resume."
            ) from error
        raise
    dist.destroy_process_group()


def require_shareable(cfg: TrainingConfig, n: int) -> None:
    """
    Refuse what ``n`` ranks cannot train together.

    Raises:
        ConfigError: naming the key.
    """
    if cfg.train_batch_size_tokens % n:
        lower = cfg.train_batch_size_tokens // n * n
        raise ConfigError(
            f"train_batch_size_tokens={cfg.train_batch_size_tokens} does not divide by {n} ranks; use {lower or n} or "
            f"{lower + n}."
        )
    if cfg.activation_cache is not None:
        raise ConfigError(
            f"activation_cache={cfg.activation_cache!r} is filled and read by one process; with {n} ranks set it to null."
        )
    if cfg.use_cached_activations:
        raise ConfigError(
            f"use_cached_activations=true would give all {n} ranks the same rows; set it to false, and the ranks share the text."
        )
    if cfg.compile_sae:
        raise ConfigError(f"compile_sae=true is for one process; with {n} ranks set it to false.")
    for key, device in _devices(cfg).items():
        if device.startswith("cuda:"):
            raise ConfigError(
                f"{key}={device!r} names one GPU for {n} ranks; use cuda or auto, and each takes its own."
            )
    if "cuda" in _devices(cfg).values() and _local_rank() >= torch.cuda.device_count():
        raise ConfigError(
            f"this machine has {torch.cuda.device_count()} GPUs, and torchrun started at least {_local_rank() + 1} processes "
            "on it; lower --nproc-per-node."
        )
    for name, sae in cfg.all_saes.items():
        _require_selects_over_ranks(section_of(name), sae, n)


def _require_selects_over_ranks(where: str, sae: TrainingSAEConfig, n: int) -> None:
    if sae.architecture() in DENSE_OVER_BATCH:
        ours = "sparse_batchtopk" if sae.architecture() == "batchtopk" else "matryoshka_batch_abstopk"
        raise ConfigError(
            f"{where}.architecture={sae.architecture()!r} selects over the batch of one process; with {n} ranks use {ours}."
        )
    dense = getattr(sae, "sparse_backend", "sparse") == "dense" or sae.dtype not in ("float32", "float64")
    if dense and hasattr(sae, "topk_threshold_lr"):
        raise ConfigError(
            f"{where}: SAELens's dense step (sparse_backend={getattr(sae, 'sparse_backend', 'dense')!r}, "
            f"dtype={sae.dtype!r}) selects over the batch of one process; with {n} ranks use sparse_backend=sparse and "
            "dtype=float32."
        )


def of_this_rank(cfg: TrainingConfig) -> TrainingConfig:
    """The config with the GPU of this rank in it; tokens and batch stay those of the whole run."""
    if n_ranks() == 1:
        return cfg
    own = copy.copy(cfg)
    for key, device in _devices(cfg).items():
        if device == "cuda":
            setattr(own, key, f"cuda:{_local_rank()}")
    return own


def _devices(cfg: TrainingConfig) -> dict[str, str]:
    return {key: str(getattr(cfg, key)) for key in ("device", "llm_device", "act_store_device")}


class RankTrainer(SAETrainer[Any, Any]):
    """
    SAELens's trainer for one of several ranks: gradients, firings, dead latents and tokens are those of all.

    The backward pass runs in torch's DistributedDataParallel, which averages gradients bucket by bucket while the next
    ones are computed, and starts all ranks at the weights of the first. Losses are means over the tokens of a rank, and
    every rank has as many, so the mean of the gradients is the gradient of the whole batch.
    """

    def __init__(self, cfg: Any, sae: TrainingSAE[Any], data_provider: Any) -> None:
        super().__init__(cfg=cfg, sae=sae, data_provider=data_provider)
        self._shared = DistributedDataParallel(_Step(sae), gradient_as_bucket_view=True, **_BUFFERS_STAY)
        # not as an attribute that is a module, which would make the SAE a part of itself
        sae.training_forward_pass = lambda step_input: self._shared(step_input)  # type: ignore[method-assign]

    @override
    def step(self, batch: torch.Tensor) -> TrainStepOutput:
        output = super().step(batch)
        self.n_training_samples += (n_ranks() - 1) * len(batch)
        return output

    @override
    def _train_step(self, sae: Any, sae_in: torch.Tensor) -> TrainStepOutput:
        since_fired, scores = self.n_forward_passes_since_fired.clone(), self.act_freq_scores.clone()
        output = super()._train_step(sae, sae_in)
        with torch.no_grad():
            fired = output.feature_acts.bool().float().sum(0)
            fired = summed(fired.to_dense() if fired.is_sparse else fired)
            self.n_forward_passes_since_fired = (since_fired + 1).masked_fill(fired > 0, 0)
            self.act_freq_scores = scores + fired
        return output


class _Step(torch.nn.Module):
    """A training step of an SAE as the forward pass of a module."""

    def __init__(self, sae: TrainingSAE[Any]) -> None:
        super().__init__()
        self.sae = sae
        self._step = sae.training_forward_pass

    @override
    def forward(self, step_input: TrainStepInput) -> TrainStepOutput:
        return self._step(step_input)


def note_on_ranks(launched: int, written_by: int) -> str | None:
    """What to say where a checkpoint of another number of ranks is gone on with."""
    if launched == written_by:
        return None
    return (
        f"the checkpoint was written by {written_by} ranks and is resumed on {launched}: the text is redistributed and the "
        "mixing buffers start empty, so some text is read twice and some is left out; this is no longer the same run."
    )


def command_prefix() -> str:
    """How ``abstopk`` is started for this run."""
    if n_ranks() == 1:
        return "abstopk"
    return f"torchrun --nproc-per-node {os.environ.get('LOCAL_WORLD_SIZE', n_ranks())} -m sae_lens_abstopk"


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def _short(error: Exception) -> str:
    """The first sentence of an error of gloo, without the file of its source that comes first."""
    return re.sub(r"^\[[^\]]*\]\s*", "", str(error)).splitlines()[0].partition(". ")[0][:120]


def _is_about_others(error: Exception) -> bool:
    return any(word in str(error).lower() for word in GONE)
