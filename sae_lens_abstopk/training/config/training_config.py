"""The training config: SAELens's runner config with the keys that this package adds, checked when it is made."""

import math
import os
import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NoReturn, Self

from sae_lens import LanguageModelSAERunnerConfig
from sae_lens.saes.sae import TrainingSAEConfig
from typing_extensions import override

from sae_lens_abstopk.saes.signed_training import SignedTrainingSAEConfig
from sae_lens_abstopk.saes.sparse_training import SparseTrainingSAEConfig
from sae_lens_abstopk.saes.sparsity import sparsity_coefficient
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.training.config.checks import (
    check_ranges,
    check_sae,
    complete_widths,
    resolve_device,
)
from sae_lens_abstopk.training.config.tracking_config import TrackingConfig, require_default

RESERVED_NAMES = ("sae", "checkpoints", "tensorboard", "wandb")
WINDOWS_DEVICES = re.compile(r"con|prn|aux|nul|(com|lpt)\d", re.IGNORECASE)
"""Names that no folder can have there, with any ending."""
PATHS = (
    *("model_name", "dataset_path", "output_path", "checkpoint_path", "resume_from_checkpoint"),
    *("from_pretrained_path", "activation_cache", "cached_activations_path"),
)
"""Keys whose values may be paths; a leading ~ in them is the home folder."""
NEWEST = "newest"
"""Value of ``resume_from_checkpoint`` that means the newest whole checkpoint of the run folder."""


