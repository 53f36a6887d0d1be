"""What the values of a training config may be; errors name the key, the value, the bound and the remedy."""

import math
from typing import TYPE_CHECKING, get_args

import torch
from sae_lens import JumpReLUTrainingSAEConfig, MatryoshkaBatchTopKTrainingSAEConfig, TopKTrainingSAEConfig
from sae_lens.constants import DTYPE_MAP
from sae_lens.saes.sae import TrainingSAEConfig

from sae_lens_abstopk.saes.centring import BDecInitMethod
from sae_lens_abstopk.saes.matryoshka import up_to_all
from sae_lens_abstopk.saes.sparse_training import (
    RUN_TIME_NORMALISATIONS,
    SparseTrainingSAEConfig,
    require_choice,
    require_count,
    require_k_in_range,
)
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.training.config.tracking_config import require_default

if TYPE_CHECKING:
    from sae_lens_abstopk.training.config.training_config import TrainingConfig

MODEL_CLASSES = ("AutoModelForCausalLM", "TransformerBridge", "HookedTransformer")
SCHEDULERS = ("constant", "cosineannealing", "cosineannealingwarmrestarts")
WITHOUT_EFFECT = {
    "n_checkpoints": "checkpoint_freq says after how many steps one is saved",
    "dead_feature_threshold": "dead_feature_window says after how many steps without firing a latent is dead",
    "n_eval_batches": "perf_tokens says how many held-out tokens are measured, perf_log_freq how often",
    "dataset_trust_remote_code": "code that comes with a dataset is not run; name a copy of the dataset in Parquet",
    "eval_batch_size_prompts": "store_batch_size_prompts is the batch of the language model there too",
}
"""Keys of SAELens that a run here does not read, and what to set in their place."""


def check_sae(sae: TrainingSAEConfig, *, where: str = "sae") -> None:
    """Refuse what SAELens's own architectures only refuse when a step is taken; ours have checked themselves."""
    require_choice(f"{where}.dtype", sae.dtype, tuple(DTYPE_MAP))
    for key in ("d_in", "d_sae"):
        setattr(sae, key, require_count(f"{where}.{key}", getattr(sae, key)))
    k = getattr(sae, "k", None)
    if k is not None:
        if sae.architecture() == "topk" and (isinstance(k, bool) or not isinstance(k, int)):
            raise ConfigError(f"{where}.k={k!r} must be an integer for topk; batchtopk takes an average.")
        try:
            require_k_in_range(k, sae.d_sae)
        except ConfigError as error:
            raise ConfigError(f"{where}.{error}") from None
    if (
        isinstance(sae, JumpReLUTrainingSAEConfig)
        and sae.jumprelu_sparsity_loss_mode == "quadratic"
        and not 0 < (sae.target_l0 or 0) <= sae.d_sae
    ):
        raise ConfigError(
            f"{where}.target_l0={sae.target_l0!r} must be above 0 and at most d_sae={sae.d_sae}, as "
            "jumprelu_sparsity_loss_mode='quadratic' aims at it; give it, or k in its place."
        )
    if (
        isinstance(sae, TopKTrainingSAEConfig)
        and not isinstance(sae, SparseTrainingSAEConfig)
        and sae.normalize_activations in RUN_TIME_NORMALISATIONS
    ):
        loss = "nested losses" if isinstance(sae, MatryoshkaBatchTopKTrainingSAEConfig) else "dead-latent loss"
        raise ConfigError(
            f"{where}.normalize_activations={sae.normalize_activations!r} cannot be combined with the {loss} "
            f"of {sae.architecture()}; use 'none', 'expected_average_only_in' or 'covariance_whitening'."
        )


def complete_widths(sae: TrainingSAEConfig, *, where: str = "sae") -> None:
    """End the nested prefixes on ``d_sae``, as SAELens else does in the config of a run that has started."""
    if not isinstance(sae, MatryoshkaBatchTopKTrainingSAEConfig):
        return
    if not sae.matryoshka_widths:
        raise ConfigError(f"{where}.matryoshka_widths is missing; list the numbers of latents of the nested prefixes.")
    try:
        sae.matryoshka_widths = up_to_all(sae.matryoshka_widths, sae.d_sae)
    except ConfigError as error:
        raise ConfigError(f"{where}.{error}") from None


