"""Checks of the keys of a run: ranges, keys without effect, and keys that contradict each other."""

from dataclasses import fields
from typing import TYPE_CHECKING, Any, get_args

import torch
from sae_lens.constants import DTYPE_MAP

from sae_lens_abstopk.model.devices import require_device
from sae_lens_abstopk.saes.centring import BDecInitMethod
from sae_lens_abstopk.saes.sparse_training import SparseTrainingSAEConfig
from sae_lens_abstopk.system.errors import ConfigError, require_choice, require_range
from sae_lens_abstopk.text.text_spec import TextSpec

if TYPE_CHECKING:
    from sae_lens_abstopk.training.config.training_config import TrainingConfig

SCHEDULERS = ("constant", "cosineannealing", "cosineannealingwarmrestarts")
WITHOUT_EFFECT = {
    "n_checkpoints": "checkpoint_freq sets the steps between checkpoints",
    "dead_feature_threshold": "dead_feature_window sets the steps without firing after which a latent is dead",
    "n_eval_batches": "perf_tokens sets how many held-out tokens are measured, perf_log_freq how often",
    "dataset_trust_remote_code": "code that comes with a dataset is not run; name a copy of the dataset in Parquet",
    "eval_batch_size_prompts": "store_batch_size_prompts is the batch of the language model there too",
}
"""Keys of SAELens that a run does not read, each with its replacement."""
AT_LEAST = {
    **dict.fromkeys(("training_tokens", "train_batch_size_tokens", "n_batches_in_buffer", "dead_feature_window"), 1),
    **dict.fromkeys(("feature_sampling_window", "perf_tokens", "checkpoints_kept", "n_batches_for_norm_estimate"), 1),
    **dict.fromkeys(("perf_log_freq", "checkpoint_freq", "lr_warm_up_steps", "lr_decay_steps"), 0),
}


def require_default(cfg: Any, key: str, instead: str, *, section: str = "") -> None:
    """
    Raise if a key that is not read has a value.

    Raises:
        ConfigError: the value is not the default; the message names ``instead``.
    """
    value, default = getattr(cfg, key), next(field.default for field in fields(cfg) if field.name == key)
    if value != default:
        raise ConfigError(f"{section}{key}={value!r} has no effect here; leave it out: {instead}.")


def check_run(cfg: "TrainingConfig", text: TextSpec) -> None:
    """
    Check the keys of a run, except those that the text and model specs check.

    Raises:
        ConfigError: naming the key, the value, the bound and the remedy.
    """
    for key, instead in WITHOUT_EFFECT.items():
        require_default(cfg, key, instead)
    for key, bound in AT_LEAST.items():
        require_range(key, getattr(cfg, key), at_least=bound)
    require_range("lr", cfg.lr, above=0)
    require_range("lr_end", cfg.lr_end, at_least=0, remedy=", or null for lr / 10")
    for key in ("adam_beta1", "adam_beta2"):
        require_range(key, getattr(cfg, key), at_least=0, below=1)
    require_range("activations_mixing_fraction", cfg.activations_mixing_fraction, at_least=0, at_most=1)
    require_range("divergence_factor", cfg.divergence_factor, above=1, remedy=", or null to stop only at NaN")
    require_choice("b_dec_init_method", cfg.b_dec_init_method, get_args(BDecInitMethod))
    require_choice("lr_scheduler_name", cfg.lr_scheduler_name, SCHEDULERS)
    require_choice("dtype", cfg.dtype, tuple(DTYPE_MAP))
    for what in ("sae", "llm"):
        if not getattr(cfg, f"compile_{what}"):
            require_default(cfg, f"{what}_compilation_mode", f"it is read with compile_{what}: true")
    _check_cached_activations(cfg)
    _check_lengths(cfg, text)
    if cfg.lr_scheduler_name != "constant":
        _check_annealing(cfg)


