"""Thresholds at which SAEs let pass k codes a row on average."""

from typing import Any

import pytest
import torch
from sae_lens import SAE, JumpReLUSAEConfig, TopKSAEConfig

from sae_lens_abstopk.saes.signed_jumprelu import SignedJumpReLUSAEConfig
from sae_lens_abstopk.saes.threshold import at_l0


def sae_of(cfg: Any, threshold: float) -> SAE[Any]:
    sae: SAE[Any] = SAE.from_dict(cfg.to_dict())
    generator = torch.Generator().manual_seed(0)
    sae.load_state_dict({name: torch.randn(each.shape, generator=generator) for name, each in sae.state_dict().items()})
    sae.threshold.data = threshold * torch.linspace(0.5, 1, cfg.d_sae)
    return sae


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(500, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("config", [JumpReLUSAEConfig, SignedJumpReLUSAEConfig])
@torch.no_grad()
def test_codes_are_those_of_largest_magnitude_over_all_rows(config: Any, x: torch.Tensor) -> None:
    sae = sae_of(config(d_in=8, d_sae=20), 0.01)
    before = sae.threshold.clone()
    moved = at_l0(sae, x.split(100), 3)
    codes = moved.encode(x)
    assert float((codes != 0).float().sum(1).mean()) == pytest.approx(3, rel=0.005)
    torch.testing.assert_close(moved.threshold / moved.threshold[0], before / before[0])
    assert torch.equal(sae.threshold, before)
    excess = (sae.encode(x) / before).abs()
    assert excess[codes != 0].min() >= excess[codes == 0].max() * 0.999


@torch.no_grad()
def test_a_closed_pole_stays_closed(x: torch.Tensor) -> None:
    sae = sae_of(SignedJumpReLUSAEConfig(d_in=8, d_sae=20, pole_thresholds=True), 0.01)
    sae.negative_threshold.data = sae.threshold.clone()
    sae.negative_threshold.data[10:] = torch.inf
    codes = at_l0(sae, [x], 3).encode(x)
    assert float((codes != 0).float().sum(1).mean()) == pytest.approx(3, rel=0.005)
    assert codes[:, 10:].min() == 0
    assert codes[:, :10].min() < 0


@torch.no_grad()
def test_fewer_codes_than_wanted_all_pass_and_a_fixed_number_stays(x: torch.Tensor) -> None:
    sae = sae_of(JumpReLUSAEConfig(d_in=8, d_sae=20), 0.5)
    codes = at_l0(sae, [x], 19).encode(x)
    sae.threshold.data.zero_()
    assert torch.equal(codes, sae.encode(x))
    assert float((codes != 0).float().sum(1).mean()) < 19
    topk: SAE[Any] = SAE.from_dict(TopKSAEConfig(d_in=8, d_sae=20, k=4).to_dict())
    assert at_l0(topk, [x], 3) is topk
