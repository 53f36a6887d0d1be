"""Ctrl-C, SIGTERM and SIGHUP stop a run between two steps, where it can be resumed exactly."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console

from sae_lens_abstopk.system.errors import causes

# seconds within which a terminal and a wrapper such as `uv run` may both forward one Ctrl-C
ECHO = 2.0


class Interrupted(KeyboardInterrupt):
    """The run was stopped by a signal between two steps."""


class StoppedAfterTraining(Interrupted):
    """A signal came after the last step: the SAEs are saved in ``folders``, by name, and may not be measured."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        super().__init__()
        self.folders = folders


def caused_by_signal(error: BaseException | None) -> bool:
    """Return whether an error arose while a run was being stopped by a signal."""
    return any(isinstance(cause, KeyboardInterrupt | SystemExit) for cause in causes(error))


class StopSignals:
    """
    Handler of stop signals; prints a line on ``console`` at the first one.

    The first Ctrl-C, SIGTERM or SIGHUP (unless ``nohup`` ignores it) is only noted, because half a step cannot be
    resumed; a second one raises ``KeyboardInterrupt`` at once. In a submitit job, its requeue signal is noted instead
    of SIGTERM, and passed on to submitit once the run has stopped.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._name: str | None = None
        self._received_at = 0.0

    def raise_if_asked(self) -> None:
        """Raise :class:`Interrupted` if a signal has come; call this between two steps."""
        if self._name is not None:
            raise Interrupted(self._name)

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Note signals in the main thread; submitit raises ``SystemExit`` once it has requeued the job."""
        requeue = _requeue_signal()

        def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
            if self._name is None:
                self._name, self._received_at = signal.Signals(number).name, time.monotonic()
                self._console.print(f"{self._name}: stopping after this step; send it again to stop immediately")
            elif number != requeue and time.monotonic() - self._received_at > ECHO:
                raise KeyboardInterrupt

        numbers = [signal.SIGINT, *(_end_signals() if requeue is None else [requeue])]
        try:
            previous = {number: signal.signal(number, note) for number in numbers}
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


def _end_signals() -> list[signal.Signals]:
    found = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    return [number for number in found if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN]


def _requeue_signal() -> signal.Signals | None:
    """Return the signal on which submitit requeues this job; None outside a submitit job."""
    if "SUBMITIT_EXECUTOR" not in os.environ:
        return None
    number = getattr(signal, f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}", None)
    # a process started by the job inherits the environment, not the handlers
    return number if number is not None and callable(signal.getsignal(number)) else None
