"""Antipodal pairs folded into signed latents: exact for mirrors, honest elsewhere."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE, JumpReLUSAE, JumpReLUSAEConfig, StandardSAE, StandardSAEConfig, TopKSAE, TopKSAEConfig

from sae_lens_abstopk import ConfigError, SignedJumpReLUSAE
from sae_lens_abstopk.equivalents.antipodal_merge import merge_antipodal
from sae_lens_abstopk.equivalents.mirror import mirror, unmirror
from tests.equivalents.test_mirror import ARCHITECTURES, D, F, inputs, signed
from tests.saes.test_signed_saes import with_random_weights

X = inputs(torch.float32, 300)


@pytest.mark.parametrize("architecture", ["signed_jumprelu", "signed_jumprelu pole_thresholds"])
def test_a_mirrored_sae_becomes_the_signed_one_again(architecture: str) -> None:
    source = signed(architecture)
    # the pole that comes first of a pair is the positive one, as in the source
    merged = merge_antipodal(mirror(source), threshold=-0.999, activations=X)
    assert merged.sae.cfg.d_sae == F == len(merged.pairs)
    assert {pair.positive + F for pair in merged.pairs} == {pair.negative for pair in merged.pairs}
    for pair in merged.pairs:
        assert pair.decoder_cosine == pytest.approx(-1)
        assert pair.encoder_cosine == pytest.approx(-1)
        assert pair.coactivation == 0 or pair.coactivation != pair.coactivation
    torch.testing.assert_close(merged.sae(X), source(X), rtol=1e-4, atol=1e-4)
    norms = source.W_dec.norm(dim=-1)
    torch.testing.assert_close(merged.sae.encode(X), source.encode(X) * norms, rtol=1e-4, atol=1e-4)
    assert merged.before == pytest.approx(merged.after, rel=1e-5)
    with pytest.raises(ConfigError, match="was not made by mirror"):  # it has other latents than the mirror had
        unmirror(merged.sae)


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name.startswith("abstopk")])
def test_a_mirrored_topk_sae_gets_the_threshold_at_which_as_many_latents_are_on(architecture: str) -> None:
    merged = merge_antipodal(mirror(signed(architecture)), threshold=-0.999, activations=X)
    assert len(merged.pairs) == F
    assert merged.after.l0 == pytest.approx(merged.before.l0, abs=0.01)
    assert merged.after.fvu == pytest.approx(merged.before.fvu, rel=0.15)


def plain(architecture: str, **options: Any) -> Any:
    shape: dict[str, Any] = {"d_in": D, "d_sae": F, **options}
    if architecture == "topk":
        return with_random_weights(TopKSAE(TopKSAEConfig(k=5, **shape)))
    if architecture == "standard":
        return with_random_weights(StandardSAE(StandardSAEConfig(**shape)))
    sae = with_random_weights(JumpReLUSAE(JumpReLUSAEConfig(**shape)))
    sae.threshold.data = torch.linspace(-1, 3, F, dtype=sae.dtype)
    return sae


@pytest.mark.parametrize("architecture", ["standard", "jumprelu"])
@pytest.mark.parametrize("normalisation", ["none", "layer_norm"])
def test_without_pairs_codes_and_reconstruction_are_the_same(architecture: str, normalisation: str) -> None:
    sae = plain(architecture, normalize_activations=normalisation)
    merged = merge_antipodal(sae, threshold=-0.9999)
    assert merged.pairs == ()
    assert torch.equal(merged.sae(X), sae(X))
    assert torch.equal(merged.sae.encode(X), sae.encode(X))
    assert torch.equal(merged.sources, torch.stack([torch.arange(F), torch.full((F,), -1)]))
    assert (merged.before, merged.after) == (None, None)


def with_one_pair(*, bias: float = 0.0) -> Any:
    """A JumpReLU SAE of which latents 3 and 7 are opposite, with decoders of norm 2 and 3."""
    sae = plain("jumprelu")
    with torch.no_grad():
        direction = sae.W_dec[3] / sae.W_dec[3].norm()
        sae.W_dec[3], sae.W_dec[7] = 2 * direction, -3 * direction
        sae.W_enc[:, 7] = -sae.W_enc[:, 3] * 2 / 3
        sae.b_enc[3], sae.b_enc[7] = bias / 2, bias / 3
        sae.threshold[3], sae.threshold[7] = 1.0, 0.2
    return sae


def test_a_pair_with_other_norms_and_thresholds_is_folded_exactly_and_the_others_stay() -> None:
    sae = with_one_pair()
    merged = merge_antipodal(sae, threshold=-0.9999, activations=X)
    (pair,) = merged.pairs
    assert (pair.latent, pair.positive, pair.negative) == (3, 3, 7)
    torch.testing.assert_close(merged.sae(X), sae(X), rtol=1e-4, atol=1e-4)
    codes, old = merged.sae.encode(X), sae.encode(X)
    torch.testing.assert_close(codes[:, 3], 2 * old[:, 3] - 3 * old[:, 7], rtol=1e-4, atol=1e-4)
    assert (codes[:, 3] < 0).any()
    assert (codes[:, 3] > 0).any()
    others = [j for j in range(F) if j not in (3, 7)]
    new = [others.index(j) if j < 3 else others.index(j) + 1 for j in others]
    assert torch.equal(codes[:, new] != 0, old[:, others] != 0)
    torch.testing.assert_close(codes[:, new], old[:, others])
    assert merged.sources[:, 3].tolist() == [3, 7]


def test_with_biases_the_sides_stay_where_they_were_and_the_direction_is_fitted() -> None:
    sae = with_one_pair(bias=-2.0)
    merged, unfitted = (merge_antipodal(sae, threshold=-0.9999, activations=given) for given in (X, None))
    codes, old = merged.sae.encode(X)[:, 3], sae.encode(X)
    assert torch.equal(codes > 0, old[:, 3] > 0)
    assert torch.equal(codes < 0, old[:, 7] > 0)
    assert merged.sae.W_dec[3].norm() < 1, "codes grew by the bias, so the direction has shrunk"
    errors = [(one(X) - sae(X)).square().sum() for one in (merged.sae, unfitted.sae)]
    assert errors[0] < errors[1]


def test_a_side_that_reaches_across_the_middle_ends_there() -> None:
    sae = with_one_pair(bias=1.0)
    merged = merge_antipodal(sae, threshold=-0.9999, activations=X)
    assert merged.pairs[0].coactivation == 0
    codes, old = merged.sae.encode(X)[:, 3], sae.encode(X)
    lost = (old[:, 7] > 0) & (codes == 0)
    assert lost.any()
    assert (3 * old[lost, 7] <= 1.0).all(), "the bias, which is what the pre-activation has at the middle"
    assert torch.equal(codes > 0, old[:, 3] > 0)
    assert torch.equal((codes < 0) | lost, old[:, 7] > 0)


def test_a_latent_in_two_pairs_goes_to_the_most_opposed() -> None:
    sae = plain("standard")
    with torch.no_grad():
        sae.W_dec[0] = torch.eye(D)[0]
        sae.W_dec[1] = -torch.eye(D)[0] + 0.3 * torch.eye(D)[1]
        sae.W_dec[2] = -torch.eye(D)[0]
    merged = merge_antipodal(sae, threshold=-0.95)
    assert [(pair.positive, pair.negative) for pair in merged.pairs] == [(0, 2)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_saves_loads_and_folds_norms_as_any_other(dtype: str, tmp_path: Path) -> None:
    merged = merge_antipodal(plain("jumprelu", dtype=dtype), threshold=-0.5).sae
    assert merged.cfg.metadata.merged_antipodal_pairs > 0
    merged.save_model(tmp_path)
    loaded = SAE.load_from_disk(tmp_path)
    assert isinstance(loaded, SignedJumpReLUSAE)
    assert loaded.dtype == merged.dtype
    assert torch.equal(loaded.encode(X), merged.encode(X))
    loaded = loaded.to(torch.float64)
    before = loaded(X)
    loaded.fold_W_dec_norm()
    torch.testing.assert_close(loaded(X), before)


def test_what_cannot_be_merged_is_refused_with_the_remedy() -> None:
    for architecture in ("signed_jumprelu", "abstopk"):
        with pytest.raises(ConfigError, match="a signed SAE has both poles in one latent already"):
            merge_antipodal(signed(architecture))
    with pytest.raises(ConfigError, match="array of activations is missing"):
        merge_antipodal(plain("topk"))
    with pytest.raises(ConfigError, match=r"shape \[4, 3\]; this SAE needs \[n, 8\]"):
        merge_antipodal(plain("jumprelu"), activations=torch.ones(4, 3))
