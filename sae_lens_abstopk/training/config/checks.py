"""Checks of a training config: ranges, keys without effect, keys that contradict each other, and its SAEs."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, get_args

import torch
from sae_lens import JumpReLUTrainingSAEConfig, MatryoshkaBatchTopKTrainingSAEConfig, TopKTrainingSAEConfig
from sae_lens.constants import DTYPE_MAP
from sae_lens.saes.sae import TrainingSAEConfig

from sae_lens_abstopk.model.model_spec import require_device
from sae_lens_abstopk.saes.centring import BDecInitMethod
from sae_lens_abstopk.saes.matryoshka import up_to_all
from sae_lens_abstopk.saes.signed_training import SignedTrainingSAEConfig
from sae_lens_abstopk.saes.sparse_training import SparseTrainingSAEConfig, require_one_scale
from sae_lens_abstopk.saes.traits import sparsity_coefficient
from sae_lens_abstopk.system.errors import ConfigError, errors_in, require_choice, require_range
from sae_lens_abstopk.system.typed_values import require_default, require_types

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
LOGGER_WITHOUT_EFFECT = {
    "eval_every_n_wandb_logs": "perf_log_freq says after how many steps Loss Recovered is measured",
    "log_activations_store_to_wandb": "checkpoints hold the position and the mixing buffer (checkpoint_freq)",
    "log_optimizer_state_to_wandb": "the state of the optimiser is in the checkpoints (checkpoint_freq)",
}
"""Keys of SAELens's logger that a run does not read, each with its replacement."""
AT_LEAST = {
    **dict.fromkeys(("training_tokens", "train_batch_size_tokens", "n_batches_in_buffer", "dead_feature_window"), 1),
    **dict.fromkeys(("feature_sampling_window", "perf_tokens", "checkpoints_kept", "n_batches_for_norm_estimate"), 1),
    **dict.fromkeys(("perf_log_freq", "checkpoint_freq", "lr_warm_up_steps", "lr_decay_steps", "threshold_tokens"), 0),
}
RESERVED_NAMES = ("sae", "checkpoints", "tensorboard", "wandb")
# reserved names on Windows, with any ending
WINDOWS_DEVICES = re.compile(r"con|prn|aux|nul|(com|lpt)\d", re.IGNORECASE)


SOURCES = ("tokens", "vectors", "model_difference")
OF_TOKENS = (
    *("model_class_name", "hook_name", "hook_head_index"),
    *("compile_llm", "autocast_lm", "prefetch_llm_batches", "is_dataset_tokenized", "use_chat_formatting"),
    *("context_size", "prepend_bos", "sequence_separator_token", "disable_concat_sequences", "seqpos_slice"),
    *("exclude_special_tokens", "max_norm_multiple", "store_batch_size_prompts", "n_batches_in_buffer"),
    *("activations_mixing_fraction", "streaming", "use_cached_activations", "cached_activations_path"),
    *("activation_cache", "dtype", "shuffle"),
)
"""Keys of a language model and its text, which vectors do not have."""
OF_DIFFERENCES = ("tuned_model", "adapter", "tuned_device", "exclude_chat_template")


def section_of(name: str) -> str:
    """Return the config section of the SAE ``name``."""
    return "sae" if name == "sae" else f"companions.{name}"


def require_sae_names(names: Iterable[str], *, where: str) -> None:
    """Raise a :class:`ConfigError` if a name cannot be that of an SAE, and so of a folder in the run."""
    taken: set[str] = set(RESERVED_NAMES)
    for name in names:
        device = WINDOWS_DEVICES.fullmatch(name.partition(".")[0])
        if device or not re.fullmatch(r"[A-Za-z0-9]([\w.-]*[\w-])?", name) or name.casefold() in taken:
            raise ConfigError(
                f"{where}: the name {name!r} cannot be that of a folder in the run; use letters, digits, '.', '-' and "
                "'_', a letter or digit first, no '.' at the end, and no name that differs only in case from another "
                f"or from {', '.join(RESERVED_NAMES)}."
            )
        taken.add(name.casefold())


