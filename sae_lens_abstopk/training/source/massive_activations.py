"""Warn about massive activations in the training data."""

import torch

from sae_lens_abstopk.training.config.training_config import TrainingConfig

# multiple of the median norm that ordinary tokens stay below
MASSIVE = 20


def massive_norms_warning(x: torch.Tensor, cfg: TrainingConfig) -> str | None:
    """
    Return a warning about massive activations in ``x`` [n, d_in], the first batch of a run.

    None if there are none, or if the config filters them as the presets do.
    """
    remedies = {
        "max_norm_multiple=10": cfg.max_norm_multiple is None or cfg.max_norm_multiple > MASSIVE,
        "'seqpos_slice=[1,null]'": tuple(cfg.seqpos_slice) == (None,) and not cfg.use_cached_activations,
        "exclude_special_tokens=true": cfg.exclude_special_tokens is False and not cfg.use_cached_activations,
    }
    norms = x.float().norm(dim=1)
    massive = int((norms > MASSIVE * norms.median()).sum())
    if not massive or not any(remedies.values()):
        return None
    return (
        f"{massive:,} of the first {len(x):,} activations are massive: their norm is more than {MASSIVE} times the "
        "median. Such tokens dominate the loss and FVU, and win most latents of a batch; leave them out as the presets "
        "do: " + " ".join(remedy for remedy, helps in remedies.items() if helps)
    )
