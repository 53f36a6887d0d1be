"""A language model, a fine-tune of it, and a hook in both."""

from dataclasses import dataclass

from typing_extensions import override

from sae_lens_abstopk.model.model_spec import ModelSpec, resolve_device
from sae_lens_abstopk.system.errors import ConfigError, require_one
from sae_lens_abstopk.system.typed_values import from_keys


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
