"""The way back of a run with adaptive steps that has kept arrays: turn by turn.

Trajectories that run side by side begin together, and attempt t of each is its turn t: what a block of them
keeps at a turn stands together, whoever has it rejected. `tape_turn` has the turn of each accepted step. The
way back goes through the turns of the longest run from the last to the first; a trajectory takes part where
one of its steps was accepted. Table `counts`: how many turns, saved times.
"""

from __future__ import annotations

from ndl.compiler.ir.model import ModelIR
from ndl.compiler.kernels.ir import Kernel, Value
from ndl.compiler.kernels.ode_adjoint import Backward
from ndl.compiler.kernels.stepper import Stepper, Variant


def backward(model: ModelIR, stepper: Stepper, variant: Variant) -> Kernel:
    """The adjoint kernel."""
    return _Turns(model, stepper, variant).kernel()


class _Turns(Backward):
    """Carried besides is the turn, the same for all trajectories."""

    def __init__(self, model: ModelIR, stepper: Stepper, variant: Variant) -> None:
        super().__init__(model, stepper, variant)
        self.code.buffer("tape_turn", "member", "in", "i32")
        self.even = True

    def more(self) -> list[Value]:
        return [self.steps]

    def recalled(self, k: Value) -> Value:
        return self.now

    def turn(self, carried: list[Value]) -> list[Value]:
        code, at = self.code, self.count
        zero, one = code.const(0, "i32"), code.const(1, "i32")
        k, slot, turn, *mine = carried[at:]
        self.now = code.op("sub", turn, one)
        some = code.op("gt", k, zero)
        step = code.op("select", some, code.op("sub", k, one), zero)
        live = code.op("and", some, code.op("eq", code.load("tape_turn", step), self.now))

        def taken() -> list[Value]:
            return super(_Turns, self).turn(carried)[:-1]

        moved = code.when(live, taken, [*carried[:at], k, slot, *mine])
        return [*moved[: at + 2], self.now, *moved[at + 2 :], self.done(self.now)]