def check_config(cfg: "TrainingConfig") -> None:
    """Raise a :class:`ConfigError` about the first wrong key, except those that the specs of text and model check."""
    for key, bound in AT_LEAST.items():
        require_range(key, getattr(cfg, key), at_least=bound)
    require_range("lr", cfg.lr, above=0)
    require_range("lr_end", cfg.lr_end, at_least=0, remedy=", or null for lr / 10")
    for key in ("adam_beta1", "adam_beta2"):
        require_range(key, getattr(cfg, key), at_least=0, below=1)
    require_range("activations_mixing_fraction", cfg.activations_mixing_fraction, at_least=0, at_most=1)
    require_range("divergence_factor", cfg.divergence_factor, above=1, remedy=", or null to stop only at NaN")
    require_range("early_stopping_patience", cfg.early_stopping_patience, at_least=1, remedy=", or null")
    require_choice("b_dec_init_method", cfg.b_dec_init_method, get_args(BDecInitMethod))
    require_choice("lr_scheduler_name", cfg.lr_scheduler_name, SCHEDULERS)
    require_choice("dtype", cfg.dtype, tuple(DTYPE_MAP))
    require_choice("source", cfg.source, SOURCES)
    for is_unread, keys, instead in _unread(cfg):
        for key in keys if is_unread else ():
            require_default(cfg, key, instead)
    _check_lengths(cfg)
    require_sae_names(cfg.companions, where="companions")
    if problem := next(chain(_cache_problems(cfg), _sae_problems(cfg), _target_problems(cfg)), None):
        raise ConfigError(problem)


def _unread(cfg: "TrainingConfig") -> Iterator[tuple[bool, Iterable[str], str]]:
    """Yield keys, whether this run does not read them, and what is read in their place."""
    saes = list(cfg.all_saes.values())
    sparse = all(isinstance(sae, SparseTrainingSAEConfig) and sae.sparse_backend == "sparse" for sae in saes)
    signed = all(isinstance(sae, SignedTrainingSAEConfig) for sae in saes)
    uncached, source = not cfg.use_cached_activations, cfg.source
    for key, instead in WITHOUT_EFFECT.items():
        yield True, [key], instead
    measured = "it counts measurements of perf_log_freq and held_out_every"
    yield not cfg.measures, ["early_stopping_patience"], measured
    yield not cfg.compile_sae, ["sae_compilation_mode"], "it is read with compile_sae: true"
    yield not cfg.compile_llm, ["llm_compilation_mode"], "it is read with compile_llm: true"
    yield uncached, ["dtype"], "sae.dtype is that of the SAE, model_from_pretrained_kwargs has that of the model"
    yield uncached, ["cached_activations_path"], "it is read with use_cached_activations: true"
    yield source == "vectors", OF_TOKENS, "it is a key of language models, and source is vectors"
    yield source != "vectors", ["group", "random_signs"], "it is a key of source: vectors"
    of_one = ["compile_llm", "use_cached_activations"]
    yield source == "model_difference", of_one, "it is for one model, and source is model_difference"
    yield source != "model_difference", OF_DIFFERENCES, "it is a key of source: model_difference"
    yield sparse, ["autocast"], "SAEs on the sparse kernels train in float32 (autocast_lm is for the model)"
    yield signed, ["b_dec_init_method"], "sae.b_dec_init_method is what a signed SAE is centred by"


def _check_lengths(cfg: "TrainingConfig") -> None:
    batch, steps = cfg.train_batch_size_tokens, cfg.total_training_steps
    remedy = " (training_tokens): not one step would be taken"
    require_range("train_batch_size_tokens", batch, at_most=cfg.training_tokens, remedy=remedy)
    if cfg.source != "vectors" and (kept := cfg.text_spec.kept_positions):
        enough = f"raise n_batches_in_buffer={cfg.n_batches_in_buffer} to at least {-(-batch // kept)}"
        remedy = f", the tokens of the mixing buffer; {enough}"
        require_range("train_batch_size_tokens", batch, at_most=cfg.n_batches_in_buffer * kept, remedy=remedy)
    # SAELens checks a cosine schedule only during the run
    cosine, lost = cfg.lr_scheduler_name != "constant", cfg.lr_warm_up_steps + cfg.lr_decay_steps
    remedy = f", since the run has {steps} steps (training_tokens / train_batch_size_tokens)"
    require_range("lr_warm_up_steps + lr_decay_steps", lost, at_most=steps - cosine, remedy=remedy)
    if cfg.lr_scheduler_name == "cosineannealingwarmrestarts":
        require_range("n_restart_cycles", cfg.n_restart_cycles, at_least=1, at_most=steps - lost)
    if cosine and cfg.lr_decay_steps:
        remedy = f", since lr_decay_steps={cfg.lr_decay_steps} decay the rate from lr_end to 0"
        require_range("lr_end", cfg.lr_end, above=0, at_most=cfg.lr, remedy=remedy)


