"""Whole runs that several processes share: their files, their checkpoints, and what happens when one of them ends."""

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from transformers import PreTrainedTokenizerFast

from sae_lens_abstopk.system.ranks import OtherRankError, barrier, this_rank
from sae_lens_abstopk.training import metrics
from sae_lens_abstopk.training import training_loop as loop_module
from sae_lens_abstopk.training.checkpoints import run_checkpoints
from sae_lens_abstopk.training.checkpoints.checkpoint import CheckpointError, damage
from sae_lens_abstopk.training.config.config_file import build_config
from sae_lens_abstopk.training.distributed import ranks_started
from sae_lens_abstopk.training.interruption import Interrupted
from sae_lens_abstopk.training.source.activation_source import NonFiniteActivationsError
from sae_lens_abstopk.training.source.language_model_source import LanguageModelSource
from tests.training.rank_processes import SECONDS, forked, on_ranks
from tests.training.runs import QUIET, differences, final_state, one_epoch, rows, run_of, signals_in

ROOT = Path(__file__).parents[2]
STEPS = 12


@pytest.fixture
def raw(raw_config: dict[str, Any]) -> dict[str, Any]:
    """A run with every part that has to agree between ranks."""
    sae = raw_config["sae"] | {"architecture": "batch_abstopk", "normalize_activations": "covariance_whitening"}
    jumprelu = {"architecture": "jumprelu", "l0_coefficient": 1.0}
    raw = raw_config | {"sae": sae, "companions": {"jumprelu": jumprelu}, "target_l0": {"jumprelu": 8.0}}
    raw |= {"training_tokens": 64 * STEPS, "perf_log_freq": 6, "max_norm_multiple": 1.2}
    return raw | {"n_batches_for_norm_estimate": 2, "dead_feature_window": 2, "feature_sampling_window": 7}


def state_of(raw: dict[str, Any], console: Console = QUIET) -> dict[str, Any]:
    run = run_of(raw, console)
    run.run()
    barrier()  # the files are the first rank's
    return final_state(run)


def stopping(raw: dict[str, Any], *, rank: int, step: int) -> Callable[[], Any]:
    """Work that one rank is asked to stop in, while it takes the numbers of a step."""

    def work() -> Any:
        if this_rank() == rank:
            loop_module.step_metrics = signals_in(step)
        return state_of(raw)

    return work


