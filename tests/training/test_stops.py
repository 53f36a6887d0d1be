"""Signals and errors that end a run, and what is saved of it."""

import errno
import io
import os
import shlex
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from sae_lens import SAE

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.system.terminal import PrintableConsole
from sae_lens_abstopk.training import interruption
from sae_lens_abstopk.training import training_loop as loop_module
from sae_lens_abstopk.training.checkpoints.checkpoint import damage
from tests.cli.test_cli import invoke
from tests.training.runs import differences, rows, run_of, signals_in, state_of

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("default_signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_a_stopped_run_prints_goes_on_with_it(
    raw_config: dict[str, Any], stop_after: Callable[..., None], number: signal.Signals
) -> None:
    said = io.StringIO()
    run = run_of(raw_config, Console(file=said, width=500))
    stop_after(4, number)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert f"{number.name}: stopping after this step" in said.getvalue()
    command = said.getvalue().splitlines()[-1].removeprefix("go on with: abstopk ")
    done = invoke(*shlex.split(command))
    assert done.exit_code == 0, done.output
    assert "going on after step 4" in done.output


class Gone(io.StringIO):
    """What a console writes to, until that fails with an error number."""

    number = 0

    def write(self, text: str) -> int:
        if self.number:
            raise OSError(self.number, os.strerror(self.number))
        return super().write(text)


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_run_whose_output_goes_nowhere_is_stopped_like_any_other(
    raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, number: int, is_terminal: bool
) -> None:
    screen = Gone()
    run = run_of(raw_config, PrintableConsole(file=screen, force_terminal=is_terminal))
    send = signals_in(4)

    def fails(trainer: Any, *args: Any) -> Any:
        screen.number = number
        return send(trainer, *args)

    monkeypatch.setattr(loop_module, "step_metrics", fails)
    monkeypatch.setattr(os, "dup2", lambda *_: None)  # by rich, of nothing over the output of the tests
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert damage(run.output / "checkpoints" / "256") is None


@pytest.mark.parametrize(("seconds", "kept"), [(3.0, []), (0.5, ["64"])])
def test_a_second_signal_stops_at_once_and_the_echo_of_the_first_does_not(
    raw_config: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    stop_after: Callable[..., None],
    seconds: float,
    kept: list[str],
) -> None:
    clock = iter([100.0, 100.0 + seconds])
    monkeypatch.setattr(interruption, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    run = run_of(raw_config | {"companions": {"topk": {"architecture": "topk"}}})
    stop_after(1, signal.SIGINT, times=2)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert signal.getsignal(signal.SIGINT) is before
    assert next(clock, None) is None, "both signals came"
    written = list((run.output / "checkpoints").glob("*"))
    assert [(path.name, damage(path)) for path in written] == [(name, None) for name in kept]


@pytest.mark.usefixtures("default_signals")
@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_while_the_finished_saes_are_measured_leaves_a_finished_run(
    raw_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    clean, passes = ModelPasses.clean, count()
    monkeypatch.setattr(interruption, "ECHO", -1.0)

    def signalled(self: ModelPasses, *args: Any, **options: Any) -> Any:
        if (run_folder / "sae_weights.safetensors").is_file() and next(passes) == 0:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGTERM)
        return clean(self, *args, **options)

    monkeypatch.setattr(ModelPasses, "clean", signalled)
    run_folder = tmp_path / "run"
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(raw_config | {"output_path": str(run_folder), "perf_log_freq": 6}))
    ended = invoke("train", str(config))
    last = rows(run_folder)[-1]
    assert (last["step"], last["fvu"] != "", last["loss_recovered_zero"]) == ("6", True, "")
    assert next(passes) == 1, "the measurement ended at the next pass"
    assert SAE.load_from_disk(run_folder).cfg.d_sae == 64
    if times == 1:
        assert ended.exit_code == 0, ended.output
        assert f"abstopk inspect {run_folder}" in ended.output
        assert f"sae: {run_folder}" in ended.output


def test_signals_before_the_first_step_leave_nothing_to_save(
    raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(raw_config)
    monkeypatch.setattr(loop_module, "estimate_scales", lambda *_, **__: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert not (run.output / "checkpoints").exists()


@pytest.mark.parametrize("error", [ConnectionError("the Hub is gone"), ConfigError("the cache is damaged")])
def test_text_that_ends_in_an_error_loses_no_step(
    raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    raw_config |= {"perf_log_freq": 0}
    whole = state_of(raw_config | {"output_path": f"{raw_config['output_path']}-whole"})
    run = run_of(raw_config)
    original = run.activations_store.get_raw_llm_batch

    def broken(raise_on_epoch_end: bool = False) -> Any:
        if run.state.trainers["sae"].n_training_steps >= 3:
            raise error
        return original(raise_on_epoch_end)

    monkeypatch.setattr(run.activations_store, "get_raw_llm_batch", broken)
    with pytest.raises(type(error), match=str(error)):
        run.run()
    (checkpoint,) = (run.output / "checkpoints").iterdir()
    assert int(checkpoint.name) >= 3 * 64
    assert differences(whole, state_of(raw_config, resume_from_checkpoint="newest")) == []


def test_a_run_that_took_no_step_left_none(raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(loop_module.TrainingLoop, "_step", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_of(raw_config).run()
    assert (Path(raw_config["output_path"]) / "metrics.csv").read_text() == ""
    smaller = raw_config | {"sae": raw_config["sae"] | {"d_sae": 48}}
    assert run_of(smaller | {"resume_from_checkpoint": "newest"}).resumed is None
    run_of(smaller).run()
    with pytest.raises(ConfigError, match=r"already holds a run \(sae_weights.safetensors, metrics.csv\)"):
        run_of(raw_config)


def test_a_notebook_without_gradients_trains(raw_config: dict[str, Any]) -> None:
    with torch.no_grad():
        run_of(raw_config).run()
        assert not torch.is_grad_enabled()
