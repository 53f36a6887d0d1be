import gc
import io
import json
import os
import pickle
import re
import shlex
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from sae_lens_abstopk import ConfigError, train
from sae_lens_abstopk.system.errors import TrainingStopped
from sae_lens_abstopk.system.folder_lock import run_folder_lock
from sae_lens_abstopk.training import training_loop as loop_module
from sae_lens_abstopk.training.config.config_file import apply_overrides, build_config
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.sweeps import many_runs
from sae_lens_abstopk.training.sweeps.many_runs import train_unfinished
from sae_lens_abstopk.training.sweeps.sweep import SweepJob, load_sweep, run_sweep, unfinished
from tests.cli.test_cli import invoke


def swept(raw_config: dict[str, Any], folder: Path, ks: Sequence[int] = (2, 3)) -> str:
    """A sweep of short runs, by default two."""
    raw = {key: value for key, value in raw_config.items() if key != "output_path"}
    (folder / "base.yaml").write_text(yaml.safe_dump(raw | {"perf_log_freq": 0, "checkpoint_freq": 2}))
    sweep = {"runs": [{"config": str(folder / "base.yaml"), "grid": {"sae.k": list(ks)}}]}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    return str(folder / "sweep.yaml")


def test_a_sweep_runs_every_point_once_and_goes_on_where_it_stopped(raw_config: dict[str, Any], tmp_path: Path) -> None:
    sweep, output, said = swept(raw_config, tmp_path), tmp_path / "runs", io.StringIO()
    runs = load_sweep(sweep, ["lr=1e-2"])
    assert [run.overrides for run in runs] == [("sae.k=2", "lr=1e-2"), ("sae.k=3", "lr=1e-2")]
    run_sweep(runs, output, console=Console(quiet=True))
    first, second = (output / f"base_sae.k-{k}" / "sae_weights.safetensors" for k in (2, 3))
    before, whole = first.stat().st_mtime_ns, second.read_bytes()
    second.unlink()
    run_sweep(runs, output, console=Console(file=said, width=200))
    assert "[1/2] base_sae.k-2  done" in said.getvalue()
    assert f"going on after step 4 from {second.parent / 'checkpoints' / '256'}" in said.getvalue()
    assert second.read_bytes() == whole
    # a run with other settings is not taken for this one: nothing starts, nothing is lost
    other = load_sweep(sweep, ["lr=1e-3"])
    for again in (lambda: run_sweep(other, output, console=Console(quiet=True)), lambda: unfinished(other, output)):
        with pytest.raises(ConfigError, match=r"base_sae\.k-2 is of a run with other settings: lr is 0\.01 there"):
            again()
    assert (first.stat().st_mtime_ns, second.read_bytes()) == (before, whole)


