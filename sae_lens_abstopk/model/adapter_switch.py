"""A PEFT adapter that is switched on and off on one copy of its base model."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from transformers import PreTrainedModel


class AdapterSwitch:
    """Switch of a PEFT adapter (Hub id or folder), at first off; it is loaded into ``model``, whose names stay."""

    def __init__(self, model: PreTrainedModel, adapter: str) -> None:
        from peft import PeftModel
        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils.other import AuxiliaryTrainingWrapper

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft reads an attribute that transformers will drop
            PeftModel.from_pretrained(model, adapter)
        # autocast keeps the casts of a pass only for weights with gradients, and peft turns these off
        model.requires_grad_(True)
        # found once: a search of the modules at every pass takes as long as a pass of a small model on a GPU
        self._layers = [each for each in model.modules() if isinstance(each, BaseTunerLayer | AuxiliaryTrainingWrapper)]
        self.is_on = True
        self._set(False)

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
            for layer in self._layers:
                layer.enable_adapters(on)
            self.is_on = on
