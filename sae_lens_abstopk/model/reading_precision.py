"""The precision in which a language model reads up to a hook, found by a short trial."""

from typing import Any

import torch

from sae_lens_abstopk.model.hook_places import transformers_model
from sae_lens_abstopk.model.inference import casts_shared
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.system.precision import precision_of, weights_precision

TRIAL_TEXTS, TRIAL_TOKENS = 4, 96
# smallest token ids, which every vocabulary has
TRIAL_IDS = 256


@torch.no_grad()
@casts_shared()
def precision_of_passes(passes: ModelPasses) -> str:
    """Return ``bfloat16`` if reading in bfloat16 autocast is clearly faster, else the type of the weights."""
    device = next(passes.model.parameters()).device
    model: Any = passes.model
    hf: Any = transformers_model(model)
    n_ids = model.cfg.d_vocab if hf is None else hf.config.get_text_config().vocab_size
    ids = torch.arange(TRIAL_TEXTS * TRIAL_TOKENS) % min(n_ids, TRIAL_IDS)
    tokens = ids.view(TRIAL_TEXTS, TRIAL_TOKENS).to(device)

    def trial(autocast: bool) -> None:
        passes.in_bfloat16(autocast).activations(tokens)[0, 0, :1].cpu()  # wait for a GPU

    return precision_of(trial, weights_precision(passes.model))
