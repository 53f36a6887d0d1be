"""Pole activity of an SAE on the text of its run or on other text."""

from collections.abc import Callable
from pathlib import Path

import torch

from sae_lens_abstopk.evaluation.subjects.measured import load_measured
from sae_lens_abstopk.model.inference import casts_shared
from sae_lens_abstopk.saes.codec import require_finite_codes
from sae_lens_abstopk.saes.poles import PoleActivity


@torch.no_grad()
@casts_shared()
def measure_poles(
    folder: str | Path,
    *,
    model_name: str | None = None,
    text: str | None = None,
    data: str | Path | None = None,
    n_tokens: int = 51_200,
    device: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
) -> PoleActivity:
    """
    Measure firings and energy of both poles of an SAE's latents, on held-out text if its run has any.

    Options as in :func:`~.measured.load_measured`; ``n_tokens`` is rounded up to whole batches, and ``on_progress`` is
    called with (batches done, batches in all).

    Raises:
        ConfigError: the SAE cannot be loaded, model or text is unknown, or the model overflows.
    """
    subjects = load_measured(folder, model=model_name, text=text, data=data, device=device).with_model()
    (sae,) = subjects.saes.values()
    batches, passes = subjects.batches(n_tokens), subjects.passes
    sums = PoleActivity.zeros(sae.cfg.d_sae)
    for done, tokens in enumerate(batches, 1):
        activations = passes.activations(tokens)
        _, x = subjects.token_filter.mask_and_rows(tokens, activations, passes.hook_name)
        codes = sae.encode(x)
        require_finite_codes(codes, f"the SAE in {folder}")
        sums.update(codes)
        if on_progress is not None:
            on_progress(done, len(batches))
    subjects.token_filter.require_any(sums.n_tokens)
    return sums
