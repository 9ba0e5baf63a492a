"""Fixed explicit steps of ordinary equations: all trajectories take the same steps, known beforehand.

Tables: `times` (start of each step), `sizes`, `thetas` (where in its step each saved time stands), `until`
(how many saved times there are up to the start, then up to each step's end), `counts` (steps, saved times).
Row r of `saved` is component r % n of saved time r // n; of `tape`, likewise, the state at the start of each
step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ndl.compiler.ir.model import ModelIR
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.explicit import Step, Tableau, complete, inside, stages
from ndl.compiler.kernels.field import Field
from ndl.compiler.kernels.ir import Kernel, Value
from ndl.compiler.kernels.reverse import pullback
from ndl.compiler.kernels.rows import gather, gather_start, load_rows, state_names, store_rows, title


def forward(
    model: ModelIR, tableau: Tableau, *, precision: str, own: frozenset[str], save: bool, tape: bool
) -> tuple[Kernel, Field]:
    """The run itself; `save`: at times inside the span, `tape`: the state at each step's start."""
    code, field = _begin(model, precision, own)
    n = field.size
    code.buffer("x0", "member", "in")
    code.buffer("last", "member", "out")
    if save:
        code.buffer("saved", "member", "out")
    if tape:
        code.buffer("tape", "member", "out")
    with code.block(shared=True) as entry:
        field.load_shared()
        steps = code.load("counts", 0)
    with code.block() as begin:
        x = [code.load("x0", i) for i in range(n)]
        slot = _save_start(code, x) if save else code.const(0, "i32")
        begin.yields = (*x, code.const(0, "i32"), slot, *field.load_own())
    with code.block([v.type for v in begin.yields]) as step:
        x, (k, slot), rest = list(step.params[:n]), step.params[n : n + 2], step.params[n + 2 :]
        field.carry_own(rest)
        t, h = code.load("times", k), code.load("sizes", k)
        if tape:
            store_rows(code, "tape", k, x)
        made = stages(code, tableau, field, t, h, x)
        if save:
            slot = _save_inside(code, tableau, field, t, h, made, k, slot)
        after = code.op("add", k, code.const(1, "i32"))
        step.yields = (*made.x1, after, slot, *rest, code.op("ge", after, steps))
    with code.block([v.type for v in begin.yields]) as finish:
        for i, v in enumerate(finish.params[:n]):
            code.store("last", i, v)
    name = f"{model.name}_{tableau.name}_fixed"
    kernel = code.kernel(
        name, entry, begin, step, finish, carried=(*state_names(model), "k", "slot", *field.carried),
        even=True, doc=title(model, tableau.name, "fixed steps"),
    )  # fmt: skip
    return kernel, field


