"""Kernels written by hand, with what they read: each shows something that printers must get right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Block, Kernel, Value
from ndl.compiler.kernels.ops import TABLE
from ndl.compiler.kernels.verify import verify
from samples import evaluator

REAL = {"f64": np.float64, "f32": np.float32}


@dataclass
class Case:
    """A kernel and its buffers; those that it writes start as zeros or as given."""

    kernel: Kernel
    buffers: dict[str, np.ndarray] = field(default_factory=dict)
    count: int = 11
    block: int = 4


def one_turn(code: Code, write: Callable[[], None], **more: object) -> Kernel:
    """A kernel that does everything at its end, after one turn that does nothing."""
    with code.block(shared=True) as entry:
        pass
    with code.block() as begin:
        begin.yields = ()
    with code.block() as step:
        step.yields = (code.const(True, "bool"),)
    with code.block() as finish:
        write()
    return verify(code.kernel("one_turn", entry, begin, step, finish, **more))


# ---------------------------------------------------------------- every op


class Elementwise:
    """Every op of a list on operands of every type that it takes, a row of `out` or `whole` for each."""

    def __init__(self, precision: str, ops: Sequence[str]) -> None:
        self.code = code = Code(precision)
        code.buffer("x", "member", "in")
        code.buffer("n", "member", "in", "i32")
        code.buffer("out", "member", "out")
        code.buffer("whole", "member", "out", "i32")
        self.precision, self.ops, self.reals, self.wholes = precision, ops, 0, 0
        self.rows: list[str] = []
        self.kernel = one_turn(code, self.write, even=True)

    def write(self) -> None:
        for name in self.ops:
            wanted = TABLE[name].operands
            for type in self.types(name) if "same" in wanted else ("",):
                operands = [self.operand(name, type if w == "same" else w, k) for k, w in enumerate(wanted)]
                self.code.origin = f"{name} of {type or wanted[0]}"
                self.store(self.code.op(name, *operands))

    def types(self, name: str) -> tuple[str, ...]:
        bits = name.startswith("bit_") or name in ("shl", "shr")
        return ("i32", "bits") if bits else ("real", "i32", "bits")

    def operand(self, name: str, type: str, k: int) -> Value:
        code = self.code
        if type == "real":
            return code.load("x", k)
        if type == "bool":
            return code.op("lt", code.load("x", k), code.load("x", k + 1))
        n = code.load("n", k)
        if name in ("shl", "shr") and k == 1:
            n = code.op("bit_and", n, code.const(31, "i32"))
        if type == "i32":
            return n
        return code.op("widen", n) if k else code.op("bits_of", code.load("x", 0))

    def store(self, value: Value) -> None:
        code = self.code
        if value.type == "real":
            code.store("out", self.reals, value)
            self.reals += 1
            return
        parts = [value]
        if value.type == "bool":
            parts = [code.op("from_bool", value)]
        elif value.type == "bits":
            parts = [code.op("narrow", value)]
            if self.precision == "f64":
                parts.append(
                    code.op("narrow", code.op("shr", value, code.op("widen", code.const(32, "i32"))))
                )
        for part in parts:
            code.store("whole", self.wholes, part)
            self.wholes += 1

    def case(self) -> Case:
        count = 11
        random = np.random.default_rng(5)
        x = random.uniform(-3, 3, (4, count)).astype(REAL[self.precision])
        x[0, :6] = 0.0, 0.5, 2.5, -1.5, 1e10, np.nan
        x[1, :6] = 0.0, 1.0, 2.5, np.nan, 3.0, np.inf
        n = random.integers(-(2**31), 2**31, (6, count)).astype(np.int32)
        n[:4, 0] = 0, 0, 1, 2
        zeros = np.zeros(max(self.reals, 1) * count, x.dtype)
        whole = np.zeros(max(self.wholes, 1) * count, np.int32)
        return Case(self.kernel, {"x": x.ravel(), "n": n.ravel(), "out": zeros, "whole": whole}, count)


# ---------------------------------------------------------------- regions


def collatz(precision: str, count: int = 13) -> Case:
    """Turns of each trajectory's own number, loops of each turn's own number inside a `when`, a table read
    at rows of each trajectory's own, a buffer that is read and written."""
    code = Code(precision)
    code.buffer("start", "member", "in", "i32")
    code.buffer("weights", "table", "in")
    code.buffer("sums", "member", "inout")
    code.buffer("turns", "member", "out", "i32")
    one = lambda n=1: code.const(n, "i32")  # noqa: E731
    with code.block(shared=True) as entry:
        size = code.op("add", code.load("weights", 0), code.load("weights", 1))
    with code.block() as begin:
        begin.yields = (code.load("start", 0), one(0), code.const(0.0))
    with code.block(["i32", "i32", "real"]) as step:
        n, turns, total = step.params
        odd = code.op("to_bool", code.op("bit_and", n, one()))
        code.origin = "the sum of the weights of an odd number's digits"

        def digits() -> Sequence[Value]:
            def more(s: tuple[Value, ...]) -> Value:
                return code.op("gt", s[0], one(0))

            def body(s: tuple[Value, ...]) -> Sequence[Value]:
                row = code.op("bit_and", s[0], one(3))
                return code.op("shr", s[0], one(2)), code.op("add", s[1], code.load("weights", row))

            _, summed = code.loop([n, total], more, body)
            code.store("sums", 0, code.op("add", code.load("sums", 0), code.op("mul", summed, size)))
            return summed, code.op("add", code.op("mul", n, one(3)), one())

        code.origin = ""
        summed, after = code.when(odd, digits, [total, code.op("shr", n, one())])
        step.yields = (after, code.op("add", turns, one()), summed, code.op("le", after, one()))
    with code.block(["i32", "i32", "real"]) as finish:
        code.store("turns", 0, finish.params[1])
        code.store("sums", 1, code.op("mul", finish.params[2], size))
    kernel = verify(code.kernel("collatz", entry, begin, step, finish, carried=("n", "turns", "total")))
    real = REAL[precision]
    start = np.random.default_rng(3).integers(2, 13, count).astype(np.int32)
    sums = np.arange(2 * count).astype(real)
    weights = np.array([0.25, 1.5, -0.75, 3.0], real)
    turns = np.zeros(count, np.int32)
    return Case(kernel, {"start": start, "weights": weights, "sums": sums, "turns": turns}, count)


