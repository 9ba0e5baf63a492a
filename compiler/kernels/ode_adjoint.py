"""The discrete adjoint of a run: from the cotangents of `last` and `saved` to those of x0 and of the weights.

The accepted steps are taken from the last to the first, each again from what the tape has of its start, and
differentiated. Their sizes are constants. Rows of `tape` are the state and what the method keeps; the times
and sizes of fixed steps are tables, those of adaptive ones stand on the tape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ndl.compiler.ir.model import ModelIR
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.control import Control
from ndl.compiler.kernels.ir import Kernel, Unsupported, Value
from ndl.compiler.kernels.kept import Recall
from ndl.compiler.kernels.ode_fixed import TABLES
from ndl.compiler.kernels.reverse import pullback
from ndl.compiler.kernels.rows import Slots, gather, gather_start, load_rows, seeded, store_rows, title
from ndl.compiler.kernels.stepper import Stepper, Variant


def backward(model: ModelIR, stepper: Stepper, variant: Variant) -> Kernel:
    """The adjoint kernel."""
    return Backward(model, stepper, variant).kernel()


class Backward:
    """Writes the kernel. Where a step started is on the tape; see `undo` for a way without."""

    SOURCES: tuple[str, ...] = ("tape",)
    """What the run has left."""
    APART = False
    """Whether each trajectory has steps of its own even where their size is fixed."""

    def __init__(self, model: ModelIR, stepper: Stepper, variant: Variant) -> None:
        self.model, self.stepper, self.v = model, stepper, variant
        self.code, self.field = stepper.code, stepper.field
        self.n, self.memory = self.field.size, stepper.memory
        if self.field.nets and not stepper.straight:
            raise Unsupported("gradients of nets go by explicit methods alone")
        code = self.code
        self.past = self.field.past
        self.apart = variant.adaptive or self.APART or bool(self.past)
        self.even = not self.apart
        if self.apart:
            code.buffer("counts", "table", "in", "i32")
            code.buffer("report", "member", "in", "i32")
            code.buffer("tape_t", "member", "in")
            code.buffer("tape_h", "member", "in")
            if variant.save:
                code.buffer("times", "table", "in")
            if stepper.scaled:
                code.buffer("settings", "table", "in")
        else:
            for name, type in TABLES:
                code.buffer(name, "table", "in", type)
        for name in (*self.SOURCES, "grad_last", *(["grad_saved"] if variant.save else [])):
            code.buffer(name, "member", "in")
        for name in ("grad_x0", "grad_weights", "grad_own"):
            code.buffer(name, "member", "out")
        if self.past:
            code.buffer("history", "member", "in")
            code.buffer("grad_history", "member", "inout")
        if variant.kept is None or variant.kept.width:
            code.buffer("kept", "kept", "in")

    def kernel(self) -> Kernel:
        code, n = self.code, self.n
        with code.block(shared=True) as entry:
            self.field.load_shared()
            self.steps, self.all = code.load("counts", 0), code.load("counts", 1)
            self.prepare()
        self.shared = self.field.flat_weights(False)
        with code.block() as begin:
            mine = self.field.load_own()
            self.count = n + self.memory + len(self.shared) + len(mine)
            start = self.begin(mine)
            more = self.more()
            self.many = len(more)
            begin.yields = (*start, *more, *mine)
        types = [v.type for v in begin.yields]
        with code.block(types) as step:
            step.yields = tuple(self.turn(list(step.params)))
        with code.block(types) as finish:
            self.end(list(finish.params))
        pace = "adaptive" if self.v.adaptive else "fixed"
        name = f"{self.model.name}_{self.stepper.name}_{pace}_adjoint"
        doc = title(self.model, self.stepper.name, f"adjoint of {pace} steps")
        return code.kernel(name, entry, begin, step, finish, even=self.even, doc=doc)

    def begin(self, mine: Sequence[Value]) -> list[Value]:
        """The cotangents at the end, the number of steps and of saved times."""
        code, n = self.code, self.n
        many = code.load("report", 0) if self.apart else self.steps
        nothing = [code.const(0.0)] * (self.count - n)
        return [*(code.load("grad_last", i) for i in range(n)), *nothing, many, self.slots(self.all)]

    def place(self, k: Value) -> Value:
        """Where step k stands on the tape."""
        return k

    def recalled(self, k: Value) -> Value:
        """Where arrays that the run has kept of step k stand."""
        return self.place(k)

    def done(self, k: Value) -> Value:
        """Whether step k was the last one."""
        return self.code.op("le", k, self.code.const(0, "i32"))

    def more(self) -> list[Value]:
        """What is carried besides."""
        return []

    def begun(self, t: Value, x: list[Value]) -> list[Value]:
        """What the method remembers at the start."""
        return self.stepper.start(t, x)

    def slots(self, all: Value) -> Value:
        """How many of all saved times the run came to."""
        return all

    def row(self, k: Value, t: Value, h: Value, more: list[Value]) -> tuple[list[Value], list[Value]]:
        """The state at the start of step k with what the method has kept of it, and what is carried on."""
        return load_rows(self.code, "tape", self.place(k), self.n + self.stepper.width), []

    def first(self) -> list[Value]:
        """The state at the start of the run."""
        return load_rows(self.code, "tape", self.code.const(0, "i32"), self.n + self.stepper.width)[: self.n]

    def prepare(self) -> None:
        """What the method wants of the entry block."""
        prepare(self.stepper, self.v, self.n)

    def start_of(self, k: Value) -> tuple[Value, Value]:
        """Time and size of step k."""
        names = ("tape_t", "tape_h") if self.apart else ("times", "sizes")
        return self.code.load(names[0], k), self.code.load(names[1], k)

    def turn(self, carried: list[Value]) -> list[Value]:
        """One step."""
        code, n, memory = self.code, self.n, self.memory
        gx, gm, gw = carried[:n], carried[n : n + memory], carried[n + memory : self.count]
        k, slot, *rest = carried[self.count :]
        behind, mine = rest[: self.many], rest[self.many :]
        self.field.carry_own(mine)
        k = code.op("sub", k, code.const(1, "i32"))
        t, h = self.start_of(k)
        row, behind = self.row(k, t, h, behind)
        x, kept = row[:n], row[n:]
        made = self.stepper.again(t, h, x, kept)
        recall = Recall(code, self.recalled(k), self.v.kept, made.since)
        seeds = seeded(code, zip([*made.x1, *made.memory], [*gx, *gm], strict=True))
        dense = self.stepper.dense(made) if self.v.save or self.past else None
        if self.v.save:
            slots: Slots = Times(code, self.v.sign, t, h) if self.apart else _Places(code, k)
            assert dense is not None
            slot, more = gather(code, dense, made.x1, slot, slots)
            seeds = seeded(code, [*seeds.items(), *more.items()])
        if self.past:
            assert dense is not None
            read = [(v, code.load("grad_history", self.past.row(k, i))) for i, v in self.past.targets(dense)]
            seeds = seeded(code, [*seeds.items(), *read])
        paths, past = self.field.drivers.loaded, self.past.loaded
        coefficients = paths.rows if self.v.drivers else {}
        wrt = [*x, *kept[:memory], *self.shared, *mine, *past.rows, *coefficients]
        found = pullback(code, code.visible(), seeds, wrt, self.field.sums())
        end = len(wrt) - len(coefficients)
        paths.give_back(coefficients, found[end:])
        past.give_back(past.rows, found[end - len(past.rows) : end])
        recall.apply()
        first = n + memory
        gw = [code.op("add", a, b) for a, b in zip(gw, found[first:])]
        return [*found[:first], *gw, k, slot, *behind, *mine, self.done(k)]

    def opened(
        self, behind: list[Value], gx: list[Value], gw: list[Value], mine: list[Value]
    ) -> tuple[list[Value], list[Value]]:
        """The cotangents before what happened at the start; `behind` is what is carried besides."""
        return gx, gw

    def end(self, carried: list[Value]) -> None:
        """The cotangents of the start."""
        code, n, memory = self.code, self.n, self.memory
        gx, gm, gw = carried[:n], carried[n : n + memory], carried[n + memory : self.count]
        _, slot, *rest = carried[self.count :]
        mine = rest[self.many :]
        zero = code.const(0, "i32")
        if self.v.save:
            gx = gather_start(code, slot, gx)
        if memory:
            self.field.carry_own(mine)
            x = self.first()
            first = self.begun(self.start_of(zero)[0], x)
            seeds = seeded(code, zip(first, gm, strict=True))
            wrt = [*x, *self.shared, *mine]
            found = pullback(code, code.visible(), seeds, wrt, self.field.sums())
            gx = [code.op("add", a, b) for a, b in zip(gx, found)]
            gw = [code.op("add", a, b) for a, b in zip(gw, found[n:])]
        gx, gw = self.opened(rest[: self.many], gx, gw, mine)
        for i, p in enumerate(self.past.kept if self.past else []):
            gx = [*gx[:p], code.op("add", gx[p], code.load("grad_history", i)), *gx[p + 1 :]]
        store_rows(code, "grad_x0", zero, gx)
        store_rows(code, "grad_weights", zero, gw[: len(self.shared)])
        store_rows(code, "grad_own", zero, gw[len(self.shared) :])


def prepare(stepper: Stepper, variant: Variant, n: int) -> None:
    """Prepare a method that takes steps again: with tolerances, where it iterates."""
    control = None
    if variant.adaptive and stepper.scaled:
        k = stepper.error_order + 1
        control = Control(stepper.code, n, k, variant.grow, variant.sign, variant.vector)
        control.load()
    stepper.prepare(control)


@dataclass
class _Places:
    """Which saved times belong to fixed step k, and where in it they stand."""

    code: Code
    k: Value

    def more(self, slot: Value) -> Value:
        return self.code.op("gt", slot, self.code.load("until", self.k))

    def theta(self, slot: Value) -> Value:
        return self.code.load("thetas", slot)


@dataclass
class Times:
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
