"""MLflow and TensorBoard by their own readers, on real runs of a tiny model."""

import importlib.util
import io
import re
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import wandb
from mlflow import MlflowClient
from rich.console import Console
from sae_lens import LoggingConfig, SAETrainer
from sae_lens.saes.sae import TrainStepOutput
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sae_lens_abstopk import ConfigError, train
from sae_lens_abstopk.system.errors import TrainingStopped
from sae_lens_abstopk.training import training_loop
from sae_lens_abstopk.training.config.config_file import build_config
from sae_lens_abstopk.training.config.training_config import TrackingConfig
from sae_lens_abstopk.training.interruption import Interrupted
from sae_lens_abstopk.training.metrics import step_metrics
from sae_lens_abstopk.training.tracking.loggers import Loggers
from sae_lens_abstopk.training.tracking.trackers import MlflowLogger
from tests.training.runs import trained

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, which take ten seconds to make."""
    path = tmp_path_factory.mktemp("mlflow") / "runs.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(empty_database: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(empty_database, tmp_path / 'runs.db')}"


def test_mlflow_keeps_parameters_metrics_and_files_of_every_sae(
    raw_config: dict[str, Any], uri: str, tmp_path: Path
) -> None:
    raw_config["logger"] |= {"log_to_mlflow": True, "mlflow_tracking_uri": uri, "mlflow_experiment": "signed"}
    raw_config["companions"] = {"plain": {"architecture": "topk", "k": 5}}
    MlflowClient(tracking_uri=uri).create_experiment("signed", artifact_location=str(tmp_path / "files"))
    trained(raw_config)
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("signed")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"run/abstopk", "run/plain"}, "the run as its folder"
    for label, k in (("abstopk", "4"), ("plain", "5")):
        run = runs[f"run/{label}"]
        assert run.info.status == "FINISHED"
        wanted = {"sae.k": k, "sae.metadata.label": label, "hook_name": "model.layers.2"}
        assert wanted.items() <= run.data.params.items()
        assert [m.step for m in client.get_metric_history(run.info.run_id, "fvu")] == [1, 2, 3, 4, 5, 6]
        files = {file.path for file in client.list_artifacts(run.info.run_id)}
        assert {"sae_weights.safetensors", "cfg.json", "metrics.csv"} <= files
    assert "config.yaml" in {file.path for file in client.list_artifacts(runs["run/abstopk"].info.run_id)}


def test_the_page_maps_the_names_of_saelens_to_equal_numbers(
    raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[dict[str, float], dict[str, Any]]] = []

    def both(trainer: SAETrainer[Any, Any], output: TrainStepOutput) -> dict[str, float]:
        ours = step_metrics(trainer, output)
        steps.append((ours, trainer.build_train_step_log_dict(output, trainer.n_training_samples)))
        return ours

    monkeypatch.setattr(training_loop, "step_metrics", both)
    trained(raw_config | {"dead_feature_window": 1})
    page = (Path(__file__).parents[3] / "docs" / "saelens.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+/\w+)` \| (1 - )?`(\w+)` \|$", page, re.MULTILINE)
    assert len(rows) == 7
    ours, theirs = steps[-1]
    assert ours["dead_latents"] > 0
    for name, complement, key in rows:
        assert theirs[name] == pytest.approx(1 - ours[key] if complement else ours[key], rel=1e-4), name
    parts = {name: value for name, value in ours.items() if name.startswith("losses/")}
    assert parts == pytest.approx({name: theirs[name] for name in parts})
    assert sum(parts.values()) == pytest.approx(ours["loss"])


def test_without_an_address_mlflow_leaves_a_database_here_and_files_beside_the_run(
    raw_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    trained(raw_config | {"output_path": str(tmp_path / "runs" / "one"), "logger": {"log_to_mlflow": True}})
    assert [path.name for path in Path.cwd().iterdir()] == ["mlflow.db"]
    assert list((tmp_path / "runs" / "mlartifacts").rglob("sae_weights.safetensors"))


def test_mlflow_tells_a_run_that_failed_from_one_that_was_stopped(uri: str, tmp_path: Path) -> None:
    cfg = TrackingConfig(mlflow_tracking_uri=uri)
    for error, status in ((TrainingStopped("diverged"), "FAILED"), (Interrupted("SIGTERM"), "KILLED")):
        logger = MlflowLogger(cfg, "a", tmp_path, {}, goes_on=False)
        with pytest.raises(type(error)), closing(Loggers([logger], pytest.fail)):
            raise error
        run_id = (tmp_path / ".mlflow-id").read_text()
        assert MlflowClient(tracking_uri=uri).get_run(run_id).info.status == status


@pytest.mark.parametrize("first_run", ["there", "deleted", "elsewhere"])
def test_a_run_that_goes_on_does_so_in_its_mlflow_run(
    raw_config: dict[str, Any], uri: str, tmp_path: Path, first_run: str
) -> None:
    client = MlflowClient(tracking_uri=uri)
    client.create_experiment("signed", artifact_location=str(tmp_path / "files"))
    other = f"sqlite:///{shutil.copy(tmp_path / 'runs.db', tmp_path / 'other.db')}"
    logger = {**raw_config["logger"], "log_to_mlflow": True, "mlflow_experiment": "signed", "mlflow_tracking_uri": uri}
    raw, folder = raw_config | {"checkpoint_freq": 4, "perf_log_freq": 0}, Path(raw_config["output_path"])
    trained(raw | {"logger": logger | ({"mlflow_tracking_uri": other} if first_run == "elsewhere" else {})})
    (folder / "sae_weights.safetensors").unlink()
    if first_run == "deleted":
        client.delete_run((folder / ".mlflow-id").read_text())
    trained(raw | {"resume_from_checkpoint": "newest", "logger": logger})
    experiment = client.get_experiment_by_name("signed")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.info.run_id) == ("FINISHED", (folder / ".mlflow-id").read_text())
    steps = [m.step for m in client.get_metric_history(run.info.run_id, "fvu")]
    assert sorted(steps) == ([1, 2, 3, 4, 5, 5, 6, 6] if first_run == "there" else [5, 6])
    assert run.data.params["sae.k"] == "4"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_reads_the_config_and_curves_without_what_a_run_went_back_from(raw_config: dict[str, Any]) -> None:
    raw_config["logger"] |= {"log_to_tensorboard": True}
    raw, folder = raw_config | {"checkpoint_freq": 2}, Path(raw_config["output_path"])
    trained(raw)
    (folder / "sae_weights.safetensors").unlink()
    trained(raw | {"resume_from_checkpoint": "newest"})
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("fvu")] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in events.Scalars("loss_recovered_zero")] == [3, 6]
    assert b"sae.k: 4" in events.Tensors("config/text_summary")[0].tensor_proto.string_val[0]


@pytest.fixture
def wandb_calls(wandb_folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:  # noqa: ARG001  # sets where
    """W&B on this machine alone; what the runs were opened with."""
    calls: list[dict[str, Any]] = []
    original = wandb.init

    def noted(**kwargs: Any) -> Any:
        calls.append(kwargs)
        return original(**kwargs)

    monkeypatch.setattr(wandb, "init", noted)
    return calls


@pytest.mark.parametrize("run_id", [None, "mine"])
def test_a_run_that_goes_on_does_so_in_its_wandb_run(
    raw_config: dict[str, Any], wandb_calls: list[dict[str, Any]], run_id: str | None
) -> None:
    raw_config["logger"] |= {"log_to_wandb": True, "wandb_id": run_id}
    raw, folder = raw_config | {"checkpoint_freq": 2, "perf_log_freq": 0}, Path(raw_config["output_path"])
    trained(raw)
    (folder / "sae_weights.safetensors").unlink()
    trained(raw | {"resume_from_checkpoint": "newest"})
    first, second = wandb_calls
    assert (first["id"], first["resume"]) == (run_id, None)
    assert (second["id"], second["resume"]) == ((folder / ".wandb-id").read_text(), "allow")
    assert run_id in (None, second["id"])


def test_a_wandb_run_of_the_caller_takes_the_configs_and_all_rows_of_two_trainings_and_stays_open(
    raw_config: dict[str, Any], wandb_calls: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw_config["logger"] |= {"log_to_wandb": True}
    logged: list[dict[str, Any]] = []
    defined: dict[str, str] = {}
    with wandb.init(config={"lr": 0.5}) as run:
        # W&B's own step, which only rises, is not named
        monkeypatch.setattr(wandb, "log", lambda row: logged.append(row))
        monkeypatch.setattr(wandb, "define_metric", lambda name, step_metric: defined.update({name: step_metric}))
        for name in ("a", "b"):
            trained(raw_config | {"output_path": str(tmp_path / name)})
        assert wandb.run is run
        assert run.config["lr"] == raw_config["lr"]
    assert len(wandb_calls) == 1
    assert [row["step"] for row in logged] == [1, 2, 3, 4, 5, 6] * 2
    names = {name for row in logged for name in row} - {"step"}
    assert {re.sub(r"^(losses|metrics)/.*", r"\1/*", name) for name in names} <= defined.keys()
    assert set(defined.values()) == {"step"}


def test_servers_that_are_not_there_stop_no_run(raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(error: Exception) -> Any:
        def fail(**_: Any) -> None:
            raise error

        return fail

    monkeypatch.setattr(wandb, "init", failing(wandb.UsageError("No API key configured.")))
    monkeypatch.setattr(wandb, "finish", failing(ConnectionResetError("its process has died")))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    trackers = {"log_to_wandb": True, "log_to_mlflow": True, "mlflow_tracking_uri": "http://127.0.0.1:9"}
    out = io.StringIO()
    train(build_config(raw_config | {"logger": trackers}), console=Console(file=out, width=200))
    lines = [line for line in out.getvalue().splitlines() if line.startswith("warning")]
    assert [line.split(" failed ")[0] for line in lines] == [
        *("warning: Weights & Biases", "warning: MlflowLogger", "warning: Weights & Biases")
    ]
    assert "(UsageError: No API key configured.); the run goes on without it" in lines[0]
    assert "(ConnectionResetError: its process has died)" in lines[2]
    assert (Path(raw_config["output_path"]) / "sae_weights.safetensors").is_file()


@pytest.mark.parametrize("who", ["me:secret", "secret"])
def test_a_password_is_refused_and_not_repeated(who: str, raw_config: dict[str, Any]) -> None:
    raw_config["logger"] |= {"mlflow_tracking_uri": f"https://{who}@mlflow.example.org"}
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD") as refused:
        build_config(raw_config)
    assert "secret" not in str(refused.value)
    raw_config["logger"] |= {"mlflow_tracking_uri": "https://mlflow.example.org"}
    assert build_config(raw_config).logger.mlflow_tracking_uri == "https://mlflow.example.org"


@pytest.mark.parametrize("package", ["mlflow", "tensorboard"])
def test_a_package_that_is_missing_is_named_before_anything_runs(
    package: str, raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else found(name))
    raw_config["logger"] |= {f"log_to_{package}": True}
    with pytest.raises(ConfigError, match=rf"log_to_{package}=true needs {package}: pip install"):
        trained(raw_config)
    assert not Path(raw_config["output_path"]).exists()


def test_the_logger_of_saelens_is_taken_too(raw_config: dict[str, Any]) -> None:
    cfg = replace(build_config(raw_config), logger=LoggingConfig(log_to_wandb=False, wandb_project="mine"))
    assert cfg.logger == TrackingConfig(wandb_project="mine")
