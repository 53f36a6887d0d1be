"""One gauge for every SAE, and the energies that decide it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.equivalents.gauge import canonical_gauge
from sae_lens_abstopk.equivalents.mirror import mirror
from sae_lens_abstopk.saes.poles import PoleActivity
from tests.equivalents.test_mirror import ARCHITECTURES, F, inputs, signed


def activity(sae: Any, *, seed: int = 3) -> PoleActivity:
    return PoleActivity.zeros(F).update(sae.encode(inputs(torch.float32, 200, seed=seed)))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_stronger_pole_becomes_positive_and_reconstructions_stay_equal_to_the_bit(
    architecture: str, dtype: str
) -> None:
    sae = signed(architecture, dtype=dtype)
    before, x = activity(sae), inputs(sae.dtype)
    assert (before.energy[1] > before.energy[0]).any()
    weight = sae.W_enc.clone()
    fixed = canonical_gauge(sae, before.energy)
    assert torch.equal(sae.W_enc, weight)
    assert torch.equal(fixed(x), sae(x))
    after = activity(fixed)
    assert (after.energy[0] >= after.energy[1]).all()
    assert torch.equal(after.counts, before.in_canonical_gauge().counts)
    assert torch.equal(after.energy, before.in_canonical_gauge().energy)
    again = canonical_gauge(fixed, after.energy)
    assert all(torch.equal(weight, fixed.state_dict()[name]) for name, weight in again.state_dict().items())


def test_two_saes_that_differ_in_gauge_alone_become_the_same() -> None:
    sae = signed("signed_jumprelu")
    flipped = canonical_gauge(sae, torch.stack([torch.zeros(F), torch.arange(F) % 2.0]))
    assert not torch.equal(sae.W_enc, flipped.W_enc)
    one, other = (canonical_gauge(s, activity(s).energy) for s in (sae, flipped))
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name]), name


@given(st.lists(st.integers(1, 60), min_size=1, max_size=4))
def test_activity_adds_up_over_batches_of_any_shape(sizes: list[int]) -> None:
    codes = torch.randn(sum(sizes), 5, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    whole = PoleActivity.zeros(5).update(codes)
    parts = PoleActivity.zeros(5)
    for part in codes.split(sizes):
        parts.update(part[None])
    assert torch.equal(parts.counts, whole.counts)
    torch.testing.assert_close(parts.energy, whole.energy)
    torch.testing.assert_close(whole.energy.sum(0), codes.double().square().sum(0), rtol=1e-6, atol=1e-6)
    assert parts.n_tokens == len(codes)


def test_activity_is_saved_beside_the_weights_and_prunes_a_mirror(tmp_path: Path) -> None:
    sae = signed("signed_jumprelu")
    measured = activity(sae)
    measured.save(tmp_path)
    loaded = PoleActivity.load(tmp_path)
    assert torch.equal(loaded.counts, measured.counts)
    assert torch.equal(loaded.energy, measured.energy)
    assert loaded.n_tokens == 200
    mirror(sae, prune_dead_poles=True, pole_counts=loaded.counts)
    (tmp_path / "pole_activity.safetensors").write_bytes(b"\0" * 20)
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match=r"is missing or damaged .* measure_poles\(\)"):
            PoleActivity.load(folder)
