"""The edit of activations that steering applies: add, clamp or ablate a latent, or add a direction."""

import math
from collections.abc import Callable
from operator import index
from typing import Any, Literal, get_args

import torch
from sae_lens import SAE, TrainingSAE

from sae_lens_abstopk.model.activation_edits import Edit
from sae_lens_abstopk.saes.batch_selection import selects_over_batch
from sae_lens_abstopk.saes.heads import require_all_heads, with_flat_heads
from sae_lens_abstopk.saes.measurable import require_measurable, require_scale
from sae_lens_abstopk.system.errors import ConfigError

Operator = Literal["add", "clamp", "ablate"]
Pole = Literal["positive", "negative"]
Scale = float | Callable[[int], float]
Gain = Callable[[torch.Tensor], torch.Tensor]


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
    The edit of activations [n, ...] that :func:`~.steer.steer` applies; arguments and errors are the same.

    With ``by_gain`` a direction is added times the activation's gain, as a latent of ``sae`` is.
    """
    strength = 1.0 if strength is None and operator == "ablate" else strength
    problems = {
        f"operator={operator!r} must be one of {', '.join(get_args(Operator))}": operator not in get_args(Operator),
        "give either latent= or direction=, not both": (latent is None) == (direction is None),
        "latent= needs the SAE that it is a latent of": latent is not None and sae is None,
        f"operator={operator!r} needs a latent; a direction can only be added": direction is not None
        and operator != "add",
        "a direction has no scale of its own; give scale=NUMBER": direction is not None and callable(scale),
        "scale= has no effect with operator='ablate'; leave it out": scale is not None and operator == "ablate",
        f"pole={pole!r} must be 'positive' or 'negative', and needs operator='ablate'": pole is not None
        and (operator != "ablate" or pole not in get_args(Pole)),
        f"strength={strength} must be a finite number": strength is None or not math.isfinite(strength),
    }
    for problem, found in problems.items():
        if found:
            raise ConfigError(f"{problem}.")
    if sae is not None:
        require_all_heads(sae, "steering")
    assert strength is not None
    amount = strength * _scale_of(scale, latent)
    if direction is not None:
        vector = torch.as_tensor(direction).detach().flatten().float()
        if not (vector.isfinite().all() and vector.any()):
            raise ConfigError("the direction is zero or not finite.")
        gain = _gain_of(sae) if sae is not None and by_gain else None
        return _add(vector / vector.norm() * amount, gain)
    assert sae is not None
    assert latent is not None
    require_codes(sae)
    latent = checked_latent(latent, sae)
    written = written_by(sae, latent)
    if not sae.W_dec[latent].any():
        raise ConfigError(f"latent {latent} has a decoder vector of zeros, so it writes nothing; use another one.")
    if operator == "add":
        return _add(amount * written, _gain_of(sae))
    return _set_code(sae, latent, amount, written, operator, pole)


def written_by(sae: SAE[Any], latent: int) -> torch.Tensor:
    """
    d_j [d_in], float32: what a code of 1 adds to the reconstruction, in units of the model's activations.

    It is ``W_dec[j]``, divided by its norm with ``rescale_acts_by_decoder_norm``. An SAE that normalises activations as
    it runs adds d_j times the gain of each activation, and steering does the same.
    """
    row = sae.W_dec[latent].detach().float()
    return row / row.norm() if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False) else row


def checked_latent(latent: int, sae: SAE[Any]) -> int:
    """
    ``latent``, any integer type, as an int.

    Raises:
        ConfigError: ``sae`` has no such latent.
    """
    if not 0 <= latent < sae.cfg.d_sae:
        raise ConfigError(f"latent={latent} is not in this SAE, which has latents 0 to {sae.cfg.d_sae - 1}.")
    return index(latent)


def require_codes(sae: SAE[Any]) -> None:
    """
    Raise unless ``sae`` codes single tokens of the model's own activations; an SAE in training may.

    Raises:
        ConfigError: see :func:`~.measurable.require_measurable`; of an SAE in training, its codes depend on the other
            tokens of the batch, or its scale is not in its weights.
    """
    if not isinstance(sae, TrainingSAE):
        require_measurable(sae, where="this SAE")
        return
    require_scale(sae, where="this SAE")
    if selects_over_batch(sae):
        raise ConfigError(
            "this SAE selects over the batch; call sae.eval() after its first step, or load what "
            "save_inference_model(FOLDER) writes."
        )


def _add(added: torch.Tensor, gain: Gain | None) -> Edit:
    if not added.any():
        return lambda x: x

    def edit(x: torch.Tensor) -> torch.Tensor:
        if x[0].numel() != len(added):
            raise ConfigError(f"the direction is {len(added)} wide and activations are {x[0].numel()}.")
        flat = x.flatten(1).to(torch.promote_types(x.dtype, torch.float32))
        change = added.to(flat)
        return (flat + (change if gain is None else gain(flat) * change)).view(x.shape)

    return edit


def _set_code(
    sae: SAE[Any], latent: int, amount: float, written: torch.Tensor, operator: Operator, pole: Pole | None
) -> Edit:
    gain = _gain_of(sae)

    def change(x: torch.Tensor) -> torch.Tensor:
        """Change of the code of each token, [n]."""
        codes = with_flat_heads(sae).encode(x.flatten(1).to(sae.W_dec.device))
        code = (codes.to_dense() if codes.is_sparse else codes)[:, latent].float().to(x.device)
        if operator == "clamp":
            return amount - code
        return -amount * {"positive": code.clamp(min=0), "negative": code.clamp(max=0)}.get(pole or "", code)

    def edit(x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(1).to(torch.promote_types(x.dtype, torch.float32))
        steps = change(x)[:, None] * (1.0 if gain is None else gain(flat))
        # a token whose code does not change keeps every bit
        return torch.where(steps != 0, flat + steps * written.to(flat), flat).view(x.shape)

    return edit


def _gain_of(sae: SAE[Any]) -> Gain | None:
    """The factor [n, 1] by which ``sae`` multiplies each reconstruction, if it normalises activations as it runs."""
    gains: dict[str, Gain] = {
        "layer_norm": lambda x: x.std(-1, keepdim=True),
        "constant_norm_rescale": lambda x: x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5,
    }
    return gains.get(sae.cfg.normalize_activations)


def _scale_of(scale: Scale | None, latent: int | None) -> float:
    if scale is None:
        return 1.0
    value = scale(latent) if callable(scale) and latent is not None else scale
    value = float(value)  # type: ignore[arg-type]
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"scale={value} must be a finite number above 0; the sign belongs to the strength.")
    return value
