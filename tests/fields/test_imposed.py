"""`impose(e, boundary(S), g)` and `residual(M, u)`: in models, tests and trainings without solved data."""

from __future__ import annotations

import math

import pytest
import torch

import ndl

SQUARE = "domain Square = interval(x in 0..1, y in 0..1)\n"
MODEL = f"""{SQUARE}
model Set:
    state u: R on Square = x*y
    u' = impose(1 + 0*u, boundary(Square), 0)
    v = impose(u + 3, left(Square), y)
    w = impose(x + 1, top(Square) if x > 0.3, 7*x)
    z = impose([u, 2], right(Square), [5, u])

test "values at the ends, all else as it was":
    s = solve(Set, span=0..1, grid=uniform(6, 5), method=euler(h=1), save=end)
    assert max(abs(s.final.u[1:5, 1:4] - s.grid.x[1:5, 1:4]*s.grid.y[1:5, 1:4] - 1)) < 1e-12
    assert max(abs(s.final.u[:, 4] - s.grid.x[:, 4])) < 1e-12
    assert max(abs(s.final.v[0, :] - s.grid.y[0, :])) < 1e-12
    assert max(abs(s.final.v[1:, :] - s.final.u[1:, :] - 3)) < 1e-12
    assert max(abs(s.final.w[:, :4] - s.grid.x[:, :4] - 1)) < 1e-12
    assert max(abs(s.final.w[2:, 4] - 7*s.grid.x[2:, 4])) < 1e-12
    assert max(abs(s.final.w[:2, 4] - s.grid.x[:2, 4] - 1)) < 1e-12
    assert max(abs(s.final.z[5, :, 0] - 5)) < 1e-12 and max(abs(s.final.z[:5, :, 1] - 2)) < 1e-12
    assert max(abs(s.final.z[5, :, 1] - s.final.u[5, :])) < 1e-12
"""
POISSON = f"""{SQUARE}
model Poisson:
    param f: R on Square = 1
    param g: R on Square = 0
    state u: R on Square = 0
    0 = lap(u) + f
    on boundary(Square): u = g
"""
TRAINED = (
    POISSON
    + """
operator Scaled(f: R on Square) -> R on Square:
    param a = 0.03, b = 0.1
    return a*f + b

net N: R on Square -> R on Square = Scaled()
const F = [[sin(pi*i/8)*sin(pi*j/8) for j in 0..8] for i in 0..8]

train N as without_data:
    c ~ uniform(1, 2)
    grid      = uniform(9)
    samples   = 3
    loss      = mean(residual(Poisson(f=c*F), impose(N(c*F), boundary(Square), 0))^2)
    optimizer = lbfgs(steps=10)
    steps     = 2

test "the solution of a steady model leaves nothing":
    s = solve(Poisson, grid=uniform(9), method=direct())
    assert max(abs(residual(Poisson, s.final.u))) < 1e-10
    r = residual(Poisson(g=3), impose(0*s.final.u + 1, boundary(Square), 0))
    assert max(abs(r[2:7, 2:7] - 1)) < 1e-10 and max(abs(r[0, :] + 3)) < 1e-12
    assert abs(r[1, 4] - 1 + 64) < 1e-9 and abs(r[1, 1] - 1 + 128) < 1e-9
"""
)


SYSTEMS = f"""{SQUARE}
domain Disc = {{ x, y | x^2 + y^2 < 1 }}
domain Rod = interval(x in 0..1)

model Two:
    state u: R on Square = 0
    state p: R on Square = 0
    0 = lap(u) + p
    0 = lap(p) - u + 1
    on boundary(Square): u = 2
    on boundary(Square): p = 0

model Plate:
    state u: R on Disc = 0
    0 = lap(u) - u + 1
    on boundary(Disc): u = 3

model Heat:
    state u: R on Rod = 0
    u' = 0.1*lap(u) + t
    on boundary(Rod): u = 0

model Pair:
    state a = 1.0
    state z = 0.0
    a' = z - t
    0 = z + a

operator Decay(t: R) -> R:
    param b = 0.3
    return exp(-b*t)

net N: R -> R = Decay()

train N as in_time:
    t ~ uniform(0, 1)
    v = [sin(pi*i/8) for i in 0..8]
    grid      = uniform(9)
    samples   = 4
    loss      = mean((residual(Heat, s -> N(s)*v, t)[1:8] + t)^2)
    optimizer = lbfgs(steps=20)
    precision = float64
    steps     = 2

test "several states":
    s = solve(Two, grid=uniform(7, 7), method=newton(tol=1e-11))
    ru, rp = residual(Two, s.final.u, s.final.p)
    assert max(abs(ru)) < 1e-8 and max(abs(rp)) < 1e-8
    ru, rp = residual(Two, 0*s.final.u, s.final.p + 1)
    assert max(abs(ru[1:6, 1:6] - s.final.p[1:6, 1:6] - 1)) < 1e-10 and max(abs(ru[0, :] + 2)) < 1e-12
    assert max(abs(rp[0, :] - 1)) < 1e-12

test "meshes":
    u = solve(Plate, grid=fem(size=0.4), method=direct()).final.u
    assert max(abs(residual(Plate, u, grid=fem(size=0.4)))) < 1e-9
    r, q = residual(Plate, 0*u + 3, grid=fem(size=0.4)), residual(Plate, 0*u + 5, grid=fem(size=0.4))
    assert abs(min(r) + 2) < 1e-9 and abs(max(r)) < 1e-12 and abs(max(q) - 2) < 1e-12

test "along functions of time":
    v = [sin(pi*i/8) for i in 0..8]
    mode = 4*64*sin(pi/16)^2
    r = residual(Heat, s -> exp(-2*s)*v, 0.5)
    assert max(abs(r[1:8] - exp(-1)*(-2 + 0.1*mode)*v[1:8] + 0.5)) < 1e-12 and abs(r[0]) < 1e-12
    q = residual(Heat, s -> exp(-2*s)*v, [0.0, 0.5])
    assert max(abs(q[1] - r)) < 1e-13 and shape(q) == [2, 9]
    ra, rz = residual(Pair, s -> sin(s), s -> s^2, 2)
    assert abs(ra - cos(2) + 4 - 2) < 1e-12 and abs(rz - 4 - sin(2)) < 1e-12
"""


