"""A new run from the weights of a checkpoint or of a finished SAE."""

import io
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from sae_lens import SAE
from sae_lens.training.activation_scaler import ActivationScaler
from safetensors.torch import load_file

from sae_lens_abstopk import (
    AbsTopKTrainingSAE,
    AbsTopKTrainingSAEConfig,
    BatchAbsTopKTrainingSAE,
    BatchAbsTopKTrainingSAEConfig,
    ConfigError,
)
from sae_lens_abstopk.training.config.config_file import build_config
from sae_lens_abstopk.training.trainers import new_sae
from tests.training.runs import begin, run_of

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("sae", [{}, {"architecture": "batch_abstopk", "signed_share": 0.25}], ids=["all", "a quarter"])
def test_a_checkpoint_starts_a_new_run_from_its_weights(
    raw_config: dict[str, Any], tmp_path: Path, sae: dict[str, Any]
) -> None:
    raw_config["sae"] |= sae
    first = run_of(raw_config | {"checkpoint_freq": 4})
    first.run()
    source = first.output / "checkpoints" / "256"
    again = raw_config | {"from_pretrained_path": str(source), "output_path": str(tmp_path / "again")}
    again["sae"] = again["sae"] | {"k": 7, "aux_loss_coefficient": 0.5}  # of the new run, not of the checkpoint
    run = run_of(again)
    assert (run.sae.cfg.k, run.sae.cfg.aux_loss_coefficient) == (7, 0.5)
    assert run.sae.b_dec.any()
    for count in {"pole_counts", "topk_threshold"} & dict(run.sae.named_buffers()).keys():
        assert not getattr(run.sae, count).any(), f"{count} is of the other run, and of its k"
    before = run.sae.b_dec.detach().clone()
    run.run()
    assert torch.dist(run.sae.b_dec, before) < torch.dist(torch.zeros_like(before), before)


@pytest.mark.parametrize(
    ("stock", "ours"), [("sae_lens_abstopk", "abstopk"), ("topk", "sparse_topk"), ("batchtopk", "sparse_batchtopk")]
)
def test_a_checkpoint_of_saelens_own_trainer_starts_a_run_of_the_same_sae(
    raw_config: dict[str, Any], tmp_path: Path, stock: str, ours: str
) -> None:
    raw_config["sae"] |= {"architecture": stock}
    written: Any = new_sae(build_config(raw_config).sae, seed=0)
    if stock == "batchtopk":
        written.topk_threshold.fill_(0.3)
    written.save_model(tmp_path / "stock")
    raw_config["sae"] |= {"architecture": ours}
    run = run_of(raw_config, from_pretrained_path=str(tmp_path / "stock"))
    for name, weight in written.state_dict().items():
        assert torch.equal(run.sae.state_dict()[name], weight), name


@pytest.mark.parametrize(
    ("architecture", "key", "here"),
    [
        ("abstopk", "normalize_activations", "expected_average_only_in"),
        ("topk", "apply_b_dec_to_input", False),
        ("topk", "rescale_acts_by_decoder_norm", False),
        ("batch_abstopk", "signed_share", 0.25),
    ],
)
def test_weights_that_mean_something_else_start_no_new_run(
    raw_config: dict[str, Any], tmp_path: Path, architecture: str, key: str, here: Any
) -> None:
    raw_config["sae"] |= {"architecture": architecture}
    written = build_config(raw_config).sae
    new_sae(written, seed=0).save_model(tmp_path / "first")
    raw_config["sae"] |= {key: here}
    sentence = f"its SAE has sae.{key}={getattr(written, key)}, but this run has {here}"
    with pytest.raises(ConfigError, match=sentence):
        run_of(raw_config | {"from_pretrained_path": str(tmp_path / "first")})


@pytest.mark.parametrize("normalisation", ["covariance_whitening", "expected_average_only_in"])
def test_weights_keep_the_activation_statistics_that_they_were_trained_with(
    raw_config: dict[str, Any], tmp_path: Path, normalisation: str
) -> None:
    raw = raw_config | {"checkpoint_freq": 4, "perf_log_freq": 0, "n_batches_for_norm_estimate": 2}
    raw["sae"] = raw["sae"] | {"normalize_activations": normalisation}
    raw["companions"] = {"topk": {"architecture": "topk"}}
    run_of(raw).run()
    source = tmp_path / "source"
    shutil.copytree(Path(raw["output_path"]) / "checkpoints" / "256", source)
    raw["companions"] = raw["companions"] | {"batchtopk": {"architecture": "batchtopk"}}
    said = io.StringIO()
    again = {"from_pretrained_path": str(source), "output_path": str(tmp_path / "again")}
    run = run_of(raw | again, Console(file=said, width=300), n_batches_for_norm_estimate=3)
    run.output.mkdir()
    begin(run)
    for name, folder in (("sae", source), ("topk", source / "topk")):
        then = ActivationScaler()
        then.load(folder / "activation_scaler.json")
        x = torch.randn(5, 32)
        assert torch.equal(run.state.trainers[name].activation_scaler(x), then(x))
        assert torch.equal(run.saes[name].W_dec, load_file(folder / "sae_weights.safetensors")["W_dec"])
    assert f"batchtopk starts from new weights: {source} has no companion of that name" in said.getvalue()
    assert run.state.trainers["batchtopk"].activation_scaler == ActivationScaler()
    if normalisation == "covariance_whitening":
        shutil.rmtree(run.output)
        (source / "topk" / "activation_whitening.safetensors").unlink()
        (source / "checkpoint.json").unlink()  # as SAELens's own have none
        with pytest.raises(ConfigError, match="source/topk' cannot start this run: it lacks the whitening"):
            run_of(raw | again)
        (source / "sae_weights.safetensors").write_bytes(b"torn")
        with pytest.raises(ConfigError, match="holds no SAE that can be read"):
            run_of(raw | again)


