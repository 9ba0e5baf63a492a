"""Forms of equations: rates on the right, `dx/dt`, joint and second-order ones, algebraic vectors."""

from __future__ import annotations

from programs import check

PROGRAM = """
model Rates:
    param k = 2.0
    state x = 1.0, y = 0.0, w = 0.0
    e = x^2
    x' = -k*x
    y' = e'
    dw/dt = x' + e'

model Joint:
    param a = 0.5
    state u = 1.0, v = 0.0
    term turn = [v, -u]
    term damp = [-a*u, -a*v]
    u', v' = turn + damp

model Second:
    param A = [[2.0, 1.0], [1.0, 2.0]]
    state q: R[2] = [1, 0]
    state q': R[2] = 0
    q'' = -A @ q

model Algebra:
    state x = 1.0
    state z: R[2] = [0.5, 0.5]
    x' = -z[0]
    0 = [z[0] - x, z[0] + z[1] - 2*x]

test "rates":
    s = solve(Rates, span=0..1, method=tsit5(rtol=1e-10, atol=1e-12))
    assert abs(s.final.y - (exp(-4) - 1)) < 1e-8
    assert abs(s.final.w - (exp(-2) - 1 + exp(-4) - 1)) < 1e-8

test "joint":
    s = solve(Joint, span=0..1, method=tsit5(rtol=1e-10, atol=1e-12))
    assert abs(s.final.u - exp(-0.5)*cos(1)) < 1e-8
    assert abs(s.final.v + exp(-0.5)*sin(1)) < 1e-8
    p = solve(Joint, span=0..1, method=strang(turn, damp, h=0.01))
    assert abs(p.final.u - exp(-0.5)*cos(1)) < 1e-5

test "second":
    s = solve(Second, span=0..1, method=tsit5(rtol=1e-10, atol=1e-12))
    assert abs(s.final.q[0] - (cos(sqrt(3)) + cos(1))/2) < 1e-8
    assert abs(s.final.q'[1] - (sin(1) - sqrt(3)*sin(sqrt(3)))/2) < 1e-8

test "algebra":
    s = solve(Algebra, span=0..1, method=rodas5(rtol=1e-9, atol=1e-10))
    assert abs(s.final.x - exp(-1)) < 1e-7
    assert max(abs(s.final.z - exp(-1))) < 1e-7
"""


def test_forms_of_equations() -> None:
    check(PROGRAM)
