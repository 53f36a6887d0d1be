"""Steering with one latent of an SAE, or with a direction: the operators, and the context that applies them."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from sae_lens import SAE, TrainingSAE
from torch import nn

from sae_lens_abstopk.model.activation_edits import Edit, intervene
from sae_lens_abstopk.model.hook_places import find_place
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.model.weight_processing import warn_of_other_weights
from sae_lens_abstopk.saes.batch_selection import BatchSelectionSAE, selects_over_batch
from sae_lens_abstopk.saes.heads import require_all_heads, with_flat_heads
from sae_lens_abstopk.saes.measurable import require_measurable, require_scale
from sae_lens_abstopk.saes.signed import require_sae
from sae_lens_abstopk.system.errors import ConfigError

Operator = Literal["add", "clamp", "ablate"]
Pole = Literal["positive", "negative"]
Scale = float | Callable[[int], float]
Gain = Callable[[torch.Tensor], torch.Tensor]
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
    Steer ``model`` while the context is open, at the hook that ``sae`` reads::

        with steer(model, sae, latent=812, strength=-2.0, scale=scales):
            model.generate(**inputs)

    With alpha the strength, s the scale, z_j the code of the latent and d_j what one unit of it writes (see
    :func:`written_by`), an activation x becomes:

    - ``add``: x + alpha s d_j, or x + alpha s v / norm(v) for a direction v
    - ``clamp``: x + (alpha s - z_j) d_j; the code is set, all that the SAE does not explain is kept
    - ``ablate``: x - alpha z_j d_j where z_j is on the pole; alpha is the share taken away, 1 by default

    On every token of every forward pass: the prompt's and each generated one, with a KV cache or without. Padding and
    what the SAE was not trained on (the first position, special tokens, massive activations) stays as it is. A strength
    of 0 changes no bit of any logit under ``add`` and ``ablate``; under ``clamp`` it sets the code to 0. Contexts nest.

    On CUDA transformers compiles the decoding with a static cache, and compiled code does not call the hooks of steering: give
    ``generate`` ``disable_compile=True`` where ``cache_implementation="static"`` is set.

    What is returned opens once; call ``steer`` again for another ``with``.

    Args:
        model: A transformers model, SAELens's proxy of one, HookedSAETransformer or TransformerBridge.
        sae: Any SAELens SAE; may be left out with ``direction`` and ``hook_name``.
        latent: Index j; or else
        direction: A direction [d_in] of any norm.
        strength: alpha; may be left out with ``ablate``.
        operator: ``add``, ``clamp`` or ``ablate``.
        pole: With ``ablate``: the pole to take away; both by default.
        scale: s, or :class:`LatentScales`. 1 by default: the strength is then a code (``latent``) or an added norm
            (``direction``).
        hook_name: Another hook than the SAE's; names of transformers modules and of TransformerLens are understood.
        token_filter: Another filter than the SAE's; ``TokenFilter()`` steers the first position and special tokens too.
        prompt: False leaves the prompt alone but for its last token, which the first generated one is predicted from.
            It edits the last position of each forward pass, so it needs a KV cache, as ``generate`` has by default.

    Raises:
        ConfigError: at once, where the arguments do not go together, the SAE's codes are not of one token of the model's own
            activations, the latent writes nothing, or the model has no such hook or is compiled; in the first forward pass,
            where a direction without ``sae`` has another width than the activations, or it cannot be told which tokens the
            pass is about.
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


def steering_edit(
    sae: SAE[Any] | None,
    *,
    latent: int | None = None,
    direction: torch.Tensor | None = None,
    strength: float | None = None,
    operator: Operator = "add",
    pole: Pole | None = None,
    scale: Scale | None = None,
    by_gain: bool = False,
) -> Edit:
    """
    The edit of activations [n, ...] that :func:`steer` applies; arguments and errors are the same.

    With ``by_gain`` a direction is added times the activation's gain, as a latent of ``sae`` is.
    """
    if sae is not None:
        require_sae(sae, "steering")
        require_all_heads(sae, "steering")
    if operator not in get_args(Operator):
        raise ConfigError(f"operator={operator!r} must be one of {', '.join(get_args(Operator))}.")
    if (latent is None) == (direction is None):
        raise ConfigError("give either latent=INDEX or direction=VECTOR to steer with, and not both.")
    if scale is not None and operator == "ablate":
        raise ConfigError("scale= has no effect with operator='ablate', whose strength is a share; leave it out.")
    if pole is not None and (operator != "ablate" or pole not in get_args(Pole)):
        raise ConfigError(f"pole={pole!r} must be 'positive' or 'negative', and needs operator='ablate'.")
    if strength is None and operator == "ablate":
        strength = 1.0
    if strength is None or not math.isfinite(strength):
        raise ConfigError(f"strength={strength} must be a finite number.")
    if direction is not None:
        if operator != "add":
            raise ConfigError(f"operator={operator!r} needs the code of a latent; a direction can only be added.")
        return _add_direction(torch.as_tensor(direction), strength * _scale_of(scale, None), sae, by_gain=by_gain)
    assert latent is not None
    if sae is None:
        raise ConfigError("latent=INDEX needs the SAE that it is a latent of.")
    return _edit_latent(sae, _steerable(latent, sae), strength, operator, pole, scale)


def written_by(sae: SAE[Any], latent: int) -> torch.Tensor:
    """
    d_j [d_in]: what a code of 1 adds to the reconstruction, in float32 and in units of the model's activations.

    ``W_dec[j]``, divided by its norm where the SAE decodes so (``rescale_acts_by_decoder_norm``). An SAE that normalises
    each activation as it runs adds this times the activation's own gain, which steering takes into account.
    """
    row = sae.W_dec[latent].detach().float()
    return row / row.norm() if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False) else row


def steering_filter(model: nn.Module, sae: SAE[Any]) -> TokenFilter:
    """The token filter of ``sae``; special tokens come from the model's tokenizer, or its config where it has none."""
    tokenizer = getattr(model, "tokenizer", None)
    found = TokenFilter.of_sae(sae, tokenizer)
    if tokenizer is None and sae.cfg.metadata.exclude_special_tokens in (None, True):
        return replace(found, special_tokens=_special_tokens(getattr(model, "config", None)))
    return found


