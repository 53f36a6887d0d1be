"""A control that never saw data: an SAE of the same config with fresh weights, as sparse as the trained one."""

import warnings
from copy import deepcopy
from typing import Any

import torch
from sae_lens import SAE
from torch.nn.functional import normalize

from sae_lens_abstopk.saes.loading import with_flat_heads
from sae_lens_abstopk.saes.signed import open_poles

# codes that are in memory at once, in bytes
_CHUNK_BYTES = 64 * 2**20
# share by which the L0 of a control may differ
UNLIKE = 0.1


@torch.no_grad()
def untrained_sae(sae: SAE[Any], x: torch.Tensor, *, seed: int = 0) -> SAE[Any]:
    """
    Make ``sae`` anew with SAELens's own initialisation of its architecture, as before the first training step.

    ``b_dec`` is set to the mean of ``x`` (normalised as the SAE does when it runs), where training of signed SAEs
    starts, so that the latents are not all spent on the mean. If the encoder does not subtract ``b_dec``, its biases
    are set to -mean @ W_enc instead. If a parameter decides which latents are on (a threshold or a gate's bias), one
    value for all latents gives the L0 of ``sae`` on ``x``; TopK-like architectures have it from their config. A control
    of another L0 is warned about.

    ``x`` is a sample of activations [n, d_in] that the SAE was trained for, not from test texts.
    """
    x = x.to(sae.W_dec.device, sae.dtype)
    cfg = deepcopy(sae.cfg)
    cfg.device = "cpu"  # its random numbers are the same on every machine
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        fresh = with_flat_heads(type(sae)(cfg).to(sae.W_dec.device).eval())
    mean = fresh.run_time_activation_norm_fn_in(x).float().mean(0)
    fresh.b_dec.copy_(mean)
    if sae.cfg.architecture() == "matching_pursuit":  # longer vectors would move it away from x
        fresh.W_dec.copy_(normalize(fresh.W_dec, dim=-1))
    centre = -mean.to(sae.dtype) @ fresh.W_enc
    if sae.cfg.apply_b_dec_to_input:
        centre = torch.zeros_like(centre)
    parameters = dict(fresh.named_parameters())
    for name in parameters.keys() & {"b_enc", "b_gate", "b_mag"}:
        parameters[name].add_(centre)
    l0 = _l0(sae, x)
    gate_bias = "b_gate" if "b_gate" in parameters else "b_enc" if sae.cfg.architecture() == "standard" else None
    if "threshold" in parameters:
        poles = open_poles(sae)
        level = _level(fresh, x, l0, centre=centre, poles=poles)
        for name, is_open in zip(("threshold", "negative_threshold"), poles, strict=True):
            if name in parameters:
                parameters[name].fill_(level).masked_fill_(~is_open, torch.inf)
    elif gate_bias is not None:  # a latent is on where u + bias > 0
        parameters[gate_bias].copy_(centre - _level(fresh, x, l0, centre=centre, poles=None))
    found = _l0(fresh, x)
    if abs(found - l0) > UNLIKE * l0:
        warnings.warn(
            f"the untrained {sae.cfg.architecture()!r} SAE has {found:.4g} latents on a token and the trained one "
            f"{l0:.4g}, so the two are not comparable (only k, a parameter threshold or b_gate set the L0 here)",
            stacklevel=2,
        )
    return fresh


def _chunks(sae: SAE[Any], x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return x.split(max(1, _CHUNK_BYTES // (4 * sae.cfg.d_sae)))


def _l0(sae: SAE[Any], x: torch.Tensor) -> float:
    return sum(int((sae.encode(part) != 0).sum()) for part in _chunks(sae, x)) / len(x)


def _level(fresh: SAE[Any], x: torch.Tensor, l0: float, *, centre: torch.Tensor, poles: torch.Tensor | None) -> float:
    """The level that ``l0`` pre-activations a token exceed (in magnitude, on open poles)."""
    n_on = round(l0 * len(x))
    largest = torch.zeros(0, device=x.device)
    for part in _chunks(fresh, x):
        u = (fresh.process_sae_in(part) @ fresh.W_enc + centre).float()
        if poles is not None:
            u = u.abs() * torch.where(u > 0, *poles)
        everything = torch.cat([largest, u.flatten()])
        largest = everything.topk(min(n_on + 1, len(everything)), sorted=True).values
    return largest[-1].item()
