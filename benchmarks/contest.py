"""A work that several contestants do: who they are, what counts as done, and the race between them.

A contestant that cannot run here (its package or a compiler is absent) or that fails is a row of the table,
never the end of the run. Ratios are given only between results of about the same error.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.measure import Others, Times, interleaved

Call = Callable[[], Any]
NDL, USUAL, PEER, RULER = "NDL", "usual", "peer", "by hand"

TURN = 0.2
"""Seconds of a turn: a step of a training is one of many in a row, not the first after somebody else's."""


class Missing(Exception):
    """Raised by `prepare` of a contestant that cannot run here; says why."""


@dataclass(frozen=True)
class Contestant:
    """`prepare()` imports, builds and compiles, and gives the call that is timed; kind is NDL, USUAL, ….

    The call's result goes to the work's `error`. Everything it does is timed, and it must be done when it
    returns.
    """

    name: str
    kind: str
    prepare: Callable[[], Call]


@dataclass(frozen=True)
class Work:
    """A problem as data, held by the contestants' closures, and the measure of their results.

    error        of a result; `error_name` says of what and in which norm
    limit        a result with a larger error is wrong, and gets no ratios
    statistical  the error is one draw, so that any two below the limit are equal
    floor        errors below it are equal: what rounding leaves
    remark       more words about the results, asked for when all are there
    """

    title: str
    contestants: Sequence[Contestant]
    error: Callable[[Any], float]
    error_name: str
    limit: float
    statistical: bool = False
    floor: float = 0.0
    remark: Callable[[], str] = str

    def equal(self, error: float, other: float) -> bool:
        """Whether a result with `error` may claim to be faster than one with the error `other`."""
        if not (error <= self.limit and other <= self.limit):
            return False
        return self.statistical or error <= 4 * max(other, self.floor)


@dataclass(frozen=True)
class Outcome:
    """What became of a contestant: `first` are the seconds of preparing and of the first call; `note` says
    why there are no times."""

    name: str
    kind: str
    first: float | None = None
    error: float | None = None
    times: Times | None = None
    note: str = ""


@dataclass(frozen=True)
class Result:
    """A work's outcomes, and how many cores others used meanwhile (None where that is not known)."""

    work: Work
    outcomes: tuple[Outcome, ...]
    others: float | None


def race(work: Work, rounds: int, patience: float = 20.0) -> Result:
    """Prepare everybody, check results, then time the contestants in turns.

    Who needs more than `patience` seconds for a call is timed by that call alone.
    """
    outcomes: dict[str, Outcome] = {}
    ready: dict[str, Call] = {}
    found: dict[str, Times] = {}
    others = Others()
    for contestant in work.contestants:
        outcome, call = _first(work, contestant)
        outcomes[outcome.name] = outcome
        if call is not None and outcome.times is not None:
            ready[outcome.name] = call
            # a first call that is slow may have compiled something: then the second one counts
            slow = outcome.times.median > 3 * patience
            found[outcome.name] = outcome.times if slow else Times((_seconds(call),))
    quick = {name: call for name, call in ready.items() if found[name].median <= patience}
    # thread pools of the last contestant spin for some milliseconds
    found |= interleaved(quick, rounds, warm=0, pause=0.02, turn=TURN) if quick else {}
    for name, times in found.items():
        old = outcomes[name]
        note = "" if name in quick else "one run"
        outcomes[name] = Outcome(name, old.kind, old.first, old.error, times, note)
    return Result(work, tuple(outcomes.values()), others.cores())


def _first(work: Work, contestant: Contestant) -> tuple[Outcome, Call | None]:
    name, kind = contestant.name, contestant.kind
    began = time.perf_counter()
    try:
        call = contestant.prepare()
        prepared = time.perf_counter()
        result = call()
        ended = time.perf_counter()
        outcome = Outcome(name, kind, ended - began, work.error(result), Times((ended - prepared,)))
    except (Missing, ImportError) as trouble:
        return Outcome(name, kind, note=f"missing: {_line(trouble)}"), None
    except Exception as trouble:
        return Outcome(name, kind, note=f"failed: {type(trouble).__name__}: {_line(trouble)}"), None
    gc.collect()
    return outcome, call


def _seconds(call: Call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _line(trouble: BaseException) -> str:
    lines = str(trouble).strip().splitlines()
    return (lines[0] if lines else "")[:90]


def speed(work: Work, outcome: Outcome, over: Outcome | None) -> float | None:
    """How many times faster than `over`, or None where the two may not be compared."""
    if over is None or outcome.times is None or over.times is None:
        return None
    if outcome.error is None or over.error is None or not work.equal(outcome.error, over.error):
        return None
    return over.times.ratio(outcome.times)


def usual(result: Result) -> Outcome | None:
    """The usual library's outcome, if it has one."""
    return next((o for o in result.outcomes if o.kind == USUAL and o.times is not None), None)


def best_peer(result: Result) -> Outcome | None:
    """The fastest library whose result is right; hand-written code is a ruler, not a peer."""
    right = [
        o
        for o in result.outcomes
        if o.kind in (USUAL, PEER) and o.times and o.error is not None and o.error <= result.work.limit
    ]
    return min(right, key=lambda o: o.times.median if o.times else 0.0, default=None)


def check(works: Sequence[Work]) -> list[str]:
    """Run the hand-written rulers alone; what is wrong with them, a line each."""
    wrong = []
    for work in works:
        for contestant in work.contestants:
            if contestant.kind != RULER:
                continue
            outcome, _ = _first(work, contestant)
            good = outcome.error is not None and outcome.error <= work.limit
            shown = outcome.note or f"error {outcome.error:.2g}, limit {work.limit:.2g}"
            print(f"{work.title}: {contestant.name}: {shown}")
            if not good and not outcome.note.startswith("missing"):
                wrong.append(f"{work.title}: {contestant.name}: {shown}")
    return wrong
