"""The control that never saw data: an SAE of the same config with fresh weights, as sparse as the trained one."""

import warnings
from copy import deepcopy
from typing import Any

import torch
from sae_lens import SAE
from torch.nn.functional import normalize

from sae_lens_abstopk.saes.heads import with_flat_heads
from sae_lens_abstopk.saes.signed import open_poles
from sae_lens_abstopk.saes.traits import declared_traits
from sae_lens_abstopk.system.errors import ConfigError

# codes that are in memory at once, in bytes
_CHUNK_BYTES = 64 * 2**20
# what decides whether a latent is on, where it is a parameter, and its sign: on where u > threshold, or u + bias > 0
_GATES = {"threshold": 1.0, "b_gate": -1.0, "b_enc": -1.0}
# share by which the L0 of a control may differ
UNLIKE = 0.1
_ENCODER_BIASES = ("b_enc", "b_gate", "b_mag")
_POLE_THRESHOLDS = ("threshold", "negative_threshold")


@torch.no_grad()
def untrained_sae(sae: SAE[Any], x: torch.Tensor, *, seed: int = 0) -> SAE[Any]:
    """
    Make ``sae`` anew: SAELens's own initialisation of its architecture, as before the first training step.

    ``b_dec`` is set to the mean of ``x`` (as the SAE normalises it, if it does so as it runs), where training of signed
    SAEs starts, so that the latents are not all spent on the mean; an SAE whose encoder does not subtract ``b_dec`` has
    the biases of its encoder at -mean @ W_enc for the same. Where a parameter decides what is on (a threshold or a gate's bias), one value for all latents is
    chosen such that the L0 on ``x`` is that of ``sae``; TopK-like architectures have it from their config.

    Args:
        sae: Any SAELens SAE for inference.
        x: A sample of activations [n, d_in] that the SAE was trained for; not from test texts.
        seed: Of the weights.

    Raises:
        ConfigError: there are no activations in the sample.
    """
    if len(x) == 0:
        raise ConfigError("a sample of activations is needed to give the untrained SAE the trained one's L0; got none.")
    x = x.to(sae.W_dec.device, sae.dtype)
    cfg = deepcopy(sae.cfg)
    cfg.device = "cpu"  # whose random numbers are the same on every machine
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        fresh = with_flat_heads(type(sae)(cfg).to(sae.W_dec.device).eval())
    mean = fresh.run_time_activation_norm_fn_in(x).float().mean(0)
    fresh.b_dec.copy_(mean)
    if sae.cfg.architecture() == "matching_pursuit":  # which moves away from x along any longer vector
        fresh.W_dec.copy_(normalize(fresh.W_dec, dim=-1))
    centre = -mean.to(sae.dtype) @ fresh.W_enc
    if sae.cfg.apply_b_dec_to_input:
        centre = torch.zeros_like(centre)
    for name, bias in fresh.named_parameters():
        if name in _ENCODER_BIASES:
            bias.add_(centre)
    gate = _gate(sae)
    if gate is not None:
        of_poles = open_poles(sae) if gate == "threshold" else None
        level = _level(fresh, x, _l0(sae, x), centre=centre, open_poles=of_poles)
        of_gate = getattr(fresh, gate)
        of_gate.copy_((centre if gate in _ENCODER_BIASES else torch.zeros_like(of_gate)) + _GATES[gate] * level)
        if of_poles is not None:
            for name, is_open in zip(_POLE_THRESHOLDS, of_poles, strict=True):
                if hasattr(fresh, name):
                    getattr(fresh, name).fill_(level).masked_fill_(~is_open, torch.inf)
    if declared_traits(sae.cfg) is None:
        _warn_if_unlike(sae, fresh, x)
    return fresh


def _gate(sae: SAE[Any]) -> str | None:
    """The parameter that decides what is on; None where k does."""
    if (traits := declared_traits(sae.cfg)) is not None:
        return traits.gate
    return next((name for name, _ in sae.named_parameters() if name in ("threshold", "b_gate")), None)


def _warn_if_unlike(sae: SAE[Any], fresh: SAE[Any], x: torch.Tensor) -> None:
    """An architecture elsewhere may decide by something that is not known here."""
    wanted, found = _l0(sae, x), _l0(fresh, x)
    if abs(found - wanted) > UNLIKE * wanted:
        warnings.warn(
            f"the untrained {sae.cfg.architecture()!r} SAE has {found:.4g} latents on a token, and the trained one {wanted:.4g}, so "
            "the two are not to be compared (what is on is taken to be decided by k, by a parameter threshold or by b_gate)",
            stacklevel=3,
        )


def _chunks(sae: SAE[Any], x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return x.split(max(1, _CHUNK_BYTES // (4 * sae.cfg.d_sae)))


def _l0(sae: SAE[Any], x: torch.Tensor) -> float:
    return sum(int((sae.encode(part) != 0).sum()) for part in _chunks(sae, x)) / len(x)


def _level(
    fresh: SAE[Any],
    x: torch.Tensor,
    wanted: float,
    *,
    centre: torch.Tensor,
    open_poles: torch.Tensor | None,
) -> float:
    """What pre-activations must exceed (in magnitude, on open poles) for ``wanted`` of them a token to be on."""
    n_on = round(wanted * len(x))
    largest = torch.zeros(0, device=x.device)
    for part in _chunks(fresh, x):
        u = (fresh.process_sae_in(part) @ fresh.W_enc + centre).float()
        if open_poles is not None:
            u = u.abs() * torch.where(u > 0, *open_poles)
        everything = torch.cat([largest, u.flatten()])
        largest = everything.topk(min(n_on + 1, len(everything)), sorted=True).values
    return largest[-1].item()