def _add_direction(direction: torch.Tensor, norm: float, sae: SAE[Any] | None, *, by_gain: bool) -> Edit:
    vector = direction.detach().flatten().float()
    if sae is not None and len(vector) != sae.cfg.d_in:
        raise ConfigError(f"the direction is {len(vector)} wide and activations are {sae.cfg.d_in}.")
    if not bool(vector.norm() > 0) or not bool(vector.isfinite().all()):
        raise ConfigError("the direction is zero or not finite, so it points nowhere.")
    return _adding(vector / vector.norm() * norm, _gain_of(sae) if sae is not None and by_gain else None)


def _adding(added: torch.Tensor, gain: Gain | None) -> Edit:
    def add(x: torch.Tensor) -> torch.Tensor:
        if x[0].numel() != len(added):
            raise ConfigError(f"the direction is {len(added)} wide and activations are {x[0].numel()}.")
        flat = x.flatten(1).to(torch.promote_types(x.dtype, torch.float32))
        change = added.to(flat)
        return (flat + (change if gain is None else gain(flat) * change)).view(x.shape)

    return (lambda x: x) if not bool(added.any()) else add


def _edit_latent(
    sae: SAE[Any], latent: int, strength: float, operator: Operator, pole: Pole | None, scale: Scale | None
) -> Edit:
    written = written_by(sae, latent)
    target = 0.0 if operator == "ablate" else strength * _scale_of(scale, latent)
    gain = _gain_of(sae)
    if operator == "add":
        return _adding(target * written, gain)

    def change(x: torch.Tensor) -> torch.Tensor:
        """By how much the code of each token goes up, [n]."""
        codes = with_flat_heads(sae).encode(x.flatten(1).to(sae.W_dec.device))
        code = (codes.to_dense() if codes.is_sparse else codes)[:, latent].float().to(x.device)
        if operator == "clamp":
            return target - code
        on = {"positive": code.clamp(min=0), "negative": code.clamp(max=0)}.get(pole or "", code)
        return -strength * on

    def edit(x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(1).to(torch.promote_types(x.dtype, torch.float32))
        steps = change(x)[:, None] * (1.0 if gain is None else gain(flat))
        # a token whose code stays as it is keeps every bit
        return torch.where(steps != 0, flat + steps * written.to(flat), flat).view(x.shape)

    return edit


def _gain_of(sae: SAE[Any]) -> Gain | None:
    """What ``sae`` multiplies the reconstruction of each token by, [n, 1], where it normalises while it runs."""
    gains: dict[str, Gain] = {
        "layer_norm": lambda x: x.std(-1, keepdim=True),
        "constant_norm_rescale": lambda x: x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5,
    }
    return gains.get(sae.cfg.normalize_activations)


def checked_latent(latent: int, sae: SAE[Any]) -> int:
    """
    ``latent``, which may be a whole number of any type, as an int.

    Raises:
        ConfigError: ``sae`` has no such latent.
    """
    try:
        whole = not isinstance(latent, bool) and int(latent) == latent
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"latent={latent!r} must be one whole number.") from None
    if not whole or not 0 <= latent < sae.cfg.d_sae:
        raise ConfigError(f"latent={latent} is not in this SAE, which has latents 0 to {sae.cfg.d_sae - 1}.")
    return int(latent)


