"""Runs at a time: results come in order, and after an interruption no other run begins."""

import os
import signal
import time
from pathlib import Path

import pytest

from experiments.study.processes import in_processes


def stopped_by_the_second(item: tuple[Path, int]) -> int:
    """Leave a file; the first waits for the second, which gets Ctrl-C."""
    folder, number = item
    (folder / str(number)).touch()
    if number == 1:
        os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)
    return number


@pytest.mark.slow
def test_after_an_interruption_no_other_item_begins(tmp_path: Path) -> None:
    assert list(in_processes(abs, [-1, -2, -3], 2)) == [1, 2, 3]
    with pytest.raises(KeyboardInterrupt):
        list(in_processes(stopped_by_the_second, [(tmp_path, number) for number in range(6)], 2))
    assert {path.name for path in tmp_path.iterdir()} <= {"0", "1", "2"}
