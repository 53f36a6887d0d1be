"""SAELens's activation store with massive tokens left out and a check that activations are finite."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self, cast

import sae_lens
import torch
from datasets import Dataset, IterableDataset
from sae_lens import ActivationsStore
from transformer_lens.HookedRootModule import HookedRootModule
from typing_extensions import override

from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.training.config import TrainingConfig
from sae_lens_abstopk.training.text import Part, load_text

# contexts whose norms give the median that `max_norm_multiple` multiplies
NORM_CALIBRATION_BATCHES = 4


class NonFiniteActivationsError(RuntimeError):
    """The language model produced NaN or infinite activations."""


class FilteredActivationsStore(ActivationsStore):
    """
    Drops tokens whose activation norm exceeds ``max_norm``, and stops at NaN or infinity.

    Some models put a few tokens at a hundred times the usual norm (a "massive activation", often on the first
    position); those few then hold most of the variance, and an SAE spends its latents on them.
    """

    max_norm: float | None = None
    n_llm_batches: int = 0

    @classmethod
    def for_training(cls, model: HookedRootModule, cfg: TrainingConfig, dataset: Dataset | IterableDataset) -> Self:
        """The store of a run; with ``max_norm_multiple`` set, the first batches of text are read for their median."""
        store = cast(Self, cls.from_config(model, cfg, override_dataset=dataset))
        if cfg.max_norm_multiple is not None:
            store.max_norm = cfg.max_norm_multiple * store.median_norm()
        return store

    def median_norm(self, n_batches: int = NORM_CALIBRATION_BATCHES) -> float:
        """Median norm of the activations of the next ``n_batches`` LM batches."""
        norms = [self.get_filtered_llm_batch().float().norm(dim=-1) for _ in range(n_batches)]
        return torch.cat(norms).median().item()

    @override
    def get_filtered_llm_batch(self, raise_on_epoch_end: bool = False) -> torch.Tensor:
        activations = super().get_filtered_llm_batch(raise_on_epoch_end=raise_on_epoch_end)
        self.n_llm_batches += 1
        norms = activations.float().norm(dim=-1)
        # NaN and infinity both make the sum of the norms non-finite: one number to wait for on a GPU
        if not norms.sum().isfinite():
            bad = int((~norms.isfinite()).sum())
            raise NonFiniteActivationsError(
                f"{bad} of {len(norms)} activations of {self.hook_name} are NaN or infinite in language-model batch "
                f"{self.n_llm_batches} (documents up to {self.n_dataset_processed}); run the model in a wider type "
                "(autocast_lm=false, or a float32 or bfloat16 model) or leave that text out."
            )
        return activations if self.max_norm is None else activations[norms <= self.max_norm]


def token_batches(model: Any, cfg: TrainingConfig, n_tokens: int, *, part: Part) -> list[torch.Tensor]:
    """Token ids [store_batch_size_prompts, context_size] a batch, from a part of the text, ``n_tokens`` or a little over."""
    with saelens_notes_off():
        store = FilteredActivationsStore.from_config(model, cfg, override_dataset=load_text(cfg, part))
    per_batch = cfg.store_batch_size_prompts * cfg.context_size
    batches = []
    try:
        while len(batches) * per_batch < n_tokens:
            batches.append(store.get_batch_tokens(raise_at_epoch_end=True))
    except StopIteration:
        pass  # all there is
    if not batches:
        raise ConfigError(
            f"the {part.replace('_', '-')} text of {cfg.dataset_path!r} does not fill one batch of {per_batch} tokens; "
            f"lower held_out_every={cfg.held_out_every}, store_batch_size_prompts or context_size, or give more text."
        )
    return batches


@contextmanager
def saelens_notes_off() -> Iterator[None]:
    """SAELens warns that a text is not tokenised and that model and data were passed in, which is how it is meant here."""
    level = sae_lens.logger.level
    sae_lens.logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Dataset is not tokenized")
            warnings.filterwarnings("ignore", message="The training dataset contains fewer samples")
            yield
    finally:
        sae_lens.logger.setLevel(level)