def test_runs_that_fail_take_no_other_with_them(
    raw_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = {
        2: TrainingStopped("the loss is [nan]: the run has diverged"),
        3: RuntimeError("CUDA out of memory"),
        4: ConfigError("dataset_path is empty"),
        5: TypeError("no such argument"),
    }
    begun: list[int] = []

    def train_or_fail(cfg: TrainingConfig, *, console: Console) -> Any:
        begun.append(cfg.sae.k)
        if begun[-1] in errors:
            raise errors[begun[-1]]
        return train(cfg, console=console)

    monkeypatch.setattr(many_runs, "train", train_or_fail)
    arguments = ["sweep", swept(raw_config, tmp_path, (*errors, 6)), "-o", str(tmp_path / "runs")]
    done = invoke(*arguments)
    assert done.exit_code == 1
    for k, error in errors.items():
        kind = "" if k in (2, 4) else f"{type(error).__name__}: "
        assert f"base_sae.k-{k} stopped: {kind}{error}" in done.output
    assert done.output.count("Traceback (most recent call last)") == 1, "of the TypeError"
    assert "4 of 5 runs stopped early: base_sae.k-2, " in done.stderr
    assert (tmp_path / "runs" / "base_sae.k-6" / "sae_weights.safetensors").is_file()
    assert invoke(*arguments).exit_code == 1
    assert begun == [2, 3, 4, 5, 6, 2, 3, 4, 5]


def test_what_another_process_trains_meanwhile_is_passed_over(
    raw_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, begun = tmp_path / "runs", []

    def with_another(cfg: TrainingConfig, *, console: Console) -> None:  # noqa: ARG001
        begun.append(Path(cfg.output_path or "").name)
        with run_folder_lock(output / begun[-1]):
            for folder in (output / "base_sae.k-2", output / "base_sae.k-3"):
                folder.mkdir(exist_ok=True)
                (folder / "sae_weights.safetensors").touch()

    monkeypatch.setattr(many_runs, "train", with_another)
    with run_folder_lock(output / "base_sae.k-5"):
        done = invoke("sweep", swept(raw_config, tmp_path, (2, 3, 5)), "-o", str(output))
    assert done.exit_code == 0, done.output
    assert begun == ["base_sae.k-2", "base_sae.k-5"]
    assert "[2/3] base_sae.k-3  done" in done.output
    assert re.search(r"base_sae\.k-5 is passed over: .* is being written by process \d+", done.output)


@pytest.mark.parametrize("shared", [False, True], ids=["", "checkpoint_path"])
def test_a_sweep_is_printed_as_one_command_a_line_that_goes_on(
    raw_config: dict[str, Any], tmp_path: Path, shared: bool
) -> None:
    sweep, output, checkpoints = swept(raw_config, tmp_path), tmp_path / "the runs", tmp_path / "the checkpoints"
    arguments = ["sweep", sweep, "lr=1e-2", *([f"checkpoint_path={checkpoints}"] if shared else []), "-o", str(output)]
    printed = invoke(*arguments, "--launcher", "print")
    assert printed.exit_code == 0, printed.output
    first, second = printed.output.splitlines()
    assert first.startswith(f"abstopk train {tmp_path / 'base.yaml'} sae.k=2 lr=1e-2 ")
    for _ in range(2):
        assert invoke(*shlex.split(first)[1:]).exit_code == 0
    assert (output / "base_sae.k-2" / "sae_weights.safetensors").is_file()
    assert invoke(*arguments, "--launcher", "print").output.splitlines() == [second]
    assert invoke(*shlex.split(second)[1:]).exit_code == 0
    assert invoke(*arguments).output.count("done") == 2
    assert not shared or sorted(path.name for path in checkpoints.iterdir()) == ["base_sae.k-2", "base_sae.k-3"]


@pytest.fixture
def logs_left_open(recwarn: pytest.WarningsRecorder) -> Iterator[None]:
    """Submitit's debug jobs do not close their logs, which is not to be the next test's fault."""
    yield
    gc.collect()
    recwarn.clear()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("logs_left_open")
@pytest.mark.parametrize(("cluster", "ks"), [("debug", (2, 3)), pytest.param("local", (2,), marks=pytest.mark.slow)])
def test_submitit_runs_one_job_a_run(
    raw_config: dict[str, Any], tmp_path: Path, cluster: str, ks: tuple[int, ...]
) -> None:
    output = tmp_path / "runs"
    arguments = ["sweep", swept(raw_config, tmp_path, ks), "-o", str(output), "--launcher", "submitit"]
    done = invoke(*arguments, "--cluster", cluster, "--job", "timeout_min=5", "--job", "mem_gb=0.5")
    assert done.exit_code == 0, done.output
    assert f"[1/{len(ks)}] base_sae.k-2  job " in done.output
    assert len(list(output.glob("*/sae_weights.safetensors"))) == len(ks)
    assert len({line.rpartition(" ")[2] for line in done.output.splitlines() if "  job " in line}) == len(ks)
    assert "job" not in invoke(*arguments, "--cluster", cluster).output


def test_a_job_is_queued_again_when_its_progress_is_saved(
    raw_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from submitit.core.utils import DelayedSubmission
    from submitit.local.local import LOCAL_REQUEUE_RETURN_CODE, LocalJobEnvironment

    signals, step_metrics = {3: signal.SIGTERM, 5: signal.SIGUSR2}, loop_module.step_metrics

    def send(trainer: Any, *args: Any) -> Any:
        if (number := signals.pop(trainer.n_training_steps, None)) is not None:
            os.kill(os.getpid(), number)
        return step_metrics(trainer, *args)

    monkeypatch.setattr(loop_module, "step_metrics", send)
    jobs, output = tmp_path / "jobs", tmp_path / "runs"
    jobs.mkdir()
    for name, value in {"EXECUTOR": "local", "LOCAL_JOB_ID": "1", "FOLDER": str(jobs)}.items():
        monkeypatch.setenv(f"SUBMITIT_{name}", value)
    job = SweepJob(load_sweep(swept(raw_config, tmp_path, (2,)))[0], output)
    assert job.checkpoint().function == pickle.loads(pickle.dumps(job)) == job
    delayed = DelayedSubmission(job)
    delayed.set_timeout(60, 3)
    environment = LocalJobEnvironment()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGCONT, signal.SIGUSR2)}
    try:
        environment._handle_signals(environment.paths, delayed)
        with pytest.raises(SystemExit) as ended:
            delayed.result()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert ended.value.code == LOCAL_REQUEUE_RETURN_CODE
    assert (output / "base_sae.k-2" / "checkpoints" / str(5 * 64)).is_dir()
    DelayedSubmission.load(environment.paths.submitted_pickle).result()
    assert (output / "base_sae.k-2" / "sae_weights.safetensors").is_file()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--launcher", "submitit", "--cluster", "clouds"], "submitit refuses --cluster=clouds or a --job parameter"),
        (["--launcher", "submitit"], "srun"),
        (["--cluster", "local"], "--cluster and --job are for --launcher submitit"),
        (["--launcher", "submitit", "--job", "x"], "--job 'x' must have the form KEY=VALUE"),
    ],
)
def test_what_a_launcher_does_not_take_is_one_sentence(
    raw_config: dict[str, Any], tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    done = invoke("sweep", swept(raw_config, tmp_path), "-o", str(tmp_path / "runs"), *arguments)
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert not (tmp_path / "runs").exists()


def test_an_activation_cache_that_does_not_serve_every_run_is_refused_before_one_is_trained(
    raw_config: dict[str, Any], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"

    def configs(**changes: Any) -> dict[str, TrainingConfig]:
        own = {f"seed {seed}": {"seed": seed, "output_path": str(tmp_path / f"run {seed}")} for seed in (0, 1)}
        raw = raw_config | {"activation_cache": str(cache)} | changes
        return {name: build_config(raw | keys) for name, keys in own.items()}

    quiet = Console(quiet=True)
    with pytest.raises(ConfigError, match=r"both seed 0 and seed 1, which differ in seed\. .* set shuffle=false"):
        train_unfinished(configs(), console=quiet)
    train_unfinished(configs(shuffle=False), console=quiet, dry_run=True)
    cache.mkdir()
    (cache / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"^activation_cache=.* is not an activation cache"):
        train_unfinished(configs(shuffle=False), console=quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_runs_that_are_started_at_once_are_not_to_fill_one_cache(raw_config: dict[str, Any], tmp_path: Path) -> None:
    arguments = ["sweep", swept(raw_config, tmp_path), f"activation_cache={tmp_path / 'cache'}"]
    arguments += ["-o", str(tmp_path / "runs")]
    for launcher in (["print"], ["submitit", "--cluster", "debug"]):
        refused = invoke(*arguments, "--launcher", *launcher)
        assert refused.exit_code == 2
        assert "only one of base_sae.k-2 and base_sae.k-3 at a time" in refused.stderr
    assert not (tmp_path / "runs").exists()
    train(load_sweep(*arguments[1:2], arguments[2:3])[0].config(tmp_path / "elsewhere"), console=Console(quiet=True))
    assert len(invoke(*arguments, "--launcher", "print").output.splitlines()) == 2


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"run": []}, "unknown key 'run'; did you mean 'runs'"),
        ({"runs": []}, r"runs=\[\]: .* at least 1"),
        ({"runs": [{"grid": {}}]}, r"runs\.0\.config is missing"),
        ({"runs": [{"config": "gpt2", "variants": "topk"}]}, r"runs\.0\.variants='topk': .* valid list"),
        ({"runs": [{"config": "gpt2", "grid": {"lr": 1e-3}}]}, r"runs\.0\.grid\.lr=0\.001: .* valid list"),
    ],
)
def test_a_sweep_that_is_not_understood_is_refused(tmp_path: Path, content: Any, sentence: str) -> None:
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=sentence):
        load_sweep(str(tmp_path / "s.yaml"))