def backward(
    model: ModelIR, tableau: Tableau, *, precision: str, own: frozenset[str], save: bool
) -> tuple[Kernel, Field]:
    """The discrete adjoint: from the cotangents of `last` and `saved` to those of x0 and of the weights.

    The steps are taken from the last to the first, each again from the state on the tape, and differentiated.
    """
    code, field = _begin(model, precision, own)
    n = field.size
    code.buffer("tape", "member", "in")
    code.buffer("grad_last", "member", "in")
    if save:
        code.buffer("grad_saved", "member", "in")
    code.buffer("grad_x0", "member", "out")
    code.buffer("grad_weights", "member", "out")
    code.buffer("grad_own", "member", "out")
    with code.block(shared=True) as entry:
        field.load_shared()
        steps = code.load("counts", 0)
        slots = code.load("counts", 1)
    shared, sums = field.flat_weights(False), field.sums()
    with code.block() as begin:
        zero, start = code.const(0.0), [code.load("grad_last", i) for i in range(n)]
        mine = field.load_own()
        begin.yields = (*start, *[zero] * (len(shared) + len(mine)), steps, slots, *mine)
    count = n + len(shared) + len(mine)
    with code.block([v.type for v in begin.yields]) as step:
        gx, gw = list(step.params[:n]), list(step.params[n:count])
        (k, slot), rest = step.params[count : count + 2], step.params[count + 2 :]
        field.carry_own(rest)
        k = code.op("sub", k, code.const(1, "i32"))
        t, h = code.load("times", k), code.load("sizes", k)
        x = load_rows(code, "tape", k, n)
        made = stages(code, tableau, field, t, h, x)
        if save:
            made = complete(code, tableau, field, t, h, made)
            slot, seeds = gather(code, tableau, made, slot, gx, _Slots(code, k))
        else:
            seeds = dict(zip(made.x1, gx))
        found = pullback(code, list(step.body), seeds, [*x, *shared, *rest], sums)
        gx = found[:n]
        gw = [code.op("add", a, b) for a, b in zip(gw, found[n:])]
        step.yields = (*gx, *gw, k, slot, *rest, code.op("le", k, code.const(0, "i32")))
    with code.block([v.type for v in begin.yields]) as finish:
        gx, gw, slot = list(finish.params[:n]), finish.params[n:count], finish.params[count + 1]
        if save:
            gx = gather_start(code, slot, gx)
        for i, v in enumerate(gx):
            code.store("grad_x0", i, v)
        for i, v in enumerate(gw[: len(shared)]):
            code.store("grad_weights", i, v)
        for i, v in enumerate(gw[len(shared) :]):
            code.store("grad_own", i, v)
    name = f"{model.name}_{tableau.name}_fixed_adjoint"
    kernel = code.kernel(
        name, entry, begin, step, finish, even=True, doc=title(model, tableau.name, "adjoint of fixed steps")
    )
    return kernel, field


def _begin(model: ModelIR, precision: str, own: frozenset[str]) -> tuple[Code, Field]:
    code = Code(precision)
    field = Field(code, model, own)
    field.declare()
    code.buffer("times", "table", "in")
    code.buffer("sizes", "table", "in")
    code.buffer("thetas", "table", "in")
    code.buffer("until", "table", "in", "i32")
    code.buffer("counts", "table", "in", "i32")
    return code, field


# ---------------------------------------------------------------- saved times


def _save_start(code: Code, x: Sequence[Value]) -> Value:
    """The saved times at the start; the first slot after them."""
    first = code.load("until", 0)

    def turn(carried: tuple[Value, ...]) -> list[Value]:
        store_rows(code, "saved", carried[0], x)
        return [code.op("add", carried[0], code.const(1, "i32"))]

    (slot,) = code.loop([code.const(0, "i32")], lambda c: code.op("lt", c[0], first), turn)
    return slot


def _save_inside(
    code: Code, tableau: Tableau, field: Field, t: Value, h: Value, step: Step, k: Value, slot: Value
) -> Value:
    """The saved times of a step, up to its end; the next slot."""
    until = code.load("until", code.op("add", k, code.const(1, "i32")))

    def turns() -> list[Value]:
        whole = complete(code, tableau, field, t, h, step)

        def turn(carried: tuple[Value, ...]) -> list[Value]:
            theta = code.load("thetas", carried[0])
            ended = code.op("ge", theta, 1.0)
            between = inside(code, tableau, whole, theta)
            store_rows(
                code, "saved", carried[0], [code.op("select", ended, a, b) for a, b in zip(step.x1, between)]
            )
            return [code.op("add", carried[0], code.const(1, "i32"))]

        return list(code.loop([slot], lambda c: code.op("lt", c[0], until), turn))

    (after,) = code.when(code.op("lt", slot, until), turns, [slot])
    return after


@dataclass
class _Slots:
    """Which saved times belong to step k, and where in it they stand."""

    code: Code
    k: Value

    def more(self, slot: Value) -> Value:
        return self.code.op("gt", slot, self.code.load("until", self.k))

    def theta(self, slot: Value) -> Value:
        return self.code.load("thetas", slot)
