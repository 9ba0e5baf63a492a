"""`impose(e, boundary(S), g)` and `residual(M, u)`: in models, tests and trainings without solved data."""

from __future__ import annotations

import math

import pytest

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


@pytest.mark.parametrize("text", [MODEL, TRAINED])
def test_values_and_what_is_left(text: str) -> None:
    assert [(o.name, o.message) for o in ndl.loads(text).test() if not o.passed] == []


def test_a_net_learns_the_solution_from_the_equation_alone() -> None:
    """The discrete Laplacian has the wave as an eigenvector, so that the loss is 0 for a = 1/eigenvalue."""
    program = ndl.loads(TRAINED)
    program.run("without_data")
    net = program.nets["N"]
    eigenvalue = 2 * 4 * 64 * math.sin(math.pi / 16) ** 2
    assert float(net.a) == pytest.approx(1 / eigenvalue, abs=1e-4)
    assert float(net.b) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("impose(u, Square, 0)", "NDL480", "a part of a boundary"),
        ("impose(u, left(Square), [1, 2])", "NDL480", "is given"),
        ("impose(u, boundary(Square), 0)", "NDL481", "no points"),
        ("residual(Set, u)", "NDL479", "no steady equation"),
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