def test_a_run_goes_on_without_the_checkpoint_that_it_once_started_from(
    raw_config: dict[str, Any], tmp_path: Path
) -> None:
    raw = raw_config | {"checkpoint_freq": 4, "perf_log_freq": 0}
    run_of(raw).run()
    source = f"{raw['output_path']}/checkpoints/256"
    again = raw | {"from_pretrained_path": source, "output_path": str(tmp_path / "again")}
    run_of(again).run()
    shutil.rmtree(raw["output_path"])
    (tmp_path / "again" / "sae_weights.safetensors").unlink()
    run = run_of(again | {"resume_from_checkpoint": "newest"})
    assert run.resumed == tmp_path / "again" / "checkpoints" / "256"
    run.run()
    shutil.rmtree(tmp_path / "again")
    with pytest.raises(ConfigError, match=r"from_pretrained_path=.* holds no SAE"):
        run_of(again | {"resume_from_checkpoint": "newest"})


@pytest.mark.parametrize(
    "architecture",
    [*("abstopk", "batch_abstopk", "sparse_topk", "sparse_batchtopk"), *("jumprelu", "standard", "gated")],
)
def test_a_finished_sae_starts_a_run_as_the_function_that_it_was(
    raw_config: dict[str, Any], tmp_path: Path, architecture: str
) -> None:
    sae = {"architecture": architecture, "d_in": 32, "d_sae": 64}
    if architecture not in ("jumprelu", "standard", "gated"):
        sae |= {"k": 4} | ({"signed_share": 0.25} if architecture == "batch_abstopk" else {})
    first = run_of(raw_config, sae=sae)
    first.run()
    saved, x = SAE.load_from_disk(first.output), torch.randn(64, 32)
    again = run_of(raw_config, sae=sae, from_pretrained_path=str(first.output), output_path=str(tmp_path / "again"))
    trained: Any = again.sae.eval()
    if architecture == "batch_abstopk":
        assert trained.topk_threshold == 0, "the first batch sets it"
        trained.topk_threshold.fill_(saved.threshold[0])
    torch.testing.assert_close(trained.encode(x), saved.encode(x))
    torch.testing.assert_close(trained(x), saved(x))
    trained.train()
    again.run()


OF_BATCH: dict[str, Any] = {"architecture": "batch_abstopk", "d_in": 32, "d_sae": 64, "k": 4}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"architecture": "abstopk"}, "its SAE has architecture signed_jumprelu, but this run has sparse_abstopk"),
        ({}, "16 of its latents fire on both sides, .* signs the first 64; set sae.signed_share"),
        ({"d_sae": 96}, "its SAE has sae.d_sae=64, but this run has 96"),
        ({"signed_share": 0.25, "unit_norm_encoder": True}, "set sae.unit_norm_encoder to false"),
    ],
)
def test_a_finished_sae_of_another_function_starts_no_run(
    raw_config: dict[str, Any], tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    sae = BatchAbsTopKTrainingSAE(BatchAbsTopKTrainingSAEConfig(d_in=32, d_sae=64, k=4, signed_share=0.25))
    sae.save_inference_model(tmp_path / "quarter")
    with pytest.raises(ConfigError, match=sentence):
        run_of(raw_config | {"sae": OF_BATCH | changes, "from_pretrained_path": str(tmp_path / "quarter")})


def test_a_finished_sae_with_thresholds_or_scales_of_its_latents_starts_no_run(
    raw_config: dict[str, Any], tmp_path: Path
) -> None:
    cfg = BatchAbsTopKTrainingSAEConfig(d_in=32, d_sae=64, k=4, signed_share=0.25)
    BatchAbsTopKTrainingSAE(cfg).save_inference_model(tmp_path / "own")
    own: Any = SAE.load_from_disk(tmp_path / "own")
    own.threshold.data = torch.rand(64) + 0.5
    own.save_model(tmp_path / "own")
    scaled = AbsTopKTrainingSAE(AbsTopKTrainingSAEConfig(d_in=32, d_sae=64, k=4, rescale_acts_by_decoder_norm=False))
    scaled.W_dec.data *= 3
    scaled.save_inference_model(tmp_path / "scaled")
    for name, sae, sentence in (
        ("own", OF_BATCH | {"signed_share": 0.25}, "its latents have their own thresholds"),
        ("scaled", OF_BATCH | {"architecture": "abstopk"}, "decoder rows do not have norm 1, .* to False"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            run_of(raw_config | {"sae": sae, "from_pretrained_path": str(tmp_path / name)})
