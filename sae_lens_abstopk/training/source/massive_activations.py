"""What a run says of massive activations that it trains on."""

import torch

from sae_lens_abstopk.training.config.training_config import TrainingConfig

# multiples of the median norm that an ordinary token does not have
MASSIVE = 20


def told_of_massive_norms(x: torch.Tensor, cfg: TrainingConfig) -> str | None:
    """
    A sentence on massive activations among ``x`` [n, d_in], the first that a run trains on.

    None where there are none, or the config leaves out all that a preset would.
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
        f"{massive:,} of the first {len(x):,} activations are massive: their norm is more than {MASSIVE} times the median. Such "
        "tokens dominate the loss and FVU, and win most of the latents of a batch; leave them out as the presets do: "
        + " ".join(remedy for remedy, helps in remedies.items() if helps)
    )
