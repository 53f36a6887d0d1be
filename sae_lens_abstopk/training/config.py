"""The training config: SAELens's runner config with the keys that this package adds, checked when it is made."""

import math
import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any, get_args

import torch
from sae_lens import (
    JumpReLUTrainingSAEConfig,
    LanguageModelSAERunnerConfig,
    MatryoshkaBatchTopKTrainingSAEConfig,
    TopKTrainingSAEConfig,
)
from sae_lens.constants import DTYPE_MAP
from sae_lens.saes.sae import TrainingSAEConfig
from typing_extensions import override

from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.saes.centring import BDecInitMethod
from sae_lens_abstopk.saes.matryoshka import up_to_all
from sae_lens_abstopk.saes.signed_training import SignedTrainingSAEConfig
from sae_lens_abstopk.saes.sparse_training import (
    RUN_TIME_NORMALISATIONS,
    SparseTrainingSAEConfig,
    require_choice,
    require_k_in_range,
)
from sae_lens_abstopk.training.target_l0 import sparsity_coefficient
from sae_lens_abstopk.training.tracking_config import TrackingConfig, require_default

MODEL_CLASSES = ("AutoModelForCausalLM", "TransformerBridge", "HookedTransformer")
RESERVED_NAMES = ("sae", "checkpoints", "tensorboard", "wandb")
NEWEST = "newest"
"""Value of ``resume_from_checkpoint`` that means the newest whole checkpoint of the run folder."""
WITHOUT_EFFECT = {
    "n_checkpoints": "checkpoint_freq says after how many steps one is saved",
    "save_final_checkpoint": "the final SAE is always saved; checkpoint_freq says when there are checkpoints before it",
    "dead_feature_threshold": "dead_feature_window says after how many steps without firing a latent is dead",
    "n_eval_batches": "perf_tokens says how many held-out tokens are measured, perf_log_freq how often",
    "eval_batch_size_prompts": "store_batch_size_prompts is the batch of the language model there too",
}
"""Keys of SAELens that its own loop reads and a run here does not, and what to set in their place."""
SCHEDULERS = ("constant", "cosineannealing", "cosineannealingwarmrestarts")


