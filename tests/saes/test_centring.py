"""The centre of activations."""

import torch

from sae_lens_abstopk.saes.centring import geometric_median, initialize_b_dec
from tests.saes.test_signed_saes import per_token, tokens


def test_the_geometric_median_withstands_an_outlier() -> None:
    x = torch.cat([tokens(99), torch.full((1, 8), 1e4)])
    assert geometric_median(x).norm() < 1
    assert x.mean(0).norm() > 100
    distance = lambda point: (x - point).norm(dim=1).sum()  # noqa: E731
    median = geometric_median(x)
    assert all(distance(median) <= distance(median + 0.05 * direction) for direction in torch.eye(8))


def test_an_sae_that_normalises_its_input_is_centred_on_normalised_rows() -> None:
    sae, x = per_token(normalize_activations="layer_norm", aux_loss_coefficient=0), 3 * tokens(64) + torch.arange(8)
    sae.b_dec.data.zero_()
    initialize_b_dec(sae, x, "mean")
    rows = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)
    torch.testing.assert_close(sae.b_dec.data, rows.mean(0), rtol=1e-4, atol=1e-4)


def test_an_sae_that_does_not_subtract_its_bias_is_centred_by_that_of_the_encoder() -> None:
    sae, x = per_token(apply_b_dec_to_input=False), tokens(64) + torch.arange(8)
    sae.b_dec.data.zero_()
    before = sae.b_enc.detach().clone()
    initialize_b_dec(sae, x, "mean")
    torch.testing.assert_close(sae.b_dec.data, x.mean(0))
    torch.testing.assert_close(x.mean(0) @ sae.W_enc + sae.b_enc, before, rtol=1e-4, atol=1e-4)