def resolve_device(key: str, device: str) -> str:
    """
    The device that ``device`` stands for, which is itself but for auto.

    Raises:
        ConfigError: it is none, or cannot be used on any machine; names ``key``.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise ConfigError(f"{key}={device!r} is no torch device; use auto, cpu, cuda or cuda:0.") from None
    if kind == "mps":
        raise ConfigError(f"{key}={device!r} has no float64, which thresholds and metrics are computed in; use cpu.")
    return device


def require_devices(cfg: "TrainingConfig") -> None:
    """
    Refuse a device that this machine lacks: a config may be made on another machine than the one that trains.

    Raises:
        ConfigError: naming the key.
    """
    for key in ("device", "llm_device", "act_store_device"):
        device = torch.device(getattr(cfg, key))
        if device.type != "cuda":
            continue
        if not torch.cuda.is_available():
            raise ConfigError(f"{key}='{device}' needs CUDA, which torch does not find here; use auto or cpu.")
        if (device.index or 0) >= (n := torch.cuda.device_count()):
            raise ConfigError(f"{key}='{device}' is none of the {n} GPUs of this machine; use cuda:0 to cuda:{n - 1}.")


def require_safe_kernels(cfg: "TrainingConfig") -> None:
    """
    Refuse a sparse step whose gradient torch would get wrong: before 2.10, the backward of ``embedding_bag`` on CUDA counts its
    threads in 32 bits (pytorch/pytorch#165095).

    Raises:
        ConfigError: naming the batch.
    """
    if torch.device(cfg.device).type != "cuda" or torch.__version__ >= "2.10":  # compared as versions, not as texts
        return
    for sae in cfg.all_saes.values():
        if isinstance(sae, SparseTrainingSAEConfig) and sae.sparse_backend == "sparse":
            entries = int(sae.k * cfg.train_batch_size_tokens)
            threads = (entries // 10 + min(entries, sae.d_sae)) * 32 * -(-sae.d_in // 32)
            if threads >= 2**31:
                raise ConfigError(
                    f"train_batch_size_tokens={cfg.train_batch_size_tokens} with k={sae.k:g}, d_sae={sae.d_sae} and d_in={sae.d_in} is "
                    f"more than torch {torch.__version__} computes right on a GPU; install torch 2.10 or later, or lower the batch."
                )


def check_ranges(cfg: "TrainingConfig") -> None:
    """Refuse a value of a key of the run that is out of range, has no effect or contradicts another one."""
    for key, instead in WITHOUT_EFFECT.items():
        require_default(cfg, key, instead)
    for key in ("model_name", "hook_name", "dataset_path"):
        if not getattr(cfg, key):
            raise ConfigError(f"{key} is missing; the config has to name it.")
    for key in ("token", "use_auth_token"):
        if isinstance((cfg.model_from_pretrained_kwargs or {}).get(key), str):
            raise ConfigError(
                f"model_from_pretrained_kwargs holds a {key}, which would be written into the run folder, logged and published. "
                "Leave it out and set HF_TOKEN."
            )
    at_least = {
        "context_size": 2,
        "training_tokens": 1,
        "train_batch_size_tokens": 1,
        "store_batch_size_prompts": 1,
        "n_batches_in_buffer": 1,
        "dead_feature_window": 1,
        "feature_sampling_window": 1,
        "perf_log_freq": 0,
        "perf_tokens": 1,
        "checkpoint_freq": 0,
        "checkpoints_kept": 1,
        "lr_warm_up_steps": 0,
        "lr_decay_steps": 0,
        "n_batches_for_norm_estimate": 1,
        "seed": 0,
    }
    for key, bound in at_least.items():
        if getattr(cfg, key) < bound:
            raise ConfigError(f"{key}={getattr(cfg, key)!r} must be at least {bound}.")
    if not 0 < cfg.lr < math.inf:
        raise ConfigError(f"lr={cfg.lr!r} must be above 0 and finite.")
    if cfg.lr_end is not None and not 0 <= cfg.lr_end < math.inf:
        raise ConfigError(f"lr_end={cfg.lr_end!r} must be 0 or more and finite, or null for lr / 10.")
    for key in ("adam_beta1", "adam_beta2"):
        if not 0 <= getattr(cfg, key) < 1:
            raise ConfigError(f"{key}={getattr(cfg, key)!r} must be at least 0 and below 1.")
    if not 0 <= cfg.activations_mixing_fraction <= 1:
        raise ConfigError(f"activations_mixing_fraction={cfg.activations_mixing_fraction!r} must lie in [0, 1].")
    if cfg.held_out_every is not None and cfg.held_out_every < 2:
        raise ConfigError(f"held_out_every={cfg.held_out_every!r} must be at least 2, or null to hold nothing out.")
    if cfg.max_norm_multiple is not None and cfg.max_norm_multiple <= 1:
        raise ConfigError(f"max_norm_multiple={cfg.max_norm_multiple!r} must be above 1, or null to keep all tokens.")
    if cfg.divergence_factor is not None and cfg.divergence_factor <= 1:
        raise ConfigError(
            f"divergence_factor={cfg.divergence_factor!r} must be above 1, or null to stop at NaN and infinity only."
        )
    require_choice("model_class_name", cfg.model_class_name, MODEL_CLASSES)
    require_choice("b_dec_init_method", cfg.b_dec_init_method, get_args(BDecInitMethod))
    require_choice("lr_scheduler_name", cfg.lr_scheduler_name, SCHEDULERS)
    require_choice("dtype", cfg.dtype, tuple(DTYPE_MAP))
    if not cfg.use_cached_activations:
        require_default(
            cfg, "dtype", "sae.dtype is that of the SAE, model_from_pretrained_kwargs has that of the model"
        )
        require_default(cfg, "cached_activations_path", "it is read with use_cached_activations: true")
    for what in ("sae", "llm"):
        if not getattr(cfg, f"compile_{what}"):
            require_default(cfg, f"{what}_compilation_mode", f"it is read with compile_{what}: true")
    if cfg.train_batch_size_tokens > cfg.training_tokens:
        raise ConfigError(
            f"train_batch_size_tokens={cfg.train_batch_size_tokens} exceeds training_tokens={cfg.training_tokens}: "
            "not one step would be taken."
        )
    if cfg.lr_warm_up_steps + cfg.lr_decay_steps > cfg.total_training_steps:
        raise ConfigError(
            f"lr_warm_up_steps={cfg.lr_warm_up_steps} and lr_decay_steps={cfg.lr_decay_steps} exceed the run's "
            f"{cfg.total_training_steps} steps (training_tokens / train_batch_size_tokens); lower them or train longer."
        )
    if cfg.lr_scheduler_name != "constant":
        _check_annealing(cfg)
    if not 1 <= len(cfg.seqpos_slice) <= 3:
        raise ConfigError(f"seqpos_slice={list(cfg.seqpos_slice)} must hold a stop, or start, stop and perhaps step.")
    if cfg.use_cached_activations and cfg.held_out_every is not None:
        raise ConfigError(
            f"held_out_every={cfg.held_out_every} cannot hold documents out of activations that SAELens has cached "
            "(use_cached_activations), which are of all of them; set it to null, or use activation_cache, which holds them out."
        )
    if cfg.use_cached_activations and tuple(cfg.seqpos_slice) != (None,):
        raise ConfigError(
            f"seqpos_slice={list(cfg.seqpos_slice)} has no effect on activations that SAELens has cached (use_cached_activations), "
            "whose rows are read whole; set it to [null], or use activation_cache, which keeps the positions of the slice alone."
        )
    if cfg.use_cached_activations and cfg.exclude_special_tokens and cfg.dtype in ("float16", "bfloat16"):
        raise ConfigError(
            f"dtype={cfg.dtype!r} would round the token ids that SAELens has cached too, and exclude_special_tokens goes by these; "
            "use float32."
        )
    kept_positions = len(range(cfg.context_size)[slice(*cfg.seqpos_slice)])
    buffer = cfg.n_batches_in_buffer * kept_positions
    if 0 < buffer < cfg.train_batch_size_tokens:
        raise ConfigError(
            f"train_batch_size_tokens={cfg.train_batch_size_tokens} exceeds the mixing buffer of {buffer} tokens "
            f"(n_batches_in_buffer={cfg.n_batches_in_buffer} times {kept_positions} positions of a context); "
            f"raise n_batches_in_buffer to at least {-(-cfg.train_batch_size_tokens // kept_positions)}."
        )


def _check_annealing(cfg: "TrainingConfig") -> None:
    """Refuse a cosine schedule that SAELens's schedulers would only fail on when they are made, or steps later."""
    name, steps = cfg.lr_scheduler_name, cfg.total_training_steps - cfg.lr_warm_up_steps - cfg.lr_decay_steps
    if steps < 1:
        raise ConfigError(
            f"lr_warm_up_steps={cfg.lr_warm_up_steps} and lr_decay_steps={cfg.lr_decay_steps} leave none of the run's "
            f"{cfg.total_training_steps} steps for lr_scheduler_name={name!r}; lower them, or use constant."
        )
    if name == "cosineannealingwarmrestarts" and not 1 <= cfg.n_restart_cycles <= steps:
        raise ConfigError(
            f"n_restart_cycles={cfg.n_restart_cycles!r} must be at least 1, and at most the {steps} steps between warm-up and "
            "decay."
        )
    if cfg.lr_decay_steps and cfg.lr_end is not None and not 0 < cfg.lr_end <= cfg.lr:
        raise ConfigError(
            f"lr_end={cfg.lr_end!r} must be above 0 and at most lr={cfg.lr:g}, as lr_decay_steps={cfg.lr_decay_steps} decay the "
            "rate from lr_end to 0; change it, or set lr_decay_steps to 0."
        )
