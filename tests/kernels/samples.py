"""Kernels for several tests."""

from __future__ import annotations

from ndl.compiler.ir.model import InputSpec
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.drivers import Drivers
from ndl.compiler.kernels.ir import Kernel
from ndl.compiler.kernels.verify import verify
from ndl.compiler.types import Dim, Tensor


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


def evaluator(own: bool) -> Kernel:
    """Derivatives of order 0 to 4 of a path of two channels at a time of each trajectory."""
    code = Code("f64")
    for name, mode in (("at", "in"), ("out", "out")):
        code.buffer(name, "member", mode)
    spec = InputSpec("X", Tensor("R", (Dim.of(2),), "time"), True)
    drivers = Drivers(code, [spec], frozenset({"X"} if own else ()))
    drivers.read["X"] = (2,)
    with code.block(shared=True) as entry:
        drivers.prepare()
    with code.block() as begin:
        begin.yields = (code.const(0, "i32"),)
    with code.block(["i32"]) as step:
        t = code.load("at", 0)
        found = [v for order in range(5) for v in drivers.at("X", (2,), order, t)]
        for i, v in enumerate(found):
            code.store("out", i, v)
        step.yields = (step.params[0], code.op("ge", step.params[0], code.const(0, "i32")))
    with code.block(["i32"]) as finish:
        pass
    return verify(code.kernel("evaluated", entry, begin, step, finish))
