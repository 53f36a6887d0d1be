"""Load the model to steer: that of an SAE, or with an adapter switched on."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from sae_lens import SAE

from sae_lens_abstopk.model.language_model import load_language_model
from sae_lens_abstopk.model.model_pair import ModelPair
from sae_lens_abstopk.model.model_spec import ModelPairSpec, ModelSpec
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.typed_values import from_keys
from sae_lens_abstopk.text.text_spec import TextSpec


class SteeredModel(NamedTuple):
    """A language model to steer."""

    model: Any
    running: Callable[[], AbstractContextManager[Any]] = nullcontext
    """A context in which the adapter, if there is one, is switched on."""

    @classmethod
    def load(cls, spec: ModelSpec, text: TextSpec, *, adapter: str | None, d_in: int) -> "SteeredModel":
        """Load the model of ``spec`` for prompts as in ``text``; the hook is ``d_in`` wide."""
        if adapter is None:
            return cls(load_language_model(spec, text))
        pair = ModelPair.load(from_keys(ModelPairSpec, vars(spec) | {"adapter": adapter}), text, d_in=d_in)
        return cls(pair.tuned_model, pair.tuned)


def tuned_model_of(
    sae: SAE[Any], *, model: str | None = None, adapter: str | None = None
) -> tuple[str | None, str | None]:
    """Return the tuned model, or else the adapter, of an SAE of two models; ConfigError if another one is given."""
    metadata: Any = sae.cfg.metadata
    if metadata.get("source") != "model_difference" or model is not None or adapter is not None:
        raise ConfigError(
            "the tuned model is that of an SAE of `abstopk diff`; leave --tuned, or --model and --adapter, out."
        )
    return metadata.get("tuned_model"), metadata.get("adapter")
