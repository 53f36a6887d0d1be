"""The control of a comparison: two equal models with noise between them, in which nothing stable can be found."""

from dataclasses import replace

import torch
from jaxtyping import Float

from sae_lens_abstopk.diffs.held_out import HeldOut
from sae_lens_abstopk.model.model_pair import ModelPair


def noise_like(x: Float[torch.Tensor, "n d_in"], *, seed: int) -> Float[torch.Tensor, "n d_in"]:
    """Return isotropic noise, each row of which has the norm of that row of ``x``."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(x)
    return noise * (x.norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True))


def with_noise(pair: ModelPair, held_out: HeldOut, *, seed: int) -> tuple[ModelPair, HeldOut]:
    """Return the base model beside itself, and the contexts with noise in place of the differences of kept tokens."""
    equal = ModelPair(pair.spec, pair.d_in, pair.base_model, pair.base_model)
    return equal, replace(held_out, tuned=held_out.moved(noise_like(held_out.x, seed=seed)))
