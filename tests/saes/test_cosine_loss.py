"""The cosine loss at k and at 4 k against a dense computation of its definition."""

from typing import Any

import pytest
import torch

from sae_lens_abstopk import AbsTopKTrainingSAEConfig, ConfigError
from sae_lens_abstopk.training.config.config_file import build_config
from tests.saes.test_signed_saes import per_batch, per_token, step, tokens
from tests.saes.test_sparse_step import batchtopk, matryoshka, topk
from tests.training.runs import rows, run_of

COSINE: dict[str, Any] = {"reconstruction_loss": "cosine", "aux_loss_coefficient": 0}
MAKERS = (per_token, per_batch, topk, batchtopk, matryoshka)


def kept(sae: Any, scores: torch.Tensor, k: int) -> torch.Tensor:
    """Which entries a code of ``k`` latents a token keeps."""
    ranks = scores.abs() if sae.cfg.traits.signed else scores.clamp(min=0)
    if sae.cfg.traits.k_per == "token":
        least = ranks.topk(k).values[:, -1:]
    else:
        least = ranks.flatten().topk(k * len(ranks)).values[-1]
    return (ranks >= least) & (ranks > 0)


def reference(sae: Any, x: torch.Tensor, widths: list[int]) -> dict[str, torch.Tensor]:
    """1 - x . x_hat / (||x|| ||x_hat||) at 5 latents, of prefixes too, and an eighth of it at 20."""
    if sae.cfg.normalize_activations == "constant_norm_rescale":
        x = x / x.norm(dim=1, keepdim=True) * x.shape[1] ** 0.5
    u = (x - sae.b_dec * sae.cfg.apply_b_dec_to_input) @ sae.W_enc + sae.b_enc
    scores = u * sae.W_dec.norm(dim=1) if sae.cfg.rescale_acts_by_decoder_norm else u

    def distance(k: int, width: int) -> torch.Tensor:
        codes = (u * kept(sae, scores.detach(), k))[:, :width]
        x_hat = codes @ sae.W_dec[:width] + sae.b_dec
        return (1 - (x * x_hat).sum(1) / (x.square().sum(1) * x_hat.square().sum(1)).sqrt()).mean()

    losses = {"cosine_loss": distance(5, 24)}
    losses |= {f"inner_cosine_loss_{width}": distance(5, width) for width in widths}
    return losses | {"cosine_loss_4k": distance(20, 24) / 8}


@pytest.mark.parametrize(
    ("make", "options"),
    [(make, options) for make in MAKERS for options in ({}, {"rescale_acts_by_decoder_norm": False})]
    + [(make, {"normalize_activations": "constant_norm_rescale"}) for make in MAKERS[:4]]
    + [(make, {"apply_b_dec_to_input": False}) for make in MAKERS],
)
def test_losses_and_gradients_are_those_of_the_definition(make: Any, options: dict[str, Any]) -> None:
    ours, dense = make(**COSINE, **options), make(**COSINE, **options)
    x = tokens(16) + 1
    output = step(ours, x)
    expected = reference(dense, x, [3, 10] if make is matryoshka else [])
    assert output.losses.keys() == expected.keys()
    for name, loss in expected.items():
        torch.testing.assert_close(output.losses[name], loss, msg=name)
    total = torch.stack(list(expected.values())).sum()
    torch.testing.assert_close(output.loss, total)
    output.loss.backward()
    total.backward()
    for name, parameter in dense.named_parameters():
        assert parameter.grad.any(), name
        torch.testing.assert_close(ours.get_parameter(name).grad, parameter.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_4k_is_at_most_all_latents() -> None:
    wide = step(per_token(k=10, **COSINE), tokens(16))
    assert wide.losses["cosine_loss_4k"] > 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"aux_loss_coefficient": 1.0}, "aux_loss_coefficient=1.0 must be 0 with"),
        ({"sparse_backend": "dense"}, "sparse_backend='dense' must be sparse with"),
        ({"dtype": "bfloat16"}, "dtype='bfloat16' must be one of float32, float64 with"),
        ({"reconstruction_loss": "l1"}, "reconstruction_loss='l1' has the wrong type .*'mse' or 'cosine'"),
    ],
)
def test_options_that_the_sparse_step_cannot_take_are_refused(options: dict[str, Any], sentence: str) -> None:
    size: dict[str, Any] = {"d_in": 8, "d_sae": 24, "k": 5}
    with pytest.raises(ConfigError, match=sentence):
        AbsTopKTrainingSAEConfig(**size | COSINE | options)


def test_an_sae_that_takes_the_dense_step_is_not_trained_on_another_loss() -> None:
    with pytest.raises(ConfigError, match="is computed by the sparse step only"):
        step(per_token(**COSINE), tokens(12).view(3, 4, 8))


def test_a_run_trains_on_the_cosine_and_logs_it(raw_config: dict[str, Any]) -> None:
    raw_config["sae"] |= COSINE
    assert build_config(raw_config).sae.to_dict()["reconstruction_loss"] == "cosine"
    raw_config["companions"] = {"topk": {"architecture": "sparse_topk"}}
    run = run_of(raw_config | {"training_tokens": 64 * 30}, logger={"wandb_log_frequency": 1})
    run.run()
    for name in ("sae", "topk"):
        logged = rows(run.folders[name])
        assert float(logged[-1]["loss"]) < float(logged[0]["loss"]) < 1.2