def require_codes(sae: SAE[Any]) -> None:
    """
    Refuse an SAE whose codes are not of one token, or not of activations as they come; one in training may steer its own run.

    Raises:
        ConfigError: as :func:`~.measurable.require_measurable`; of an SAE in training where its codes depend on the other
            tokens of the batch, or its scale is not in its weights.
    """
    if not isinstance(sae, TrainingSAE):
        require_measurable(sae, where="this SAE")
        return
    require_scale(sae, where="this SAE")
    if selects_over_batch(sae):
        remedy = "save it by save_inference_model(FOLDER), and take SAE.load_from_disk(FOLDER)"
        if isinstance(sae, BatchSelectionSAE) and sae.topk_threshold != 0:
            remedy = "call sae.eval() first"
        raise ConfigError(f"this SAE selects over the batch that it is given; {remedy}.")


def _steerable(latent: int, sae: SAE[Any]) -> int:
    metadata = sae.cfg.metadata
    if metadata.hook_name_out and metadata.hook_name_out != metadata.hook_name:
        raise ConfigError(
            f"this is a transcoder: it reads {metadata.hook_name} and writes at {metadata.hook_name_out}; steer with "
            "direction=sae.W_dec[j] and hook_name where it writes."
        )
    require_codes(sae)
    latent = checked_latent(latent, sae)
    if not sae.W_dec[latent].any():
        raise ConfigError(
            f"latent {latent} has a decoder vector of zeros, so it writes nothing; steer with another one."
        )
    return latent


def _scale_of(scale: Scale | None, latent: int | None) -> float:
    if scale is None:
        return 1.0
    if callable(scale):
        if latent is None:
            raise ConfigError("a direction has no scale of its own; give scale=NUMBER, the norm added at strength 1.")
        return scale(latent)
    try:
        scale = float(scale)  # of a tensor too
    except (TypeError, ValueError, RuntimeError):
        raise ConfigError(f"scale={scale!r} must be a number, or called with a latent, as LatentScales.") from None
    if not math.isfinite(scale) or scale <= 0:
        raise ConfigError(f"scale={scale} must be a finite number above 0; the sign belongs to the strength.")
    return scale


def _special_tokens(config: Any) -> tuple[int, ...]:
    """The ids in a transformers config that a tokenizer would name; some models list several ends."""
    of_text = config.get_text_config() if hasattr(config, "get_text_config") else None  # where other towers have theirs
    kinds = ("bos", "eos", "pad", "sep", "decoder_start")
    named = (getattr(each, f"{kind}_token_id", None) for each in (config, of_text) for kind in kinds)
    ids = [value for value in named if value is not None]
    return tuple({int(i) for value in ids for i in (value if isinstance(value, list | tuple) else [value])})
