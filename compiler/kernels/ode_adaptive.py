"""Adaptive explicit steps of ordinary equations: every trajectory at its own time, with its own step.

Tables: `settings` (see `control`), `times` (saved times), `counts` (most steps, saved times, rows of the
tape). Row r of `saved` is component r % n of saved time r // n. With a tape, `tape_t`, `tape_h` and
`tape_error` have a row for each accepted step and `tape` n of them, the state at its start; steps beyond the
tape are counted, not kept. Rows of `report`: accepted steps, rejected ones, evaluations, how it ended.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ndl.compiler.ir.model import ModelIR
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.control import BROKEN, OK, SPENT, TINY, Control
from ndl.compiler.kernels.explicit import Step, Tableau, complete, errors, inside, stages
from ndl.compiler.kernels.field import Field
from ndl.compiler.kernels.ir import Kernel, Value
from ndl.compiler.kernels.reverse import pullback
from ndl.compiler.kernels.rows import gather, gather_start, load_rows, state_names, store_rows, title


@dataclass(frozen=True)
class Variant:
    """What a kernel is made for."""

    precision: str
    own: frozenset[str]
    save: bool
    tape: bool
    sign: float = 1.0
    vector: bool = False


def forward(model: ModelIR, tableau: Tableau, variant: Variant, grow: float) -> tuple[Kernel, Field]:
    """The run itself."""
    return _Forward(model, tableau, variant, grow).kernel()


class _Forward:
    def __init__(self, model: ModelIR, tableau: Tableau, variant: Variant, grow: float) -> None:
        self.model, self.tableau, self.v = model, tableau, variant
        self.code = Code(variant.precision)
        self.field = Field(self.code, model, variant.own)
        self.field.declare()
        self.n = self.field.size
        k = tableau.error_order + 1
        self.control = Control(self.code, self.n, k, grow, variant.sign, variant.vector)
        code = self.code
        code.buffer("counts", "table", "in", "i32")
        code.buffer("x0", "member", "in")
        code.buffer("last", "member", "out")
        code.buffer("report", "member", "out", "i32")
        if variant.save:
            code.buffer("times", "table", "in")
            code.buffer("saved", "member", "out")
        if variant.tape:
            for name in ("tape", "tape_t", "tape_h", "tape_error"):
                code.buffer(name, "member", "out")

    def whole(self, number: int) -> Value:
        return self.code.const(number, "i32")

    def kernel(self) -> tuple[Kernel, Field]:
        code, n, tableau = self.code, self.n, self.tableau
        with code.block(shared=True) as entry:
            self.field.load_shared()
            self.control.load()
            self.most, self.slots, self.room = (code.load("counts", i) for i in range(3))
        with code.block() as begin:
            begin.yields = tuple(self.start())
        with code.block([v.type for v in begin.yields]) as step:
            step.yields = tuple(self.turn(list(step.params)))
        with code.block([v.type for v in begin.yields]) as finish:
            for i, v in enumerate(finish.params[:n]):
                code.store("last", i, v)
            at = n + (n if tableau.fsal else 0) + 5
            for i, v in enumerate(finish.params[at : at + 4]):
                code.store("report", i, v)
        slopes = [f"{s}'" for s in state_names(self.model)] if tableau.fsal else []
        carried = (
            *state_names(self.model), *slopes, "t", "h", "log_old", "again", "known", "steps", "rejected",
            "evaluations", "status", "slot", *self.field.carried,
        )  # fmt: skip
        doc = title(self.model, tableau.name, "adaptive steps")
        name = f"{self.model.name}_{tableau.name}_adaptive"
        return code.kernel(name, entry, begin, step, finish, carried=carried, doc=doc), self.field

    def start(self) -> list[Value]:
        code, n = self.code, self.n
        mine = self.field.load_own()
        self.field.carry_own(mine)
        x = [code.load("x0", i) for i in range(n)]
        h, f0 = self.control.first_step(self.field, x, self.tableau.error_order)
        slopes = f0 if self.tableau.fsal else []
        slot = self.save_start(x) if self.v.save else self.whole(0)
        zero = self.whole(0)
        false, true = code.const(False, "bool"), code.const(True, "bool")
        return [
            *x, *slopes, self.control.t0, h, code.const(0.0), false, true, zero, zero, self.whole(2),
            zero, slot, *mine,
        ]  # fmt: skip

    def turn(self, carried: list[Value]) -> list[Value]:
        """One attempt, and what follows from it."""
        code, n, control, tableau = self.code, self.n, self.control, self.tableau
        x, rest = carried[:n], carried[n:]
        f0, rest = (rest[:n], rest[n:]) if tableau.fsal else (None, rest)
        t, h, log_old, again, known, steps, rejected, evaluations, _, slot, *mine = rest
        self.field.carry_own(mine)
        end, tiny = control.end(t, h)
        size = code.op("sub", end, t)
        made = stages(code, tableau, self.field, t, size, x, f0)
        square = control.mean_square(errors(code, tableau, made), control.scale(x, made.x1))
        fine = code.op("isfinite", square)
        accept = code.op("and", fine, code.op("le", square, 1.0))
        log_error = code.op("mul", code.op("log", square), 0.5)
        factor = control.factor(log_error, log_old, accept, again, fine)
        next_h = code.op("mul", code.op("abs", size), factor)
        # a step cut short by the end of the span says little against the one proposed before it
        cut = code.op("and", code.op("eq", end, control.t1), code.op("not", again))
        next_h = code.op("select", code.op("and", accept, cut), control.larger(next_h, h), next_h)
        old = control.larger(log_error, math.log(1e-4))
        cost = code.op("sub", self.whole(tableau.main), code.op("from_bool", known))
        evaluations = code.op("add", evaluations, cost)
        if self.v.tape:
            self.keep(accept, steps, t, size, square, x)
        if self.v.save:
            slot = self.save_inside(accept, t, size, end, made, slot)
        yes, no = code.op("from_bool", accept), code.op("from_bool", code.op("not", accept))
        steps, rejected = code.op("add", steps, yes), code.op("add", rejected, no)
        chosen = [code.op("select", accept, a, b) for a, b in zip(made.x1, x)]
        slopes = [] if f0 is None else [code.op("select", accept, a, b) for a, b in zip(made.last, f0)]
        ended = code.op("and", accept, code.op("eq", end, control.t1))
        status, done = self.verdict(tiny, ended, steps, rejected)
        now = code.op("select", accept, end, t)
        stays = code.op("not", accept) if not tableau.fsal else code.const(True, "bool")
        return [
            *chosen, *slopes, now, next_h, code.op("select", accept, old, log_old), code.op("not", accept),
            stays, steps, rejected, evaluations, status, slot, *mine, done,
        ]  # fmt: skip

    def verdict(self, tiny: Value, ended: Value, steps: Value, rejected: Value) -> tuple[Value, Value]:
        """How it stands after an attempt, and whether that is the end."""
        code = self.code
        spent = code.op("ge", code.op("add", steps, rejected), self.most)
        status = code.op("select", spent, self.whole(SPENT), self.whole(OK))
        status = code.op("select", tiny, self.whole(TINY), status)
        status = code.op("select", ended, self.whole(OK), status)
        return status, code.op("or", ended, code.op("or", tiny, spent))

    # ------------------------------------------------------------ what is kept

    def keep(
        self, accept: Value, steps: Value, t: Value, size: Value, square: Value, x: Sequence[Value]
    ) -> None:
        code = self.code

        def write() -> list[Value]:
            code.store("tape_t", steps, t)
            code.store("tape_h", steps, size)
            code.store("tape_error", steps, code.op("sqrt", square))
            store_rows(code, "tape", steps, x)
            return []

        code.when(code.op("and", accept, code.op("lt", steps, self.room)), write)

    def save_start(self, x: Sequence[Value]) -> Value:
        """The saved times at the start; the first slot after them."""
        code, control = self.code, self.control

        def due(carried: tuple[Value, ...]) -> Value:
            return self.due(carried[0], control.t0)

        def turn(carried: tuple[Value, ...]) -> list[Value]:
            store_rows(code, "saved", carried[0], x)
            return [code.op("add", carried[0], self.whole(1))]

        return code.loop([self.whole(0)], due, turn)[0]

    def due(self, slot: Value, t: Value) -> Value:
        """Whether the saved time of a slot has come at t; the table ends with a time that never comes."""
        time = self.code.load("times", slot)
        return self.code.op("le", time, t) if self.v.sign > 0 else self.code.op("ge", time, t)

    def save_inside(self, accept: Value, t: Value, size: Value, end: Value, made: Step, slot: Value) -> Value:
        code = self.code

        def turns() -> list[Value]:
            whole = complete(code, self.tableau, self.field, t, size, made)

            def turn(carried: tuple[Value, ...]) -> list[Value]:
                time = code.load("times", carried[0])
                theta = code.op("div", code.op("sub", time, t), size)
                between = inside(code, self.tableau, whole, theta)
                ended = code.op("eq", time, end)
                values = [code.op("select", ended, a, b) for a, b in zip(made.x1, between)]
                store_rows(code, "saved", carried[0], values)
                return [code.op("add", carried[0], self.whole(1))]

            return list(code.loop([slot], lambda c: self.due(c[0], end), turn))

        return code.when(code.op("and", accept, self.due(slot, end)), turns, [slot])[0]


def backward(model: ModelIR, tableau: Tableau, variant: Variant) -> tuple[Kernel, Field]:
    """The discrete adjoint of the accepted steps: from the cotangents of `last` and `saved` to those of x0
    and of the weights, the steps taken from the last to the first, each again from the state on the tape."""
    code = Code(variant.precision)
    field = Field(code, model, variant.own)
    field.declare()
    n = field.size
    code.buffer("counts", "table", "in", "i32")
    code.buffer("report", "member", "in", "i32")
    for name in ("tape", "tape_t", "tape_h", "grad_last"):
        code.buffer(name, "member", "in")
    if variant.save:
        code.buffer("times", "table", "in")
        code.buffer("grad_saved", "member", "in")
    for name in ("grad_x0", "grad_weights", "grad_own"):
        code.buffer(name, "member", "out")
    with code.block(shared=True) as entry:
        field.load_shared()
        slots = code.load("counts", 1)
    shared, sums = field.flat_weights(False), field.sums()
    zero, one = code.const, lambda: code.const(1, "i32")
    with code.block() as begin:
        start, mine = [code.load("grad_last", i) for i in range(n)], field.load_own()
        nothing = [zero(0.0)] * (len(shared) + len(mine))
        begin.yields = (*start, *nothing, code.load("report", 0), slots, *mine)
    count = n + len(shared) + len(mine)
    with code.block([v.type for v in begin.yields]) as step:
        gx, gw = list(step.params[:n]), list(step.params[n:count])
        (k, slot), rest = step.params[count : count + 2], step.params[count + 2 :]
        field.carry_own(rest)
        k = code.op("sub", k, one())
        t, h = code.load("tape_t", k), code.load("tape_h", k)
        x = load_rows(code, "tape", k, n)
        made = stages(code, tableau, field, t, h, x)
        if variant.save:
            made = complete(code, tableau, field, t, h, made)
            slot, seeds = gather(code, tableau, made, slot, gx, _Times(code, variant.sign, t, h))
        else:
            seeds = dict(zip(made.x1, gx))
        found = pullback(code, list(step.body), seeds, [*x, *shared, *rest], sums)
        gw = [code.op("add", a, b) for a, b in zip(gw, found[n:])]
        step.yields = (*found[:n], *gw, k, slot, *rest, code.op("le", k, code.const(0, "i32")))
    with code.block([v.type for v in begin.yields]) as finish:
        gx, gw, slot = list(finish.params[:n]), finish.params[n:count], finish.params[count + 1]
        if variant.save:
            gx = gather_start(code, slot, gx)
        store_rows(code, "grad_x0", code.const(0, "i32"), gx)
        store_rows(code, "grad_weights", code.const(0, "i32"), gw[: len(shared)])
        store_rows(code, "grad_own", code.const(0, "i32"), gw[len(shared) :])
    name = f"{model.name}_{tableau.name}_adaptive_adjoint"
    doc = title(model, tableau.name, "adjoint of adaptive steps")
    return code.kernel(name, entry, begin, step, finish, doc=doc), field


@dataclass
class _Times:
    """Which saved times belong to a step that starts at t, and where in it they stand."""

    code: Code
    sign: float
    t: Value
    h: Value

    def more(self, slot: Value) -> Value:
        """Whether the saved time before a slot lies after the step's start."""
        code = self.code
        some = code.op("gt", slot, code.const(0, "i32"))
        at = code.op("select", some, code.op("sub", slot, code.const(1, "i32")), slot)
        time = code.load("times", at)
        return code.op("and", some, code.op("gt" if self.sign > 0 else "lt", time, self.t))

    def theta(self, slot: Value) -> Value:
        code = self.code
        return code.op("div", code.op("sub", code.load("times", slot), self.t), self.h)


__all__ = ["BROKEN", "OK", "SPENT", "TINY", "Variant", "backward", "forward"]
