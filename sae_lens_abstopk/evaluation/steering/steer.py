"""Steer a model with one latent of an SAE, or with a direction, while a context is open."""

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from sae_lens import SAE
from torch import nn

from sae_lens_abstopk.evaluation.steering.steering_edit import Operator, Pole, Scale, steering_edit
from sae_lens_abstopk.model.activation_edits import intervene
from sae_lens_abstopk.model.hook_places import find_place
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.model.weight_processing import warn_of_other_weights
from sae_lens_abstopk.system.typed_values import one_or_more

# position 0 holds a massive activation in most models
_WITHOUT_SAE = TokenFilter(seqpos_slice=(1, None))


def steer(
    model: nn.Module,
    sae: SAE[Any] | None = None,
    *,
    latent: int | None = None,
    direction: torch.Tensor | None = None,
    strength: float | None = None,
    operator: Operator = "add",
    pole: Pole | None = None,
    scale: Scale | None = None,
    hook_name: str | None = None,
    token_filter: TokenFilter | None = None,
    prompt: bool = True,
) -> AbstractContextManager[None]:
    """
    Steer ``model`` while the context is open, at the hook of ``sae``::

        with steer(model, sae, latent=812, strength=-2.0, scale=scales):
            model.generate(**inputs)

    With strength alpha, scale s, code z_j of the latent and d_j, what one unit of it adds to the reconstruction (see
    :func:`~.steering_edit.written_by`), an activation x becomes:

    - ``add``: x + alpha s d_j, or x + alpha s v / norm(v) for a direction v
    - ``clamp``: x + (alpha s - z_j) d_j; sets the code and keeps the SAE's error
    - ``ablate``: x - alpha z_j d_j where z_j is on the pole; alpha is the share removed, 1 by default

    This edits every token of every forward pass, with or without a KV cache, except padding and tokens that the SAE was
    not trained on (first position, special tokens, massive activations). Strength 0 changes no bit of any logit under
    ``add`` and ``ablate``, and sets the code to 0 under ``clamp``. Contexts nest; each opens once.

    On CUDA, give ``generate`` ``disable_compile=True`` with ``cache_implementation="static"``: compiled code calls no
    hooks.

    Args:
        model: A transformers model, SAELens's proxy of one, HookedSAETransformer or TransformerBridge.
        sae: Any SAELens SAE; optional with ``direction`` and ``hook_name``.
        latent: Index j; or else
        direction: A direction [d_in] of any norm.
        strength: alpha; optional with ``ablate``.
        operator: ``add``, ``clamp`` or ``ablate``.
        pole: With ``ablate``: the pole to remove; both by default.
        scale: s, or :class:`LatentScales`. With the default 1 the strength is a code (``latent``) or an added norm
            (``direction``).
        hook_name: Another hook than the SAE's; a name of transformers or TransformerLens.
        token_filter: Another filter than the SAE's; ``TokenFilter()`` edits the first position and special tokens too.
        prompt: False edits only the last token of each pass, so of the prompt only its last token. Needs a KV cache,
            which ``generate`` has by default.

    Raises:
        ConfigError: the arguments do not go together; the SAE's codes are not of single tokens of the model's own
            activations; the latent writes nothing; the model has no such hook or is compiled. In a forward pass: the
            direction has another width than the activations, or the tokens of the pass are unknown.
    """
    edit = steering_edit(
        sae, latent=latent, direction=direction, strength=strength, operator=operator, pole=pole, scale=scale
    )
    if sae is not None and latent is not None:
        warn_of_other_weights(model, sae)
    name = hook_name or (sae.cfg.metadata.hook_name if sae is not None else None)
    find_place(model, name)
    if token_filter is None:
        token_filter = _WITHOUT_SAE if sae is None else steering_filter(model, sae)
    return intervene(model, name, edit, token_filter=token_filter, prompt=prompt)


def steering_filter(model: nn.Module, sae: SAE[Any]) -> TokenFilter:
    """The token filter of ``sae``, with special tokens from the model's tokenizer, or its config if it has none."""
    tokenizer = getattr(model, "tokenizer", None)
    found = TokenFilter.of_sae(sae, tokenizer)
    if tokenizer is None and sae.cfg.metadata.exclude_special_tokens in (None, True):
        return replace(found, special_tokens=_special_tokens(getattr(model, "config", None)))
    return found


def _special_tokens(config: Any) -> tuple[int, ...]:
    """Ids of the special tokens in a transformers config; some models list several ends."""
    of_text = config.get_text_config() if hasattr(config, "get_text_config") else None  # multimodal models nest theirs
    kinds = ("bos", "eos", "pad", "sep", "decoder_start")
    ids = [getattr(each, f"{kind}_token_id", None) for each in (config, of_text) for kind in kinds]
    return tuple({int(i) for value in ids if value is not None for i in one_or_more(value)})
