"""Adaptive steps of ordinary equations: every trajectory at its own time, with its own step.

Tables: `settings` (see `control`), `times` (saved times), `counts` (most steps, saved times, rows of the
tape). Row r of `saved` is component r % n of saved time r // n. With a tape, `tape_t`, `tape_h` and
`tape_error` have a row for each accepted step and `tape` the state at its start and what the method keeps;
steps beyond the tape are counted, not kept. Rows of `report`: accepted steps, rejected ones, evaluations, how
it ended.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ndl.compiler.ir.model import ModelIR
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.control import OK, SPENT, TINY, UNMET, Control
from ndl.compiler.kernels.field import Field
from ndl.compiler.kernels.ir import Kernel, Value
from ndl.compiler.kernels.rows import state_names, store_rows, title
from ndl.compiler.kernels.stepper import Attempt, Stepper, Variant


def forward(model: ModelIR, stepper: Stepper, variant: Variant) -> Kernel:
    """The run itself."""
    return _Forward(model, stepper, variant).kernel()


class _Forward:
    def __init__(self, model: ModelIR, stepper: Stepper, variant: Variant) -> None:
        self.model, self.stepper, self.v = model, stepper, variant
        self.code: Code = stepper.code
        self.field: Field = stepper.field
        self.n = self.field.size
        k = stepper.error_order + 1
        self.control = Control(self.code, self.n, k, variant.grow, variant.sign, variant.vector)
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
        names = state_names(model)
        self.own = stepper.carried(names)
        self.carried = (
            *names, *self.own, "t", "h", "log_old", "again", "steps", "rejected", "evaluations", "status",
            "slot", *self.field.carried,
        )  # fmt: skip

    def whole(self, number: int) -> Value:
        return self.code.const(number, "i32")

    def kernel(self) -> Kernel:
        code, n = self.code, self.n
        with code.block(shared=True) as entry:
            self.field.load_shared()
            self.control.load()
            self.most, self.slots, self.room = (code.load("counts", i) for i in range(3))
            self.stepper.prepare(self.control)
        with code.block() as begin:
            begin.yields = tuple(self.start())
        with code.block([v.type for v in begin.yields]) as step:
            step.yields = tuple(self.turn(list(step.params)))
        with code.block([v.type for v in begin.yields]) as finish:
            for i, v in enumerate(finish.params[:n]):
                code.store("last", i, v)
            at = self.carried.index("steps", n + len(self.own))
            for i, v in enumerate(finish.params[at : at + 4]):
                code.store("report", i, v)
        doc = title(self.model, self.stepper.name, "adaptive steps")
        name = f"{self.model.name}_{self.stepper.name}_adaptive"
        return code.kernel(name, entry, begin, step, finish, carried=self.carried, doc=doc)

    def start(self) -> list[Value]:
        code, n, t0 = self.code, self.n, self.control.t0
        mine = self.field.load_own()
        self.field.carry_own(mine)
        x = [code.load("x0", i) for i in range(n)]
        h, f0 = self.control.first_step(self.field, x, self.stepper.error_order)
        carry = self.stepper.begin(t0, x, f0)
        slot = self.save_start(x) if self.v.save else self.whole(0)
        zero = self.whole(0)
        status = self.checked(t0, x, code.const(True, "bool"), zero)
        return [
            *x, *carry, t0, h, code.const(0.0), code.const(False, "bool"), zero, zero, self.whole(2), status,
            slot, *mine,
        ]  # fmt: skip

    def turn(self, carried: list[Value]) -> list[Value]:
        """One attempt, and what follows from it."""
        code, n, control = self.code, self.n, self.control
        x, carry = carried[:n], carried[n : n + len(self.own)]
        t, h, log_old, again, steps, rejected, evaluations, before, slot, *mine = carried[n + len(self.own) :]
        self.field.carry_own(mine)
        if self.stepper.proposes:
            h = self.proposed(t, h, x, carry, again)
        end, tiny = control.end(t, h)
        size = code.op("sub", end, t)
        made = self.stepper.attempt(t, size, x, carry)
        assert made.error is not None
        square = control.mean_square(made.error, control.scale(x, made.x1))
        fine = code.op("isfinite", self.total(made.x1) if self.stepper.proposes else square)
        if made.ok is not None:
            fine = code.op("and", fine, made.ok)
        # a method that proposes its steps has seen to their errors
        within = code.const(True, "bool") if self.stepper.proposes else code.op("le", square, 1.0)
        accept = code.op("and", fine, within)
        log_error = code.op("mul", code.op("log", square), 0.5)
        factor = control.factor(log_error, log_old, accept, again, fine)
        if self.stepper.proposes:
            factor = code.op("select", accept, 1.0, control.smaller_step)
            log_error = code.const(0.0)
        if made.ok is not None:
            # an iteration that failed wants a smaller step, whatever the error
            factor = code.op("select", made.ok, factor, 0.25)
        next_h = code.op("mul", code.op("abs", size), factor)
        # a step cut short by the end of the span says little against the one proposed before it
        cut = code.op("and", code.op("eq", end, control.t1), code.op("not", again))
        next_h = code.op("select", code.op("and", accept, cut), control.larger(next_h, h), next_h)
        old = control.larger(log_error, math.log(1e-4))
        evaluations = code.op("add", evaluations, made.cost)
        if self.v.tape:
            self.keep(accept, steps, made, square)
        if self.v.save:
            slot = self.save_inside(accept, end, made, slot)
        yes, no = code.op("from_bool", accept), code.op("from_bool", code.op("not", accept))
        steps, rejected = code.op("add", steps, yes), code.op("add", rejected, no)
        pairs = zip([*made.x1, *made.taken], [*x, *made.left], strict=True)
        chosen = [code.op("select", accept, a, b) for a, b in pairs]
        ended = code.op("and", accept, code.op("eq", end, control.t1))
        status, done = self.verdict(tiny, ended, steps, rejected)
        now = code.op("select", accept, end, t)
        if self.field.checked:
            failed = self.checked(now, chosen[:n], accept, before)
            unmet = code.op("ne", failed, self.whole(OK))
            status, done = code.op("select", unmet, failed, status), code.op("or", done, unmet)
        return [
            *chosen, now, next_h, code.op("select", accept, old, log_old), code.op("not", accept), steps,
            rejected, evaluations, status, slot, *mine, done,
        ]  # fmt: skip

    def proposed(self, t: Value, h: Value, x: list[Value], carry: list[Value], again: Value) -> Value:
        """The method's own step, after a rejection no larger than what that left."""
        code, size = self.code, self.stepper.proposal(t, h, x, carry)
        size = code.op("select", code.op("gt", size, 0.0), size, h)
        return code.op("select", again, self.control.smaller(h, size), size)

    def total(self, values: Sequence[Value]) -> Value:
        """A number that is finite where all of them are."""
        found = self.code.op("abs", values[0])
        for v in values[1:]:
            found = self.code.op("add", found, self.code.op("abs", v))
        return found

    def verdict(self, tiny: Value, ended: Value, steps: Value, rejected: Value) -> tuple[Value, Value]:
        """How it stands after an attempt, and whether that is the end."""
        code = self.code
        spent = code.op("ge", code.op("add", steps, rejected), self.most)
        status = code.op("select", spent, self.whole(SPENT), self.whole(OK))
        status = code.op("select", tiny, self.whole(TINY), status)
        status = code.op("select", ended, self.whole(OK), status)
        return status, code.op("or", ended, code.op("or", tiny, spent))

    def checked(self, t: Value, x: Sequence[Value], rows: Value, status: Value) -> Value:
        """The status, or `UNMET` where at (t, x) something does not hold that must."""
        code, holds = self.code, self.field.holds(t, x)
        if holds is None:
            return status
        return code.op("select", code.op("and", rows, code.op("not", holds)), self.whole(UNMET), status)

    # ------------------------------------------------------------ what is kept

    def keep(self, accept: Value, steps: Value, made: Attempt, square: Value) -> None:
        """A row of the tape."""
        code = self.code

        def write() -> list[Value]:
            code.store("tape_t", steps, made.t)
            code.store("tape_h", steps, made.h)
            code.store("tape_error", steps, code.op("sqrt", square))
            store_rows(code, "tape", steps, [*made.x0, *self.stepper.kept(made)])
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

    def save_inside(self, accept: Value, end: Value, made: Attempt, slot: Value) -> Value:
        """The saved times of an accepted step, up to its end; the next slot."""
        code = self.code

        def turns() -> list[Value]:
            dense = self.stepper.dense(made)

            def turn(carried: tuple[Value, ...]) -> list[Value]:
                time = code.load("times", carried[0])
                theta = code.op("div", code.op("sub", time, made.t), made.h)
                between = dense.at(theta)
                ended = code.op("eq", time, end)
                values = [code.op("select", ended, a, b) for a, b in zip(made.x1, between)]
                store_rows(code, "saved", carried[0], values)
                return [code.op("add", carried[0], self.whole(1))]

            return list(code.loop([slot], lambda c: self.due(c[0], end), turn))

        return code.when(code.op("and", accept, self.due(slot, end)), turns, [slot])[0]
