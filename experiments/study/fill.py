"""Store the activations of several layers from one pass of the language model over the text."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch

from sae_lens_abstopk.model.language_model import load_language_model
from sae_lens_abstopk.model.text_store import saelens_notes_off
from sae_lens_abstopk.text.documents import load_text
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.source.activation_cache import ActivationCache
from sae_lens_abstopk.training.source.language_model_source import LanguageModelSource

# passes kept for slower layers; a layer's buffer takes some tens at a time
PASSES_KEPT = 64


class SharedPasses:
    """
    Replacement of a model's ``run_with_cache`` that computes no tokens twice for several stores over one text.

    Args:
        run_with_cache: The method of the model.
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


def is_filled(cfg: TrainingConfig, cache: ActivationCache | None = None) -> bool:
    """Return whether the activation cache of a run has its tokens and its last buffer."""
    # at most a buffer and a block remain at the end, less than twice the buffer
    rows = cfg.training_tokens + 2 * cfg.n_batches_in_buffer * cfg.context_size
    return (cache or ActivationCache.of_run(cfg)).n_rows >= rows


def fill(configs: Sequence[TrainingConfig]) -> None:
    """
    Fill the caches of ``configs``, which read one text with one model, so that runs can share them.

    Stored activations are not computed again, so the command can be stopped at any time.

    Raises:
        ConfigError: another process is filling a cache.
    """
    caches = {cfg.activation_cache: cfg for cfg in configs}
    left = [cfg for cfg in caches.values() if not is_filled(cfg)]
    if not left:
        return
    hook_names = [cfg.hook_name for cfg in left]
    with saelens_notes_off():
        model: Any = load_language_model(left[0].model_spec, left[0].text_spec, hook_names)
        model.run_with_cache = SharedPasses(model.run_with_cache, hook_names)
        stores = [LanguageModelSource.for_training(model, cfg, load_text(cfg.text_spec, "train")) for cfg in left]
    try:
        while not all(is_filled(cfg, store.cache) for cfg, store in zip(left, stores, strict=True)):
            for store in stores:  # in turn, so that no layer is far ahead
                next(store)
    finally:
        for store in stores:
            store.close()
