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
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return low, high

    def ratio(self, other: Times) -> float:
        """The median over rounds of this time by the other's in the same round: what disturbs the machine
        for a while disturbs both."""
        return statistics.median(a / b for a, b in zip(self.seconds, other.seconds))


def interleaved(
    contenders: Mapping[str, Callable[[], object]], rounds: int, warm: int = 2
) -> dict[str, Times]:
    """Call each contender once a round, the order reversed in every second round."""
    names = list(contenders)
    for _ in range(warm):
        for name in names:
            contenders[name]()
    found: dict[str, list[float]] = {name: [] for name in names}
    for k in range(rounds):
        for name in names if k % 2 == 0 else reversed(names):
            began = time.perf_counter()
            contenders[name]()
            found[name].append(time.perf_counter() - began)
    return {name: Times(tuple(v)) for name, v in found.items()}


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