def fibonacci(precision: str) -> Case:
    """What is carried changes all at once; loops of the same number of turns for all; rows of a trajectory's
    own, at places that are found as it runs; a number that only some lanes change."""
    code = Code(precision)
    code.buffer("rows", "member", "in", "i32")
    code.buffer("table", "member", "in")
    code.buffer("out", "member", "out")
    code.buffer("seen", "table", "out")
    with code.block(shared=True) as entry:
        pass
    with code.block() as begin:
        begin.yields = (code.const(0.1), code.const(1.0), code.const(0, "i32"))
    with code.block(["real", "real", "i32"]) as step:
        a, b, k = step.params
        swapped = code.loop(
            [a, b, code.const(0, "i32")],
            lambda s: code.op("lt", s[2], code.const(3, "i32")),
            lambda s: (s[1], s[0], code.op("add", s[2], code.const(1, "i32"))),
        )
        code.store("out", code.op("add", k, code.const(1, "i32")), swapped[0])
        code.when(code.op("gt", k, code.const(1, "i32")), lambda: _stored(code, a))
        after = code.op("add", k, code.const(1, "i32"))
        step.yields = (b, code.op("add", a, b), after, code.op("ge", after, code.const(4, "i32")))
    with code.block(["real", "real", "i32"]) as finish:
        row = code.load("rows", 0)
        found = code.load("table", row)
        small = code.op("lt", found, code.const(0.5))
        (kept,) = code.when(small, lambda: [code.op("mul", found, finish.params[0])], [code.const(-1.0)])
        code.store("out", 5, kept)
        code.store("out", 6, code.op("to_real", code.member()))
        code.store("out", 7, code.const(float("inf")))
        code.store("seen", code.op("add", code.member(), code.const(1, "i32")), found)
        code.store("seen", 0, code.const(0.5))
        code.store("out", 8, code.op("sub", code.const(float("inf")), code.const(float("inf"))))
    kernel = verify(code.kernel("fibonacci", entry, begin, step, finish, carried=("a", "b", "k"), even=True))
    random, count, real = np.random.default_rng(4), 10, REAL[precision]
    table, rows = random.uniform(0, 1, 3 * count).astype(real), random.integers(0, 3, count).astype(np.int32)
    out, seen = np.zeros(9 * count, real), np.zeros(count + 1, real)
    return Case(kernel, {"rows": rows, "table": table, "out": out, "seen": seen}, count)