@pytest.mark.parametrize("override", ["sae={k: 4}", "sae.k=4", "sae.k_fraction=0.5"])
def test_an_override_is_not_to_replace_a_key_of_the_grid(
    raw_config: dict[str, Any], tmp_path: Path, override: str
) -> None:
    swept(raw_config, tmp_path)
    sweep = tmp_path / "s.yaml"
    sweep.write_text(yaml.safe_dump({"runs": [{"config": "base.yaml"}], "grid": {"sae.k": [3]}}))
    (run,) = load_sweep(str(sweep))
    assert (run.name, run.source) == ("base_sae.k-3", str(tmp_path / "base.yaml"))  # beside the file
    with pytest.raises(ConfigError, match=r"would replace sae\.k, which the grid of .* sets to 3"):
        load_sweep(str(sweep), [override])


def test_two_runs_of_one_name_are_refused(tmp_path: Path) -> None:
    first, second = ({"config": str(tmp_path / folder / "config.yaml")} for folder in ("a", "b"))
    sweep = tmp_path / "s.yaml"
    for runs in ([first, second], [first | {"grid": {"split": ["train", "Train"]}}]):
        sweep.write_text(yaml.safe_dump({"runs": runs}))
        with pytest.raises(ConfigError, match=r"would share the folder 'config.*'; give the config files different"):
            load_sweep(str(sweep))
    sweep.write_text(yaml.safe_dump({"runs": [first | {"grid": {"seed": [0]}}, second | {"grid": {"seed": [1]}}]}))
    assert [run.name for run in load_sweep(str(sweep))] == ["config_seed-0", "config_seed-1"]


GRID_VALUES: list[Any] = [*(None, True, 3, 2.5, 3e-5), *("plain", "null", "7", "1e-3", "a: b", ""), *([2, None], {})]


def test_a_file_with_a_variant_names_runs_wherever_it_is(raw_config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(json.dumps(raw_config))
    content = {"runs": [{"config": f"{tmp_path}/mine.yaml/topk", "grid": {"seed": [3]}}]}
    (tmp_path / "s.yaml").write_text(json.dumps(content))
    (run,) = load_sweep(str(tmp_path / "s.yaml"))
    assert run.name == "mine_topk_seed-3"


def test_a_value_of_a_grid_is_read_back_as_it_is_written_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(json.dumps({"runs": [{"config": "gpt2", "grid": {"key": GRID_VALUES}}]}))
    for run, value in zip(load_sweep(str(tmp_path / "s.yaml")), GRID_VALUES, strict=True):
        raw: dict[str, Any] = {}
        apply_overrides(raw, run.overrides[:1])
        assert raw == {"key": value}
        assert type(raw["key"]) is type(value)
        assert run.name == f"gpt2_key-{value}".replace(":", "_")
