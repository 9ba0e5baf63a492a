"""Known times at which adaptive steps end: knots of paths, where the rates have kinks of which estimates of
errors say little.

The counterpart of `Stops` in `ndl.runtime.stepping.corners`. The table `stops` has those times inside the
run, in its direction, then two that never come. A trajectory carries the number of the next one.
"""

from __future__ import annotations

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.control import Control
from ndl.compiler.kernels.field import Field
from ndl.compiler.kernels.ir import Value


class Stops:
    """What a run asks of the stops; false where there can be none."""

    def __init__(self, field: Field, control: Control, adaptive: bool) -> None:
        self.code: Code = field.code
        self.control = control
        self.some = adaptive and not field.model.noises and any(i.on_time for i in field.model.inputs)
        if self.some:
            self.code.buffer("stops", "table", "in")

    def __bool__(self) -> bool:
        return self.some

    @property
    def carried(self) -> tuple[str, ...]:
        return ("stop",) if self else ()

    def limit(self, t: Value, h: Value, target: Value, stop: Value) -> Value:
        """How far a step of size h may go from t, at most to `target`: to the next stop, where it does not
        pass the one after that as well."""
        code, control = self.code, self.control
        after = code.load("stops", code.op("add", stop, code.const(1, "i32")))
        room = control.forward(code.op("sub", after, t))
        few = code.op("lt", control.smaller(h, control.longest), room)
        sooner = control.smaller if control.sign > 0 else control.larger
        return code.op("select", few, sooner(code.load("stops", stop), target), target)

    def after(self, t: Value, stop: Value) -> Value:
        """The number of the next stop at t, from an earlier one on."""
        code = self.code

        def passed(carried: tuple[Value, ...]) -> Value:
            ahead = self.control.forward(code.op("sub", code.load("stops", carried[0]), t))
            return code.op("le", ahead, 0.0)

        def onward(carried: tuple[Value, ...]) -> list[Value]:
            return [code.op("add", carried[0], code.const(1, "i32"))]

        (found,) = code.loop([stop], passed, onward)
        return found