@dataclass
class TrainingConfig(LanguageModelSAERunnerConfig[Any]):
    """
    SAELens's ``LanguageModelSAERunnerConfig`` with a few keys more; what is not listed here is documented there.

    Args:
        model_name (str): Hub id of the language model, or a local folder with its weights and tokenizer.
        model_class_name (str): How the model is loaded: AutoModelForCausalLM, TransformerBridge or HookedTransformer.
        hook_name (str): Module (AutoModelForCausalLM) or hook point (other model classes) whose output the SAE reads.
        dataset_path (str): Hub id of a text dataset, or a local .jsonl, .json, .parquet or .txt file
            (one document a .txt) or a folder of them.
        dataset_name (str, optional): Configuration of the Hub dataset, where it has several.
        split (str): Split of the dataset.
        column_name (str): Column that holds the text, the chat turns (use_chat_formatting) or the token ids (is_dataset_tokenized).
        shuffle (bool): Shuffle the documents with `seed`, through a window of 10,000 when streaming.
        held_out_every (int, optional): Every n-th document is held out of training and kept for evaluation. Of streamed text
            in several files or shards it is about one document in n, decided by a hash of the document.
        b_dec_init_method (str): Centring on the first batch of SAEs that have no key of this name in `sae`, as the signed ones
            have: mean, geometric_median or zeros.
        device (str): Device of the SAE and the model; "auto" takes CUDA where there is one, else the CPU.
        n_batches_in_buffer (int): Contexts whose tokens are mixed.
        feature_sampling_window (int): Steps that the saved sparsity of latents is measured over.
        from_pretrained_path (str, optional): Checkpoint of a run, or a finished SAE, whose weights a new run starts from.
        dtype (str): Type of the activations that SAELens has cached (use_cached_activations); that of the SAE is sae.dtype.
        max_norm_multiple (float, optional): Leave out tokens whose activation norm exceeds this multiple of the median.
        activation_cache (str, optional): Folder that activations are kept in, as bfloat16: filled by the run that needs them
            first, read by those that come after it with the same model, hook, text and filters.
        companions (dict): SAEs trained in the same pass over the same activations: name to SAE config (in a YAML file, to the
            keys that differ from `sae`).
        target_l0 (dict): Mean number of active latents per token that an SAE is held at, by the name of the SAE (`sae` or that
            of a companion); its L0 or L1 coefficient is only where the correction starts. The thresholds of JumpReLU are scaled too.
        lr_multiples (dict): Learning rate of an SAE as a multiple of `lr`, by its name (`sae` or that of a companion); 1 by default.
        perf_log_freq (int): Steps between two measurements of Loss Recovered; 0 never measures it during training.
        perf_tokens (int): Held-out tokens for each such measurement.
        checkpoint_freq (int): Steps between two checkpoints; 0 saves none but the final SAE.
        save_final_checkpoint (bool): Save one after the last step too, which another run can start from (from_pretrained_path).
        checkpoints_kept (int): Newest checkpoints that are kept; older ones are deleted.
        checkpoint_path (str, optional): Folder of the checkpoints; by default `checkpoints` in the run folder.
        resume_from_checkpoint (str, optional): Checkpoint folder that the run goes on from, or "newest" for the newest whole
            one of its run folder.
        resume_allows_changes (list[str]): Keys that may differ from those of the checkpoint: lr, which scales the schedule from
            there on.
        divergence_factor (float, optional): Stop when the loss exceeds this multiple of its running median for ten steps; null
            stops only at NaN and infinity.
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
    lr_multiples: dict[str, float] = field(default_factory=dict)
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
        for key in PATHS:
            if isinstance(path := getattr(self, key), str):
                setattr(self, key, os.path.expanduser(path))
        checkpoint_path = self.checkpoint_path
        self.device = resolve_device("device", self.device)
        if self.llm_device is not None:
            self.llm_device = resolve_device("llm_device", self.llm_device)
        if self.act_store_device not in (None, "with_model"):
            self.act_store_device = resolve_device("act_store_device", self.act_store_device)
        if type(self.logger) is not TrackingConfig:  # a subclass would not outlive the copies that are made of it
            raise ConfigError(
                f"logger={type(self.logger).__name__}(...) must be a TrackingConfig itself, from sae_lens_abstopk.training.config.tracking_config; "
                "it takes the same arguments, and log_to_wandb is False by default."
            )
        for name, sae in self.all_saes.items():
            where = section_of(name)
            if not isinstance(sae, TrainingSAEConfig):
                raise ConfigError(
                    f"{where}={sae!r} must be the training config of an SAE, such as AbsTopKTrainingSAEConfig(...); load_config() "
                    "makes one of plain keys."
                )
        check_ranges(self)
        folders: dict[str, str] = {}  # some file systems do not tell upper from lower case
        for name in self.companions:
            require_sae_name(name, where="companions")
            if (other := folders.setdefault(name.casefold(), name)) != name:
                raise ConfigError(
                    f"companions: {other!r} and {name!r} differ only in case, and would share a folder on some systems; rename one."
                )
        for name, sae in self.all_saes.items():
            where = section_of(name)
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
        sparse = [sae for sae in self.all_saes.values() if isinstance(sae, SparseTrainingSAEConfig)]
        if len(sparse) == len(self.all_saes) and all(sae.sparse_backend == "sparse" for sae in sparse):
            require_default(
                self, "autocast", "SAEs on the sparse kernels train in float32 (autocast_lm is for the language model)"
            )
        if all(isinstance(sae, SignedTrainingSAEConfig) for sae in self.all_saes.values()):
            require_default(self, "b_dec_init_method", "sae.b_dec_init_method is what a signed SAE is centred by")
        for key in ("target_l0", "lr_multiples"):
            for name in getattr(self, key).keys() - self.all_saes:
                raise ConfigError(f"{key} names {name!r}, which is not trained; SAEs: {', '.join(self.all_saes)}.")
        for name, multiple in self.lr_multiples.items():
            if not 0 < multiple < math.inf:
                raise ConfigError(f"lr_multiples.{name}={multiple!r} must be above 0 and finite.")
        for name, target in self.target_l0.items():
            sae = self.all_saes[name]
            if sparsity_coefficient(sae) is None:
                raise ConfigError(
                    f"target_l0.{name}: {sae.architecture()} has no sparsity coefficient to steer; its L0 is k."
                )
            if getattr(sae, "jumprelu_sparsity_loss_mode", None) == "quadratic":
                raise ConfigError(
                    f"target_l0.{name}: the quadratic loss of this JumpReLU has a target of its own ({section_of(name)}.target_l0="
                    f"{getattr(sae, 'target_l0', None)}), and the two would work against each other; leave one of them out."
                )
            if not 0 < target <= sae.d_sae:
                raise ConfigError(f"target_l0.{name}={target!r} must be above 0 and at most d_sae={sae.d_sae}.")
        run_name = self.logger.run_name
        super().__post_init__()
        # SAELens appends a random id to the path and calls the run by its size, which a folder of its own makes superfluous
        self.checkpoint_path, self.logger.run_name = checkpoint_path, run_name

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

    @override
    @classmethod
    def from_dict(cls, cfg_dict: dict[str, Any]) -> Self:
        """The config of what :meth:`to_dict` gives, also after a round trip through JSON."""
        sections = {
            "seqpos_slice": tuple(cfg_dict["seqpos_slice"]),
            "sae": TrainingSAEConfig.from_dict(cfg_dict["sae"]),
            "companions": {
                name: TrainingSAEConfig.from_dict(sae) for name, sae in cfg_dict.get("companions", {}).items()
            },
            "logger": TrackingConfig(**cfg_dict["logger"]),
        }
        return cls(**cfg_dict | sections)

    @override
    def get_training_sae_cfg_dict(self) -> NoReturn:
        """
        Refuse SAELens's own runner, which asks for this and would pass over the keys that are added here.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "LanguageModelSAETrainingRunner does not read all keys of a TrainingConfig (companions, held_out_every, "
            "checkpoint_freq and others); use sae_lens_abstopk.train(cfg), or give the runner SAELens's LanguageModelSAERunnerConfig."
        )


def section_of(name: str) -> str:
    """Where a config has the keys of the SAE ``name``."""
    return "sae" if name == "sae" else f"companions.{name}"


def require_sae_name(name: str, *, where: str) -> None:
    """
    Refuse what cannot be the name of an SAE beside others of a run.

    Raises:
        ConfigError: no folder in the run can have it.
    """
    if not isinstance(name, str):
        raise ConfigError(f"{where}: the name {name!r} is no text; put it in quotes.")
    folder = re.fullmatch(r"[A-Za-z0-9]([\w.-]*[\w-])?", name) and not WINDOWS_DEVICES.fullmatch(name.partition(".")[0])
    if not folder or name.casefold() in RESERVED_NAMES:
        raise ConfigError(
            f"{where}: the name {name!r} cannot be that of a folder in the run; use letters, digits, '.', '-' and "
            f"'_', a letter or digit first, no '.' at the end, and none of {', '.join(RESERVED_NAMES)}, or a device of Windows."
        )
