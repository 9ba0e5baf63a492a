"""Checkpoints of a run: what `gradient = checkpoint(…)` asks for, and the order in which steps are repeated.

A run of L stretches with s states kept, the start one of them, is reversed with the fewest stretches taken
again by the binomial schedule: A. Griewank, A. Walther 2000, "Algorithm 799: revolve", ACM Trans. Math.
Softw. 26, 19–45. With beta(s, r) = (s + r)! / (s! r!) and the least r for which beta(s, r) >= L, none is
taken again more than r times, and all together r L - beta(s + 1, r - 1) times, besides that for the tape.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import comb
from typing import Any

from ndl.runtime.errors import SettingError
from ndl.runtime.memory import amount


@dataclass(frozen=True)
class Checkpoints:
    """So many `states`, or as many as fit into `memory` bytes."""

    states: int | None = None
    memory: float | None = None


def checkpoints_of(gradient: Any) -> Checkpoints | None:
    """What `gradient` says of checkpoints, `("checkpoint", n)` or `("checkpoint", Checkpoints(memory=…))`;
    None for another route. Raises `SettingError` for what makes no sense."""
    if not (isinstance(gradient, tuple) and len(gradient) == 2 and gradient[0] == "checkpoint"):
        return None
    given = gradient[1]
    found = given if isinstance(given, Checkpoints) else Checkpoints(int(given))
    if found.states is not None and found.states < 1:
        raise SettingError("`checkpoint(n)` needs n of at least 1")
    if found.memory is not None and not found.memory > 0:
        raise SettingError("`checkpoint(memory=…)` needs some bytes")
    return found


@dataclass(frozen=True)
class Stretch:
    """Stretches taken again: from number `first`, whose start is checkpoint `source` (-1: that of the run),
    to number `last`, which alone is to be differentiated; before stretch `marks[i][0]` checkpoint
    `marks[i][1]` is written."""

    first: int
    source: int
    marks: tuple[tuple[int, int], ...]
    last: int


def schedule(length: int, places: int) -> Iterator[Stretch]:
    """From the last of `length` stretches to the first, with `places` checkpoints besides the start."""
    held = [(0, length)] if length else []  # intervals that are left; the start of each has a checkpoint
    while held:
        first, end = held[-1]
        source, marks, a = len(held) - 2, [], first
        while end - a > 1 and len(held) <= places:
            middle = a + split(end - a, places + 2 - len(held))
            held[-1] = a, middle
            marks.append((middle, len(held) - 1))
            held.append((middle, end))
            a = middle
        yield Stretch(first, source, tuple(marks), end - 1)
        held.pop()
        if end - 1 > a:
            held.append((a, end - 1))


def split(length: int, states: int) -> int:
    """Where the next checkpoint stands in a run of `length` stretches with `states`, the start one of them:
    at most beta(s, r - 1) stretches before it, and at most beta(s - 1, r) after it."""
    r = repetitions(length, states)
    return max(1, min(beta(states, r - 1), length - beta(states - 1, r - 1)))


def repetitions(length: int, states: int) -> int:
    """The least r with beta(states, r) >= length."""
    r = 0
    while beta(states, r) < length:
        r += 1
    return r


def beta(states: int, r: int) -> int:
    """The longest run that is reversed with `states`, and no stretch taken more than r times again."""
    return comb(states + r, states) if r >= 0 else 0


def cost(length: int, states: int) -> int:
    """How many stretches are taken again, besides those for the tape."""
    r = repetitions(length, states)
    return r * length - beta(states + 1, r - 1)


@dataclass(frozen=True)
class Plan:
    """`places` checkpoints, and stretches of `rows` steps."""

    places: int
    rows: int


def plan(steps: int, rooms: int, state: int = 1, row: int = 1) -> Plan | None:
    """The plan that takes the fewest steps again with room for `rooms` numbers, `state` of which go to a
    checkpoint and `row` to a step on the tape; None where there is no room for one step."""
    best: tuple[int, Plan] | None = None
    for rows in _candidates(min(steps, rooms // row)):
        length = -(-steps // rows)
        places = min((rooms - rows * row) // state, length - 1)
        again = cost(length, places + 1) * rows
        if best is None or again < best[0]:
            best = again, Plan(places, rows)
    return best[1] if best is not None else None


def stretches_for(steps: int, memory: float, state: float, row: float) -> int:
    """The fewest stretches, each taken again once, whose ends (`state` bytes) and longest tape (`row` bytes a
    step) fit into `memory`. Raises `SettingError` where none do."""

    def size(stretches: int) -> float:
        return stretches * state + -(-steps // stretches) * row

    fine = (k for k in range(1, steps + 1) if size(k) <= memory)
    found = next(fine, None)
    if found is None:
        raise too_little(memory, min(map(size, range(1, steps + 1))))
    return found


def too_little(memory: float, least: float) -> SettingError:
    """The error for a memory in which no way back fits."""
    return SettingError(
        f"`checkpoint(memory={memory:g})` is too little: the way back takes {amount(least)} at the least",
        help=f"write `checkpoint(memory={float(f'{1.05 * least:.1e}'):g})`",
    )


def _candidates(most: int) -> list[int]:
    """Lengths of stretches worth a look: all of the short ones, then every twentieth part more."""
    found, k = [], 1
    while k < most:
        found.append(k)
        k = max(k + 1, k + k // 20)
    return [*found, most] if most >= 1 else []
