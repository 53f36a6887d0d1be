"""Training runs on a tiny model: files, numbers, stops, and SAELens's own runner on our configs."""

import io
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from sysconfig import get_path
from typing import Any

import pytest
import torch
from rich.console import Console
from sae_lens import SAE
from sae_lens.registry import get_sae_training_class
from torch.utils._python_dispatch import TorchDispatchMode

from sae_lens_abstopk import train
from sae_lens_abstopk.evaluation.inspection.inspect_saes import inspect_saes
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.training import metrics
from sae_lens_abstopk.training.config.config_file import build_config
from sae_lens_abstopk.training.source.activation_source import NonFiniteActivationsError
from sae_lens_abstopk.training.source.language_model_source import BATCHES_PER_CAST
from sae_lens_abstopk.training.tracking.loggers import COLUMNS
from tests.training.runs import QUIET, rows, run_of, trained


def test_a_run_leaves_saelens_files_the_config_and_the_metrics(
    raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw_config["logger"]["wandb_log_frequency"] = 4
    measured, clean = [], ModelPasses.clean
    monkeypatch.setattr(ModelPasses, "clean", lambda *args, **keys: measured.append(1) or clean(*args, **keys))
    result = trained(raw_config)
    assert not result.saes["sae"].training
    folder = result.folders["sae"]
    assert {path.name for path in folder.iterdir()} == {
        *(".lock", "README.md", "cfg.json", "config.yaml", "metrics.csv", "runner_cfg.json"),
        *("sae_weights.safetensors", "sparsity.safetensors"),
    }
    assert json.loads((folder / "cfg.json").read_text())["architecture"] == "abstopk"
    table = rows(folder)
    assert tuple(table[0]) == (*COLUMNS, "losses/mse_loss", "losses/auxiliary_reconstruction_loss")
    assert [row["step"] for row in table] == ["1", "3", "4", "6"]
    assert [bool(row["loss_recovered_zero"]) for row in table] == [False, True, False, True]
    assert len(measured) == 2  # batches of held-out text, of which the second measurement knows the clean loss
    assert {row["l0"] for row in table} == {"4"}
    assert all(float(row["tokens_per_second"]) for row in table)
    saved = SAE.load_from_disk(folder)
    assert saved.cfg.metadata.hook_name == "model.layers.2"
    assert saved.cfg.metadata.training_tokens == 384
    assert saved.cfg.metadata.dead_latents_tokens == 384, "of a run shorter than the window, all its tokens"


@pytest.mark.parametrize("schedule", [{}, {"lr_scheduler_name": "cosineannealing", "lr_end": 2e-4}])
def test_an_sae_with_a_multiple_of_the_rate_trains_as_one_alone_at_that_rate(
    raw_config: dict[str, Any], tmp_path: Path, schedule: dict[str, Any]
) -> None:
    companions = {"topk": {"architecture": "topk"}, "faster": {"architecture": "topk"}}
    raw_config |= {"companions": companions, "lr_multiples": {"faster": 2.0}, "perf_log_freq": 0} | schedule
    together = trained(raw_config)
    alone = raw_config | {"companions": {}, "lr_multiples": {}, "output_path": str(tmp_path / "alone"), "lr": 2e-3}
    alone |= {key: 2 * value for key, value in schedule.items() if key == "lr_end"}
    alone["sae"] = {**raw_config["sae"], "architecture": "topk"}
    single = trained(alone)
    assert torch.equal(together.saes["faster"].W_dec, single.saes["sae"].W_dec)
    assert not torch.equal(together.saes["topk"].W_dec, together.saes["faster"].W_dec)
    assert torch.equal(together.saes["faster"].b_dec, single.saes["sae"].b_dec)
    assert [sae.cfg.metadata.lr for sae in together.saes.values()] == [1e-3, 1e-3, 2e-3]
    assert together.saes["faster"].cfg.metadata.hook_name == "model.layers.2"
    table = rows(together.folders["faster"])
    assert [row["learning_rate"] for row in table] == [row["learning_rate"] for row in rows(single.folders["sae"])]


@pytest.mark.parametrize("normalisation", ["expected_average_only_in", "covariance_whitening"])
def test_the_saved_weights_do_on_raw_activations_what_the_last_measurement_says(
    raw_config: dict[str, Any], normalisation: str
) -> None:
    raw_config |= {"n_batches_for_norm_estimate": 2, "lr": 1e-2, "training_tokens": 64 * 30}
    raw_config["sae"] |= {"normalize_activations": normalisation, "architecture": "batch_abstopk"}
    folder = trained(raw_config).folders["sae"]
    assert SAE.load_from_disk(folder).cfg.normalize_activations == "none"
    (inspected,) = inspect_saes([folder], n_tokens=raw_config["perf_tokens"]).on_text.reconstruction.values()
    found = inspected.loss
    first, last = ({name: float(value) for name, value in rows(folder)[i].items() if value} for i in (0, -1))
    assert last["fvu"] < 0.8 * first["fvu"]
    assert inspected.fvu == pytest.approx(last["held_out_fvu"], rel=1e-3)
    assert inspected.l0 == pytest.approx(last["held_out_l0"], rel=1e-3)
    assert found.ce_clean == pytest.approx(last["ce_clean"], rel=1e-5)
    assert found.ce_sae - found.ce_clean == pytest.approx(last["ce_sae"] - last["ce_clean"], rel=1e-2)
    assert found.zero == pytest.approx(last["loss_recovered_zero"], abs=1e-3)


def test_the_seed_decides_the_first_weights_and_how_activations_are_mixed(raw_config: dict[str, Any]) -> None:
    raw_config |= {"shuffle": False, "perf_log_freq": 0}
    one, again, other = (run_of(raw_config | {"seed": seed}) for seed in (1, 1, 0))
    assert torch.equal(one.sae.W_enc, again.sae.W_enc)
    assert not torch.equal(one.sae.W_enc, other.sae.W_enc)
    mixing, again_mixing, other_mixing = (run.activations_store.position().generator for run in (one, again, other))
    assert torch.equal(mixing, again_mixing)
    assert not torch.equal(mixing, other_mixing)


@pytest.mark.parametrize("method", ["mean", "geometric_median", "zeros"])
def test_companions_are_centred_on_the_activations_as_the_signed_sae_is(
    raw_config: dict[str, Any], method: str
) -> None:
    raw_config |= {"training_tokens": 64, "lr": 1e-9, "perf_log_freq": 0, "n_batches_for_norm_estimate": 2}
    raw_config["sae"] |= {"normalize_activations": "expected_average_only_in", "b_dec_init_method": method}
    raw_config |= {"companions": {"topk": {"architecture": "topk"}}, "b_dec_init_method": method}
    saes = trained(raw_config).saes
    assert bool(saes["sae"].b_dec.abs().max() > 1e-3) == (method != "zeros")
    torch.testing.assert_close(saes["topk"].b_dec, saes["sae"].b_dec)


@pytest.mark.parametrize(("massive", "n_times"), [(20.0, 0), (1.0, 1)])
def test_a_run_that_trains_on_massive_activations_says_so_once(
    raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, massive: float, n_times: int
) -> None:
    monkeypatch.setattr(metrics, "MASSIVE", massive)
    output = io.StringIO()
    run_of(raw_config, Console(file=output, width=500), seqpos_slice=[None], perf_log_freq=0).run()
    said = [line for line in output.getvalue().splitlines() if "of the first 64 activations are massive" in line]
    assert len(said) == n_times
    for line in said:
        lacking = "max_norm_multiple=10 'seqpos_slice=[1,null]' exclude_special_tokens=true"
        assert line.endswith(f"leave them out as the presets do: {lacking}")


def test_bad_activations_stop_the_run_and_keep_the_last_good_state(
    raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(raw_config | {"training_tokens": 6400})
    original = run.activations_store.get_raw_llm_batch

    def poisoned(raise_on_epoch_end: bool = False) -> Any:
        activations, tokens = original(raise_on_epoch_end)
        if run.state.trainers["sae"].n_training_steps >= 3:
            activations[5] = float("inf")
        return activations, tokens

    monkeypatch.setattr(run.activations_store, "get_raw_llm_batch", poisoned)
    with pytest.raises(NonFiniteActivationsError, match=r"1 of \d+ activations of model.layers.2 are NaN or infinite"):
        run.run()
    checkpoint = next((run.output / "checkpoints").iterdir())
    saved = get_sae_training_class("sparse_abstopk")[0].load_from_disk(checkpoint)
    assert all(parameter.isfinite().all() for parameter in saved.parameters())
    assert not (run.output / "sae_weights.safetensors").exists()


def test_a_transformer_bridge_trains_on_the_same_activations(raw_config: dict[str, Any], tmp_path: Path) -> None:
    bridge = {"model_class_name": "TransformerBridge", "hook_name": "blocks.2.hook_resid_post"}
    numbers = []
    for name, changes in (("transformers", {}), ("bridge", bridge)):
        result = trained(raw_config | changes | {"output_path": str(tmp_path / name)})
        last = rows(result.folders["sae"])[-1]
        numbers.append([float(last["fvu"]), float(last["ce_zero"])])
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-3)


def test_a_run_works_outside_the_main_thread(raw_config: dict[str, Any]) -> None:
    with ThreadPoolExecutor() as pool:
        assert pool.submit(trained, raw_config).result().folders


@pytest.mark.parametrize("with_weights", [True, False])
def test_wandb_gets_the_files_of_each_sae_when_they_are_there_and_its_failure_costs_none(
    raw_config: dict[str, Any], wandb_folder: Path, monkeypatch: pytest.MonkeyPatch, with_weights: bool
) -> None:
    raw_config["logger"] |= {"log_to_wandb": True, "log_weights_to_wandb": with_weights}
    raw_config["companions"] = {"plain": {"architecture": "topk"}}
    logged = {}

    def refuse(_: Any, artifact: Any, aliases: Any) -> None:
        logged[artifact.name] = set(artifact.manifest.entries)
        assert aliases == ["final_model"]
        raise ConnectionError("W&B is gone")

    monkeypatch.setattr("wandb.sdk.wandb_run.Run.log_artifact", refuse)  # what init makes wandb.log_artifact
    said = io.StringIO()
    folders = train(build_config(raw_config), console=Console(file=said, width=200)).folders
    assert all((folder / "sae_weights.safetensors").is_file() for folder in folders.values())
    assert list(logged) == [f"sae_run_{name}_llama-3.1-8b_model.layers.2" for name in ("abstopk", "plain")]
    assert all(("sae_weights.safetensors" in files) == with_weights for files in logged.values())
    assert said.getvalue().count("WandbLogger failed (ConnectionError: W&B is gone)") == 2
    assert list(wandb_folder.glob("wandb/offline-run-*/*.wandb"))


def test_a_config_trains_the_same_sae_twice(raw_config: dict[str, Any], tmp_path: Path) -> None:
    raw_config["sae"] |= {"normalize_activations": "expected_average_only_in"}
    raw_config |= {"n_batches_for_norm_estimate": 2, "perf_log_freq": 0}
    cfg = build_config(raw_config)
    weights = []
    for name in ("a", "b"):
        cfg.output_path = str(tmp_path / name)
        weights.append(train(cfg, console=QUIET).saes["sae"].W_dec.detach())
        assert json.loads((tmp_path / name / "runner_cfg.json").read_text())["sae"]["normalize_activations"] != "none"
    assert cfg.sae.normalize_activations == "expected_average_only_in"
    assert torch.equal(*weights)


def test_a_model_in_autocast_is_cast_once_for_several_batches(
    raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sae_lens_abstopk.model.text_store.autocast_pays", lambda _: True)
    run = run_of(raw_config | {"autocast_lm": True})
    weights = {parameter.data_ptr() for parameter in run.model.parameters() if parameter.ndim == 2}

    class CountCasts(TorchDispatchMode):
        n = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.n += func is torch.ops.aten._to_copy.default and args[0].data_ptr() in weights
            return func(*args, **kwargs or {})

    counts = []
    for n_batches in (1, BATCHES_PER_CAST, BATCHES_PER_CAST + 1):
        blocks = run.activations_store._iterate_filtered_activations()
        with CountCasts() as casts:
            for _ in range(n_batches):
                next(blocks)
        counts.append(casts.n)
        assert not torch.is_autocast_enabled("cpu")
    assert counts == [counts[0], counts[0], 2 * counts[0]] != [0, 0, 0]
    shared, separate = (run_of(raw_config, autocast_lm=True).activations_store for _ in range(2))
    blocks = shared._iterate_filtered_activations()
    for _ in range(BATCHES_PER_CAST + 1):
        assert torch.equal(next(blocks), separate.get_filtered_llm_batch())


@pytest.mark.slow
@pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))) or not (Path(get_path("include")) / "Python.h").is_file(),
    reason="torch.compile needs a C++ compiler and Python's headers",
)
@pytest.mark.filterwarnings("ignore")  # the compiler looks at attributes that warn
def test_a_compiled_run_agrees_with_a_plain_one(raw_config: dict[str, Any], tmp_path: Path) -> None:
    weights = []
    for compiled in (False, True):
        run = run_of(raw_config, compile_sae=compiled, compile_llm=compiled, output_path=str(tmp_path / str(compiled)))
        weights.append(run.run().W_dec.detach())
    torch.testing.assert_close(*weights, rtol=1e-3, atol=1e-4)