def _cache_problems(cfg: "TrainingConfig") -> Iterator[str]:
    """Check the keys for activations cached by SAELens: they cover all documents, and rows are read whole."""
    if not cfg.use_cached_activations:
        return
    if cfg.exclude_special_tokens and "16" in cfg.dtype:
        yield f"dtype={cfg.dtype!r} rounds the token ids that exclude_special_tokens needs; set dtype to float32."
    for key, shown, whole in (("held_out_every", "null", None), ("seqpos_slice", "[null]", (None,))):
        if (value := getattr(cfg, key)) != whole:
            yield f"{key}={value!r} must be {shown} with use_cached_activations; or use activation_cache."


def _sae_problems(cfg: "TrainingConfig") -> Iterator[str]:
    """Check the SAEs, with errors that SAELens's own architectures raise only at a step."""
    for name, sae in cfg.all_saes.items():
        where = section_of(name)
        require_types(sae, prefix=f"{where}.")
        require_choice(f"{where}.dtype", sae.dtype, tuple(DTYPE_MAP))
        if not isinstance(sae, SparseTrainingSAEConfig):  # these have checked themselves
            yield from _saelens_problems(sae, where)
        if sae.reshape_activations == "hook_z" and not cfg.hook_name.endswith("_z"):
            yield (
                f"{where}.reshape_activations='hook_z' is for a hook whose name ends in _z, not for hook_name="
                f"{cfg.hook_name!r}; leave it out."
            )
        if sae.d_in != cfg.sae.d_in:
            yield f"{where}.d_in={sae.d_in} differs from sae.d_in={cfg.sae.d_in}; all read one activation."


def _saelens_problems(sae: TrainingSAEConfig, where: str) -> Iterator[str]:
    for key in ("d_in", "d_sae"):
        require_range(f"{where}.{key}", getattr(sae, key), at_least=1)
    require_range(f"{where}.k", getattr(sae, "k", None), at_least=1, at_most=sae.d_sae, remedy=" (d_sae)")
    if isinstance(sae, TopKTrainingSAEConfig):
        with errors_in(f"{where}."):
            require_one_scale(sae, f"the losses of {sae.architecture()} are in other units")
    if _aims_at_l0(sae):
        if sae.target_l0 is None:  # type: ignore[attr-defined]
            yield f"{where}.target_l0 is missing: the quadratic loss aims at it; give it, or k in its place."
        require_range(f"{where}.target_l0", sae.target_l0, above=0, at_most=sae.d_sae, remedy=" (d_sae)")  # type: ignore[attr-defined]
    if isinstance(sae, MatryoshkaBatchTopKTrainingSAEConfig):
        if not sae.matryoshka_widths:
            yield f"{where}.matryoshka_widths is missing; list the sizes of the nested prefixes."
        with errors_in(f"{where}."):
            sae.matryoshka_widths = up_to_all(sae.matryoshka_widths, sae.d_sae)


def _aims_at_l0(sae: TrainingSAEConfig) -> bool:
    return isinstance(sae, JumpReLUTrainingSAEConfig) and sae.jumprelu_sparsity_loss_mode == "quadratic"


def _target_problems(cfg: "TrainingConfig") -> Iterator[str]:
    for key in ("target_l0", "lr_multiples", "weight_seeds"):
        for name in getattr(cfg, key).keys() - cfg.all_saes:
            yield f"{key} names {name!r}, which is not trained; SAEs: {', '.join(cfg.all_saes)}."
    for name, multiple in cfg.lr_multiples.items():
        require_range(f"lr_multiples.{name}", multiple, above=0)
    for name, target in cfg.target_l0.items():
        sae = cfg.all_saes[name]
        if sparsity_coefficient(sae) is None:
            yield f"target_l0.{name}: {sae.architecture()} has no sparsity coefficient to steer; its L0 is k."
        if _aims_at_l0(sae):
            own = f"{section_of(name)}.target_l0={sae.target_l0}"  # type: ignore[attr-defined]
            yield f"target_l0.{name}: the quadratic loss of this JumpReLU has a target of its own ({own}); give one."
        require_range(f"target_l0.{name}", target, above=0, at_most=sae.d_sae, remedy=" (d_sae)")


def require_machine(cfg: "TrainingConfig") -> None:
    """Raise a :class:`ConfigError` if this machine lacks a device, or its torch a correct sparse step."""
    for key, device in cfg.devices.items():
        require_device(key, device)
    # before 2.10, the backward of embedding_bag on CUDA counts threads in 32 bits (pytorch/pytorch#165095)
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
