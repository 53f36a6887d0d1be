"""The training config and its section ``logger``: SAELens's configs with more keys, checked when they are made."""

import os
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, NoReturn, Self
from urllib.parse import urlsplit

from sae_lens import LanguageModelSAERunnerConfig, LoggingConfig
from sae_lens.saes.sae import TrainingSAEConfig
from typing_extensions import override

from sae_lens_abstopk.model.model_spec import ModelPairSpec, ModelSpec, resolve_device
from sae_lens_abstopk.system.errors import ConfigError, errors_in, require_package, require_range
from sae_lens_abstopk.system.typed_values import from_keys, require_default, require_types
from sae_lens_abstopk.text.text_spec import TextSpec
from sae_lens_abstopk.training.config.checks import LOGGER_WITHOUT_EFFECT, check_config, section_of
from sae_lens_abstopk.vectors.vector_spec import VectorSpec

PATHS = (
    *("model_name", "tuned_model", "adapter", "dataset_path", "output_path", "checkpoint_path"),
    *("resume_from_checkpoint", "from_pretrained_path", "activation_cache", "cached_activations_path"),
)
"""Keys whose values may be paths; a leading ~ is the home folder."""
NEWEST = "newest"
"""Value of ``resume_from_checkpoint`` for the newest whole checkpoint of the run folder."""


