"""Consistent values of algebraic states as scalar code: Newton on their equations with the others held, to
full precision. The counterpart of `ndl.runtime.stepping.consistent`, whose rules it must reproduce."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ndl.compiler.kernels.field import Field
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.linear import Matrix, factorised
from ndl.compiler.kernels.newton import implied

ITERATIONS = 30
UNIT = {"f64": 2.0**-52, "f32": 2.0**-23}
"""The spacing of numbers at 1."""


@dataclass(frozen=True)
class Consistent:
    """The state, whether the iteration came to an end, and its evaluations."""

    x: list[Value]
    ok: Value
    count: Value


def consistent(field: Field, t: Value, x: Sequence[Value]) -> Consistent:
    """x with its algebraic entries moved so that their equations hold; as it was where they find no place."""
    code, tied = field.code, tied_places(field)
    m = len(tied)
    found = _solved(field, t, x)
    # an iteration that only rounding keeps moving has converged
    ok = code.op("le", found[m + 2], 1e3 * UNIT[code.precision] ** 0.75)
    z = [code.op("select", ok, a, x[i]) for a, i in zip(found, tied)]
    return Consistent(_with(x, tied, z), ok, found[m])


def _solved(field: Field, t: Value, x: Sequence[Value]) -> tuple[Value, ...]:
    """The algebraic states, how many evaluations there were, whether they still went on, and the last move
    over its state: constants to a derivative."""
    code, tied = field.code, tied_places(field)
    m, unit = len(tied), UNIT[code.precision]
    yes = code.const(True, "bool")

    def more(carried: tuple[Value, ...]) -> Value:
        k, going = carried[m], carried[m + 1]
        return code.op("and", going, code.op("lt", k, code.const(ITERATIONS, "i32")))

    def turn(carried: tuple[Value, ...]) -> list[Value]:
        at = _with(x, tied, carried[:m])
        residual = field.rate(t, at)
        move = factorised(code, _block(field, t, at)).solve([residual[i] for i in tied])
        z = [code.op("sub", a, b) for a, b in zip(carried[:m], move)]
        size = code.const(0.0)
        for a, b in zip(move, z):
            ratio = code.op("div", code.op("abs", a), code.op("add", code.op("abs", b), 1e-8))
            # what is no number stays none
            size = code.op("select", code.op("gt", size, ratio), size, ratio)
        going = code.op("not", code.op("le", size, 64 * unit))
        going = code.op("and", going, code.op("isfinite", size))
        return [*z, code.op("add", carried[m], code.const(1, "i32")), going, size]

    start = [*(x[i] for i in tied), code.const(0, "i32"), yes, code.const(0.0)]
    found = code.loop(start, more, turn)
    code.fixed.update(found)
    return found


def tied_again(field: Field, t: Value, x: Sequence[Value]) -> list[Value]:
    """The same as a function of t, of the other states and of what the equations read, by the implicit
    function theorem."""
    code, tied = field.code, tied_places(field)
    z = list(_solved(field, t, x)[: len(tied)])
    at = _with(x, tied, z)
    residual = field.rate(t, at)
    lu = factorised(code, _block(field, t, at))
    return _with(x, tied, implied(code, z, [residual[i] for i in tied], lu))


def tied_places(field: Field) -> list[int]:
    """The places of algebraic states."""
    return [i for i, m in enumerate(field.mass) if m == 0]


def _block(field: Field, t: Value, x: Sequence[Value]) -> Matrix:
    """The derivative of the algebraic equations by their states."""
    J, tied = field.jacobian(t, x), tied_places(field)
    return [[J[i][j] for j in tied] for i in tied]


def _with(x: Sequence[Value], places: Sequence[int], values: Sequence[Value]) -> list[Value]:
    found = list(x)
    for i, v in zip(places, values):
        found[i] = v
    return found
