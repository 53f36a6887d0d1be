"""Data parallelism: each rank has its own language model and documents, and all ranks take each step together."""

import copy
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.ranks import OtherRankError, barrier, n_ranks, this_rank
from sae_lens_abstopk.training.config.checks import section_of
from sae_lens_abstopk.training.config.training_config import TrainingConfig

# a rank that waits longer ends with an error; the others wait while the first measures held-out text
TIMEOUT = timedelta(hours=2)
# words by which gloo and NCCL report a lost peer
GONE = ("connection", "peer", "timed out", "nccl", "gloo", "socket")


def launched_ranks() -> int:
    """Return the number of processes that ``torchrun`` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def require_one_process(command: str) -> None:
    """Raise if ``torchrun`` started a command that does not share its work."""
    if launched_ranks() > 1:
        raise ConfigError(f"{command} runs in one process; start it without torchrun. Only `train` shares a run.")


@contextmanager
def ranks_started(cfg: TrainingConfig) -> Iterator[None]:
    """Join the processes that ``torchrun`` started, if any; raise OtherRankError if another rank is gone."""
    if launched_ranks() == 1 or n_ranks() > 1:
        yield
        return
    require_shareable(cfg, launched_ranks())
    on_gpus = "cuda" in cfg.devices.values()
    if on_gpus:
        torch.cuda.set_device(_local_rank())
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo", timeout=TIMEOUT)
    try:
        yield
        barrier()
    except RuntimeError as error:
        of_backend = type(error) is RuntimeError and any(word in str(error).lower() for word in GONE)
        if not isinstance(error, dist.DistError) and not of_backend:
            raise
        # the first sentence, without gloo's source file
        short = re.sub(r"^\[[^\]]*\]\s*", "", str(error)).splitlines()[0].partition(". ")[0][:120]
        raise OtherRankError(
            f"another rank ended or did not answer for {TIMEOUT.seconds // 3600} hours, so rank {this_rank()} stops "
            f"too ({short}). See that rank's output for the reason; then continue with --resume."
        ) from error
    dist.destroy_process_group()


def require_shareable(cfg: TrainingConfig, n: int) -> None:
    """Raise if ``n`` ranks cannot train this run together."""
    if problems := list(_problems(cfg, n)):
        raise ConfigError(f"{n} ranks cannot share this run: {'; '.join(problems)}.")


def _problems(cfg: TrainingConfig, n: int) -> Iterator[str]:
    if cfg.train_batch_size_tokens % n:
        lower = cfg.train_batch_size_tokens // n * n
        given = f"train_batch_size_tokens={cfg.train_batch_size_tokens}"
        yield f"{given} is not a multiple of {n}; use {lower or n} or {lower + n}"
    for key, allowed in (("activation_cache", None), ("use_cached_activations", False), ("compile_sae", False)):
        if getattr(cfg, key) != allowed:
            yield f"{key} is for one process; set it to {'null' if allowed is None else 'false'}"
    for key, device in cfg.devices.items():
        if device.startswith("cuda:"):
            yield f"{key}={device!r} names one GPU; use cuda or auto, and each rank takes its own"
    if "cuda" in cfg.devices.values() and _local_rank() >= torch.cuda.device_count():
        yield f"this machine has {torch.cuda.device_count()} GPUs; lower --nproc-per-node"
    for name, sae in cfg.all_saes.items():
        is_sparse = getattr(sae, "sparse_backend", "dense") == "sparse" and sae.dtype in ("float32", "float64")
        if hasattr(sae, "topk_threshold_lr") and not is_sparse:  # SAELens's dense step selects over the batch
            yield (
                f"{section_of(name)} ({sae.architecture()}) selects over the batch of one process; use batch_abstopk, "
                "matryoshka_batch_abstopk or sparse_batchtopk with sparse_backend=sparse and dtype=float32"
            )


def of_this_rank(cfg: TrainingConfig) -> TrainingConfig:
    """Return the config with the GPU of this rank; tokens and batch size stay those of the whole run."""
    if n_ranks() == 1:
        return cfg
    own = copy.copy(cfg)
    for key, device in cfg.devices.items():
        if device == "cuda":
            setattr(own, key, f"cuda:{_local_rank()}")
    return own


def command_prefix() -> str:
    """Return the command that starts ``abstopk`` for this run."""
    if n_ranks() == 1:
        return "abstopk"
    return f"torchrun --nproc-per-node {os.environ.get('LOCAL_WORLD_SIZE', n_ranks())} -m sae_lens_abstopk"


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))
