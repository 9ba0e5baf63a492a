"""Integral equations in parts, which may read each other's unknowns."""

from __future__ import annotations

from programs import check, refused

PROGRAM = """
model Sine:
    param w = 1.0
    state y: R on time
    y(t) = w*t - integral(w^2*(t - s)*y(s), s in 0..t)

model Two:
    slow = Sine(w=1)
    fast = Sine(w=2)

model Coupled:
    inner = Sine(w=1)
    state z: R on time
    z(t) = 1 - integral(inner.y(s), s in 0..t)

const m = picard(quadrature=trapezoid(400), tol=1e-10)

test "each part has the solution of its model":
    s = solve(Two, span=0..2, method=m)
    assert max(abs(s.slow.y - sin(s.t))) < 1e-4
    assert max(abs(s.fast.y - sin(2*s.t))) < 4e-4
    one = solve(Sine(w=2), span=0..2, method=m)
    assert max(abs(s.fast.y - one.y)) < 1e-9

test "the whole reads the unknown of its part":
    s = solve(Coupled, span=0..2, method=m)
    assert max(abs(s.z - cos(s.t))) < 1e-4
"""


def test_integral_equations_in_parts() -> None:
    check(PROGRAM)


def test_other_equations_are_refused() -> None:
    sine = "model Sine:\n    state y: R on time\n    y(t) = t - integral((t - s)*y(s), s in 0..t)\n\n"
    run = '\ntest "t":\n    s = solve(M, span=0..1, method=picard(quadrature=trapezoid(10)))\n'
    found = refused(sine + "model M:\n    p = Sine()\n    state x = 1.0\n    x' = -x\n" + run)
    assert found.code == "NDL437"