def _check_lengths(cfg: "TrainingConfig", text: TextSpec) -> None:
    batch, steps = cfg.train_batch_size_tokens, cfg.total_training_steps
    if batch > cfg.training_tokens:
        raise ConfigError(
            f"train_batch_size_tokens={batch} exceeds training_tokens={cfg.training_tokens}: not one step would be "
            "taken."
        )
    if cfg.lr_warm_up_steps + cfg.lr_decay_steps > steps:
        raise ConfigError(
            f"lr_warm_up_steps={cfg.lr_warm_up_steps} and lr_decay_steps={cfg.lr_decay_steps} exceed the run's {steps} "
            "steps (training_tokens / train_batch_size_tokens); lower them or train longer."
        )
    kept = text.kept_positions
    buffer = cfg.n_batches_in_buffer * kept
    if 0 < buffer < batch:
        raise ConfigError(
            f"train_batch_size_tokens={batch} exceeds the mixing buffer of {buffer} tokens (n_batches_in_buffer="
            f"{cfg.n_batches_in_buffer} times {kept} positions of a context); raise n_batches_in_buffer to at least "
            f"{-(-batch // kept)}."
        )


def _check_cached_activations(cfg: "TrainingConfig") -> None:
    """Check the keys for activations cached by SAELens: they cover all documents, and rows are read whole."""
    if not cfg.use_cached_activations:
        require_default(
            cfg, "dtype", "sae.dtype is that of the SAE, model_from_pretrained_kwargs has that of the model"
        )
        require_default(cfg, "cached_activations_path", "it is read with use_cached_activations: true")
        return
    if cfg.exclude_special_tokens and "16" in str(cfg.dtype):
        raise ConfigError(
            f"dtype={cfg.dtype!r} rounds the token ids beside cached activations, which exclude_special_tokens needs; "
            "set dtype to float32."
        )
    for key, shown, whole in (("held_out_every", "null", None), ("seqpos_slice", "[null]", (None,))):
        if (value := getattr(cfg, key)) != whole:
            raise ConfigError(
                f"{key}={value!r} must be {shown} with use_cached_activations; or use activation_cache, which takes it "
                "into account."
            )


def _check_annealing(cfg: "TrainingConfig") -> None:
    """Check a cosine schedule, which SAELens checks only during the run."""
    name, steps = cfg.lr_scheduler_name, cfg.total_training_steps - cfg.lr_warm_up_steps - cfg.lr_decay_steps
    if steps < 1:
        raise ConfigError(
            f"lr_warm_up_steps={cfg.lr_warm_up_steps} and lr_decay_steps={cfg.lr_decay_steps} leave none of the run's "
            f"{cfg.total_training_steps} steps for lr_scheduler_name={name!r}; lower them, or use constant."
        )
    if name == "cosineannealingwarmrestarts":
        require_range("n_restart_cycles", cfg.n_restart_cycles, at_least=1, at_most=steps)
    if cfg.lr_decay_steps:
        remedy = f", since lr_decay_steps={cfg.lr_decay_steps} decay the rate from lr_end to 0"
        require_range("lr_end", cfg.lr_end, above=0, at_most=cfg.lr, remedy=remedy)


def require_devices(cfg: "TrainingConfig") -> None:
    """
    Raise if this machine lacks a device of the config.

    Raises:
        ConfigError: naming the key.
    """
    for key in ("device", "llm_device", "act_store_device"):
        require_device(key, str(getattr(cfg, key)))


def require_safe_kernels(cfg: "TrainingConfig") -> None:
    """
    Raise if torch would compute a wrong gradient of the sparse step.

    Before 2.10, the backward of ``embedding_bag`` on CUDA counts threads in 32 bits (pytorch/pytorch#165095).

    Raises:
        ConfigError: naming the batch.
    """
    if torch.device(cfg.device).type != "cuda" or torch.__version__ >= "2.10":
        return
    for sae in cfg.all_saes.values():
        if isinstance(sae, SparseTrainingSAEConfig) and sae.sparse_backend == "sparse":
            entries = int(sae.k * cfg.train_batch_size_tokens)
            threads = (entries // 10 + min(entries, sae.d_sae)) * 32 * -(-sae.d_in // 32)
            if threads >= 2**31:
                raise ConfigError(
                    f"train_batch_size_tokens={cfg.train_batch_size_tokens} with k={sae.k:g}, d_sae={sae.d_sae} and "
                    f"d_in={sae.d_in} is more than torch {torch.__version__} computes right on a GPU; install torch "
                    "2.10 or later, or lower the batch."
                )
