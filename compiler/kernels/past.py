"""Delayed states, `x(t - tau)`, as scalar code: the steps that a trajectory has taken, and reads in them.

The counterpart of `ndl.runtime.past`. The buffer `history`
has the delayed components of the initial state (c rows), then for each accepted step (w rows) its time and
size and what continuous output is made of (`recorded`). Before the start the past is the initial
value. A step reads on one smooth piece of the past: at a time where two old steps meet, its start reads the
later one and its end the earlier one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from ndl.compiler.ir.model import ModelIR
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.loaded import Loaded
from ndl.compiler.kernels.outputs import Dense
from ndl.compiler.kernels.recorded import Cubic, Record
from ndl.compiler.kernels.scalars import Values

Lag = Callable[[int, Value | None, Sequence[Value] | None], Value | None]

NEAR = 1e-8
"""The part of a step within which two times are the same."""


@dataclass(frozen=True)
class Under:
    """The step under way: how many were accepted before it, its start and its size."""

    number: Value
    t: Value
    h: Value


class Past:
    """The past of a trajectory. `lag(k, t, x)` gives how far back read number k goes at (t, x), and that only
    where the lag changes in a run."""

    def __init__(self, code: Code, model: ModelIR, lag: Lag) -> None:
        self.code, self.delays, self.lag = code, model.delays, lag
        self.moving = any(not d.constant for d in model.delays)
        self.trying = False
        """Whether reads are those of a step that is tried, with lags that change."""
        self.late: Value | None = None
        """Whether it has read what is not known yet."""
        at, self.places = 0, dict[str, range]()
        for s in model.states:
            self.places[s.name] = range(at, at + s.size)
            at += s.size
        self.kept = sorted({p for d in model.delays for p in self.places[d.state]})
        self.record: Record = Cubic(code)
        self.under: Under | None = None
        self.loaded = Loaded(code, "grad_history")
        """Numbers of the history."""
        self.shifting = False
        """Whether the times of steps have derivatives."""

    def __bool__(self) -> bool:
        return bool(self.delays)

    @property
    def width(self) -> tuple[int, int]:
        """c and w."""
        return len(self.kept), self._first(len(self.kept))

    def _first(self, place: int) -> int:
        """Where the numbers of a kept component begin among a step's rows."""
        return 2 + sum(self.record.width(p) for p in (None, *self.kept[:place]))

    def shortest(self, t: Value, x: Sequence[Value]) -> Value:
        """The shortest lag of a step from (t, x)."""
        found = [lag for k in range(len(self.delays)) if (lag := self.lag(k, t, x)) is not None]
        least = found[0] if found else self.code.const(float("inf"))
        for lag in found[1:]:
            least = self.code.op("minimum", least, lag)
        return least

    @contextmanager
    def step(self, number: Value, t: Value, h: Value) -> Iterator[None]:
        """With reads for the step number `number` from t by h."""
        before, self.under = self.under, Under(number, t, h)
        try:
            yield
        finally:
            self.under = before

    # ------------------------------------------------------------ what is written

    def start(self, x: Sequence[Value]) -> None:
        """The initial state."""
        for i, p in enumerate(self.kept):
            self.code.store("history", i, x[p])

    def write(self, number: Value, t: Value, h: Value, dense: Dense) -> None:
        """An accepted step with its continuous output."""
        values = [t, h, *self.record.common(dense), *self._parts(dense)]
        for i, v in enumerate(values):
            self.code.store("history", self.row(number, i), v)

    def _parts(self, dense: Dense) -> list[Value]:
        return [v for p in self.kept for v in self.record.of(dense, p)]

    def targets(self, dense: Dense) -> list[tuple[int, Value]]:
        """What continuous output depends on, by place in a step's rows."""
        return list(enumerate(self._parts(dense), self._first(0)))

    def row(self, number: Value, i: int) -> Value:
        """Row i of a step."""
        code, (first, width) = self.code, self.width
        at = code.op("mul", number, code.const(width, "i32"))
        return code.op("add", at, code.const(first + i, "i32"))

    # ------------------------------------------------------------ what is read

    def read(self, k: int, shape: tuple[int, ...], at: Value) -> Values:
        """Read number k, at the time `at`."""
        step, before = self._found(k, at)
        components = self.places[self.delays[k].state]
        out = np.empty(len(components), dtype=object)
        theta, inside = self._inside(step, before, at)
        for i, p in enumerate(components):
            out[i] = self._component(step, before, theta, inside, self.kept.index(p))
        return out.reshape(shape)

    def _inside(self, step: Value, before: Value, at: Value) -> tuple[Value, list[Value]]:
        """The fraction of a step, and what all components want of a time in it."""
        code = self.code
        load = self._number if self.shifting else self._load
        start, size = load(step, 0), load(step, 1)
        # nobody looks at what has not been written
        start, size = code.op("select", before, at, start), code.op("select", before, 1.0, size)
        theta = code.op("select", before, 0.5, code.op("div", code.op("sub", at, start), size))
        common = [self._load(step, i) for i in range(2, self._first(0))]
        # rounded twice, as the times are at which a path is asked
        time = code.op("add", start, code.op("mul", theta, size))
        return theta, self.record.inside(common, theta, time)

    def _component(
        self, step: Value, before: Value, theta: Value, inside: Sequence[Value], place: int
    ) -> Value:
        code, p, first = self.code, self.kept[place], self._first(place)
        numbers = [self._number(step, first + i) for i in range(self.record.width(p))]
        initial = self.loaded.load("history", code.const(place, "i32"))
        return code.op("select", before, initial, self.record.value(p, numbers, inside, theta))

    def _load(self, step: Value, i: int) -> Value:
        return self.code.load("history", self.row(step, i))

    def _number(self, step: Value, i: int) -> Value:
        return self.loaded.load("history", self.row(step, i))

    def _found(self, k: int, at: Value) -> tuple[Value, Value]:
        """The step that holds a time, and whether there is none before the start."""
        code, zero = self.code, self.code.const(0, "i32")
        if self.under is None:
            return zero, code.const(True, "bool")
        under = self.under
        asked = self._nudged(k, at, under)
        if self.trying:
            ahead = code.op("gt", asked, code.op("fma", under.h, NEAR, under.t))
            self.late = ahead if self.late is None else code.op("or", self.late, ahead)
        key, args = f"past {k}", (asked, under.number)
        step, before = code.recall(f"{key} step", args), code.recall(f"{key} before", args)
        if step is None or before is None:
            step = self._searched(asked, under.number)
            before = code.op("lt", step, zero)
            step = code.op("select", before, zero, step)
            code.know(f"{key} step", args, step)
            code.know(f"{key} before", args, before)
        return step, before

    def _nudged(self, k: int, at: Value, under: Under) -> Value:
        """A time, shifted into the piece that the step under way reads, for its two ends."""
        code, lag = self.code, self.lag(k, None, None) if self.delays[k].constant else None
        if lag is None:
            return at
        share = code.op("div", code.op("sub", code.op("add", at, lag), under.t), under.h)
        first = code.op("lt", code.op("abs", share), NEAR)
        last = code.op("lt", code.op("abs", code.op("sub", share, 1.0)), NEAR)
        little = code.op("mul", under.h, NEAR)
        back = code.op("select", last, code.op("neg", little), 0.0)
        return code.op("add", at, code.op("select", first, little, back))

    def _searched(self, at: Value, number: Value) -> Value:
        """The last of the first `number` steps that starts at a time or before it; -1 where none does."""
        code = self.code
        one = code.const(1, "i32")

        def wide(carried: tuple[Value, ...]) -> Value:
            return code.op("gt", code.op("sub", carried[1], carried[0]), one)

        def halve(carried: tuple[Value, ...]) -> list[Value]:
            low, high = carried
            # low may be -1: halves of low + high + 2 are those of whole numbers
            both = code.op("add", code.op("add", low, high), code.const(2, "i32"))
            middle = code.op("sub", code.op("shr", both, one), one)
            upper = code.op("le", self._load(middle, 0), at)
            return [code.op("select", upper, middle, low), code.op("select", upper, high, middle)]

        found = code.loop([code.const(-1, "i32"), number], wide, halve)
        code.fixed.update(found)
        return found[0]