@dataclass
class TrainingConfig(LanguageModelSAERunnerConfig[Any]):
    """
    SAELens's ``LanguageModelSAERunnerConfig`` with a few keys more; what is not listed here is documented there.

    Args:
        model_name (str): Hub id of the language model, or a local folder with its weights and tokenizer.
        model_class_name (str): How the model is loaded: AutoModelForCausalLM, TransformerBridge or HookedTransformer.
        hook_name (str): Module (AutoModelForCausalLM) or hook point (other model classes) whose output the SAE reads.
        dataset_path (str): Hub id of a text dataset, or a local .jsonl, .json, .parquet or .txt file or a folder of them.
        dataset_name (str, optional): Configuration of the Hub dataset, where it has several.
        split (str): Split of the dataset.
        column_name (str): Column that holds the text.
        shuffle (bool): Shuffle the documents with `seed`, through a window of 10,000 when streaming.
        held_out_every (int, optional): Every n-th document is held out of training and kept for evaluation. Of streamed text
            in several files or shards it is about one document in n, decided by a hash of the document.
        b_dec_init_method (str): Centring on the first batch of SAEs that have no key of this name in `sae`, as the signed ones
            have: mean, geometric_median or zeros.
        device (str): Device of the SAE and the model; "auto" takes CUDA where there is one, else the CPU.
        dtype (str): Type of the activations that SAELens has cached (use_cached_activations); that of the SAE is sae.dtype.
        max_norm_multiple (float, optional): Leave out tokens whose activation norm exceeds this multiple of the median.
        activation_cache (str, optional): Folder that activations are kept in, as bfloat16: filled by the run that needs them
            first, read by those that come after it with the same model, hook, text and filters.
        companions (dict): SAEs trained in the same pass over the same activations: name to keys that differ from `sae`.
        target_l0 (dict): Mean number of active latents per token that an SAE is held at, by the name of the SAE (`sae` or that
            of a companion); its L0 or L1 coefficient is only where the correction starts.
        perf_log_freq (int): Steps between two measurements of Loss Recovered; 0 never measures it during training.
        perf_tokens (int): Held-out tokens for each such measurement.
        checkpoint_freq (int): Steps between two checkpoints; 0 saves none but the final SAE.
        checkpoints_kept (int): Newest checkpoints that are kept; older ones are deleted.
        checkpoint_path (str, optional): Folder of the checkpoints; by default `checkpoints` in the run folder.
        resume_from_checkpoint (str, optional): Checkpoint folder that the run goes on from, or "newest" for the newest whole
            one of its run folder.
        resume_allows_changes (list[str]): Keys that may differ from those of the checkpoint: lr, which scales the schedule from
            there on.
        divergence_factor (float, optional): Stop when the loss exceeds this multiple of its running median; null stops only
            at NaN and infinity.
        dataset_trust_remote_code (bool): Run code that comes with a dataset.
        verbose (bool): Log SAELens's own notes about the buffer and the schedule.
    """

    model_name: str = ""
    model_class_name: str = "AutoModelForCausalLM"
    hook_name: str = ""
    dataset_path: str = ""
    dataset_name: str | None = None
    split: str = "train"
    column_name: str = "text"
    shuffle: bool = True
    held_out_every: int | None = 20
    device: str = "auto"
    b_dec_init_method: str = "mean"
    max_norm_multiple: float | None = None
    activation_cache: str | None = None
    companions: dict[str, TrainingSAEConfig] = field(default_factory=dict)
    target_l0: dict[str, float] = field(default_factory=dict)
    perf_log_freq: int = 1000
    perf_tokens: int = 16_384
    checkpoint_freq: int = 5000
    checkpoints_kept: int = 3
    resume_allows_changes: list[str] = field(default_factory=list)
    divergence_factor: float | None = 10.0
    is_dataset_tokenized: bool = False
    dataset_trust_remote_code: bool = False
    verbose: bool = False
    checkpoint_path: str | None = None
    output_path: str | None = None
    logger: TrackingConfig = field(default_factory=TrackingConfig)  # type: ignore[assignment]

    @override
    def __post_init__(self) -> None:
        checkpoint_path = self.checkpoint_path
        self.device = _resolve_device("device", self.device)
        if self.llm_device is not None:
            self.llm_device = _resolve_device("llm_device", self.llm_device)
        if self.act_store_device not in (None, "with_model"):
            self.act_store_device = _resolve_device("act_store_device", self.act_store_device)
        _check_ranges(self)
        for name in self.companions:
            if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) or name in RESERVED_NAMES:
                raise ConfigError(
                    f"companions: the name {name!r} cannot be that of a folder in the run; use letters, digits, '.', '-' and "
                    f"'_', a letter or digit first, and none of {', '.join(RESERVED_NAMES)}."
                )
        for name, sae in self.all_saes.items():
            where = "sae" if name == "sae" else f"companions.{name}"
            check_sae(sae, where=where)
            complete_widths(sae, where=where)
            if sae.reshape_activations == "hook_z" and not self.hook_name.endswith("_z"):
                raise ConfigError(
                    f"{where}.reshape_activations='hook_z' is for a hook whose name ends in _z, and no SAE of hook_name="
                    f"{self.hook_name!r} could be loaded with it; leave it out."
                )
            if sae.d_in != self.sae.d_in:
                raise ConfigError(
                    f"companions.{name}.d_in={sae.d_in} differs from sae.d_in={self.sae.d_in}; all read one activation."
                )
        if all(isinstance(sae, SignedTrainingSAEConfig) for sae in self.all_saes.values()):
            require_default(self, "b_dec_init_method", "sae.b_dec_init_method is what a signed SAE is centred by")
        for name, target in self.target_l0.items():
            if name not in self.all_saes:
                raise ConfigError(f"target_l0 names {name!r}, which is not trained; SAEs: {', '.join(self.all_saes)}.")
            sae = self.all_saes[name]
            if sparsity_coefficient(sae) is None:
                raise ConfigError(
                    f"target_l0.{name}: {sae.architecture()} has no sparsity coefficient to steer; its L0 is k."
                )
            if not 0 < target <= sae.d_sae:
                raise ConfigError(f"target_l0.{name}={target!r} must be above 0 and at most d_sae={sae.d_sae}.")
        super().__post_init__()
        # SAELens appends a random id to the path, which a run folder of its own makes superfluous.
        self.checkpoint_path = checkpoint_path

    @property
    def all_saes(self) -> dict[str, TrainingSAEConfig]:
        """The SAE configs that are trained in one pass: ``sae`` first, then the companions by name."""
        return {"sae": self.sae, **self.companions}

    @override
    def to_dict(self) -> dict[str, Any]:
        # the companions hold metadata objects, which asdict would leave as they are and JSON cannot write
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("companions", "sae", "logger")}
        return {
            **plain,
            "sae": self.sae.to_dict(),
            "companions": {name: sae.to_dict() for name, sae in self.companions.items()},
            "logger": asdict(self.logger),
        }


def check_sae(sae: TrainingSAEConfig, *, where: str = "sae") -> None:
    """Refuse what SAELens's own architectures only refuse when a step is taken; ours have checked themselves."""
    require_choice(f"{where}.dtype", sae.dtype, tuple(DTYPE_MAP))
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


def _resolve_device(key: str, device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise ConfigError(f"{key}={device!r} is no torch device; use auto, cpu, cuda or cuda:0.") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"{key}={device!r} needs CUDA, which torch does not find here; use auto or cpu.")
    if kind == "mps":
        raise ConfigError(f"{key}={device!r} has no float64, which thresholds and metrics are computed in; use cpu.")
    return device


def _check_ranges(cfg: TrainingConfig) -> None:
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
    }
    for key, instead in WITHOUT_EFFECT.items():
        require_default(cfg, key, instead)
    for key in ("model_name", "hook_name", "dataset_path"):
        if not getattr(cfg, key):
            raise ConfigError(f"{key} is missing; the config has to name it.")
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
    kept_positions = len(range(cfg.context_size)[slice(*cfg.seqpos_slice)])
    buffer = cfg.n_batches_in_buffer * kept_positions
    if 0 < buffer < cfg.train_batch_size_tokens:
        raise ConfigError(
            f"train_batch_size_tokens={cfg.train_batch_size_tokens} exceeds the mixing buffer of {buffer} tokens "
            f"(n_batches_in_buffer={cfg.n_batches_in_buffer} times {kept_positions} positions of a context); "
            f"raise n_batches_in_buffer to at least {-(-cfg.train_batch_size_tokens // kept_positions)}."
        )


def _check_annealing(cfg: TrainingConfig) -> None:
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
