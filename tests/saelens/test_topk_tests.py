"""What SAELens tests of its own topk architectures, on the signed ones: norms folded and not, and files."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE, AbsTopKSAE, TrainingSAE

from tests.saelens.test_sae_methods import INFERENCE, TRAINING, inference_sae
from tests.saes.test_signed_saes import tokens, with_random_weights


def training_sae(name: str, **options: Any) -> Any:
    """One that selects by decoder norms unless told otherwise, as SAELens's do."""
    return with_random_weights(TrainingSAE.from_dict(TRAINING[name].to_dict() | options))


def dense(codes: torch.Tensor) -> torch.Tensor:
    return codes.to_dense() if codes.is_sparse else codes


@pytest.mark.parametrize("name", TRAINING)
def test_folding_decoder_norms_in_training_keeps_codes_and_reconstruction(name: str) -> None:
    sae, x = training_sae(name), tokens(20)
    folded = deepcopy(sae)
    folded.fold_W_dec_norm()
    torch.testing.assert_close(folded.W_dec.norm(dim=-1), torch.ones(24))
    torch.testing.assert_close(dense(folded.encode(x)), dense(sae.encode(x)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(folded(x), sae(x), rtol=1e-4, atol=1e-4)
    with pytest.raises(NotImplementedError):
        training_sae(name, rescale_acts_by_decoder_norm=False).fold_W_dec_norm()


@pytest.mark.parametrize("name", TRAINING)
def test_folding_a_scale_of_the_activations_in_training_scales_the_reconstruction_back(name: str) -> None:
    sae, x = training_sae(name), tokens(20)
    before = sae(x)
    sae.fold_activation_norm_scaling_factor(2.0)
    torch.testing.assert_close(2.0 * sae(x / 2.0), before, rtol=1e-3, atol=1e-3)


# a stock abstopk SAE that looks at decoder norms divides by them whenever it decodes, folded or not
@pytest.mark.parametrize("name", [name for name in INFERENCE if name.startswith("signed_jumprelu")])
def test_folding_survives_a_decoder_row_of_norm_0(name: str) -> None:
    sae, x = inference_sae(name), tokens(20)
    sae.W_dec.data[3] = 0
    sae.fold_W_dec_norm()
    assert all(parameter.isfinite().all() for key, parameter in sae.named_parameters() if "threshold" not in key)
    assert sae(x).isfinite().all()


@pytest.mark.parametrize("rescale", [True, False])
def test_the_inference_sae_that_training_saves_has_its_codes_and_folded_weights(rescale: bool, tmp_path: Path) -> None:
    sae, x = training_sae("sparse_abstopk", rescale_acts_by_decoder_norm=rescale), tokens(20)
    weights = {name: getattr(sae, name).detach().clone() for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
    codes, x_hat = dense(sae.encode_with_hidden_pre(x)[0]), sae(x)
    sae.save_inference_model(tmp_path)
    saved: Any = SAE.load_from_disk(tmp_path)
    assert isinstance(saved, AbsTopKSAE)
    assert saved.cfg.k == 5
    torch.testing.assert_close(saved.encode(x), codes, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(saved(x), x_hat, rtol=1e-4, atol=1e-4)
    assert torch.equal(saved.b_dec, weights["b_dec"])
    if rescale:
        torch.testing.assert_close(saved.W_dec.norm(dim=-1), torch.ones(24))
        assert not torch.allclose(saved.W_enc, weights["W_enc"], rtol=1e-2)
    else:
        assert all(torch.equal(getattr(saved, name), weight) for name, weight in weights.items())
