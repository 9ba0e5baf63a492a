"""Zeros of a function inside a step as scalar code: the counterpart of `ndl.runtime.roots`, which it must
reproduce.

R. P. Brent's idea in T. R. Chandrupatla's form, "A new hybrid quadratic/bisection algorithm …", Advances in
Engineering Software 28 (1997) 145–149.
"""

from __future__ import annotations

from collections.abc import Callable

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value

MOST = 120
"""Evaluations for one root."""

Function = Callable[[Value], Value]


def locate(
    code: Code, u: Function, low: Value, high: Value, u_low: Value, u_high: Value, width: Value,
    coarse: Value | None = None,
) -> tuple[Value, Value]:  # fmt: skip
    """A bracket `low < high` with u(low) > 0 >= u(high), narrowed to at most `width`: its ends. Those wider
    than `coarse` are halved."""

    def more(c: tuple[Value, ...]) -> Value:
        a, b, _, fa, *_, turn = c
        wide = code.op("gt", code.op("abs", code.op("sub", b, a)), width)
        wide = code.op("and", wide, code.op("ne", fa, 0.0))
        return code.op("and", wide, code.op("lt", turn, code.const(MOST, "i32")))

    def body(carried: tuple[Value, ...]) -> list[Value]:
        # a: the newest point, b: the other end of the bracket, c: the one before the newest
        a, b, _, fa, fb, _, share, turn = carried
        point = code.op("fma", share, code.op("sub", b, a), a)
        value = u(point)
        same = code.op("eq", _bit(code, value), _bit(code, fa))
        c, fc = code.op("select", same, a, b), code.op("select", same, fa, fb)
        b, fb = code.op("select", same, b, a), code.op("select", same, fb, fa)
        a, fa = point, value
        turn = code.op("add", turn, code.const(1, "i32"))
        share = _share(code, a, b, c, fa, fb, fc, width)
        if coarse is not None:
            wide = code.op("gt", code.op("abs", code.op("sub", b, a)), coarse)
            share = code.op("select", wide, 0.5, share)
        return [a, b, c, fa, fb, fc, share, turn]

    start = [high, low, low, u_high, u_low, u_low, code.const(0.5), code.const(0, "i32")]
    a, b, _, fa, *_ = code.loop(start, more, body)
    # a point where u is exactly 0 is the root, and the end after it
    early = code.op("gt", fa, 0.0)
    return code.op("select", early, a, b), code.op("select", early, b, a)


def _bit(code: Code, value: Value) -> Value:
    return code.op("from_bool", code.op("gt", value, 0.0))


def _share(
    code: Code, a: Value, b: Value, c: Value, fa: Value, fb: Value, fc: Value, width: Value
) -> Value:  # fmt: skip
    """Where in the bracket to look next: inverse quadratic interpolation if it is safe, else the middle."""

    def part(x: Value, y: Value, z: Value, w: Value) -> Value:
        """(x - y)/(z - w)."""
        return code.op("div", code.op("sub", x, y), code.op("sub", z, w))

    def over(f: Value, x: Value, y: Value) -> Value:
        """f/(x - y)."""
        return code.op("div", f, code.op("sub", x, y))

    xi, phi = part(a, b, c, b), part(fa, fb, fc, fb)
    rest = code.op("sub", 1.0, phi)
    safe = code.op(
        "and",
        code.op("lt", code.op("mul", phi, phi), xi),
        code.op("lt", code.op("mul", rest, rest), code.op("sub", 1.0, xi)),
    )
    first = code.op("mul", over(fa, fb, fa), over(fc, fb, fc))
    second = code.op("mul", code.op("mul", part(c, a, b, a), over(fa, fc, fa)), over(fb, fc, fb))
    quadratic = code.op("add", first, second)
    safe = code.op("and", safe, code.op("isfinite", quadratic))
    share = code.op("select", safe, quadratic, 0.5)
    least = code.op("div", code.op("mul", width, 0.5), code.op("abs", code.op("sub", b, a)))
    small = code.op("lt", least, 0.5)
    low = code.op("select", small, least, 0.5)
    high = code.op("select", small, code.op("sub", 1.0, least), 0.5)
    share = code.op("select", code.op("lt", share, low), low, share)
    return code.op("select", code.op("gt", share, high), high, share)
