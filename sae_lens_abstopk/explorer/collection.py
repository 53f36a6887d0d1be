"""One streaming pass over a text that collects the firings of one or several SAEs."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE

from sae_lens_abstopk.explorer.collector import CollectionSettings, Collector
from sae_lens_abstopk.explorer.pass_cache import PassCache
from sae_lens_abstopk.model.inference import casts_shared
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.saes.codec import require_finite_codes

SECONDS_BETWEEN_SAVES = 300.0


@torch.no_grad()
@casts_shared()
def collect(
    passes: ModelPasses,
    saes: Mapping[str, SAE[Any]],
    batches: Sequence[torch.Tensor],
    *,
    token_filter: TokenFilter,
    settings: CollectionSettings,
    checkpoint: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Collector]:
    """
    Run ``batches`` of token ids [batch, context] once and collect for each of ``saes``, all at one hook.

    The pass is saved in the folder ``checkpoint`` every five minutes and at its end, and resumed from there.
    ``on_progress`` is called with (batches done, batches in all).

    Raises:
        ConfigError: activations or codes are NaN or infinite, or the filter keeps no token.
    """
    collectors = {name: Collector(sae.cfg.d_sae, settings) for name, sae in saes.items()}
    cache = PassCache(checkpoint, passes, saes, token_filter, settings) if checkpoint else None
    done = cache.restore(collectors, batches) if cache else 0
    saved_at = time.monotonic()
    for number, tokens in enumerate(batches[done:], start=done + 1):
        activations = passes.activations(tokens)
        kept, x = token_filter.mask_and_rows(tokens, activations, passes.hook_name)
        where = kept.nonzero()
        for name, sae in saes.items():
            codes = sae.encode(x)
            require_finite_codes(codes, f"SAE {name!r}")
            sums = collectors[name].sums
            if sums.n_tokens < settings.reconstruction_tokens:
                sums.update(x, sae.decode(codes).float())
            collectors[name].update(codes, where, tokens)
            del codes  # free the codes before the next SAE makes its own
        if cache and (number == len(batches) or time.monotonic() - saved_at >= SECONDS_BETWEEN_SAVES):
            cache.save(collectors, batches[:number])
            saved_at = time.monotonic()
        if on_progress is not None:
            on_progress(number, len(batches))
    token_filter.require_any(next(iter(collectors.values())).n_tokens)
    return collectors
