"""A PEFT adapter that is switched on and off on one copy of its base model."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from transformers import PreTrainedModel


class AdapterSwitch:
    """Switch of an adapter, at first off; its layers sit inside the transformers model, whose names stay."""

    def __init__(self, layers: Any) -> None:
        self._layers = layers
        self.is_on = True
        self._set(False)

    @classmethod
    def put_into(cls, model: PreTrainedModel, adapter: str) -> Self:
        """Load the adapter of a Hub id or folder into ``model``, in place."""
        from peft import PeftModel

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft reads an attribute that transformers will drop
            wrapper = PeftModel.from_pretrained(model, adapter)
        # autocast keeps the casts of a pass only for weights with gradients, and peft turns these off
        model.requires_grad_(True)
        return cls(wrapper.base_model)

    @contextmanager
    def turned(self, *, on: bool) -> Iterator[None]:
        """Turn the adapter on or off while the context is open; contexts nest."""
        before = self.is_on
        self._set(on)
        try:
            yield
        finally:
            self._set(before)

    def _set(self, on: bool) -> None:
        if on != self.is_on:
            self._layers.enable_adapter_layers() if on else self._layers.disable_adapter_layers()
            self.is_on = on
