"""Ctrl-C and SIGTERM during training: the running step ends, then the trainer saves and stops; a step that
does not end soon is given up."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Overdue(KeyboardInterrupt):
    """The step that was running when a signal came did not end in time."""


class Interrupts:
    """While entered, the first signal only sets `name`; a second one acts at once, as it would without.
    `grace` seconds after the first, `Overdue` is raised unless `settle` was called."""

    def __init__(self, grace: float = 10.0) -> None:
        self.name: str | None = None
        self.grace = grace
        self._old: dict[int, Any] = {}
        self._alarm: Any = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.settle()
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        self._restore()
        if hasattr(signal, "setitimer"):  # not on Windows, where a stuck step needs a second Ctrl-C
            self._alarm = signal.signal(signal.SIGALRM, self._overdue)
            signal.setitimer(signal.ITIMER_REAL, self.grace)

    def settle(self) -> None:
        """The step has ended: nothing is overdue any more."""
        if self._alarm is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._alarm)
            self._alarm = None

    def _overdue(self, number: int, frame: FrameType | None) -> None:
        raise Overdue

    def _restore(self) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._old = {}
