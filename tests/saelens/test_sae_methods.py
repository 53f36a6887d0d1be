"""SAELens's methods on the signed SAEs: moves, folds and hooks."""

from typing import Any

import pytest
import torch
from sae_lens import TrainingSAE
from sae_lens.saes.sae import TrainingSAEConfig

from sae_lens_abstopk import (
    AbsTopKTrainingSAEConfig,
    BatchAbsTopKTrainingSAEConfig,
    MatryoshkaBatchAbsTopKTrainingSAEConfig,
)
from tests.equivalents.test_mirror import ARCHITECTURES, signed
from tests.saes.test_signed_saes import tokens, with_random_weights

SIZE: dict[str, Any] = {"d_in": 8, "d_sae": 24}
TRAINING: dict[str, TrainingSAEConfig] = {
    "sparse_abstopk": AbsTopKTrainingSAEConfig(**SIZE, k=5),
    "batch_abstopk": BatchAbsTopKTrainingSAEConfig(**SIZE, k=5),
    "matryoshka_batch_abstopk": MatryoshkaBatchAbsTopKTrainingSAEConfig(**SIZE, k=5, matryoshka_widths=[8, 24]),
}


def training_sae(name: str, **options: Any) -> Any:
    return with_random_weights(TrainingSAE.from_dict(TRAINING[name].to_dict() | options))


def any_sae(name: str) -> Any:
    return (signed if name in ARCHITECTURES else training_sae)(name)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", [*ARCHITECTURES, *TRAINING])
def test_a_move_to_another_dtype_or_device_moves_weights_config_and_codes(name: str, dtype: torch.dtype) -> None:
    sae = any_sae(name)
    before = sae.encode(tokens(6))
    assert sae.to(dtype=dtype) is sae
    assert f"torch.{sae.cfg.dtype}" == str(dtype)
    assert {parameter.dtype for parameter in sae.parameters()} == {dtype}
    codes = sae.encode(tokens(6))
    assert codes.dtype == dtype
    if dtype == torch.float64:
        torch.testing.assert_close(codes.float(), before, rtol=1e-5, atol=1e-5)
    sae.to("meta")
    assert sae.cfg.device == "meta"
    assert {parameter.device.type for parameter in sae.parameters()} == {"meta"}
    assert sae(tokens(6).to("meta")).device.type == "meta"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_folding_decoder_norms_keeps_selection_and_reconstruction_or_is_refused(name: str) -> None:
    sae, x = signed(name), tokens(20)
    on, x_hat = sae.encode(x) != 0, sae(x)
    if name == "abstopk":
        with pytest.raises(NotImplementedError, match="may change"):
            sae.fold_W_dec_norm()
        return
    sae.fold_W_dec_norm()
    torch.testing.assert_close(sae.W_dec.norm(dim=-1), torch.ones(24))
    torch.testing.assert_close(sae(x), x_hat, rtol=1e-4, atol=1e-4)
    assert torch.equal(sae.encode(x) != 0, on)


@pytest.mark.parametrize("name", [*ARCHITECTURES, *TRAINING])
def test_folding_a_scale_of_the_activations_keeps_codes_and_scales_the_reconstruction_back(name: str) -> None:
    sae, x = any_sae(name), tokens(20)
    codes, x_hat = sae.encode(3 * x), sae(3 * x)
    sae.fold_activation_norm_scaling_factor(3)
    # the codes are those of the scaled input only where selection does not look at decoder norms
    if name in ARCHITECTURES and "rescaled" not in name:
        torch.testing.assert_close(sae.encode(x), codes, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(sae(x), x_hat / 3, rtol=1e-3, atol=1e-3)
    assert sae.cfg.normalize_activations == "none"


# a stock abstopk SAE that looks at decoder norms divides by them whenever it decodes, folded or not
@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name.startswith("signed_jumprelu")])
def test_folding_survives_a_decoder_row_of_norm_0(name: str) -> None:
    sae, x = signed(name), tokens(20)
    sae.W_dec.data[3] = 0
    sae.fold_W_dec_norm()
    assert all(parameter.isfinite().all() for key, parameter in sae.named_parameters() if "threshold" not in key)
    assert sae(x).isfinite().all()
