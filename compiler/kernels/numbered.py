"""Methods on a right-hand side that depends on the number of the step: by draws for each step or by the past.

The counterpart of `ndl.runtime.stepping.drawn`. Carried besides is the number of accepted steps, so that
every stage, a rejected attempt and the way back see the same draws and the same part of the past.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from ndl.compiler.kernels.control import Control
from ndl.compiler.kernels.explicit import ExplicitStepper
from ndl.compiler.kernels.ir import Unsupported, Value
from ndl.compiler.kernels.outputs import Dense
from ndl.compiler.kernels.stepper import Attempt, Stepper


def numbered(stepper: Stepper) -> Stepper:
    """The stepper itself, or for a model with draws for each step or delays one that numbers its steps."""
    return NumberedStepper(stepper) if stepper.field.drawing or stepper.field.past else stepper


class NumberedStepper(Stepper):
    """Runs `inner`. Raises `Unsupported` for methods that look at the right-hand side outside of steps."""

    def __init__(self, inner: Stepper) -> None:
        super().__init__(inner.code, inner.field)
        if inner.field.past and (inner.proposes or getattr(inner, "short", False)):
            raise Unsupported(f"`{inner.name}` takes parts of steps, which have no past")
        if inner.field.past.moving and not isinstance(inner, ExplicitStepper):
            raise Unsupported(f"`{inner.name}` is for delays that stay the same")
        self.inner, self.name, self.error_order = inner, inner.name, inner.error_order
        self.proposes = inner.proposes
        self.memory, self.scaled, self.notes, self.dyadic = (
            inner.memory, inner.scaled, inner.notes, inner.dyadic,
        )  # fmt: skip
        self.output = inner.output
        if self.field.past:
            self.field.past.record = inner.record()
        self.straight, self.looks, self.renews = inner.straight, inner.looks, inner.renews

    def prepare(self, control: Control | None) -> None:
        self.inner.prepare(control)

    # ------------------------------------------------------------ what is carried

    def carried(self, names: Sequence[str]) -> tuple[str, ...]:
        return (*self.inner.carried(names), "number")

    def begin(self, t: Value, x: list[Value], f0: list[Value] | None) -> list[Value]:
        f0 = None if self.field.drawing else f0
        return [*self.inner.begin(t, x, f0), self.whole(0)]

    def restart(
        self, t: Value, x: list[Value], f0: list[Value] | None, made: Attempt, cut: Value
    ) -> list[Value]:
        number = made.taken[-1]
        with self.field.past.step(number, t, made.h):
            carry = self.inner.restart(t, x, None, _inner(made), cut)
        return [*carry, number]

    def leaf(self) -> Value | None:
        return self.inner.leaf()

    def aim(self, end: Value) -> None:
        self.inner.aim(end)

    def proposal(self, t: Value, h: Value, x: list[Value], carry: list[Value]) -> Value:
        with self.seen(carry[-1], t, h):
            return self.inner.proposal(t, h, x, carry[:-1])

    def slope(self, t: Value, x: Sequence[Value]) -> list[Value]:
        return self.inner.slope(t, x)

    def noted(self, carry: Sequence[Value]) -> list[Value]:
        return self.inner.noted(carry[:-1])

    def start(self, t: Value, x: list[Value]) -> list[Value]:
        return self.inner.start(t, x)

    def known_times(self, t: Value) -> list[Value]:
        return self.inner.known_times(t)

    def held(self, carry: Sequence[Value]) -> list[Value]:
        return self.inner.held(carry[:-1])

    @property
    def holds(self) -> int:
        return self.inner.holds

    def resumed(self, k: Value, t: Value, x: list[Value], held: list[Value]) -> list[Value]:
        return [*self.inner.resumed(k, t, x, held), k]

    def renewed(self, carry: list[Value], fresh: Value) -> list[Value]:
        return [*self.inner.renewed(carry[:-1], fresh), carry[-1]]

    def freshened(self, made: Attempt) -> Value:
        return self.inner.freshened(made)

    # ------------------------------------------------------------ the step

    @contextmanager
    def seen(self, number: Value, t: Value, h: Value) -> Iterator[None]:
        """With the right-hand side as a step sees it."""
        with self.field.turned(number), self.field.past.step(number, t, h):
            yield

    def attempt(self, t: Value, h: Value, x: list[Value], carry: list[Value]) -> Attempt:
        number = carry[-1]
        past = self.field.past
        past.trying, past.late = past.moving, None
        with self.seen(number, t, h):
            made = self.inner.attempt(t, h, x, carry[:-1])
        late, past.trying = past.late, False
        if late is not None:
            known = self.code.op("not", late)
            made.ok = known if made.ok is None else self.code.op("and", made.ok, known)
        made.extra["number"] = number
        made.taken = [*made.taken, self.code.op("add", number, self.whole(1))]
        made.left = [*made.left, number]
        return made

    def kept(self, made: Attempt) -> list[Value]:
        return [*self.inner.kept(made), self.code.op("to_real", made.extra["number"])]

    @property
    def width(self) -> int:
        return self.inner.width + 1

    def again(self, t: Value, h: Value, x: list[Value], kept: list[Value]) -> Attempt:
        number = self.code.op("to_i32", kept[-1])
        with self.seen(number, t, h):
            made = self.inner.again(t, h, x, kept[:-1])
        made.extra["number"] = number
        return made

    def dense(self, made: Attempt) -> Dense:
        with self.seen(made.extra["number"], made.t, made.h):
            found = self.inner.dense(_inner(made))
        return found if self.field.past else _Seen(self, made, found)


class _Seen(Dense):
    """Continuous output whose values are of the step's own right-hand side."""

    def __init__(self, stepper: NumberedStepper, made: Attempt, inner: Dense) -> None:
        self.stepper, self.made, self.inner, self.targets = stepper, made, inner, inner.targets

    def at(self, theta: Value) -> list[Value]:
        made = self.made
        with self.stepper.seen(made.extra["number"], made.t, made.h):
            return self.inner.at(theta)


def _inner(made: Attempt) -> Attempt:
    """An attempt as the method itself knows it."""
    return replace(made, taken=made.taken[:-1], left=made.left[:-1])
