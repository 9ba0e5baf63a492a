"""Timing that is fair to all contenders: they take turns, and what counts is the median."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Times:
    """Seconds of each round, in the order of the rounds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        if len(self.seconds) == 1:
            return self.seconds[0], self.seconds[0]
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, high

    def ratio(self, other: Times) -> float:
        """The median over rounds of this time by the other's in the same round: what disturbs the machine
        for a while disturbs both. Of different numbers of rounds, the ratio of the medians."""
        if len(self.seconds) != len(other.seconds):
            return self.median / other.median
        return statistics.median(a / b for a, b in zip(self.seconds, other.seconds))


def interleaved(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    warm: int = 2,
    pause: float = 0.0,
    turn: float = 0.0,
) -> dict[str, Times]:
    """Each contender has a turn a round, the order reversed in every second round: calls until `turn` seconds
    are over, one at least, of which the mean counts. `pause` seconds before a turn let the threads of the
    last contender come to rest."""
    names = list(contenders)
    for _ in range(warm):
        for name in names:
            contenders[name]()
    found: dict[str, list[float]] = {name: [] for name in names}
    for k in range(rounds):
        for name in names if k % 2 == 0 else reversed(names):
            time.sleep(pause)
            found[name].append(_turn(contenders[name], turn))
    return {name: Times(tuple(v)) for name, v in found.items()}


def _turn(call: Callable[[], object], seconds: float) -> float:
    """The mean time of calls in a row."""
    began, calls = time.perf_counter(), 0
    while True:
        call()
        calls += 1
        spent = time.perf_counter() - began
        if spent >= seconds:
            return spent / calls


class Others:
    """How many cores the rest of the machine has used since this object was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._busy, self._own = _busy(), _own()

    def cores(self) -> float | None:
        """Mean number of cores that other processes kept busy; None where the system does not say."""
        busy = _busy()
        if busy is None or self._busy is None:
            return None
        used = busy - self._busy - (_own() - self._own)
        return max(0.0, used / (time.perf_counter() - self._began))


def _own() -> float:
    return sum(os.times()[:4])


def _busy() -> float | None:
    """Seconds in which some core of the machine worked."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, _, _, *interrupts = (float(v) for v in file.readline().split()[1:8])
    except (OSError, ValueError):
        return None
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """Wall and processor times of a command in fresh processes."""

    wall: Times
    processor: Times


def processes(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, Process]:
    """Run each command once a round in a process of its own, after one round that fills caches.

    Raises RuntimeError with the output of a command that fails.
    """
    wall: dict[str, list[float]] = {name: [] for name in commands}
    used: dict[str, list[float]] = {name: [] for name in commands}
    for k in range(rounds + 1):
        for name, command in commands.items():
            before, began = os.times(), time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            elapsed, after = time.perf_counter() - began, os.times()
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
            if k:
                wall[name].append(elapsed)
                children = after.children_user - before.children_user
                used[name].append(children + after.children_system - before.children_system)
    return {name: Process(Times(tuple(wall[name])), Times(tuple(used[name]))) for name in commands}
