"""Activations of several layers from one pass of the language model over the text, as each layer's runs would store them."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from sae_lens_abstopk.model.language_model import load_language_model
from sae_lens_abstopk.model.text_store import saelens_notes_off
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.files import lack_of_space
from sae_lens_abstopk.text.documents import load_text
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.source.activation_cache import ActivationCache
from sae_lens_abstopk.training.source.language_model_source import LanguageModelSource

# passes kept for the layers that have not asked for them yet; the buffer of a layer takes some tens of them at a time
PASSES_KEPT = 64


class SharedPasses:
    """
    The ``run_with_cache`` of a model with which several stores read one text: for tokens that another has just asked for, nothing is
    computed again.

    Args:
        run_with_cache: The model's.
        hook_names: Hooks of all stores.
    """

    def __init__(self, run_with_cache: Callable[..., Any], hook_names: Sequence[str]) -> None:
        self._run, self._hook_names = run_with_cache, list(hook_names)
        self._kept: OrderedDict[bytes, Any] = OrderedDict()
        self.n_passes = 0

    def __call__(self, tokens: torch.Tensor, *, names_filter: list[str], **options: Any) -> Any:
        assert set(names_filter) <= set(self._hook_names)
        key = tokens.cpu().numpy().tobytes()
        if key not in self._kept:
            self._kept[key] = self._run(tokens, names_filter=self._hook_names, **options)
            self.n_passes += 1
            if len(self._kept) > PASSES_KEPT:
                self._kept.popitem(last=False)
        return self._kept[key]


def n_rows_lacking(cfg: TrainingConfig, cache: ActivationCache | None = None) -> int:
    """Rows that the activation cache of a run has yet to get: for its tokens, and what is left in its buffer at the end."""
    cache = cache or ActivationCache.of_run(cfg)
    # a buffer and a block at most are left; twice the buffer is safely more, whatever the block
    return max(0, cfg.training_tokens + 2 * cfg.n_batches_in_buffer * cfg.context_size - cache.n_rows)


def is_filled(cfg: TrainingConfig, cache: ActivationCache | None = None) -> bool:
    """Whether the activation cache of a run has all that it reads."""
    return not n_rows_lacking(cfg, cache)


def require_room(configs: Sequence[TrainingConfig]) -> None:
    """
    Refuse runs whose activations and weights do not fit on the disk together.

    Raises:
        ConfigError: with what is needed and what is free.
    """
    if not configs:
        return
    activations = sum(n_rows_lacking(cfg) * cfg.sae.d_in * torch.bfloat16.itemsize for cfg in one_a_cache(configs))
    weights = sum(2 * cfg.sae.d_in * cfg.sae.d_sae * torch.float32.itemsize for cfg in configs)
    folder = Path(configs[0].activation_cache or "")
    lack = lack_of_space(folder, activations + weights, "the activations and SAEs of these runs")
    if lack is not None:
        raise ConfigError(f"{lack}; free some, or name a folder on another disk by --work.")


def one_a_cache(configs: Iterable[TrainingConfig]) -> Iterable[TrainingConfig]:
    """One of the runs that read the same activations."""
    return {cfg.activation_cache: cfg for cfg in configs}.values()


def fill(configs: Sequence[TrainingConfig]) -> None:
    """
    Fill the caches of ``configs``, which read one text with one model; after it any number of runs may read them at a time.

    It may be stopped at any time: what is stored is not computed again.

    Raises:
        ConfigError: there is no room for what the runs leave, or another process fills a cache.
    """
    require_room(configs)
    left = [cfg for cfg in one_a_cache(configs) if not is_filled(cfg)]
    if not left:
        return
    hook_names = [cfg.hook_name for cfg in left]
    with saelens_notes_off():
        model: Any = load_language_model(left[0], hook_names)
        model.run_with_cache = SharedPasses(model.run_with_cache, hook_names)
        stores = [LanguageModelSource.for_training(model, cfg, load_text(cfg, "train")) for cfg in left]
    try:
        while not all(is_filled(cfg, store.cache) for cfg, store in zip(left, stores, strict=True)):
            for store in stores:  # in turn, so that none is far ahead
                next(store)
    finally:
        for store in stores:
            store.close()
