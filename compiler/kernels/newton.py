"""Simplified Newton iterations for the stages of implicit methods, as a loop of the kernel.

E. Hairer, G. Wanner, "Solving Ordinary Differential Equations II", 2nd ed., section IV.8; the tests of
convergence are those of `ndl.runtime.stepping.newton`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.linear import Factors, Matrix, factorised

ITERATIONS = 10
MOST = 25
"""Iterations with a new Jacobian in each."""
ENOUGH = 1e-3
"""The iteration's error against the tolerance of the step (kappa)."""
ROUNDING = {"f64": 4 * 2.0**-52, "f32": 4 * 2.0**-23}
"""Units of rounding of the unknown below which a move says nothing."""

Residual = Callable[[list[Value]], list[Value]]
Size = Callable[[list[Value]], Value]


@dataclass
class Solved:
    """The root, whether the iteration converged, its slowest rate, and iterations."""

    z: list[Value]
    ok: Value
    rate: Value
    iterations: Value


def simplified_newton(
    code: Code, residual: Residual, lu: Factors, guess: Sequence[Value], size: Size
) -> Solved:
    """A root of `residual` near a guess, with the factors of a fixed approximate Jacobian; `size` is the
    scaled norm. Its results are constants to a derivative: see `implied`."""
    n = len(guess)
    still = _larger(code, 1e-4 * ENOUGH, _rounding(code, guess, size))
    yes, no, zero = code.const(True, "bool"), code.const(False, "bool"), code.const(0.0)

    def more(carried: tuple[Value, ...]) -> Value:
        k, going = carried[n], carried[n + 1]
        return code.op("and", going, code.op("lt", k, code.const(ITERATIONS, "i32")))

    def turn(carried: tuple[Value, ...]) -> list[Value]:
        z, (k, _, _, old, rate) = list(carried[:n]), carried[n:]
        move = lu.solve(residual(z))
        z = [code.op("sub", v, m) for v, m in zip(z, move)]
        now = size(move)
        theta = code.op("select", code.op("gt", old, 0.0), code.op("div", now, old), 0.0)
        done, hopeless = _verdict(code, k, theta, now, still)
        slower = code.op("select", code.op("gt", theta, rate), theta, rate)
        going = code.op("not", code.op("or", done, hopeless))
        return [*z, code.op("add", k, code.const(1, "i32")), going, done, now, slower]

    start = [*guess, code.const(0, "i32"), yes, no, zero, zero]
    found = code.loop(start, more, turn)
    code.fixed.update(found)
    k, _, ok, _, rate = found[n:]
    return Solved(list(found[:n]), ok, rate, k)


def full_newton(
    code: Code,
    residual: Residual,
    matrix: Callable[[list[Value]], Matrix],
    guess: Sequence[Value],
    size: Size,
) -> Solved:
    """As `simplified_newton`, with a new Jacobian `matrix(z)` in every iteration: for steps whose failure
    cannot be answered by a smaller one."""
    n = len(guess)
    # quadratic convergence: a move this small leaves an error far below the tolerance
    small = _larger(code, 1e-2 * ENOUGH**0.5, _rounding(code, guess, size))

    def more(carried: tuple[Value, ...]) -> Value:
        return code.op("and", carried[-1], code.op("lt", carried[n], code.const(MOST, "i32")))

    def turn(carried: tuple[Value, ...]) -> list[Value]:
        z = list(carried[:n])
        move = factorised(code, matrix(z)).solve(residual(z))
        now = size(move)
        usable = code.op("isfinite", now)
        z = [code.op("select", usable, code.op("sub", v, m), v) for v, m in zip(z, move)]
        done = code.op("and", usable, code.op("le", now, small))
        return [*z, code.op("add", carried[n], code.const(1, "i32")), code.op("not", done)]

    start = [*guess, code.const(0, "i32"), code.const(True, "bool")]
    found = code.loop(start, more, turn)
    return Solved(list(found[:n]), code.op("not", found[-1]), code.const(1.0), found[n])


def insisted(code: Code, found: Solved, again: Callable[[], Solved]) -> Solved:
    """`found` where it converged, else what another iteration finds."""

    def other() -> list[Value]:
        new = again()
        return [*new.z, new.ok, new.rate, code.op("add", found.iterations, new.iterations)]

    old = [*found.z, found.ok, found.rate, found.iterations]
    *z, ok, rate, iterations = code.when(code.op("not", found.ok), other, old)
    code.fixed.update((*z, ok, rate, iterations))
    return Solved(z, ok, rate, iterations)


def _verdict(code: Code, k: Value, theta: Value, now: Value, small: Value) -> tuple[Value, Value]:
    """Whether iteration k has converged, and whether it will not: (IV.8.10) and (IV.8.11)."""
    first = code.op("eq", k, code.const(0, "i32"))
    falls = code.op("lt", theta, 1.0)
    share = code.op("div", now, code.op("sub", 1.0, theta))
    near = code.op("and", falls, code.op("le", code.op("mul", theta, share), ENOUGH))
    still = code.op("le", now, small)
    done = code.op("or", still, code.op("and", code.op("not", first), near))
    left = code.op("sub", code.const(ITERATIONS - 1, "i32"), k)
    last = code.op("mul", _power(code, theta, left), share)
    far = code.op("or", code.op("not", falls), code.op("gt", last, ENOUGH))
    broken = code.op("not", code.op("isfinite", now))
    return done, code.op("select", first, broken, far)


def _rounding(code: Code, z: Sequence[Value], size: Size) -> Value:
    """A few units of rounding of z in the scaled norm; 0 where that is not finite."""
    found = code.op("mul", size(list(z)), ROUNDING[code.precision])
    return code.op("select", code.op("isfinite", found), found, 0.0)


def _larger(code: Code, a: float, b: Value) -> Value:
    return code.op("select", code.op("gt", b, a), b, a)


def _power(code: Code, base: Value, exponent: Value) -> Value:
    """base^exponent for a whole exponent of 0…15."""
    found, square = code.const(1.0), base
    for bit in (1, 2, 4, 8):
        on = code.op("to_bool", code.op("bit_and", exponent, code.const(bit, "i32")))
        found = code.op("select", on, code.op("mul", found, square), found)
        square = code.op("mul", square, square)
    return found


def implied(code: Code, z: Sequence[Value], r: Sequence[Value], lu: Factors) -> list[Value]:
    """The root as a function of what its residual r at z depends on: z - N^-1 r with the exact Jacobian N
    held fixed has the derivative of the implicit function theorem."""
    since = code.made
    found = [code.op("sub", v, m) for v, m in zip(z, lu.solve(r))]

    def pull(g: Sequence[Value]) -> list[tuple[Value, Value]]:
        return [(v, code.op("neg", w)) for v, w in zip(r, lu.transposed(g))]

    code.derivative(found, since, pull)
    return found
