"""
Kill a run at random moments, go on with it, and compare its end with that of a run that nothing happened to.

``python -m tests.training.crash_trials CONFIG FOLDER KILLS`` forks a process for every life of a run, so that the
packages are imported once. Prints a line of JSON: the kills by what the run was doing, and the differences found.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from sae_lens_abstopk.training import training_loop as loop_module
from sae_lens_abstopk.training.checkpoints import checkpoint, run_checkpoints
from sae_lens_abstopk.training.config.config_file import build_config
from sae_lens_abstopk.training.runner import TrainingRun
from tests.training.runs import differences, final_state

KILLS_A_RUN = 5
STARTED, WRITING = b"s", b"w"


def live(raw: dict[str, Any], *, tell: int, state: Path) -> None:
    """Train to the end, telling the parent when the steps begin and with every file of a checkpoint."""
    step, sync, save = loop_module.estimate_scales, checkpoint.sync, run_checkpoints.save_state

    def started(*args: Any, **options: Any) -> None:
        os.write(tell, STARTED)
        step(*args, **options)

    def writing(*args: Any) -> None:
        os.write(tell, WRITING)
        sync(*args)

    def saving(*args: Any, **options: Any) -> None:
        os.write(tell, WRITING)
        save(*args, **options)

    loop_module.estimate_scales = started
    checkpoint.sync, run_checkpoints.save_state = writing, saving
    run = TrainingRun(build_config(raw), console=Console(quiet=True))
    run.run()
    torch.save(final_state(run), state)


def fork(raw: dict[str, Any], state: Path) -> tuple[int, int]:
    """A process that lives :func:`live`, and the pipe that it tells through."""
    hears, tell = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(hears)
        try:
            live(raw, tell=tell, state=state)
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            sys.stderr.flush()
            os._exit(1)
    os.close(tell)
    return process, hears


def finish(raw: dict[str, Any], state: Path) -> float:
    """Let a run live to its end; the seconds between its first step and that."""
    process, hears = fork(raw, state)
    os.read(hears, 1)
    started = time.monotonic()
    while os.read(hears, 64):
        pass
    os.close(hears)
    if os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) != 0:
        raise SystemExit("a run that was not killed failed")
    return time.monotonic() - started


def kill(raw: dict[str, Any], state: Path, *, steps_take: float, chance: random.Random) -> str:
    """Kill a run at a random moment: in its start, in its steps, or while it writes a checkpoint; returns which."""
    process, hears = fork(raw, state)
    moment = chance.choice(["steps", "steps", "checkpoint", "checkpoint", "start"])
    if moment == "start":
        time.sleep(chance.uniform(0, 0.3))
    elif os.read(hears, 1) == STARTED and moment == "steps":
        time.sleep(chance.uniform(0, steps_take))
    elif moment == "checkpoint":
        for _ in range(chance.randint(1, 25)):
            os.read(hears, 1)
        time.sleep(chance.uniform(0, 0.002))
    os.kill(process, signal.SIGKILL)
    os.close(hears)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return moment if status == -signal.SIGKILL else f"{moment}, too late"


def main() -> None:
    """The trials."""
    torch.set_num_threads(1)
    raw, folder, kills = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), int(sys.argv[3])
    raw["resume_from_checkpoint"] = "newest"
    whole = folder / "whole.pt"
    steps_take = finish(raw | {"output_path": str(folder / "whole")}, whole)
    chance = random.Random(raw["seed"])
    moments: list[str] = []
    found: dict[str, list[str]] = {}
    while len(moments) < kills:
        output, state = folder / f"run {len(moments)}", folder / "killed.pt"
        killed = raw | {"output_path": str(output)}
        for _ in range(min(KILLS_A_RUN, kills - len(moments))):
            moments.append(kill(killed, state, steps_take=0.5 * steps_take, chance=chance))
            if (output / "sae_weights.safetensors").exists():
                break
        if not (output / "sae_weights.safetensors").exists():
            finish(killed, state)
            states = (torch.load(path, weights_only=False) for path in (whole, state))
            found[output.name] = differences(*states)
    json.dump({"moments": moments, "differences": found}, sys.stdout)


if __name__ == "__main__":
    main()
