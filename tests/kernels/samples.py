"""Kernels for several tests."""

from __future__ import annotations

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Kernel
from ndl.compiler.kernels.verify import verify


def everywhere(precision: str) -> Kernel:
    """A kernel with functions in every block, a loop and a region."""
    code = Code(precision)
    code.buffer("x", "member", "in")
    code.buffer("y", "member", "out")
    with code.block(shared=True) as entry:
        shared = code.op("exp", code.const(0.5))
    with code.block() as begin:
        begin.yields = (code.op("sin", code.load("x", 0)), code.const(0, "i32"))
    with code.block(["real", "i32"]) as step:
        x, n = step.params
        again = code.loop(
            [x],
            lambda given: code.op("lt", code.op("cosh", given[0]), 2.0),
            lambda given: [code.op("add", given[0], shared)],
        )
        small = code.op("lt", x, 0.5)
        chosen = code.when(small, lambda: [code.op("pow", 2.0, x)], [again[0]])
        n = code.op("add", n, code.const(1, "i32"))
        step.yields = (code.op("tanh", chosen[0]), n, code.op("ge", n, code.const(3, "i32")))
    with code.block(["real", "i32"]) as finish:
        code.store("y", 0, code.op("expm1", finish.params[0]))
    return verify(code.kernel("everywhere", entry, begin, step, finish, carried=("x", "n")))