MESHED = f"""{SQUARE}
domain Disc = {{ x, y | x^2 + y^2 < 1 }}

model Round:
    param a = 2.0
    state u: R on Disc = x*y
    u' = 0*u
    v = impose(u + 3, boundary(Disc), a*x)
    w = impose(u, boundary(Disc) if x > 0.3, u + 7)
    z = impose([u, 2], boundary(Disc), [5, u])
    inner = integral(impose(1, boundary(Disc), 0), [x, y] in Disc)
    whole = integral(v, [x, y] in Disc)

model Steady:
    param a = 2.0
    state u: R on Square = 0
    0 = lap(u) + impose(0, left(Square), a)
    on boundary(Square): u = 0
    left_ = impose(u, left(Square), 5)
    steep = integral(dx(impose(0*u, right(Square), y)), [x, y] in Square)

test "a disc":
    s = solve(Round, span=0..1, grid=fem(size=0.3), method=euler(h=1), save=end)
    edge = 0.5*(1 + sign(s.grid.x^2 + s.grid.y^2 - 1 + 1e-6))
    assert sum(edge) > 10 and sum(1 - edge) > 10
    assert max(abs(s.final.v - edge*2*s.grid.x - (1 - edge)*(s.final.u + 3))) < 1e-12
    assert max(abs(s.final.w - s.final.u - 7*edge*0.5*(1 + sign(s.grid.x - 0.3)))) < 1e-12
    assert max(abs(s.final.z[:, 0] - 5*edge - (1 - edge)*s.final.u)) < 1e-12
    assert max(abs(s.final.z[:, 1] - s.final.u*edge - 2*(1 - edge))) < 1e-12

test "a box, elements of order 2, inside of an equation and under a derivative":
    s = solve(Steady, grid=fem(size=0.2, order=2), method=direct())
    edge = 0.5*(1 - sign(s.grid.x - 1e-9))
    assert max(abs(s.final.left_ - 5*edge - (1 - edge)*s.final.u)) < 1e-12
    assert abs(s.final.steep - 0.5) < 1e-12
"""


def test_gradients_through_values_on_a_mesh_are_those_of_differences() -> None:
    model = ndl.loads(MESHED, grid="fem(size=0.25)").models["Steady"]()

    def value(a: torch.Tensor) -> torch.Tensor:
        s = ndl.solve(model.bind(a=a), method="direct()", gradient="adjoint")
        found: torch.Tensor = (s.final.u**2).sum() * 1e3
        return found

    a = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(value(a), [a])
    before, after = (value(torch.tensor(2.0 + e, dtype=torch.float64)) for e in (-1e-4, 1e-4))
    assert float(slope) == pytest.approx(float(after - before) / 2e-4, rel=1e-7) and float(slope) > 0.1


@pytest.mark.parametrize("text", [MODEL, TRAINED, SYSTEMS, MESHED])
def test_values_and_what_is_left(text: str) -> None:
    assert [o.message for o in ndl.loads(text).test() if not o.passed] == []


def test_a_net_learns_the_solution_from_the_equation_alone() -> None:
    """The discrete Laplacian has the wave as an eigenvector, so that the loss is 0 for a = 1/eigenvalue."""
    program = ndl.loads(TRAINED)
    program.run("without_data")
    net = program.nets["N"]
    eigenvalue = 2 * 4 * 64 * math.sin(math.pi / 16) ** 2
    assert float(net.a) == pytest.approx(1 / eigenvalue, abs=1e-4)
    assert float(net.b) == pytest.approx(0, abs=1e-4)


def test_a_net_of_time_learns_the_rate_of_a_mode() -> None:
    program = ndl.loads(SYSTEMS)
    program.run("in_time")
    mode = 4 * 64 * math.sin(math.pi / 16) ** 2
    assert float(program.nets["N"].b) == pytest.approx(0.1 * mode, abs=1e-4)


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("impose(u, Square, 0)", "NDL480", "a part of a boundary"),
        ("impose(u, left(Square), [1, 2])", "NDL480", "is given"),
        ("impose(u, boundary(Square), 0)", "NDL481", "no points"),
        ("residual(Set, u)", "NDL479", "changes in time"),
    ],
)
def test_mistakes(line: str, code: str, words: str) -> None:
    text = f"""{SQUARE}
model Set:
    state u: R on Square = 0
    u' = 0*u
    v = {line}

solve Set as run:
    span   = 0..1
    grid   = uniform(4, at=cells)
    method = euler(h=1)
"""
    with pytest.raises(ndl.NDLError, match=code) as problem:
        ndl.loads(text).run("run")
    assert words in str(problem.value)
