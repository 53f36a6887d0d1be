"""Batch AbsTopK with a share of signed latents, the others non-negative."""

from pathlib import Path

import pytest
import torch
from sae_lens import SAE

from sae_lens_abstopk import encode_topk, mirror
from sae_lens_abstopk.saes.topk import SparseBatchTopKTrainingSAE, SparseBatchTopKTrainingSAEConfig
from tests.saes.test_signed_saes import per_batch, step, tokens, with_random_weights


def test_only_the_first_latents_fire_on_both_sides() -> None:
    codes = step(per_batch(signed_share=0.25), tokens(64)).feature_acts.to_dense()
    assert codes[:, :6].lt(0).any()
    assert not codes[:, 6:].lt(0).any()
    assert codes.ne(0).sum() == 5 * 64


def test_a_share_of_none_is_batch_topk_and_of_all_is_abstopk() -> None:
    x, dead = tokens(16), torch.arange(24) < 7  # more than the loss of dead latents takes
    for backend in ("sparse", "dense"):
        # SAELens's own step, also for the loss of dead latents
        cfg = SparseBatchTopKTrainingSAEConfig(d_in=8, d_sae=24, k=5, sparse_backend="dense")
        topk = step(with_random_weights(SparseBatchTopKTrainingSAE(cfg)), x, dead=dead)
        none = step(per_batch(signed_share=0, sparse_backend=backend), x, dead=dead)
        torch.testing.assert_close(none.feature_acts.to_dense(), topk.feature_acts)
        torch.testing.assert_close(none.sae_out, topk.sae_out)
        torch.testing.assert_close(
            none.losses["auxiliary_reconstruction_loss"], topk.losses["auxiliary_reconstruction_loss"]
        )
        assert none.losses["auxiliary_reconstruction_loss"] > 0
    all_signed, default = (step(sae, x, dead=dead) for sae in (per_batch(signed_share=1.0), per_batch()))
    assert torch.equal(all_signed.feature_acts.to_dense(), default.feature_acts.to_dense())


@pytest.mark.parametrize("backend", ["sparse", "dense"])
def test_a_dead_latent_comes_back_from_the_side_that_is_closed(backend: str) -> None:
    sae = per_batch(signed_share=0.25, sparse_backend=backend)
    dead = torch.arange(24) == 20
    with torch.no_grad():
        sae.b_enc[20] = -100.0
    output = step(sae, tokens(16), dead=dead)
    assert not output.feature_acts.to_dense()[:, 20].any()
    output.loss.backward()
    assert sae.W_enc.grad is not None
    assert sae.W_enc.grad[:, 20].abs().sum() > 0


def test_a_closed_pole_is_closed_in_what_is_saved_in_its_mirror_and_in_compact_codes(tmp_path: Path) -> None:
    sae = per_batch(signed_share=0.25)
    x = tokens(64)
    for _ in range(50):
        step(sae, x)
    sae.eval()
    sae.save_inference_model(tmp_path)
    saved = SAE.load_from_disk(tmp_path)
    codes = saved.encode(x)
    torch.testing.assert_close(codes, sae.encode(x))
    assert codes[:, :6].lt(0).any()
    assert not codes[:, 6:].lt(0).any()
    for one in (sae, saved):
        compact = encode_topk(one, x)
        torch.testing.assert_close(torch.zeros_like(codes).scatter_add(1, compact.indices, compact.values), codes)
    mirrored = mirror(saved)
    assert type(mirrored).__module__.startswith("sae_lens.")
    torch.testing.assert_close(mirrored(x), saved(x))
