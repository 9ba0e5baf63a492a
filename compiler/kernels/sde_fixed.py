"""Fixed steps of stochastic equations: forwards with the path made inside, and the discrete adjoint.

Tables as in `ode_fixed` and `path`; saved times are ends of steps. Rows of `saved` are the state and W -
W(t0) at each saved time, of `last` the same at the end, of `tape` for each step: the state and what is
carried at its start, and the increments over it, so that the way back needs no path.
"""

from __future__ import annotations

from collections.abc import Sequence

from ndl.compiler.ir.model import ModelIR
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Kernel, Value
from ndl.compiler.kernels.noisy import NoisyStep
from ndl.compiler.kernels.path import Path
from ndl.compiler.kernels.reverse import pullback
from ndl.compiler.kernels.rows import load_rows, state_names, store_rows, title
from ndl.compiler.kernels.stepper import Variant

TABLES = (("times", "real"), ("sizes", "real"), ("until", "i32"), ("counts", "i32"))


def width(method: NoisyStep) -> int:
    """Rows of the tape for each step."""
    n, m = method.field.size, method.components
    return n * (1 + len(method.states)) + (2 * m if method.areas else m)


def forward(model: ModelIR, method: NoisyStep, variant: Variant) -> Kernel:
    """The run itself."""
    field = method.field
    code, n, m = field.code, field.size, method.components
    path = Path(code, m)
    for name, type in TABLES:
        code.buffer(name, "table", "in", type)
    code.buffer("x0", "member", "in")
    for name, wanted in (("last", True), ("saved", variant.save), ("tape", variant.tape)):
        if wanted:
            code.buffer(name, "member", "out")
    many = n * len(method.states)
    with code.block(shared=True) as entry:
        field.load_shared()
        steps = code.load("counts", 0)
        path.prepare()
    zero = code.const(0, "i32")
    with code.block() as begin:
        mine = field.load_own()
        x = [code.load("x0", i) for i in range(n)]
        W = path.at(zero)
        if variant.save:
            first = code.load("until", 0)
            code.when(code.op("gt", first, zero), lambda: _save(code, zero, x, path.relative(W, W)))
        slot = code.load("until", 0)
        begin.yields = (*x, *method.begin(x), *W, *W[:m], zero, slot, *mine)
    with code.block([v.type for v in begin.yields]) as step:
        x, carry = list(step.params[:n]), list(step.params[n : n + many])
        W, W0 = list(step.params[n + many :][: 2 * m]), list(step.params[n + many + 2 * m :][:m])
        k, slot, *mine = step.params[n + many + 3 * m :]
        field.carry_own(mine)
        t, h = code.load("times", k), code.load("sizes", k)
        after = code.op("add", k, code.const(1, "i32"))
        new = path.at(after)
        noise = path.increments(h, W, new)
        if variant.tape:
            kept = noise if method.areas else noise[:m]
            store_rows(code, "tape", k, [*x, *carry, *kept])
        x1, taken = method(t, h, x, carry, noise)
        if variant.save:
            due = code.op("lt", slot, code.load("until", after))
            code.when(due, lambda: _save(code, slot, x1, path.relative(W0, new)))
            slot = code.load("until", after)
        step.yields = (*x1, *taken, *new, *W0, after, slot, *mine, code.op("ge", after, steps))
    with code.block([v.type for v in begin.yields]) as finish:
        x = list(finish.params[:n])
        W, W0 = list(finish.params[n + many :][: 2 * m]), list(finish.params[n + many + 2 * m :][:m])
        store_rows(code, "last", code.const(0, "i32"), [*x, *path.relative(W0, W)])
    return code.kernel(
        f"{model.name}_{method.solver.name}_noisy", entry, begin, step, finish, even=True,
        carried=(*state_names(model), *(f"carried.{i}" for i in range(many)),
                 *(f"W.{i}" for i in range(3 * m)), "k", "slot", *field.carried),
        doc=title(model, method.solver.name, "fixed steps with noise"),
    )  # fmt: skip


