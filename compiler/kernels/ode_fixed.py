"""Fixed steps of ordinary equations: all trajectories take the same steps, known beforehand.

Tables: `times` (start of each step), `sizes`, `thetas` (where in its step each saved time stands), `until`
(how many saved times there are up to the start, then up to each step's end), `counts` (steps, saved times).
Row r of `saved` is component r % n of saved time r // n, n counting what the method notes; `tape` has the
state at the start of each step and what the method keeps; with `trail` there are checkpoints instead (see
`stretches`). Rows of `report` are as for adaptive steps. Where an iteration fails, or something that must
hold does not, the state is no number from there on.
"""

from __future__ import annotations

from collections.abc import Sequence

from ndl.compiler.ir.model import ModelIR
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Kernel, Value
from ndl.compiler.kernels.kept import keep
from ndl.compiler.kernels.rows import MARKS, checkpoint, state_names, store_rows, title
from ndl.compiler.kernels.stepper import Attempt, Stepper, Variant

TABLES = (("times", "real"), ("sizes", "real"), ("thetas", "real"), ("until", "i32"), ("counts", "i32"))


def forward(model: ModelIR, stepper: Stepper, variant: Variant) -> Kernel:
    """The run itself; `save`: at times inside the span, `tape`: what the derivative needs of each step."""
    code, field = stepper.code, stepper.field
    n, names = field.size, state_names(model)
    own = stepper.carried(names)
    for name, type in TABLES:
        code.buffer(name, "table", "in", type)
    code.buffer("x0", "member", "in")
    code.buffer("last", "member", "out")
    code.buffer("report", "member", "out", "i32")
    if variant.save:
        code.buffer("saved", "member", "out")
    if variant.tape:
        code.buffer("tape", "member", "out")
    if variant.kept and variant.kept.width:
        code.buffer("kept", "kept", "out")
    if variant.undone:
        code.buffer("carry", "member", "out")
    if variant.trail:
        code.buffer("states", "member", "out")
        for name in MARKS:
            code.buffer(name, "table", "in", "i32")
    with code.block(shared=True) as entry:
        field.load_shared()
        steps = code.load("counts", 0)
        stepper.prepare(None)
    zero = code.const
    with code.block() as begin:
        mine = field.load_own()
        field.carry_own(mine)
        x = [code.load("x0", i) for i in range(n)]
        t0 = code.load("times", 0)
        x = numbers(code, x, field.holds(t0, x))
        carry = stepper.begin(t0, x, None)
        slot = _save_start(code, [*x, *stepper.noted(carry)]) if variant.save else zero(0, "i32")
        marks = [zero(0, "i32")] if variant.trail else []
        begin.yields = (*x, *carry, zero(0, "i32"), slot, zero(0, "i32"), *marks, *mine)
    with code.block([v.type for v in begin.yields]) as step:
        x, carry = list(step.params[:n]), list(step.params[n : n + len(own)])
        k, slot, evaluations, *rest = step.params[n + len(own) :]
        marks, rest = rest[: len(marks)], rest[len(marks) :]
        field.carry_own(rest)
        if variant.trail:
            marks = [checkpoint(code, k, marks[0], [*x, *stepper.held(carry)])]
        t, h = code.load("times", k), code.load("sizes", k)
        made = stepper.attempt(t, h, x, carry)
        if variant.kept and variant.kept.width:
            keep(code, variant.kept, made.since, k)
        made.x1 = numbers(code, made.x1, made.ok)
        if field.checked:
            made.x1 = numbers(code, made.x1, field.holds(code.op("add", t, h), made.x1))
        if variant.tape:
            store_rows(code, "tape", k, [*x, *stepper.kept(made)])
        if variant.save:
            slot = _save_inside(code, stepper, made, k, slot)
        after = code.op("add", k, code.const(1, "i32"))
        evaluations = code.op("add", evaluations, made.cost)
        done = code.op("ge", after, steps)
        step.yields = (*made.x1, *made.taken, after, slot, evaluations, *marks, *rest, done)
    with code.block([v.type for v in begin.yields]) as finish:
        noted = stepper.noted(finish.params[n : n + len(own)])
        for i, v in enumerate([*finish.params[:n], *noted]):
            code.store("last", i, v)
        if variant.undone:
            store_rows(code, "carry", code.const(0, "i32"), finish.params[n : n + stepper.memory])
        k, _, evaluations, *_ = finish.params[n + len(own) :]
        for i, v in enumerate((k, code.const(0, "i32"), evaluations, code.const(0, "i32"))):
            code.store("report", i, v)
    return code.kernel(
        f"{model.name}_{stepper.name}_fixed", entry, begin, step, finish, even=True,
        carried=(*names, *own, "k", "slot", "evaluations", *["mark"] * variant.trail, *field.carried),
        doc=title(model, stepper.name, "fixed steps"),
    )  # fmt: skip


def numbers(code: Code, x: list[Value], fine: Value | None) -> list[Value]:
    """x, or no numbers where `fine` is false."""
    return x if fine is None else [code.op("select", fine, v, float("nan")) for v in x]


def _save_start(code: Code, x: Sequence[Value]) -> Value:
    """The saved times at the start; the first slot after them."""
    first = code.load("until", 0)

    def turn(carried: tuple[Value, ...]) -> list[Value]:
        store_rows(code, "saved", carried[0], x)
        return [code.op("add", carried[0], code.const(1, "i32"))]

    (slot,) = code.loop([code.const(0, "i32")], lambda c: code.op("lt", c[0], first), turn)
    return slot


def _save_inside(code: Code, stepper: Stepper, step: Attempt, k: Value, slot: Value) -> Value:
    """The saved times of a step, up to its end; the next slot."""
    until = code.load("until", code.op("add", k, code.const(1, "i32")))

    def turns() -> list[Value]:
        dense, last = stepper.dense(step), [*step.x1, *stepper.noted(step.taken)]

        def turn(carried: tuple[Value, ...]) -> list[Value]:
            theta = code.load("thetas", carried[0])
            ended = code.op("ge", theta, 1.0)
            between = dense.at(theta)
            values = [code.op("select", ended, a, b) for a, b in zip(last, between)]
            store_rows(code, "saved", carried[0], values)
            return [code.op("add", carried[0], code.const(1, "i32"))]

        return list(code.loop([slot], lambda c: code.op("lt", c[0], until), turn))

    (after,) = code.when(code.op("lt", slot, until), turns, [slot])
    return after
