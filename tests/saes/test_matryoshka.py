"""Nested signed SAEs: options, losses of the prefixes, files."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE

from sae_lens_abstopk import ConfigError, MatryoshkaBatchAbsTopKTrainingSAE, SignedJumpReLUSAE
from sae_lens_abstopk import MatryoshkaBatchAbsTopKTrainingSAEConfig as Config
from tests.saes.test_signed_saes import step, tokens, with_random_weights


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"matryoshka_widths": [8, 4]}, "must be whole numbers that increase from at least 1 to at most d_sae=24"),
        ({"matryoshka_widths": [0, 4]}, "must be whole numbers that increase"),
        ({"matryoshka_widths": [3.5, 8]}, "must be whole numbers that increase"),
        ({"matryoshka_widths": [True, 8]}, "must be whole numbers that increase"),
        ({"matryoshka_widths": [8, 48]}, "must be whole numbers that increase"),
        ({"use_matryoshka_aux_loss": True}, "does not exist for signed codes"),
        ({"normalize_activations": "layer_norm", "aux_loss_coefficient": 0}, "nested losses need"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Config(**{"d_in": 8, "d_sae": 24, "k": 5} | options)


def test_the_last_prefix_is_the_whole() -> None:
    assert Config(d_in=8, d_sae=64, k=5).matryoshka_widths == [4, 16, 64]
    assert Config(d_in=8, d_sae=64, k=5, matryoshka_widths=[8]).matryoshka_widths == [8, 64]
    assert Config(d_in=8, d_sae=64, k=5, matryoshka_widths=[8, 64]).matryoshka_widths == [8, 64]


def test_each_prefix_has_the_loss_of_its_own_reconstruction(tmp_path: Path) -> None:
    sae = with_random_weights(
        MatryoshkaBatchAbsTopKTrainingSAE(Config(d_in=8, d_sae=24, k=5, matryoshka_widths=[3, 10]))
    )
    x = tokens(16)
    output = step(sae, x)
    u = output.feature_acts.to_dense() / sae.W_dec.norm(dim=-1)
    for width in (3, 10):
        x_hat = u[:, :width] @ sae.W_dec[:width] + sae.b_dec
        torch.testing.assert_close(output.losses[f"inner_mse_loss_{width}"], (x - x_hat).square().sum(-1).mean())
    torch.testing.assert_close(output.loss, sum(output.losses.values()))
    sae.save_inference_model(tmp_path)
    saved = SAE.load_from_disk(tmp_path)
    assert isinstance(saved, SignedJumpReLUSAE)
    assert saved.cfg.metadata.training_architecture_details["matryoshka_widths"] == [3, 10, 24]
