"""Ctrl-C, SIGTERM and SIGHUP as a wish to stop between two steps, where a run can be gone on with exactly."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# a terminal and a wrapper such as `uv run` may both pass one Ctrl-C on; seconds in which that is one
ECHO = 2.0


class Interrupted(KeyboardInterrupt):
    """The run was stopped by a signal between two steps."""


def came_of_a_signal(error: BaseException | None) -> bool:
    """Whether an error arose while a run was being stopped by a signal, or by another Ctrl-C."""
    while error is not None and not isinstance(error, KeyboardInterrupt | SystemExit):
        error = error.__context__
    return error is not None


class StopSignals:
    """
    Whether the run has been asked to stop.

    A first Ctrl-C, SIGTERM or, unless ``nohup`` has it ignored, SIGHUP is only noted, as an optimiser step that is broken
    off leaves neither the state before nor the one after it; a later one raises ``KeyboardInterrupt`` at once.

    In a job of submitit, SIGTERM is left to submitit, which ignores it, and the signal on which submitit queues the job
    again is noted and handed on to it once the run has stopped.

    Args:
        on_first: Called with the name of the first signal.
    """

    def __init__(self, on_first: Callable[[str], None] = lambda _: None) -> None:
        self._on_first = on_first
        self._name: str | None = None
        self._came = 0.0

    def raise_if_asked(self) -> None:
        """
        To be called between two steps.

        Raises:
            Interrupted: a signal has come.
        """
        if self._name is not None:
            raise Interrupted(self._name)

    @contextmanager
    def caught(self) -> Iterator[None]:
        """
        Note signals in here; in the main thread only, where Python takes them.

        Raises:
            SystemExit: by submitit, when it has queued the job again.
        """
        requeue = _requeue_signal()

        def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
            if self._name is None:
                self._name, self._came = signal.Signals(number).name, time.monotonic()
                self._on_first(self._name)
            elif number != requeue and time.monotonic() - self._came > ECHO:
                raise KeyboardInterrupt

        taken = [signal.SIGINT, *(_to_end() if requeue is None else [requeue])]
        try:
            previous = {number: signal.signal(number, note) for number in taken}
        except ValueError:  # not the main thread
            yield
            return
        try:
            yield
        except Interrupted:
            if requeue is not None and self._name == requeue.name and callable(handler := previous[requeue]):
                handler(requeue, None)
            raise
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def _to_end() -> list[signal.Signals]:
    """The signals, beside Ctrl-C, on which a process is to end: SIGTERM, and SIGHUP where it is there and not ignored."""
    hang_up = getattr(signal, "SIGHUP", None)
    return [signal.SIGTERM, *([] if hang_up is None or signal.getsignal(hang_up) is signal.SIG_IGN else [hang_up])]


def _requeue_signal() -> signal.Signals | None:
    """The signal on which submitit queues the job again that this process is; None where it is no such job."""
    if "SUBMITIT_EXECUTOR" not in os.environ:
        return None
    number = getattr(signal, f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}", None)
    # a process that the job has started inherits the environment and not the handlers
    return number if number is not None and callable(signal.getsignal(number)) else None
