"""Gated SAEs of the map: a one-sided one has one pole, both learn, and a penalty makes codes sparser."""

import pytest
import torch

from experiments.map import gated
from experiments.map.gated import GatedSAE, fvu_at, measured, parts, trained
from experiments.map.kinds import KindVectors


def test_a_two_sided_gate_opens_for_the_larger_pole() -> None:
    x = torch.randn(50, 8)
    sae = GatedSAE(True, 16, x.mean(0))
    with torch.no_grad():
        sae.b_gate.fill_(-0.5)
    codes, gate = sae(x)
    u = (x - sae.b_dec) @ sae.W_enc.T
    assert torch.equal(codes != 0, u.abs() > 0.5)
    assert torch.equal(codes[codes != 0].sign(), u[codes != 0].sign())
    torch.testing.assert_close(gate, u.sign() * (u.abs() - 0.5).clamp(min=0))
    one_sided = GatedSAE(False, 16, x.mean(0))
    assert all(bool((each >= 0).all()) for each in one_sided(x))


def test_a_penalty_makes_the_codes_of_both_kinds_sparser(vectors: KindVectors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gated, "ROWS", 150 * gated.BATCH)
    x, _, reported = parts(vectors)
    for kind in ("signed F", "one-sided 2F"):
        dense, sparse = (measured(trained(kind, x, each, rate=1e-2, seed=0), reported) for each in (0.2, 2.0))
        assert sparse["l0"] < dense["l0"]
        assert dense["fvu"] < sparse["fvu"] < 1
        assert (dense["weaker_side"] == 0) == kind.startswith("one-sided")


def test_errors_are_compared_at_one_l0() -> None:
    found = [{"l0": 10.0, "fvu": 0.5}, {"l0": 100.0, "fvu": 0.3}]
    assert fvu_at(found, 10) == pytest.approx(0.5, abs=1e-3)
    assert fvu_at(found, 31.62) == pytest.approx(0.4, abs=1e-3)
