"""Progress of a training run: a rich bar on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO


class Progress(Protocol):
    """What a trainer reports to."""

    def start(self, total: int, done: int = 0) -> None: ...

    def update(self, done: int, loss: float, validation: float | None, phase: str) -> None: ...

    def finish(self) -> None: ...


class Silent:
    """Reports nothing."""

    def start(self, total: int, done: int = 0) -> None:
        pass

    def update(self, done: int, loss: float, validation: float | None, phase: str) -> None:
        pass

    def finish(self) -> None:
        pass


@dataclass
class Plain:
    """A line about ten times in a run, and at least every `seconds`."""

    out: TextIO | None = None
    seconds: float = 30.0
    _total: int = 0
    _done: int = 0
    _first: int = 0
    _began: float = 0.0
    _said: float = 0.0
    _last: tuple[float, float | None, str] | None = None
    _shown: int = field(default=-1)

    def start(self, total: int, done: int = 0) -> None:
        self._total, self._done, self._first = total, done, done
        self._began = self._said = time.monotonic()

    def update(self, done: int, loss: float, validation: float | None, phase: str) -> None:
        self._done, self._last = done, (loss, validation, phase)
        tenth = done * 10 // max(1, self._total) > (done - 1) * 10 // max(1, self._total)
        if tenth or done == self._first + 1 or time.monotonic() - self._said > self.seconds:
            self._say()

    def finish(self) -> None:
        if self._shown != self._done:
            self._say()

    def _say(self) -> None:
        if self._last is None:
            return
        loss, validation, phase = self._last
        self._said, self._shown = time.monotonic(), self._done
        rate = (self._done - self._first) / max(1e-9, self._said - self._began)
        parts = [f"{phase}: " if phase else "", f"step {self._done}/{self._total}", f"  loss {loss:.6g}"]
        if validation is not None:
            parts.append(f"  validation {validation:.6g}")
        parts.append(f"  {speed(rate)}")
        if self._done < self._total:
            parts.append(f"  {clock((self._total - self._done) / max(rate, 1e-9))} left")
        print("".join(parts), file=self.out or sys.stderr, flush=True)


class Bar:
    """A rich progress bar with loss, speed and time left, drawn at most ten times a second."""

    def __init__(self, console: Any) -> None:
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Rich

        self._rich = Rich(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TextColumn("{task.fields[numbers]}"),
            TextColumn("[dim]{task.fields[speed]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=False,
        )
        self._first, self._began, self._drawn = 0, 0.0, 0.0
        self._now: tuple[int, float, float | None, str] | None = None

    def start(self, total: int, done: int = 0) -> None:
        self._first, self._began = done, time.monotonic()
        self._task = self._rich.add_task("fit", total=total, completed=done, numbers="", speed="")
        self._rich.start()

    def update(self, done: int, loss: float, validation: float | None, phase: str) -> None:
        self._now = (done, loss, validation, phase)
        if time.monotonic() - self._drawn > 0.1:
            self._draw()

    def finish(self) -> None:
        self._draw()
        self._rich.stop()

    def _draw(self) -> None:
        if self._now is None:
            return
        done, loss, validation, phase = self._now
        self._drawn = time.monotonic()
        rate = (done - self._first) / max(1e-9, self._drawn - self._began)
        numbers = f"loss {loss:.4g}" + ("" if validation is None else f"  validation {validation:.4g}")
        self._rich.update(
            self._task, completed=done, description=phase or "fit", numbers=numbers, speed=speed(rate)
        )


def progress(kind: str = "auto") -> Progress:
    """`rich`, `plain`, `silent`, or `auto`: a bar on a terminal, lines elsewhere. Goes to stderr."""
    if kind == "silent":
        return Silent()
    if kind == "plain":
        return Plain()
    from rich.console import Console

    console = Console(stderr=True)
    return Bar(console) if kind == "rich" or console.is_terminal else Plain()


def speed(rate: float) -> str:
    """Steps a second, or seconds a step when slow."""
    return f"{rate:.3g} steps/s" if rate >= 1 or rate == 0 else f"{1 / rate:.3g} s/step"


def clock(seconds: float) -> str:
    """`1:05` or `2:03:04`."""
    whole = round(seconds)
    minutes, s = divmod(whole, 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"