def nested(precision: str) -> Case:
    """A loop for all inside a `when` for some inside a loop of each one's own; a `when` for all or none."""
    code = Code(precision)
    code.buffer("n", "member", "in", "i32")
    code.buffer("flags", "table", "in", "i32")
    code.buffer("out", "member", "out")
    whole = lambda n: code.const(n, "i32")  # noqa: E731

    def tripled(n: Value, total: Value) -> Sequence[Value]:
        start = (whole(0), total)
        _, found = code.loop(
            start,
            lambda s: code.op("lt", s[0], whole(3)),
            lambda s: (code.op("add", s[0], whole(1)), code.op("add", s[1], code.op("to_real", n))),
        )
        return (found,)

    def turn(s: tuple[Value, ...]) -> Sequence[Value]:
        odd = code.op("to_bool", code.op("bit_and", s[0], whole(1)))
        (total,) = code.when(odd, lambda: tripled(*s), [s[1]])
        return code.op("sub", s[0], whole(1)), total

    def write() -> None:
        start = (code.load("n", 0), code.const(0.0))
        _, total = code.loop(start, lambda s: code.op("gt", s[0], whole(0)), turn)
        for row in range(2):
            flag = code.op("to_bool", code.load("flags", row))
            (kept,) = code.when(flag, lambda: [code.op("mul", total, 2.0)], [total])
            (same,) = code.when(flag, lambda: [code.const(3.0)], [code.const(-3.0)])
            code.store("out", row, code.op("add", kept, same))

    kernel = one_turn(code, write)
    n, flags = np.arange(11, dtype=np.int32), np.array([1, 0], np.int32)
    return Case(kernel, {"n": n, "flags": flags, "out": np.zeros(22, REAL[precision])})


def _stored(code: Code, value: Value) -> Sequence[Value]:
    code.store("out", 0, value)
    return ()


# ---------------------------------------------------------------- a path in time


def driven(own: bool, count: int = 11) -> Case:
    """A path at a time of each trajectory, its pieces looked for by bisection."""
    random = np.random.default_rng(2)
    ts = np.array([0.0, 0.3, 0.5, 1.1, 1.4, 2.0])
    edges = np.concatenate([[-np.inf], ts[1:-1], [np.inf]])
    rows = 4 * 2 * (len(ts) - 1)
    buffers = {
        "at": np.linspace(-0.1, 2.1, count),
        "pieces": np.array([0, len(ts) - 1, 0], np.int32),
        "knots": np.concatenate([[0.0, (len(ts) - 1) / 2.0], edges, ts]),
        "drivers" if own else "shared_drivers": random.normal(size=rows * count if own else rows),
        "out": np.zeros(10 * count),
    }
    return Case(evaluator(own), buffers, count)


# ---------------------------------------------------------------- an adaptive solve

NODES: tuple[tuple[float, ...], ...] = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
"""Dormand and Prince's fifth-order method; the last row is the solution."""

ERRORS = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
"""The difference from the embedded fourth-order solution."""

State = Sequence[Value]


def lorenz(precision: str, even: bool = False, count: int = 6, end: float = 0.06) -> Case:
    """Lorenz's equations, rho of each trajectory's own, by Dormand–Prince with steps of each one's own."""
    code = Code(precision)
    code.buffer("start", "member", "in")
    code.buffer("rho", "member", "in")
    code.buffer("final", "member", "out")
    code.buffer("steps", "member", "out", "i32")
    with code.block(shared=True) as entry:
        pass
    with code.block() as begin:
        x = [code.load("start", i) for i in range(3)]
        rho = code.load("rho", 0)
        begin.yields = (
            *x,
            *_rates(code, x, rho),
            rho,
            code.const(0.0),
            code.const(0.01),
            code.const(0, "i32"),
        )
    types = ["real"] * 9 + ["i32"]
    with code.block(types) as step:
        step.yields = _tried(code, step, end)
    with code.block(types) as finish:
        for i in range(3):
            code.store("final", i, finish.params[i])
        code.store("steps", 0, finish.params[9])
    carried = ("x", "y", "z", "dx", "dy", "dz", "rho", "t", "h", "steps")
    kernel = verify(code.kernel("lorenz", entry, begin, step, finish, carried=carried, even=even))
    real, random = REAL[precision], np.random.default_rng(1)
    start, rho_values = random.normal(size=3 * count).astype(real), random.uniform(5, 28, count).astype(real)
    final, steps = np.zeros(3 * count, real), np.zeros(count, np.int32)
    return Case(kernel, {"start": start, "rho": rho_values, "final": final, "steps": steps}, count)


