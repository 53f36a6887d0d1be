"""Odd SAEs: without biases, z(-x) = -z(x) to the bit, in training, in checkpoints and in what is saved."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE, SAETrainer, TrainingSAE
from sae_lens.config import SAETrainerConfig

from sae_lens_abstopk import (
    AbsTopKTrainingSAE,
    AbsTopKTrainingSAEConfig,
    BatchAbsTopKTrainingSAE,
    BatchAbsTopKTrainingSAEConfig,
    ConfigError,
    MatryoshkaBatchAbsTopKTrainingSAE,
    MatryoshkaBatchAbsTopKTrainingSAEConfig,
    encode_topk,
)
from sae_lens_abstopk.saes.sparse_training import RUN_TIME_NORMALISATIONS
from sae_lens_abstopk.training.config.config_file import build_config
from tests.saes.test_signed_saes import step, tokens
from tests.training.runs import run_of

SIZE: dict[str, Any] = {"d_in": 16, "d_sae": 48, "k": 4, "odd": True}
MAKERS = {
    "token": lambda **options: AbsTopKTrainingSAE(AbsTopKTrainingSAEConfig(**SIZE | options)),
    "batch": lambda **options: BatchAbsTopKTrainingSAE(BatchAbsTopKTrainingSAEConfig(**SIZE | options)),
    "matryoshka": lambda **options: MatryoshkaBatchAbsTopKTrainingSAE(
        MatryoshkaBatchAbsTopKTrainingSAEConfig(**SIZE | options)
    ),
}
X = tokens(1024, 16) + 1  # a mean that other SAEs would be centred on


def train(sae: Any) -> None:
    cfg = SAETrainerConfig(
        total_training_samples=10 * 256, train_batch_size_samples=256, lr=1e-2, lr_end=1e-2, dead_feature_window=5
    )
    trainer = SAETrainer(cfg=cfg, sae=sae, data_provider=iter([]))
    for seed in range(10):
        trainer.step(tokens(256, 16, seed=seed) + 1)
        trainer.n_training_steps += 1


@pytest.mark.parametrize("backend", ["sparse", "dense"])
@pytest.mark.parametrize(
    ("make", "normalisation"),
    [(make, scale) for make in MAKERS for scale in ("none", "expected_average_only_in")]
    + [(make, scale) for make in ("token", "batch") for scale in RUN_TIME_NORMALISATIONS],
)
def test_codes_of_minus_x_are_minus_those_of_x(make: str, backend: str, normalisation: str, tmp_path: Path) -> None:
    options = {"aux_loss_coefficient": 0} if normalisation in RUN_TIME_NORMALISATIONS else {}
    sae: Any = MAKERS[make](sparse_backend=backend, normalize_activations=normalisation, **options)
    before = sae.W_enc.detach().clone()
    train(sae)
    assert not torch.equal(sae.W_enc, before)
    assert not sae.b_enc.any()
    assert not sae.b_dec.any()
    plus, minus = (step(sae, x).feature_acts for x in (X, -X))
    assert plus.is_sparse == (backend == "sparse")
    assert torch.equal(minus.to_dense(), -plus.to_dense())
    sae.save_model(tmp_path / "checkpoint")
    if normalisation == "expected_average_only_in":
        sae.fold_activation_norm_scaling_factor(1.7)
    sae.save_inference_model(tmp_path / "inference")
    checkpoint, saved = TrainingSAE.load_from_disk(tmp_path / "checkpoint"), SAE.load_from_disk(tmp_path / "inference")
    train(checkpoint)
    for each in (sae, sae.eval(), checkpoint, checkpoint.eval(), saved):
        assert torch.equal(each.encode(-X), -each.encode(X))
        assert torch.equal(each(-X), -each(X))
        plus, minus = (encode_topk(each, x) for x in (X, -X))
        assert torch.equal(minus.values, -plus.values)
        assert torch.equal(minus.indices, plus.indices)
    assert saved.cfg.metadata.training_architecture_details["odd"] is True


def test_the_search_in_half_precision_is_odd_too() -> None:
    for make in MAKERS.values():
        sae = make(selection_dtype="bfloat16")
        plus, minus = (step(sae, x).feature_acts.to_dense() for x in (X, -X))
        assert torch.equal(minus, -plus)


@pytest.mark.parametrize(
    ("config", "options", "sentence"),
    [
        (BatchAbsTopKTrainingSAEConfig, {"signed_share": 0.5}, "signed_share=0.5 leaves latents one-sided"),
        (AbsTopKTrainingSAEConfig, {"normalize_activations": "covariance_whitening"}, "subtracts a centre"),
        (AbsTopKTrainingSAEConfig, {"b_dec_init_method": "geometric_median"}, "subtracts a centre"),
    ],
)
def test_options_that_no_odd_sae_can_have_are_refused(config: Any, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        config(**SIZE | options)


def test_a_one_sided_sae_beside_an_odd_one_keeps_its_biases(raw_config: dict[str, Any]) -> None:
    raw_config["sae"] |= {"odd": True}
    run = run_of(raw_config, companions={"topk": {"architecture": "topk"}})
    run.run()
    assert not run.sae.b_dec.any()
    assert run.saes["topk"].b_dec.any()
    raw_config["sae"]["architecture"] = "topk"
    with pytest.raises(ConfigError, match=r"sae\.odd is not a key of the architecture topk, but of abstopk, batch_abs"):
        build_config(raw_config)


@pytest.mark.parametrize("save", ["save_model", "save_inference_model"])
def test_an_sae_with_biases_starts_no_odd_run(raw_config: dict[str, Any], save: str, tmp_path: Path) -> None:
    raw_config["sae"] |= {"odd": True}
    cfg: Any = build_config(raw_config).sae
    sae = AbsTopKTrainingSAE(cfg)
    raw_config["from_pretrained_path"] = str(tmp_path / "start")
    getattr(sae, save)(tmp_path / "start")
    run_of(raw_config)
    sae.b_dec.data.fill_(0.1)
    getattr(sae, save)(tmp_path / "start")
    with pytest.raises(ConfigError, match=r"it has biases \(b_dec\), so set sae\.odd to false"):
        run_of(raw_config)
