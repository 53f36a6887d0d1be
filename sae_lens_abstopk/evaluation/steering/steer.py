"""Steer a model with one latent of an SAE, or with a direction, while a context is open."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from operator import index
from typing import Any, Literal, get_args

import torch
from sae_lens import SAE, TrainingSAE
from torch import nn

from sae_lens_abstopk.model.activation_edits import Edit, intervene
from sae_lens_abstopk.model.hook_places import find_place
from sae_lens_abstopk.model.language_model import warn_of_other_weights
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.saes.batch_selection import require_per_token
from sae_lens_abstopk.saes.loading import require_all_heads, require_measurable, require_scale, with_flat_heads
from sae_lens_abstopk.system.errors import ConfigError, require_choice, require_range
from sae_lens_abstopk.system.typed_values import one_or_more

Operator = Literal["add", "clamp", "cap", "ablate"]
Pole = Literal["positive", "negative"]
Scale = float | Callable[[int], float]
Gain = Callable[[torch.Tensor], torch.Tensor | float]

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

    With strength alpha, scale s, code z_j of the latent and its vector d_j (see :func:`written_by`), an activation x
    becomes:

    - ``add``: x + alpha s d_j, or x + alpha s v / norm(v) for a direction v
    - ``clamp``: x + (alpha s - z_j) d_j; sets the code and keeps the SAE's error
    - ``cap``: x + c d_j with the smallest c that makes the projection of x on d_j, in codes and from ``b_dec`` on, at
      least alpha s (alpha > 0) or at most alpha s (alpha < 0); a token beyond that keeps every bit
    - ``ablate``: x - alpha z_j d_j where z_j is on the pole; alpha is the share removed, 1 by default

    This edits every token of every forward pass, with or without a KV cache, except padding and tokens that the SAE was
    not trained on (first position, special tokens, massive activations). Strength 0 changes no bit of any logit but
    under ``clamp``. Contexts nest; each opens once. On CUDA, give ``generate`` ``disable_compile=True`` with
    ``cache_implementation="static"``: compiled code calls no hooks.

    Args:
        model: A transformers model, SAELens's proxy of one, HookedSAETransformer or TransformerBridge.
        sae: Any SAELens SAE; optional with ``direction`` and ``hook_name``.
        latent: Index j, or else a ``direction`` [d_in] of any norm.
        strength: alpha; optional with ``ablate``.
        pole: With ``ablate``: the pole to remove; both by default.
        scale: s, or :class:`LatentScales`; a latent needs it for ``add`` and ``clamp``. With 1 the strength is a code
            (``latent``), or an added norm (``direction``, whose default it is).
        hook_name: Another hook than the SAE's; a name of transformers or TransformerLens.
        token_filter: Another filter than the SAE's; ``TokenFilter()`` edits the first position and special tokens too.
        prompt: False edits only the last token of each pass, so of the prompt only its last token; with a KV cache.

    Raises:
        ConfigError: the arguments do not go together; the SAE's codes are not of single tokens of the model's own
            activations; the model has no such hook or is compiled. In a forward pass: its tokens are unknown.
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
    if tokenizer is not None or sae.cfg.metadata.exclude_special_tokens not in (None, True):
        return found
    config: Any = getattr(model, "config", None)
    of_text = config.get_text_config() if hasattr(config, "get_text_config") else None  # multimodal models nest theirs
    kinds = ("bos", "eos", "pad", "sep", "decoder_start")
    ids = [getattr(each, f"{kind}_token_id", None) for each in (config, of_text) for kind in kinds]
    # some models list several ends
    return replace(found, special_tokens=tuple({i for value in ids if value is not None for i in one_or_more(value)}))


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
    require_choice("operator", operator, get_args(Operator))
    if pole is not None:
        require_choice("pole", pole, get_args(Pole))
    if operator == "ablate":
        strength, scale = 1.0 if strength is None else strength, 1.0
    if (
        (latent is None) == (direction is None)
        or (latent is not None and sae is None)
        or (direction is not None and operator != "add")
        or (pole is not None and operator != "ablate")
        or strength is None
    ):
        raise ConfigError(
            f"{latent=}, {strength=}, {operator=}, {pole=} do not go together: give a strength with latent= and its "
            "SAE, or with direction=; a direction can only be added, and only operator='ablate' takes a pole."
        )
    if sae is not None:
        require_all_heads(sae, "steering")
    if direction is not None:
        vector = torch.as_tensor(direction).detach().flatten().float()
        if not (vector.isfinite().all() and vector.any()):
            raise ConfigError("the direction is zero or not finite.")
        size = 1.0 if scale is None else scale
        assert not callable(size), "a direction has no scale of its own"
        return _add(vector / vector.norm() * (strength * size), _unit_of(sae if by_gain else None))
    assert sae is not None
    assert latent is not None
    require_codes(sae)
    require_range("latent", latent := index(latent), at_least=0, below=sae.cfg.d_sae)
    if scale is None and strength:
        raise ConfigError(
            f"latent={latent} needs scale=, the usual size of its code, which explore(...) or latent_scale(...) give, "
            "or scale=1 for a strength in codes."
        )
    amount = strength * float(scale(latent) if callable(scale) else 1.0 if scale is None else scale)
    if operator == "add" or (operator == "cap" and not amount):
        return _add(amount * written_by(sae, latent), _unit_of(sae))
    return _move(sae, latent, amount, operator, pole)


def written_by(sae: SAE[Any], latent: int) -> torch.Tensor:
    """
    d_j [d_in], float32: what a code of 1 adds to the reconstruction, in units of the model's activations.

    It is ``W_dec[j]``, divided by its norm with ``rescale_acts_by_decoder_norm``. An SAE that normalises activations as
    it runs adds d_j times the gain of each activation, and steering does the same, unless the SAE is of differences of
    texts: their scale has units of activations.
    """
    row = sae.W_dec[latent].detach().float()
    return row / row.norm() if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False) else row


def require_codes(sae: SAE[Any]) -> None:
    """Raise unless ``sae`` codes single tokens of the model's own activations; an SAE in training may."""
    if not isinstance(sae, TrainingSAE):
        require_measurable(sae, where="this SAE")
    require_scale(sae, where="this SAE")
    require_per_token(sae, "this SAE")