def _rates(code: Code, x: State, rho: Value) -> list[Value]:
    code.origin = "x' = 10 (y - x)"
    dx = code.op("mul", 10.0, code.op("sub", x[1], x[0]))
    code.origin = "y' = x (rho - z) - y"
    dy = code.op("sub", code.op("mul", x[0], code.op("sub", rho, x[2])), x[1])
    code.origin = "z' = x y - 8/3 z"
    dz = code.op("sub", code.op("mul", x[0], x[1]), code.op("mul", 8 / 3, x[2]))
    code.origin = ""
    return [dx, dy, dz]


def _sum(code: Code, weights: Sequence[float], slopes: Sequence[State], i: int) -> Value:
    total = code.const(0.0)
    for w, k in zip(weights, slopes):
        total = code.op("fma", code.const(w), k[i], total) if w else total
    return total


def _tried(code: Code, step: Block, end: float) -> tuple[Value, ...]:
    """A step tried: taken if its error is below the tolerance."""
    *x, dx, dy, dz, rho, t, h, n = step.params
    slopes: list[State] = [[dx, dy, dz]]
    for row in NODES:
        at = [code.op("fma", h, _sum(code, row, slopes, i), x[i]) for i in range(3)]
        slopes.append(_rates(code, at, rho))
    ratios = [code.op("mul", code.op("mul", h, _sum(code, ERRORS, slopes, i)), 1e6) for i in range(3)]
    squares = [code.op("mul", r, r) for r in ratios]
    error = code.op("add", code.op("add", squares[0], squares[1]), squares[2])
    good = code.op("lt", error, 1.0)
    after = code.op("select", good, code.op("add", t, h), t)
    root = code.op("sqrt", code.op("sqrt", code.op("sqrt", code.op("add", error, 1e-6))))
    factor = code.op("minimum", 5.0, code.op("maximum", 0.2, code.op("div", 0.9, root)))
    left = code.op("sub", end, after)
    wider = code.op("minimum", code.op("mul", h, factor), code.op("maximum", left, 1e-9))
    new = [code.op("select", good, a, b) for a, b in zip((*at, *slopes[-1]), (*x, dx, dy, dz))]
    done = code.op("ge", after, end - 1e-6)
    return (*new, rho, after, wider, code.op("add", n, code.const(1, "i32")), done)


# ---------------------------------------------------------------- a queue


def clock() -> Case:
    """Each trajectory counts down from a number of its own; a clock that all share counts turns. `ends` has
    what the clock shows when a trajectory ends. For one program: its trajectories set the clock alike."""
    code = Code("f64")
    code.buffer("start", "member", "in", "i32")
    code.buffer("clock", "table", "inout", "i32")
    code.buffer("ends", "member", "out", "i32")
    with code.block(shared=True) as entry:
        one = code.const(1, "i32")
    with code.block() as begin:
        begin.yields = (code.load("start", 0),)
    with code.block(["i32"]) as step:
        code.store("clock", 0, code.op("add", code.load("clock", 0), one))
        left = code.op("sub", step.params[0], one)
        step.yields = (left, code.op("lt", left, one))
    with code.block(["i32"]) as finish:
        code.store("ends", 0, code.load("clock", 0))
    kernel = verify(code.kernel("clock", entry, begin, step, finish, carried=("left",)))
    start = np.array([12, 3, 1, 4, 2, 1, 5], np.int32)
    buffers = {"start": start, "clock": np.zeros(1, np.int32), "ends": np.zeros(len(start), np.int32)}
    return Case(kernel, buffers, len(start))
