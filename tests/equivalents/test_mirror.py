"""The non-negative view: exact for every architecture, dtype, normalisation and shape, and back again."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE, AbsTopKSAE, AbsTopKSAEConfig, JumpReLUSAE, TopKSAE, TopKSAEConfig
from sae_lens.saes.sae import SAEMetadata

from sae_lens_abstopk import ConfigError, SignedJumpReLUSAE, SignedJumpReLUSAEConfig
from sae_lens_abstopk.equivalents.mirror import mirror, mirrored_latents, unmirror
from sae_lens_abstopk.saes.poles import pole_counts
from tests.saes.test_signed_saes import with_random_weights

D, F, K = 8, 24, 5
NORMALISATIONS = ("none", "expected_average_only_in", "constant_norm_rescale", "layer_norm", "covariance_whitening")
ARCHITECTURES = ("abstopk", "abstopk rescaled", "signed_jumprelu", "signed_jumprelu pole_thresholds")


def signed(architecture: str = "abstopk", **options: Any) -> Any:
    shape: dict[str, Any] = {"d_in": D, "d_sae": F, **options}
    if architecture.startswith("abstopk"):
        rescale = architecture.endswith("rescaled")
        return with_random_weights(AbsTopKSAE(AbsTopKSAEConfig(k=K, rescale_acts_by_decoder_norm=rescale, **shape)))
    poles = architecture.endswith("pole_thresholds")
    sae = with_random_weights(SignedJumpReLUSAE(SignedJumpReLUSAEConfig(pole_thresholds=poles, **shape)))
    sae.threshold.data = torch.linspace(0, 3, F, dtype=sae.dtype)
    if poles:
        sae.negative_threshold.data = torch.linspace(2, 1, F, dtype=sae.dtype)
        sae.negative_threshold.data[::4] = torch.inf
    return sae


def inputs(dtype: torch.dtype = torch.float32, *shape: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(*(shape or (40,)), D, generator=torch.Generator().manual_seed(seed)).to(dtype)


def poles_of(codes: torch.Tensor) -> torch.Tensor:
    return torch.cat([codes.relu(), (-codes).relu()], -1)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_codes_reconstruction_and_l0_are_those_of_the_signed_sae(architecture: str, normalisation: str) -> None:
    for apply_b_dec, dtype, shape in product((True, False), ("float32", "float64"), ((40,), (5, 8))):
        options: dict[str, Any] = {"normalize_activations": normalisation, "apply_b_dec_to_input": apply_b_dec}
        sae = signed(architecture, dtype=dtype, **options)
        mirrored = mirror(sae)
        x = inputs(sae.dtype, *shape)
        exact = {"rtol": 1e-5, "atol": 1e-5}
        torch.testing.assert_close(mirrored(x), sae(x), **exact)
        codes = sae.encode(x)
        sae.decode(codes)  # takes back what normalisation left in the SAE
        torch.testing.assert_close(mirrored.encode(x), poles_of(codes), **exact)
        assert torch.equal((mirrored.encode(x) != 0).sum(-1), (codes != 0).sum(-1))
        assert mirrored.dtype == sae.dtype


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_in_half_precision_only_ties_at_the_cut_may_go_to_other_latents(architecture: str, dtype: str) -> None:
    sae = signed(architecture, dtype=dtype)
    mirrored, x = mirror(sae), inputs(sae.dtype, 400)
    codes, doubled = poles_of(sae.encode(x)), mirrored.encode(x)
    same = (codes == doubled).all(-1)
    assert torch.equal(codes.sort(-1).values, doubled.sort(-1).values), "the same magnitudes are kept"
    assert torch.equal(mirrored(x[same]), mirrored.decode(codes[same]))
    torch.testing.assert_close(mirrored(x[same]).float(), sae(x[same]).float(), rtol=0.05, atol=0.5)
    assert same.all() if architecture.startswith("signed") else same.float().mean() > 0.8
    for differing in (~same).nonzero().squeeze(1).tolist():
        kept = doubled[differing]
        cut = kept[kept > 0].min()
        assert (codes[differing] - kept).abs().max() == cut, "what differs lies at the cut"


def test_hook_z_activations_are_reshaped_alike() -> None:
    metadata = SAEMetadata(hook_name="blocks.0.attn.hook_z")
    sae = signed("signed_jumprelu", reshape_activations="hook_z", metadata=metadata)
    x = inputs(torch.float32, 3, 4).view(3, 4, 2, 4)
    torch.testing.assert_close(mirror(sae)(x), sae(x), rtol=1e-5, atol=1e-5)
    assert mirror(sae)(x).shape == x.shape


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_metadata_say_which_pole_of_which_latent_each_is(architecture: str, tmp_path: Path) -> None:
    metadata = SAEMetadata(
        hook_name="model.layers.3", label="mine", neuronpedia_id="gpt2/1", num_dead_features=4, dead_latents=4
    )
    sae = signed(architecture, metadata=metadata)
    mirror(sae).save_model(tmp_path)
    loaded = SAE.load_from_disk(tmp_path)
    assert type(loaded) is (TopKSAE if architecture.startswith("abstopk") else JumpReLUSAE)
    latent, pole = mirrored_latents(loaded)
    sign = 1 - 2 * pole
    torch.testing.assert_close(loaded.W_dec, sign[:, None] * sae.W_dec[latent])
    assert loaded.cfg.metadata.hook_name == "model.layers.3"
    assert loaded.cfg.metadata.label == "mine_mirror"
    assert loaded.cfg.metadata.neuronpedia_id is None, "the dashboards there are of other latents"
    assert loaded.cfg.metadata.dead_latents is None, "a count of other latents"
    record = json.loads((tmp_path / "cfg.json").read_text())["metadata"]["mirror"]
    assert record["kept"] is None, "a file of wide SAEs stays small"
    assert "positive pole of latent c" in record["rule"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_unmirror_gives_the_signed_sae_back_to_the_bit(architecture: str, tmp_path: Path) -> None:
    sae = signed(architecture, metadata=SAEMetadata(label="mine", l0=5.0), dtype="bfloat16")
    mirror(sae).save_model(tmp_path)
    back = unmirror(SAE.load_from_disk(tmp_path))
    assert type(back) is type(sae)
    assert back.cfg.to_dict() == sae.cfg.to_dict()
    for name, weight in sae.state_dict().items():
        assert torch.equal(back.state_dict()[name], weight), name


def one_sided(architecture: str) -> tuple[Any, torch.Tensor]:
    """An SAE whose latents 0-7 never fire negative, 8-11 never positive and 12-15 never, and its counts."""
    sae = signed(architecture)
    with torch.no_grad():
        sae.b_enc[:8] = 60
        sae.b_enc[8:12] = -60
        sae.W_enc[:, 12:16] = 0
        sae.b_enc[12:16] = 0
        sae.cfg.k = 16
        sae.activation_fn = sae.get_activation_fn()
    return sae, pole_counts(sae.encode(inputs()))


@pytest.mark.parametrize("architecture", ["abstopk", "signed_jumprelu"])
def test_without_dead_poles_it_is_narrower_and_the_same_where_they_are_silent(architecture: str) -> None:
    sae, counts = one_sided(architecture)
    pruned = mirror(sae, prune_dead_poles=True, pole_counts=counts, dead_share=0)
    assert pruned.cfg.d_sae == int((counts > 0).sum()) <= 2 * F - 8 - 4 - 8
    assert pruned.cfg.metadata.mirror["dropped_share_of_firings"] == 0
    torch.testing.assert_close(pruned(inputs()), sae(inputs()), rtol=1e-5, atol=1e-4)
    latent, pole = mirrored_latents(pruned)
    assert not set(latent.tolist()) & set(range(12, 16))
    assert set(pole[latent < 8].tolist()) == {0}
    assert set(pole[(latent >= 8) & (latent < 12)].tolist()) == {1}
    back = unmirror(pruned)
    alive = [j for j in range(F) if not 12 <= j < 16]
    for name in ("W_dec", "b_enc"):
        assert torch.equal(getattr(back, name)[alive], getattr(sae, name)[alive]), name
    torch.testing.assert_close(back(inputs()), sae(inputs()), rtol=1e-5, atol=1e-4)
    assert not pole_counts(back.encode(inputs(torch.float32, 40, seed=9)))[:, 12:16].any()


def test_by_default_a_pole_with_under_a_hundredth_of_the_firings_is_dead_and_what_it_held_is_recorded() -> None:
    counts = torch.full((2, F), 1000)
    counts[1, 0], counts[1, 1], counts[0, 2] = 5, 11, 0
    pruned = mirror(signed(), prune_dead_poles=True, pole_counts=counts)
    gone = set(range(2 * F)) - set(pruned.cfg.metadata.mirror["kept"])
    assert gone == {F + 0, 2}
    assert pruned.cfg.metadata.mirror["dropped_share_of_firings"] == pytest.approx(5 / int(counts.sum()))


def test_more_latents_a_token_than_poles_are_left_keep_them_all() -> None:
    counts = torch.zeros(2, F, dtype=torch.int64)
    counts[0, :3] = 7
    pruned = mirror(signed(), prune_dead_poles=True, pole_counts=counts)
    assert (pruned.cfg.k, pruned.cfg.d_sae) == (3, 3)
    assert unmirror(pruned).cfg.k == K


def test_what_cannot_be_mirrored_is_refused_with_the_remedy() -> None:
    plain = TopKSAE(TopKSAEConfig(d_in=D, d_sae=F, k=K))
    with pytest.raises(ConfigError, match=r"needs a signed SAE for inference .* this is 'topk'"):
        mirror(plain)
    with pytest.raises(ConfigError, match=r"not made by mirror.*merge_antipodal"):
        unmirror(plain)
    for counts in (None, torch.zeros(2, F, dtype=torch.int64)):
        with pytest.raises(ConfigError, match=r"pole_counts go together: firings \[2, 24\] that are not all 0"):
            mirror(signed(), prune_dead_poles=True, pole_counts=counts)
    with pytest.raises(ConfigError, match="prune_dead_poles=True and pole_counts go together"):
        mirror(signed(), pole_counts=torch.ones(2, F))
    with pytest.raises(ConfigError, match=r"dead_share=0\.7 must be at least 0 and below 0\.5"):
        mirror(signed(), prune_dead_poles=True, pole_counts=torch.ones(2, F), dead_share=0.7)
