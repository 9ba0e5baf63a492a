"""Stretches of a run: taken again from a checkpoint, and their derivatives.

A run with checkpoints leaves the times and sizes of its accepted steps, and where these were known beforehand
the first checkpoints. On the way back the runtime has stretches of steps taken again from a checkpoint, some
of which leave checkpoints themselves; the last steps of a stretch leave rows of a tape, and these are
differentiated. All trajectories take step k together; those that have fewer steps wait.

Table `stretch`: the first step and the one after the last, where the checkpoint of the first stands (-1: the
run starts there), the first step on the tape. Before step `marks[i]`, checkpoint `places[i]` is written; the
table ends with a step that never comes. Row r of `states` is number r % w of checkpoint r // w, the state and
what the method holds. Rows of `tape` count from the stretch's first step on the tape.
"""

from __future__ import annotations

from collections.abc import Sequence

from ndl.compiler.ir.model import ModelIR
from ndl.compiler.kernels.ir import Kernel, Value
from ndl.compiler.kernels.kept import keep
from ndl.compiler.kernels.ode_adjoint import Backward, prepare
from ndl.compiler.kernels.ode_fixed import TABLES
from ndl.compiler.kernels.rows import MARKS, checkpoint, load_rows, state_names, store_rows, title
from ndl.compiler.kernels.stepper import Stepper, Variant


def forward(model: ModelIR, stepper: Stepper, variant: Variant) -> Kernel:
    """A stretch of accepted steps, taken again exactly as the run took them."""
    return _Again(model, stepper, variant).kernel()


def backward(model: ModelIR, stepper: Stepper, variant: Variant) -> Kernel:
    """The adjoint of a stretch: from the cotangents of its end to those of its start, and at the run's start
    to those of x0 and of the weights."""
    return _Part(model, stepper, variant).kernel()


class _Again:
    def __init__(self, model: ModelIR, stepper: Stepper, variant: Variant) -> None:
        self.model, self.stepper, self.v = model, stepper, variant
        self.code, self.field, self.n = stepper.code, stepper.field, stepper.field.size
        code = self.code
        if variant.adaptive:
            for name in ("tape_t", "tape_h"):
                code.buffer(name, "member", "in")
            code.buffer("report", "member", "in", "i32")
            if stepper.renews:
                code.buffer("tape_new", "member", "in", "i32")
            if stepper.scaled:
                code.buffer("settings", "table", "in")
        else:
            for name, type in TABLES:
                code.buffer(name, "table", "in", type)
        for name in ("stretch", *MARKS):
            code.buffer(name, "table", "in", "i32")
        code.buffer("x0", "member", "in")
        code.buffer("states", "member", "inout")
        code.buffer("tape", "member", "out")
        if variant.kept and variant.kept.width:
            code.buffer("kept", "kept", "out")

    def whole(self, number: int) -> Value:
        return self.code.const(number, "i32")

    def kernel(self) -> Kernel:
        code, n = self.code, self.n
        names = state_names(self.model)
        own = self.stepper.carried(names)
        with code.block(shared=True) as entry:
            self.field.load_shared()
            self.first, self.last, self.source, self.taped = (code.load("stretch", i) for i in range(4))
            prepare(self.stepper, self.v, n)
        with code.block() as begin:
            mine = self.field.load_own()
            self.field.carry_own(mine)
            begin.yields = (*self.start(), self.first, self.whole(0), *mine)
        with code.block([v.type for v in begin.yields]) as step:
            step.yields = tuple(self.turn(list(step.params), len(own)))
        with code.block([v.type for v in begin.yields]) as finish:
            finish.yields = ()
        name = f"{self.model.name}_{self.stepper.name}_{'adaptive' if self.v.adaptive else 'fixed'}_again"
        return code.kernel(
            name, entry, begin, step, finish, even=True,
            carried=(*names, *own, "k", "mark", *self.field.carried),
            doc=title(self.model, self.stepper.name, "steps of a run taken again"),
        )  # fmt: skip

    def start(self) -> list[Value]:
        """The state and what the method carries at the first step: of the run, or from a checkpoint."""
        code, n, stepper = self.code, self.n, self.stepper
        fresh = code.op("lt", self.source, self.whole(0))
        held = load_rows(
            code, "states", code.op("select", fresh, self.whole(0), self.source), n + stepper.holds
        )
        x = [code.op("select", fresh, code.load("x0", i), v) for i, v in enumerate(held[:n])]
        # one that has ended before is nowhere: it stands at its start
        at = self.first
        if self.v.adaptive:
            at = code.op("select", code.op("lt", at, code.load("report", 0)), at, self.whole(0))
        t, _ = start_of(self, at)
        carry = stepper.resumed(self.first, t, x, held[n:])
        return [*x, *code.when(fresh, lambda: stepper.begin(t, x, None), carry)]

    def turn(self, carried: list[Value], own: int) -> list[Value]:
        code, n = self.code, self.n
        x, carry, (k, mark), mine = (
            carried[:n], carried[n : n + own], carried[n + own : n + own + 2], carried[n + own + 2 :]
        )  # fmt: skip
        self.field.carry_own(mine)
        after = checkpoint(code, k, mark, [*x, *self.stepper.held(carry)])
        if self.v.adaptive:
            live = code.op("lt", k, code.load("report", 0))
            moved = code.when(live, lambda: self.step(k, x, carry), [*x, *carry])
        else:
            moved = tuple(self.step(k, x, carry))
        k = code.op("add", k, self.whole(1))
        return [*moved, k, after, *mine, code.op("ge", k, self.last)]

    def step(self, k: Value, x: list[Value], carry: list[Value]) -> list[Value]:
        """Where step k leads."""
        code, stepper = self.code, self.stepper
        t, h = start_of(self, k)
        if self.v.adaptive and stepper.renews:
            carry = stepper.renewed(carry, code.op("to_bool", code.load("tape_new", k)))
        row = code.op("sub", k, self.taped)
        on_tape = code.op("ge", row, self.whole(0))
        place = code.op("select", on_tape, row, self.whole(0))
        made = stepper.attempt(t, h, x, carry)
        if self.v.kept and self.v.kept.width:
            # what comes before the tape is written over
            keep(code, self.v.kept, made.since, place)

        def write() -> list[Value]:
            store_rows(code, "tape", row, [*made.x0, *stepper.kept(made)])
            return []

        code.when(on_tape, write)
        return [*made.x1, *made.taken]