def test_ranks_that_were_stopped_go_on_to_the_same_bits(raw: dict[str, Any], tmp_path: Path) -> None:
    whole = on_ranks(2, lambda: state_of(raw), tmp_path / "a")
    weights = [key for key in whole[0] if key.endswith((" weights", " optimiser", " saved"))]
    assert differences(*({key: state[key] for key in weights} for state in whole)) == []
    assert [int(row["tokens"]) // 64 for row in rows(Path(raw["output_path"]))] == list(range(1, STEPS + 1))
    written = yaml.safe_load((Path(raw["output_path"]) / "config.yaml").read_text())
    assert (written["train_batch_size_tokens"], written["training_tokens"]) == (64, 64 * STEPS)
    stopped = raw | {"output_path": str(tmp_path / "stopped"), "resume_from_checkpoint": "newest"}
    assert all(isinstance(end, Interrupted) for end in on_ranks(2, stopping(stopped, rank=1, step=5), tmp_path / "b"))
    assert [path.name for path in (tmp_path / "stopped" / "checkpoints").iterdir()] == ["320"]
    again = on_ranks(2, lambda: state_of(stopped), tmp_path / "c")
    assert differences(whole, again) == []


def test_ranks_share_out_the_documents_that_are_not_held_out_and_mix_by_numbers_of_their_own(
    raw_config: dict[str, Any], tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": f"<{i}>" * 20}) + "\n" for i in range(100)))

    def work() -> tuple[set[int], torch.Tensor]:
        run = run_of(raw_config, dataset_path=str(tmp_path / "a.jsonl"), perf_log_freq=0)
        numbers = run.activations_store.position().generator
        return {int(i) for i in re.findall(r"<(\d+)>", str(tokenizer.decode(one_epoch(run))))}, numbers

    (first, numbers), (second, other_numbers) = on_ranks(2, work, tmp_path / "a")
    assert not torch.equal(numbers, other_numbers)
    assert not first & second
    assert first | second <= {i for i in range(100) if i % 20 != 19}
    assert min(len(first), len(second)) > 40


@pytest.mark.parametrize(("before", "after"), [(2, 1), pytest.param(1, 2, marks=pytest.mark.slow)])
def test_another_number_of_ranks_goes_on_and_says_what_that_costs(
    raw: dict[str, Any], tmp_path: Path, before: int, after: int
) -> None:
    raw |= {"resume_from_checkpoint": "newest", "perf_log_freq": 0}
    on_ranks(before, stopping(raw, rank=before - 1, step=5), tmp_path / "a")
    before_stop = (Path(raw["output_path"]) / "checkpoints" / "320" / "metrics.csv").read_text()

    def go_on() -> tuple[list[int], str]:
        heard = io.StringIO()
        return state_of(raw, Console(file=heard))["sae counts"][:2], heard.getvalue()

    ends = on_ranks(after, go_on, tmp_path / "b")
    assert all(counts == [STEPS, 64 * STEPS] for counts, _ in ends)
    assert f"written by {before} ranks and is resumed on {after}: the text is redistributed" in ends[0][1]
    assert (Path(raw["output_path"]) / "metrics.csv").read_text().startswith(before_stop)


def measuring_fails() -> None:
    metrics.evaluate_reconstruction = lambda *_, **__: 1 / 0


def an_activation_is_nan() -> None:
    original = LanguageModelSource._kept

    def spoiled(store: LanguageModelSource, batch: Any) -> Any:
        if this_rank() == 1 and store.n_llm_batches == 15:
            batch[0][3] = float("nan")
        return original(store, batch)

    LanguageModelSource._kept = spoiled


def a_disk_is_full() -> None:
    original = run_checkpoints.save_stream

    def fails(folder: Path, position: Any) -> None:
        if this_rank() == 1 and folder.name.endswith("256"):
            raise OSError(28, "No space left on device")
        original(folder, position)

    run_checkpoints.save_stream = fails


@pytest.mark.parametrize(
    ("harm", "ends", "step"),
    [
        pytest.param(measuring_fails, [ZeroDivisionError, OtherRankError], 6, marks=pytest.mark.slow),
        pytest.param(an_activation_is_nan, [Interrupted, NonFiniteActivationsError], 29, marks=pytest.mark.slow),
        (a_disk_is_full, [OtherRankError, CheckpointError], 2),
    ],
)
def test_what_fails_on_one_rank_stops_all_and_leaves_one_whole_checkpoint(
    raw: dict[str, Any], tmp_path: Path, harm: Callable[[], None], ends: list[type[Exception]], step: int
) -> None:
    def work() -> Any:
        harm()
        changes = {a_disk_is_full: {"checkpoint_freq": 2}, an_activation_is_nan: {"training_tokens": 64 * 40}}
        return state_of(raw | changes.get(harm, {}))

    assert [type(end) for end in on_ranks(2, work, tmp_path / "a")] == ends
    (checkpoint,) = (Path(raw["output_path"]) / "checkpoints").iterdir()
    assert checkpoint.name == str(64 * step)
    assert damage(checkpoint) is None
    assert len(list(checkpoint.glob("stream*"))) == 2


def test_a_rank_that_is_left_alone_ends_with_a_sentence(
    raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}.items():
        monkeypatch.setenv(name, value)
    cfg = build_config(raw_config)

    def join(rank: int) -> None:
        os.environ["RANK"] = str(rank)
        try:
            with ranks_started(cfg):
                barrier()
                if rank == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
                barrier()
        except OtherRankError as error:
            (tmp_path / "said").write_text(str(error))

    assert forked(2, join) == [0, -signal.SIGKILL]
    said = (tmp_path / "said").read_text()
    assert said.startswith("another rank ended or did not answer for 2 hours, so rank 0 stops too (")
    assert said.endswith("then continue with --resume.")


def torchrun(config: Path, output: Path) -> subprocess.Popen[str]:
    """Two ranks of ``abstopk train``, as a user starts them."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "COLUMNS": "400"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "sae_lens_abstopk", "train", str(config), "-o", str(output)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, cwd=ROOT)


def process_of_rank(launcher: int, rank: int) -> int:
    """The process of a rank among the children of torchrun."""
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        if f"\0RANK={rank}\0".encode() in b"\0" + Path(f"/proc/{child}/environ").read_bytes():
            return int(child)
    raise AssertionError(f"torchrun has no process of rank {rank}")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the process of a rank is found in /proc")
def test_torchrun_ends_with_the_rank_that_was_killed_and_the_run_goes_on(raw: dict[str, Any], tmp_path: Path) -> None:
    raw |= {"training_tokens": 64 * 100, "checkpoint_freq": 20, "perf_log_freq": 0}
    config, output = tmp_path / "c.yaml", tmp_path / "killed"
    config.write_text(yaml.safe_dump(raw))
    end = time.monotonic() + SECONDS
    with torchrun(config, output) as run:
        try:
            while not (output / "checkpoints" / str(64 * 20)).exists() and run.poll() is None:
                assert time.monotonic() < end, f"the run wrote no checkpoint within {SECONDS} seconds"
                time.sleep(0.02)
            os.kill(process_of_rank(run.pid, 1), signal.SIGKILL)
            _, errors = run.communicate(timeout=SECONDS)
        finally:
            run.terminate()  # and with it the ranks
    assert run.returncode != 0
    assert re.search(r"exitcode\s*: -9", errors), errors[-3000:]
    assert not (output / "sae_weights.safetensors").exists()
    again = raw | {"output_path": str(output), "resume_from_checkpoint": "newest"}
    ends = [on_ranks(2, lambda run=run: state_of(run), tmp_path / name) for run, name in ((again, "a"), (raw, "b"))]
    assert differences(*ends) == []
