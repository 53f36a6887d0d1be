"""Fresh weights for every architecture, as sparse as the trained SAE."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from sae_lens import (
    SAE,
    AbsTopKSAE,
    AbsTopKSAEConfig,
    GatedSAE,
    GatedSAEConfig,
    JumpReLUSAE,
    JumpReLUSAEConfig,
    MatchingPursuitSAE,
    MatchingPursuitSAEConfig,
    StandardSAE,
    StandardSAEConfig,
    TopKSAE,
    TopKSAEConfig,
)
from sae_lens.saes.sae import SAEMetadata

from sae_lens_abstopk import SignedJumpReLUSAE, SignedJumpReLUSAEConfig, mirror
from sae_lens_abstopk.evaluation.probing.untrained import untrained_sae

SIZES: dict[str, Any] = {"d_in": 32, "d_sae": 128, "metadata": SAEMetadata(hook_name="blocks.1.hook_resid_post")}
MADE: dict[str, Callable[[], SAE[Any]]] = {
    "abstopk": lambda: AbsTopKSAE(AbsTopKSAEConfig(k=7, **SIZES)),
    "topk": lambda: TopKSAE(TopKSAEConfig(k=7, **SIZES)),
    "jumprelu": lambda: JumpReLUSAE(JumpReLUSAEConfig(**SIZES)),
    "signed_jumprelu": lambda: SignedJumpReLUSAE(SignedJumpReLUSAEConfig(**SIZES)),
    "some signed": lambda: SignedJumpReLUSAE(SignedJumpReLUSAEConfig(pole_thresholds=True, **SIZES)),
    "gated": lambda: GatedSAE(GatedSAEConfig(**SIZES)),
    "standard": lambda: StandardSAE(StandardSAEConfig(**SIZES)),
}
ARCHITECTURES = [which for which in MADE if which != "some signed"]


def sample(n: int = 500) -> torch.Tensor:
    return torch.randn(n, 32, generator=torch.Generator().manual_seed(0)) + 4


def trained(which: str) -> Any:
    torch.manual_seed(3)
    sae: Any = MADE[which]()
    if hasattr(sae, "threshold"):
        sae.threshold.data.uniform_(2, 4)
    if which == "some signed":
        sae.negative_threshold.data.copy_(sae.threshold)[16:] = torch.inf
    for bias in {"gated": ("b_gate",), "standard": ("b_enc",)}.get(which, ()):
        getattr(sae, bias).data.fill_(-3)
    return sae


def l0(sae: SAE[Any], x: torch.Tensor) -> float:
    return (sae.encode(x) != 0).sum(1).float().mean().item()


@torch.no_grad()
@pytest.mark.parametrize("which", ARCHITECTURES)
def test_a_fresh_sae_has_the_config_and_the_l0_of_the_trained_one(which: str) -> None:
    sae = trained(which)
    before = {name: value.clone() for name, value in sae.state_dict().items()}
    x = sample(3000)
    made = untrained_sae(sae, x, seed=1)
    assert type(made) is type(sae)
    assert made.cfg.to_dict() == sae.cfg.to_dict()
    assert l0(made, x) == pytest.approx(l0(sae, x), abs=0.05)
    assert bool((made.encode(x) < 0).any()) == (which in ("abstopk", "signed_jumprelu"))
    assert not torch.equal(made.W_enc, sae.W_enc)
    torch.testing.assert_close(made.b_dec, x.mean(0))
    for name, value in sae.state_dict().items():
        assert torch.equal(value, before[name])


@torch.no_grad()
def test_a_closed_pole_stays_closed_and_counts_for_nothing_in_the_l0() -> None:
    sae = trained("some signed")
    x = sample(3000)
    made = untrained_sae(sae, x)
    assert l0(made, x) == pytest.approx(l0(sae, x), abs=0.05)
    codes = made.encode(x)
    assert (codes[:, :16] < 0).any()
    assert (codes[:, 16:] >= 0).all()
    assert (codes[:, 16:] > 0).any()
    mirrored = mirror(sae)
    made = untrained_sae(mirrored, x)
    assert l0(made, x) == pytest.approx(l0(mirrored, x), abs=0.05)
    assert int((made.encode(x) != 0).any(0)[128:].sum()) <= 16


@torch.no_grad()
@pytest.mark.parametrize("which", ARCHITECTURES)
def test_an_encoder_that_does_not_subtract_b_dec_is_centred_by_its_biases(which: str) -> None:
    x = sample()
    subtracting = trained(which)
    other = deepcopy(subtracting)
    other.cfg.apply_b_dec_to_input = False
    for name in ("b_enc", "b_gate", "b_mag"):  # so that both are one function of x
        if getattr(other, name, None) is not None:
            getattr(other, name).sub_(other.b_dec @ other.W_enc)
    centred, by_biases = untrained_sae(subtracting, x), untrained_sae(other, x)
    same = torch.isclose(by_biases.encode(x), centred.encode(x), atol=1e-4, rtol=1e-4)
    assert same.double().mean() > 0.999  # rounding opens a gate here and there
    torch.testing.assert_close(by_biases.b_dec, x.mean(0))


@torch.no_grad()
@pytest.mark.parametrize("normalisation", ["layer_norm", "constant_norm_rescale"])
def test_an_sae_that_normalises_as_it_runs_is_centred_on_what_it_normalised(normalisation: Any) -> None:
    x = 50 * (sample() + torch.arange(32))
    sae = AbsTopKSAE(AbsTopKSAEConfig(k=7, normalize_activations=normalisation, **SIZES))
    fresh = untrained_sae(sae, x)
    assert fresh.process_sae_in(x).mean(0).abs().max() < 1e-4


def test_a_seed_gives_the_weights_that_a_cpu_draws_and_leaves_the_global_one_alone() -> None:
    sae, x, state = trained("topk"), torch.randn(50, 32), torch.get_rng_state()
    first, other = (untrained_sae(sae, x, seed=seed) for seed in (0, 1))
    sae.cfg.device = "cuda"  # as it is of an SAE that is there
    again = untrained_sae(sae, x, seed=0)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first.W_enc, again.W_enc)
    assert not torch.equal(first.W_enc, other.W_enc)


@torch.no_grad()
def test_an_untrained_matching_pursuit_comes_nearer_to_what_it_reads() -> None:
    sae = MatchingPursuitSAE(MatchingPursuitSAEConfig(**SIZES, max_iterations=8, residual_threshold=0.1))
    x = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    fresh = untrained_sae(sae, x, seed=1)
    assert (fresh(x) - x).norm() < (x - x.mean(0)).norm()
    assert l0(fresh, x) <= 8


class OwnConfig(JumpReLUSAEConfig):
    @classmethod
    def architecture(cls) -> str:
        return "own"


class Odd(JumpReLUSAE):
    """An SAE of another package, with a selection rule that this one does not know."""

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        codes = super().encode(x)
        return codes if self.threshold.min() != self.threshold.max() else codes * (torch.arange(128) < 2)


def test_an_architecture_elsewhere_is_matched_by_its_threshold_or_warned_of() -> None:
    x = torch.randn(512, 32)
    own, odd = (make(OwnConfig(**SIZES)) for make in (JumpReLUSAE, Odd))
    for sae in (own, odd):
        sae.threshold.data.uniform_(2, 4)
    assert l0(untrained_sae(own, x), x) == pytest.approx(l0(own, x), rel=0.02)
    with pytest.warns(UserWarning, match=r"the untrained 'own' SAE has .* so the two are not comparable"):
        untrained_sae(odd, x)
