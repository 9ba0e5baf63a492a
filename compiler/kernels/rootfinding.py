"""`root(z -> F(z), guess)` as a loop of the kernel: Newton's method with step halving, by the tests of
convergence of `ndl.runtime.implicit`, with a new Jacobian in every iteration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.linear import Matrix, factorised
from ndl.compiler.kernels.newton import implied
from ndl.compiler.kernels.reverse import pullback

STEPS = 50
HALVINGS = 10
UNIT = {"f64": 2.0**-52, "f32": 2.0**-23}

Residual = Callable[[list[Value]], list[Value]]


@dataclass
class Root:
    """The root, no number where none was found, and iterations."""

    z: list[Value]
    iterations: Value


def norm(code: Code, values: Sequence[Value]) -> Value:
    """The Euclidean norm."""
    total = code.op("mul", values[0], values[0])
    for v in values[1:]:
        total = code.op("fma", v, v, total)
    return code.op("sqrt", total)


def slope(code: Code, residual: Residual, z: list[Value]) -> tuple[list[Value], Matrix]:
    """The residual at z and its derivative by z. z are parameters of the open block, or else known
    beforehand: nothing that they were computed from is looked at."""
    r, one = residual(z), code.const(1.0)
    body = code.visible()
    return r, [pullback(code, body, {v: one}, z) for v in r]


def newton(code: Code, residual: Residual, guess: Sequence[Value]) -> Root:
    """A root near a guess. It is a constant to a derivative: see `differentiable`."""
    n, tolerance = len(guess), UNIT[code.precision] ** 0.75

    def moved(z: list[Value], dz: list[Value], scale: Value) -> list[Value]:
        return [code.op("fma", code.op("neg", scale), d, v) for v, d in zip(z, dz)]

    def more(carried: tuple[Value, ...]) -> Value:
        k, going = carried[n + 1], carried[n + 2]
        return code.op("and", going, code.op("lt", k, code.const(STEPS, "i32")))

    def turn(carried: tuple[Value, ...]) -> list[Value]:
        z, size, k = list(carried[:n]), carried[n], carried[n + 1]
        r, J = slope(code, residual, z)
        dz = factorised(code, J).solve(r)
        far = norm(code, dz)
        allowed = code.op("mul", code.op("add", norm(code, z), 1.0), tolerance)
        small, usable = code.op("le", far, allowed), code.op("isfinite", far)
        first = [code.op("sub", v, d) for v, d in zip(z, dz)]
        enough = code.op("or", small, code.op("not", usable))

        def worse(c: tuple[Value, ...]) -> Value:
            tries, now = c[1], c[2]
            bad = code.op("not", code.op("or", code.op("le", now, size), enough))
            return code.op("and", bad, code.op("lt", tries, code.const(HALVINGS - 1, "i32")))

        def halved(c: tuple[Value, ...]) -> list[Value]:
            scale = code.op("mul", c[0], 0.5)
            trial = moved(z, dz, scale)
            tries = code.op("add", c[1], code.const(1, "i32"))
            return [scale, tries, norm(code, residual(trial)), *trial]

        start = [code.const(1.0), code.const(0, "i32"), norm(code, residual(first)), *first]
        _, _, now, *trial = code.loop(start, worse, halved)
        going = code.op("and", usable, code.op("not", small))
        return [*trial, now, code.op("add", k, code.const(1, "i32")), going, small]

    start = [
        *guess, norm(code, residual(list(guess))), code.const(0, "i32"), code.const(True, "bool"),
        code.const(False, "bool"),
    ]  # fmt: skip
    found = code.loop(start, more, turn)
    ok = found[n + 3]
    z = [code.op("select", ok, v, float("nan")) for v in found[:n]]
    code.fixed.update(found)
    return Root(z, found[n + 1])


def differentiable(code: Code, residual: Residual, z: list[Value]) -> list[Value]:
    """A root that is known, as a function of what its equation is made of."""
    r, J = slope(code, residual, z)
    return implied(code, z, r, factorised(code, J))