def _add(added: torch.Tensor, unit: Gain) -> Edit:
    if not added.any():
        return lambda x: x

    def edit(x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(1).to(torch.promote_types(x.dtype, torch.float32))
        return (flat + unit(flat) * added.to(flat)).view(x.shape)

    return edit


def _move(sae: SAE[Any], latent: int, amount: float, operator: Operator, pole: Pole | None) -> Edit:
    """``clamp``, ``cap`` or ``ablate``; a token that does not move keeps every bit."""
    gain, unit, written, origin = _gain_of(sae), _unit_of(sae), written_by(sae, latent), sae.b_dec.detach().float()

    def steps(x: torch.Tensor, flat: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        if operator == "cap":
            missing = amount * unit(flat) - (flat - gain(flat) * origin.to(d)) @ d[:, None] / d.square().sum()
            return missing.clamp(min=0) if amount > 0 else missing.clamp(max=0)
        codes = with_flat_heads(sae).encode(x.flatten(1).to(sae.W_dec.device))
        code = gain(flat) * (codes.to_dense() if codes.is_sparse else codes)[:, [latent]].float().to(x.device)
        if operator == "clamp":
            return amount * unit(flat) - code
        return -amount * {"positive": code.clamp(min=0), "negative": code.clamp(max=0)}.get(pole or "", code)

    def edit(x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(1).to(torch.promote_types(x.dtype, torch.float32))
        d = written.to(flat)
        found = steps(x, flat, d)
        return torch.where(found != 0, flat + found * d, flat).view(x.shape)

    return edit


def _unit_of(sae: SAE[Any] | None) -> Gain:
    """Return the factor [n, 1] of a strength: the gain, or 1 if the scale has units of activations."""
    of_texts = sae is not None and sae.cfg.metadata.get("reading")
    return _gain_of(None if of_texts else sae)


def _gain_of(sae: SAE[Any] | None) -> Gain:
    """Return the factor [n, 1] by which ``sae`` multiplies each reconstruction, if it normalises as it runs."""
    gains: dict[str, Gain] = {
        "layer_norm": lambda x: x.std(-1, keepdim=True),
        "constant_norm_rescale": lambda x: x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5,
    }
    return gains.get("none" if sae is None else sae.cfg.normalize_activations, lambda _: 1.0)
