"""The record of a tiny fine-tune, against its parts by hand; and of noise, in which nothing is stable."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from sae_lens import SAE, TopKSAEConfig
from sklearn.decomposition import PCA

from sae_lens_abstopk import train
from sae_lens_abstopk.diffs.diff_files import RESULTS, Diff
from sae_lens_abstopk.diffs.fit_measures import stability_of
from sae_lens_abstopk.diffs.held_out import HeldOut
from sae_lens_abstopk.diffs.latent_kl import estimated_rises, measured_rises
from sae_lens_abstopk.diffs.measuring import measure
from sae_lens_abstopk.diffs.patching import BASE, divergences, reconstruction
from sae_lens_abstopk.model.model_pair import ModelPair
from sae_lens_abstopk.saes.loading import load_sae
from sae_lens_abstopk.training.config.config_file import load_config
from sae_lens_abstopk.vectors.vectors import Vectors


def noise_like(x: torch.Tensor) -> torch.Tensor:
    """Isotropic noise, each row of which has the norm of that row of ``x``."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(x)
    return noise * (x.norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True))


def turned(sae: SAE[Any], seed: int) -> SAE[Any]:
    """The same SAE with another order and other signs, and one latent replaced."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(12, generator=generator)
    rows = sae.W_dec[order] * torch.tensor([1, -1] * 6)[:, None]
    rows[(order == 11).nonzero()] = torch.nn.functional.normalize(torch.randn(32, generator=generator), dim=0)
    other: SAE[Any] = SAE.from_dict(sae.cfg.to_dict())
    other.load_state_dict(dict(sae.state_dict()) | {"W_enc": rows.T.contiguous(), "W_dec": rows})
    return other


@torch.no_grad()
def test_the_record_is_what_its_parts_are(pair: ModelPair, held_out: HeldOut, sae: SAE[Any], tmp_path: Path) -> None:
    one_sided: SAE[Any] = SAE.from_dict(TopKSAEConfig(d_in=32, d_sae=12, k=6).to_dict())
    one_sided.load_state_dict(sae.state_dict(), strict=False)
    saes = {"signed": [sae, turned(sae, 1)], "one_sided_F": [one_sided]}
    facts: dict[str, Any] = {
        "kind": "signed",
        "k": 6,
        "train_x": held_out.x,
        "data": "texts.jsonl",
        "training": {"seeds": 2},
    }
    found = measure(pair, saes, held_out, **facts, halves=[sae, turned(sae, 2)], n_latents=5, tokens_of_latents=192)
    record = found.results
    x = held_out.x
    error = (sae(x) - x).square().sum() / (x - x.mean(0)).square().sum()
    assert record.fits["signed"].fvu_seeds[0] == pytest.approx(float(error), rel=1e-5)
    energy = x.mean(0).square().sum() / x.square().sum(1).mean()
    assert record.mean_energy.value == pytest.approx(float(energy), rel=1e-5)
    kl = divergences(pair, held_out, {"sae": reconstruction(sae)}).by_patch
    assert record.kl.value == pytest.approx(kl[BASE].mean())
    assert record.shown_seed == 0
    assert record.fits["signed"].kl_recovered.value == pytest.approx(1 - kl["sae"].sum() / kl[BASE].sum())
    assert record.kl_ceiling.value is not None
    assert record.kl_ceiling.value > (record.kl_recovered.value or 0) > (record.kl_mean_difference.value or 0)
    assert record.kl_recovered.low is not None
    assert record.fits["one_sided_F"].two_sidedness == 0
    assert [each.directions for each in record.pca] == [6, 12]
    for each in record.pca:
        pca = PCA(each.directions).fit(x.numpy())
        rest = x - torch.from_numpy(pca.inverse_transform(pca.transform(x.numpy())))
        assert each.fvu == pytest.approx(float(rest.square().sum() / (x - x.mean(0)).square().sum()), rel=1e-4)
    assert 0 < (record.pca[0].kl_recovered.value or 0) < (record.pca[1].kl_recovered.value or 0)

    shares = [each.kl_share.value for each in record.latents if each.kl_share]
    assert [each.kl_share is None for each in record.latents] == [False] * 5 + [True] * 7
    assert shares == sorted(shares, key=lambda share: -(share or 0))
    rank = next(i for i, each in enumerate(record.latents) if min(each.positive.scale, each.negative.scale) > 0)
    first = record.latents[rank]
    part = held_out.rows(slice(8))
    rises = measured_rises(pair, part, sae, [first.latent])
    assert first.positive.kl_share is not None
    assert first.positive.kl_share.value == pytest.approx(rises[first.latent, 1].sum() / kl[BASE][:8].sum())
    estimates = estimated_rises(pair, held_out, sae).sum(0) / kl[BASE].sum()
    assert [each.kl_estimate for each in record.latents] == pytest.approx(estimates[[e.latent for e in record.latents]])
    codes = sae.encode(x)[:, first.latent].detach()
    assert first.share_active == pytest.approx(float((codes != 0).double().mean()))
    assert first.negative.scale == pytest.approx(np.quantile(-codes[codes < 0], 0.99))
    by_latent = {each.latent: each for each in record.latents}
    assert [by_latent[i].stability for i in (0, 11)] == [1, 0]
    assert [by_latent[i].stability_halves for i in (0, 11)] == [1, 0.5]

    contexts = found.contexts.latents[rank]
    assert contexts.latent == first.latent
    top = contexts.positive[0]
    assert top.codes[top.at] == pytest.approx(float(codes.max()))
    assert contexts.negative[0].codes[contexts.negative[0].at] == pytest.approx(float(codes.min()))
    assert found.contexts.parting[0].kl[found.contexts.parting[0].at] == pytest.approx(kl[BASE].max())
    found.write(tmp_path)
    assert repr(Diff.read(tmp_path)) == repr(found)
    assert json.loads((tmp_path / RESULTS).read_text())["latents"][0]["kl_share"].keys() >= {"value", "low", "high"}


def trained(x: torch.Tensor, folder: Path) -> list[SAE[Any]]:
    """Train three seeds of a signed SAE with eight latents on rows of vectors."""
    keys: dict[str, Any] = {"data": "x", "sae.d_in": 32, "sae.d_sae": 8, "sae.k": 2}
    keys |= {"epochs": 20, "train_batch_size_tokens": 64, "output_path": str(folder), "device": "cpu"}
    keys |= {"companions.one": {}, "companions.two": {}, "weight_seeds": {"sae": 0, "one": 1, "two": 2}}
    folders = train(
        load_config("vectors", keys, vectors=Vectors.of_array(x.numpy())),
        vectors=x.numpy(),
        console=Console(quiet=True),
    ).folders
    return [load_sae(each) for each in folders.values()]


@pytest.mark.slow
def test_noise_of_the_same_norm_has_no_stable_latents(pair: ModelPair, held_out: HeldOut, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(32, 8, generator=generator))[0].T
    codes = torch.randn(1000, 8, generator=generator) * (torch.rand(1000, 8, generator=generator) < 0.2)
    x = codes @ directions + 0.02 * torch.randn(1000, 32, generator=generator)
    noise = noise_like(x)
    torch.testing.assert_close(noise.norm(dim=1), x.norm(dim=1))
    assert stability_of(trained(x, tmp_path / "planted")).found.mean() > 0.7
    of_noise = trained(noise, tmp_path / "noise")
    assert stability_of(of_noise).found.mean() < 0.1
    equal = ModelPair(pair.spec, pair.d_in, pair.base_model, pair.base_model)
    noisy = replace(held_out, tuned=held_out.moved(noise_like(held_out.x)))
    torch.testing.assert_close(noisy.x.norm(dim=1), held_out.x.norm(dim=1), rtol=1e-3, atol=1e-5)
    facts: dict[str, Any] = {"kind": "signed", "k": 2, "train_x": noisy.x, "data": "texts.jsonl", "training": {}}
    found = measure(equal, {"signed": of_noise}, noisy, **facts, n_latents=2, tokens_of_latents=96).results
    assert (found.kl_ceiling.value or 0) > 0.99
    assert (found.kl_recovered.value or 0) < 0.3
