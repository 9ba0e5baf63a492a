"""Checkpoints of a run: what `gradient = checkpoint(…)` asks for, and the order in which stretches are taken again.

A run of L stretches with s states kept, the start one of them, is reversed with the fewest stretches taken
again by the binomial schedule: A. Griewank, A. Walther 2000, "Algorithm 799: revolve", ACM Trans. Math. Softw.
26, 19–45. With beta(s, r) = (s + r)! / (s! r!) at least L > beta(s, r - 1), none is taken more often than r
times, and all of them together r L - beta(s + 1, r - 1) times besides the one for the tape.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import comb
from typing import Any

from ndl.runtime.errors import SettingError


@dataclass(frozen=True)
class Checkpoints:
    """So many `states`, or as many as fit into `memory` bytes."""

    states: int | None = None
    memory: float | None = None


def checkpoints_of(gradient: Any) -> Checkpoints | None:
    """What `gradient` says of checkpoints: `("checkpoint", n)`, `("checkpoint", {"memory": bytes})` or
    `Checkpoints` itself; None for another route. Raises `SettingError` for what makes no sense."""
    if isinstance(gradient, Checkpoints):
        found = gradient
    elif isinstance(gradient, tuple) and len(gradient) == 2 and gradient[0] == "checkpoint":
        given = gradient[1]
        found = Checkpoints(**given) if isinstance(given, dict) else Checkpoints(int(given))
    else:
        return None
    if (found.states is None) == (found.memory is None):
        raise SettingError("`checkpoint` takes a number of states, or `memory` in bytes")
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


def _candidates(most: int) -> list[int]:
    """Lengths of stretches worth a look: all of the short ones, then every twentieth part more."""
    found, k = [], 1
    while k < most:
        found.append(k)
        k = max(k + 1, k + k // 20)
    return [*found, most] if most >= 1 else []