class _Part(Backward):
    """Carried from stretch to stretch are the cotangents, in `grads`, and the first saved time after, in
    `due`."""

    def __init__(self, model: ModelIR, stepper: Stepper, variant: Variant) -> None:
        super().__init__(model, stepper, variant)
        code = self.code
        code.buffer("stretch", "table", "in", "i32")
        code.buffer("grads", "member", "inout")
        code.buffer("due", "member", "inout", "i32")
        self.even = True

    def prepare(self) -> None:
        super().prepare()
        self.start, self.stop = (self.code.load("stretch", i) for i in range(2))

    def begin(self, mine: Sequence[Value]) -> list[Value]:
        code, zero = self.code, self.code.const(0, "i32")
        return [*load_rows(code, "grads", zero, self.count), self.stop, code.load("due", zero)]

    def place(self, k: Value) -> Value:
        return self.code.op("sub", k, self.start)

    def turn(self, carried: list[Value]) -> list[Value]:
        if not self.v.adaptive:
            return super().turn(carried)
        code, at = self.code, self.count
        k = code.op("sub", carried[at], code.const(1, "i32"))
        live = code.op("lt", k, code.load("report", 0))

        def taken() -> list[Value]:
            found = super(_Part, self).turn(carried)[:-1]
            return [*found[:at], *found[at + 1 :]]

        moved = list(code.when(live, taken, [*carried[:at], *carried[at + 1 :]]))
        return [*moved[:at], k, *moved[at:], self.done(k)]

    def done(self, k: Value) -> Value:
        return self.code.op("le", k, self.start)

    def end(self, carried: list[Value]) -> None:
        code, zero = self.code, self.code.const(0, "i32")
        store_rows(code, "grads", zero, carried[: self.count])
        code.store("due", zero, carried[self.count + 1])

        def last() -> list[Value]:
            super(_Part, self).end(carried)
            return []

        code.when(code.op("eq", self.start, zero), last)


def start_of(kernel: _Again, k: Value) -> tuple[Value, Value]:
    """Time and size of step k."""
    names = ("tape_t", "tape_h") if kernel.v.adaptive else ("times", "sizes")
    return kernel.code.load(names[0], k), kernel.code.load(names[1], k)
