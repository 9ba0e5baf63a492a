"""Where the steps of a trajectory end and what their size is: by their error, or on a grid of times."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.control import BROKEN, STUCK, TINY, Control, Slope
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.math.coarse import log2_of
from ndl.compiler.kernels.stepper import Attempt

REACHED = {"f64": 1e-9, "f32": 1e-5}
"""The part of a fixed step by which a time of the grid may be missed."""


@dataclass(frozen=True)
class Judged:
    """An attempt, judged: whether it is accepted, the square of its scaled error, whether the run cannot go
    on and how it ends then (`status`), and what is carried."""

    accept: Value
    square: Value
    broken: Value
    status: Value
    after: list[Value]


class Pace(ABC):
    """What is carried starts with the size of the next step."""

    carried: tuple[str, ...]

    def __init__(self, code: Code, slope: Slope, control: Control, order: float) -> None:
        self.code, self.slope, self.control, self.order = code, slope, control, order

    @abstractmethod
    def begin(self, t: Value, x: Sequence[Value]) -> tuple[list[Value], list[Value] | None]:
        """What is carried at first, and the slope at (t, x) where it is known."""

    @abstractmethod
    def end(self, t: Value, carried: Sequence[Value], target: Value) -> tuple[Value, Value]:
        """Where the next step ends, which does not pass `target`, and whether it no longer moves t."""

    @abstractmethod
    def judge(self, made: Attempt, carried: Sequence[Value], still: Value, cut: Value) -> Judged:
        """The verdict on an attempt that was cut short (`cut`) by the target, or does not move t."""

    @abstractmethod
    def jumped(
        self, t: Value, x: Sequence[Value], carried: Sequence[Value]
    ) -> tuple[list[Value], list[Value] | None]:
        """The same as `begin`, after a jump."""

    def landed(self, t: Value, carried: Sequence[Value]) -> list[Value]:
        """What is carried after a step that ended at t."""
        return list(carried)

    def aim(self, t: Value, h: Value, end: Value, carried: Sequence[Value]) -> Value | None:
        """Where a step by h comes to, if that is not t + h, rounded."""
        return None

    def numbers(self, made: Attempt) -> Value:
        """Whether an attempt came to finite values, and its iteration to an end."""
        code = self.code
        total = code.op("abs", made.x1[0])
        for v in made.x1[1:]:
            total = code.op("add", total, code.op("abs", v))
        found = code.op("isfinite", total)
        return found if made.ok is None else code.op("and", found, made.ok)


class ErrorPace(Pace):
    """The error decides. Carried are the size of the next step, the logarithm of the last squared error, and
    whether the last attempt was rejected."""

    carried = ("h", "log_old", "again")

    def begin(self, t: Value, x: Sequence[Value]) -> tuple[list[Value], list[Value] | None]:
        h, f0 = self.control.first_step(self.slope, t, x, self.order)
        return [h, self.code.const(0.0), self.code.const(False, "bool")], f0

    def jumped(
        self, t: Value, x: Sequence[Value], carried: Sequence[Value]
    ) -> tuple[list[Value], list[Value] | None]:
        return self.begin(t, x)

    def end(self, t: Value, carried: Sequence[Value], target: Value) -> tuple[Value, Value]:
        return self.control.end(t, carried[0], target)

    def judge(self, made: Attempt, carried: Sequence[Value], still: Value, cut: Value) -> Judged:
        code, control, (h, log_old, again) = self.code, self.control, carried
        assert made.error is not None
        square = control.mean_square(made.error, control.scale(made.x0, made.x1))
        fine = code.op("isfinite", square)
        if made.ok is not None:
            fine = code.op("and", fine, made.ok)
        accept = code.op("and", fine, code.op("le", square, 1.0))
        accept = code.op("and", accept, code.op("not", still))
        log_error = control.log_error(square)
        factor = control.factor(log_error, log_old, accept, again, fine)
        if made.ok is not None:
            # an iteration that failed wants a smaller step, whatever the error
            factor = code.op("select", made.ok, factor, 0.25)
        next_h = code.op("mul", code.op("abs", made.h), factor)
        # a step cut short by the end of a stretch says little against the one proposed before it
        cut = code.op("and", cut, code.op("not", again))
        next_h = code.op("select", code.op("and", accept, cut), control.larger(next_h, h), next_h)
        old = control.larger(log_error, log2_of(1e-8))
        after = [next_h, code.op("select", accept, old, log_old), code.op("not", accept)]
        return Judged(accept, square, still, code.const(TINY, "i32"), after)


class ProposedPace(ErrorPace):
    """The method proposes steps whose errors it has seen to; only values that are not finite are rejected."""

    def judge(self, made: Attempt, carried: Sequence[Value], still: Value, cut: Value) -> Judged:
        code, control, (h, _, again) = self.code, self.control, carried
        assert made.error is not None
        square = control.mean_square(made.error, control.scale(made.x0, made.x1))
        accept = code.op("and", self.numbers(made), code.op("not", still))
        factor = code.op("select", accept, 1.0, control.smaller_step)
        next_h = code.op("mul", code.op("abs", made.h), factor)
        cut = code.op("and", cut, code.op("not", again))
        next_h = code.op("select", code.op("and", accept, cut), control.larger(next_h, h), next_h)
        after = [next_h, code.const(0.0), code.op("not", accept)]
        return Judged(accept, square, still, code.const(TINY, "i32"), after)


class GridPace(Pace):
    """Steps end at the times of the table `ends`, and where an event cuts them short. Carried are the size of
    the last step and the place in the table."""

    carried = ("h", "place")

    def __init__(self, code: Code, slope: Slope, control: Control, order: float) -> None:
        super().__init__(code, slope, control, order)
        code.buffer("ends", "table", "in")

    def begin(self, t: Value, x: Sequence[Value]) -> tuple[list[Value], list[Value] | None]:
        return [self.code.const(0.0), self.code.const(0, "i32")], None

    def jumped(
        self, t: Value, x: Sequence[Value], carried: Sequence[Value]
    ) -> tuple[list[Value], list[Value] | None]:
        return list(carried), None

    def end(self, t: Value, carried: Sequence[Value], target: Value) -> tuple[Value, Value]:
        control, end = self.control, self.code.load("ends", carried[1])
        sooner = control.smaller if control.sign > 0 else control.larger
        return sooner(end, target), self.code.const(False, "bool")

    def judge(self, made: Attempt, carried: Sequence[Value], still: Value, cut: Value) -> Judged:
        code, accept, status = self.code, self.numbers(made), self.code.const(BROKEN, "i32")
        if made.ok is not None:
            status = code.op("select", made.ok, status, code.const(STUCK, "i32"))
        accept = code.op("and", accept, code.op("not", still))
        square = code.const(0.0)
        if made.error is not None:
            square = self.control.mean_square(made.error, self.control.scale(made.x0, made.x1))
        return Judged(accept, square, code.op("not", accept), status, [made.h, carried[1]])

    def landed(self, t: Value, carried: Sequence[Value]) -> list[Value]:
        code, control, (h, place) = self.code, self.control, carried
        left = control.forward(code.op("sub", code.load("ends", place), t))
        near = code.op("mul", control.first, REACHED[code.precision])
        there = code.op("from_bool", code.op("le", left, near))
        return [h, code.op("add", place, there)]

    def aim(self, t: Value, h: Value, end: Value, carried: Sequence[Value]) -> Value | None:
        """Times of the grid are met as they are."""
        code = self.code
        whole = code.op("eq", end, code.load("ends", carried[1]))
        return code.op("select", whole, end, code.op("add", t, h))
