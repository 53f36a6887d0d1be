"""A language model, or one and its fine-tune, and a hook; torch devices."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from typing_extensions import override

from sae_lens_abstopk.system.errors import ConfigError, require_choice, require_given, require_one
from sae_lens_abstopk.system.typed_values import from_keys

MODEL_CLASSES = ("AutoModelForCausalLM", "TransformerBridge", "HookedTransformer")


def resolve_device(key: str, device: str) -> str:
    """Return a supported torch device or raise a :class:`ConfigError`; ``auto`` is CUDA if available, else the CPU."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        supported = torch.device(device).type != "mps"  # it has no float64, which thresholds and metrics need
    except RuntimeError:
        supported = False
    if not supported:
        raise ConfigError(f"{key}={device!r} is not a torch device with float64; use auto, cpu, cuda or cuda:0.")
    return device


def require_device(key: str, device: str) -> None:
    """Raise a :class:`ConfigError` if this machine lacks the device."""
    wanted, n = torch.device(device), torch.cuda.device_count()
    if wanted.type == "cuda" and (wanted.index or 0) >= n:
        raise ConfigError(f"{key}={device!r} is not one of the {n} CUDA devices of this machine; use auto or cpu.")


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A language model, its loading options, and the hook to read. Fields are keys of a training config."""

    model_name: str
    """Hub id, or a local folder."""
    hook_name: str
    model_class_name: str = "AutoModelForCausalLM"
    model_from_pretrained_kwargs: Mapping[str, Any] | None = None
    hook_head_index: int | None = None
    """The head of the hook to read; None reads all."""
    device: str = "auto"
    autocast_lm: bool = False
    model_kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Arguments of every forward pass."""

    def __post_init__(self) -> None:
        for key in ("model_name", "hook_name"):
            require_given(key, getattr(self, key), "the config has to name it")
        require_choice("model_class_name", self.model_class_name, MODEL_CLASSES)
        if self.model_from_pretrained_kwargs is None:  # SAELens's own default
            centred = {"center_writing_weights": False} if self.model_class_name == "HookedTransformer" else {}
            object.__setattr__(self, "model_from_pretrained_kwargs", centred)
        object.__setattr__(self, "device", resolve_device("device", self.device))
        for key in ("token", "use_auth_token"):
            if isinstance(self.load_options.get(key), str):
                raise ConfigError(
                    f"model_from_pretrained_kwargs holds a {key}, which would be written into the run folder and "
                    "published; leave it out and set HF_TOKEN."
                )

    @property
    def load_options(self) -> Mapping[str, Any]:
        """Options of ``from_pretrained``."""
        return self.model_from_pretrained_kwargs or {}


@dataclass(frozen=True, kw_only=True)
class ModelPairSpec(ModelSpec):
    """
    A base model, a fine-tune of it, and the hook to read in both. Fields are keys of a training config.

    The fields of :class:`.ModelSpec` describe the base model; the tuned one has the same hook, class and options.
    """

    tuned_model: str | None = None
    """Hub id or folder of the whole tuned model."""
    adapter: str | None = None
    """Hub id or folder of a PEFT adapter of the base model, in place of ``tuned_model``."""
    tuned_device: str | None = None
    """Device of ``tuned_model``; by default that of the base model."""

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        require_one({"tuned_model": self.tuned_model, "adapter": self.adapter})
        if self.adapter and self.model_class_name != "AutoModelForCausalLM":
            raise ConfigError(
                f"model_class_name={self.model_class_name!r} takes no PEFT adapter; leave it out, or merge the adapter "
                "into the base and give the result as tuned_model."
            )
        require_one({"adapter": self.adapter, "tuned_device": self.tuned_device}, or_none=True)
        if self.tuned_device is not None:
            object.__setattr__(self, "tuned_device", resolve_device("tuned_device", self.tuned_device))

    @property
    def tuned(self) -> str:
        """The name of the tuned model or adapter."""
        return self.tuned_model or self.adapter or ""

    @property
    def tuned_spec(self) -> ModelSpec:
        """The tuned model by itself; with an adapter, the base model."""
        changes = {"model_name": self.tuned_model or self.model_name, "device": self.tuned_device or self.device}
        return from_keys(ModelSpec, vars(self) | changes)
