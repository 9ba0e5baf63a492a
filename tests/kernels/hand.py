"""Kernels written by hand, small enough to read."""

from __future__ import annotations

import numpy as np
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Kernel
from ndl.compiler.kernels.verify import verify

Buffers = dict[str, np.ndarray]


def rotation(precision: str = "f64", even: bool = False) -> Kernel:
    """x' = y, y' = -x by a symplectic step, for as many steps as each trajectory asks for; a loop halves what
    is large, and a region doubles what is small and notes it."""
    code = Code(precision)
    code.buffer("x0", "member", "in")
    code.buffer("h", "table", "in")
    code.buffer("steps", "member", "in", "i32")
    code.buffer("noted", "member", "out")
    code.buffer("last", "member", "out")
    one = lambda: code.const(1, "i32")  # noqa: E731
    with code.block(shared=True) as entry:
        h = code.load("h", 0)
    with code.block() as begin:
        many = code.const(37, "i32") if even else code.load("steps", 0)
        code.store("noted", 0, code.const(0.0))
        begin.yields = (code.load("x0", 0), code.load("x0", 1), code.const(0, "i32"), many)
    with code.block(["real", "real", "i32", "i32"]) as step:
        x, y, n, many = step.params
        code.origin = "x' = y"
        x = code.op("fma", h, y, x)
        code.origin = "y' = -x"
        y = code.op("sub", y, code.op("mul", h, x))
        code.origin = ""
        (s,) = code.loop([x], lambda c: code.op("gt", c[0], 2.0), lambda c: [code.op("mul", c[0], 0.5)])

        def note() -> list:
            code.store("noted", 0, code.op("to_real", n))
            return [code.op("mul", s, 2.0)]

        small = code.op("lt", code.op("abs", s), 0.01)
        (s,) = code.when(small, note, [s])
        n = code.op("add", n, one())
        step.yields = (s, y, n, many, code.op("ge", n, many))
    with code.block(["real", "real", "i32", "i32"]) as finish:
        code.store("last", 0, finish.params[0])
        code.store("last", 1, finish.params[1])
    carried = ("x", "y", "n", "many")
    return verify(code.kernel("rotation", entry, begin, step, finish, carried=carried, even=even))


def buffers(count: int, precision: str = "f64", seed: int = 0) -> Buffers:
    """Buffers of `rotation` for a batch."""
    real = np.float64 if precision == "f64" else np.float32
    random = np.random.default_rng(seed)
    return {
        "x0": random.normal(size=2 * count).astype(real),
        "h": np.array([0.1], dtype=real),
        "steps": random.integers(1, 60, count).astype(np.int32),
        "noted": np.zeros(count, dtype=real),
        "last": np.zeros(2 * count, dtype=real),
    }


def elementwise(op: str, operands: tuple[str, ...], result: str, precision: str) -> Kernel:
    """One operation: `a0`, `a1`, … to `out`, for every trajectory. Bools stand in i32 buffers, bits are
    those of reals."""
    code = Code(precision)
    kinds = {"bool": "i32", "bits": "real"}
    for i, type in enumerate(operands):
        code.buffer(f"a{i}", "member", "in", kinds.get(type, type))
    code.buffer("out", "member", "out", kinds.get(result, result))
    with code.block(shared=True) as entry:
        pass
    with code.block() as begin:
        begin.yields = (code.const(0, "i32"),)
    with code.block(["i32"]) as step:
        args = []
        for i, type in enumerate(operands):
            value = code.load(f"a{i}", 0)
            args.append(
                code.op("to_bool", value)
                if type == "bool"
                else code.op("bits_of", value)
                if type == "bits"
                else value
            )
        found = code.op(op, *args)
        if result == "bool":
            found = code.op("from_bool", found)
        elif result == "bits":
            found = code.op("real_of", found)
        code.store("out", 0, found)
        step.yields = (step.params[0], code.op("ge", step.params[0], code.const(0, "i32")))
    with code.block(["i32"]) as finish:
        pass
    return verify(code.kernel(f"one_{op}", entry, begin, step, finish))