def _save(code: Code, slot: Value, x: Sequence[Value], W: Sequence[Value]) -> list[Value]:
    store_rows(code, "saved", slot, [*x, *W])
    return []


def backward(model: ModelIR, method: NoisyStep, variant: Variant) -> Kernel:
    """From the cotangents of `last` and `saved` (of the state alone) to those of x0 and of the weights."""
    field = method.field
    code, n, m = field.code, field.size, method.components
    for name, type in TABLES:
        code.buffer(name, "table", "in", type)
    for name in ("tape", "grad_last", *(["grad_saved"] if variant.save else [])):
        code.buffer(name, "member", "in")
    for name in ("grad_x0", "grad_weights", "grad_own"):
        code.buffer(name, "member", "out")
    many = n * len(method.states)
    with code.block(shared=True) as entry:
        field.load_shared()
        steps = code.load("counts", 0)
    shared = field.flat_weights(False)
    with code.block() as begin:
        mine = field.load_own()
        count = n + many + len(shared) + len(mine)
        start = [code.load("grad_last", i) for i in range(n)]
        begin.yields = (*start, *[code.const(0.0)] * (count - n), steps, *mine)
    with code.block([v.type for v in begin.yields]) as step:
        gx, gc = list(step.params[:n]), list(step.params[n : n + many])
        gw = list(step.params[n + many : count])
        k, *mine = step.params[count:]
        field.carry_own(mine)
        if variant.save:
            gx = _with_saved(code, k, gx)
        k = code.op("sub", k, code.const(1, "i32"))
        t, h = code.load("times", k), code.load("sizes", k)
        row = load_rows(code, "tape", k, width(method))
        x, carry, noise = row[:n], row[n : n + many], row[n + many :]
        noise = noise if method.areas else [*noise, *[code.const(0.0)] * m]
        x1, taken = method(t, h, x, carry, noise)
        seeds: dict[Value, Value] = {}
        for value, g in zip([*x1, *taken], [*gx, *gc]):
            seeds[value] = code.op("add", seeds[value], g) if value in seeds else g
        found = pullback(code, code.visible(), seeds, [*x, *carry, *shared, *mine], field.sums())
        gw = [code.op("add", a, b) for a, b in zip(gw, found[n + many :])]
        step.yields = (*found[: n + many], *gw, k, *mine, code.op("le", k, code.const(0, "i32")))
    with code.block([v.type for v in begin.yields]) as finish:
        gx, gc = list(finish.params[:n]), list(finish.params[n : n + many])
        gw = list(finish.params[n + many : count])
        for i, g in enumerate(gc):  # every carried state starts as x0
            gx[i % n] = code.op("add", gx[i % n], g)
        zero = code.const(0, "i32")
        if variant.save:
            gx = _with_saved(code, zero, gx)
        store_rows(code, "grad_x0", zero, gx)
        store_rows(code, "grad_weights", zero, gw[: len(shared)])
        store_rows(code, "grad_own", zero, gw[len(shared) :])
    name = f"{model.name}_{method.solver.name}_noisy_adjoint"
    doc = title(model, method.solver.name, "adjoint of fixed steps with noise")
    return code.kernel(name, entry, begin, step, finish, even=True, doc=doc)


def _with_saved(code: Code, k: Value, gx: Sequence[Value]) -> list[Value]:
    """The cotangents of the state at time k with that of its saved value, if it is saved: each time once."""
    one = code.const(1, "i32")
    until = code.load("until", k)
    before = code.op("select", code.op("gt", k, code.const(0, "i32")), code.op("sub", k, one), k)
    earlier = code.op("select", code.op("gt", k, code.const(0, "i32")), code.load("until", before),
                      code.const(0, "i32"))  # fmt: skip
    due = code.op("gt", until, earlier)
    found = code.when(due, lambda: load_rows(code, "grad_saved", code.op("sub", until, one), len(gx)),
                      [code.const(0.0)] * len(gx))  # fmt: skip
    return [code.op("add", a, b) for a, b in zip(gx, found)]