@dataclass
class TrackingConfig(LoggingConfig):
    """
    SAELens's ``LoggingConfig`` with MLflow and TensorBoard.

    Args:
        log_to_wandb (bool): Log to Weights & Biases.
        log_to_mlflow (bool): Log to MLflow (pip install 'sae-lens-abstopk[mlflow]'), one MLflow run for each SAE.
        mlflow_tracking_uri (str, optional): Server or database; by default MLFLOW_TRACKING_URI, else ./mlflow.db.
        mlflow_experiment (str): MLflow experiment; made if it is not there.
        log_to_tensorboard (bool): Write event files into the run folder (pip install 'sae-lens-abstopk[tensorboard]').
    """

    log_to_wandb: bool = False
    log_to_mlflow: bool = False
    mlflow_tracking_uri: str | None = None
    mlflow_experiment: str = "sae_lens_training"
    log_to_tensorboard: bool = False

    def __post_init__(self) -> None:
        require_types(self, prefix="logger.")
        for key, instead in LOGGER_WITHOUT_EFFECT.items():
            require_default(self, key, instead, section="logger.")
        require_range("logger.wandb_log_frequency", self.wandb_log_frequency, at_least=1)
        uri = urlsplit(self.mlflow_tracking_uri or "")
        # the part before the @ of a server may be a token; the user of a database is not a secret
        if uri.password is not None or (uri.username is not None and uri.scheme in ("http", "https")):
            raise ConfigError(
                "logger.mlflow_tracking_uri holds a user name, password or token (before the @), which would be "
                "written into the run folder and logged. Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD "
                "instead."
            )

    @override
    def log(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: SAELens logs the final files before they are whole; :class:`.WandbLogger` logs them after."""

    def require_packages(self) -> None:
        """Raise a :class:`ConfigError` if a tracker's package is missing."""
        for package in ("mlflow", "tensorboard"):
            if getattr(self, f"log_to_{package}"):
                require_package(package, f"logger.log_to_{package}=true")


@dataclass
class TrainingConfig(LanguageModelSAERunnerConfig[Any]):
    """
    SAELens's ``LanguageModelSAERunnerConfig`` with a few more keys; keys that are not listed are documented there.

    Args:
        model_name (str): Hub id of the language model, or a local folder with its weights and tokenizer. With source:
            vectors, the sentence-transformers model that embeds the texts in column_name.
        model_class_name (str): Class of the model: AutoModelForCausalLM, TransformerBridge or HookedTransformer.
        hook_name (str): Module (AutoModelForCausalLM) or hook point (other classes) whose output the SAE reads.
        dataset_path (str): Hub id of a text dataset, or a local .jsonl, .json, .parquet or .txt file or a folder.
        dataset_name (str, optional): Configuration of the Hub dataset, where it has several.
        split (str): Split of the dataset.
        source (str): What is trained on: tokens of a language model, vectors of a file or data set, or with
            model_difference the difference that a fine-tune makes to tokens, tuned minus base (model_name).
        tuned_model (str, optional): With source: model_difference, the tuned model, a Hub id or folder.
        adapter (str, optional): With source: model_difference, a PEFT adapter of model_name in place of tuned_model.
        tuned_device (str, optional): Device of tuned_model; by default that of model_name.
        exclude_chat_template (bool): With source: model_difference and use_chat_formatting, leave out the tokens that
            the chat template adds to the turns.
        group (str, optional): With source: vectors, the column whose equal values stay on one side of the split.
        random_signs (bool): Multiply each vector by 1 or -1, drawn anew in each epoch: for differences, whose
            direction is arbitrary.
        column_name (str): Column with the text, the chat turns (use_chat_formatting) or the token ids.
        shuffle (bool): Shuffle the documents with `seed`, through a window of 10,000 when streaming.
        held_out_every (int, optional): Every n-th document (about, of streamed shards) is kept out of training.
        b_dec_init_method (str): Centring of SAEs without a key of this name: mean, geometric_median or zeros.
        device (str): Device of the SAE and the model; "auto" takes CUDA where there is one, else the CPU.
        n_batches_in_buffer (int): Contexts whose tokens are mixed.
        feature_sampling_window (int): Steps that the saved sparsity of latents is measured over.
        from_pretrained_path (str, optional): Checkpoint or finished SAE whose weights a new run starts from.
        dtype (str): Type of activations cached by SAELens (use_cached_activations); sae.dtype is that of the SAE.
        max_norm_multiple (float, optional): Leave out tokens whose norm exceeds this multiple of the median.
        activation_cache (str, optional): Folder of bfloat16 activations, filled by the first run, read by later ones.
        companions (dict): SAEs trained in the same pass over the same activations: name to SAE config.
        target_l0 (dict): Mean L0 that an SAE is held at, by its name, by steering its L0 or L1 coefficient.
        lr_multiples (dict): Learning rate of an SAE as a multiple of `lr`, by its name; 1 by default.
        weight_seeds (dict): Seed of an SAE's first weights, by its name; `seed` by default.
        threshold_tokens (int): Training tokens that are read once more after the last step, to set the thresholds of
            SAEs that select over a batch so that their L0 is k; 0 keeps the running estimate of the training.
        perf_log_freq (int): Steps between two measurements of Loss Recovered; 0 never measures it during training.
        perf_tokens (int): Held-out tokens for each such measurement.
        checkpoint_freq (int): Steps between two checkpoints; 0 saves none but the final SAE.
        save_final_checkpoint (bool): Save one after the last step too, for from_pretrained_path of another run.
        checkpoints_kept (int): Newest checkpoints that are kept; older ones are deleted.
        checkpoint_path (str, optional): Folder of the checkpoints; by default `checkpoints` in the run folder.
        resume_from_checkpoint (str, optional): Checkpoint to resume from, or "newest" for that of the run folder.
        resume_allows_changes (list[str]): Keys that may differ from the checkpoint's: lr, which scales its schedule.
        divergence_factor (float, optional): Stop when the loss exceeds this multiple of its median for ten steps.
        early_stopping_patience (int, optional): End training when so many measurements of perf_log_freq lowered the
            held-out FVU of no SAE.
        verbose (bool): Log SAELens's own notes about the buffer and the schedule.
    """

    source: str = "tokens"
    model_name: str = ""
    model_class_name: str = "AutoModelForCausalLM"
    hook_name: str = ""
    dataset_path: str = ""
    dataset_name: str | None = None
    split: str = "train"
    column_name: str = "text"
    tuned_model: str | None = None
    adapter: str | None = None
    tuned_device: str | None = None
    exclude_chat_template: bool = False
    group: str | None = None
    random_signs: bool = False
    shuffle: bool = True
    held_out_every: int | None = 20
    device: str = "auto"
    b_dec_init_method: str = "mean"
    max_norm_multiple: float | None = None
    activation_cache: str | None = None
    companions: dict[str, TrainingSAEConfig] = field(default_factory=dict)
    target_l0: dict[str, float] = field(default_factory=dict)
    lr_multiples: dict[str, float] = field(default_factory=dict)
    weight_seeds: dict[str, int] = field(default_factory=dict)
    threshold_tokens: int = 0
    perf_log_freq: int = 1000
    perf_tokens: int = 16_384
    checkpoint_freq: int = 5000
    checkpoints_kept: int = 3
    resume_allows_changes: list[str] = field(default_factory=list)
    divergence_factor: float | None = 10.0
    early_stopping_patience: int | None = None
    is_dataset_tokenized: bool = False
    dataset_trust_remote_code: bool = False
    verbose: bool = False
    checkpoint_path: str | None = None
    output_path: str | None = None
    logger: TrackingConfig = field(default_factory=TrackingConfig)  # type: ignore[assignment]

    @override
    def __post_init__(self) -> None:
        require_types(self)
        if not isinstance(self.logger, TrackingConfig):
            self.logger = TrackingConfig(**vars(self.logger))  # type: ignore[assignment]  # SAELens's own
        for key in PATHS:
            if (path := getattr(self, key)) is not None:
                setattr(self, key, os.path.expanduser(path))
        for key, device in self.devices.items():
            if (key, device) != ("act_store_device", "with_model"):
                setattr(self, key, resolve_device(key, device))
        # SAELens appends a random id to the path and names the run by its size; here each run has its own folder
        checkpoint_path, run_name = self.checkpoint_path, self.logger.run_name
        self.checkpoint_path = None
        check_config(self)
        super().__post_init__()
        self.checkpoint_path, self.logger.run_name = checkpoint_path, run_name
        of_source = {"tokens": "model_spec", "vectors": "vector_spec", "model_difference": "pair_spec"}
        getattr(self, of_source[self.source])  # making the spec checks its keys

    @property
    def all_saes(self) -> dict[str, TrainingSAEConfig]:
        """SAE configs trained in one pass: ``sae`` first, then the companions by name."""
        return {"sae": self.sae, **self.companions}

    @property
    def devices(self) -> dict[str, str]:
        """The devices that are set, by key."""
        keys = ("device", "llm_device", "act_store_device", "tuned_device")
        return {key: str(device) for key in keys if (device := getattr(self, key)) is not None}

    @property
    def measures(self) -> bool:
        """Whether the run measures SAEs on what is held out."""
        return bool(self.perf_log_freq and self.held_out_every)

    @property
    def model_spec(self) -> ModelSpec:
        """The language model and the hook."""
        return from_keys(ModelSpec, vars(self) | {"device": self.llm_device or self.device})

    @property
    def pair_spec(self) -> ModelPairSpec:
        """Both models and the hook, with ``source: model_difference``."""
        return from_keys(ModelPairSpec, vars(self) | {"device": self.llm_device or self.device})

    @property
    def text_spec(self) -> TextSpec:
        """The text and its filters."""
        return from_keys(TextSpec, vars(self))

    @property
    def vector_spec(self) -> VectorSpec:
        """The vectors, with ``source: vectors``."""
        return from_keys(VectorSpec, vars(self))

    def checked_again(self) -> Self:
        """Return a checked copy, since values may have been set after the config was made."""
        saes: dict[str, Any] = {}
        for name, sae in self.all_saes.items():
            with errors_in(f"{section_of(name)}."):
                saes[name] = replace(sae, device="cpu")  # the run decides the device
            saes[name].metadata = sae.metadata
        return replace(self, sae=saes.pop("sae"), companions=saes, logger=replace(self.logger))

    @override
    def to_dict(self) -> dict[str, Any]:
        # asdict leaves the metadata of companions as objects, which JSON cannot write
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
        """Make a config of the result of :meth:`to_dict`, also after a round trip through JSON."""
        companions = cfg_dict.get("companions", {})
        sections = {
            "seqpos_slice": tuple(cfg_dict["seqpos_slice"]),
            "sae": TrainingSAEConfig.from_dict(cfg_dict["sae"]),
            "companions": {name: TrainingSAEConfig.from_dict(sae) for name, sae in companions.items()},
            "logger": TrackingConfig(**cfg_dict["logger"]),
        }
        return cls(**cfg_dict | sections)

    @override
    def get_training_sae_cfg_dict(self) -> NoReturn:
        """Raise a :class:`ConfigError`: only SAELens's own runner calls this, and it ignores the keys added here."""
        raise ConfigError(
            "LanguageModelSAETrainingRunner does not read all keys of a TrainingConfig (companions, held_out_every, "
            "...); use sae_lens_abstopk.train(cfg), or give the runner SAELens's LanguageModelSAERunnerConfig."
        )
