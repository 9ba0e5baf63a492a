"""Boundary conditions on components of vector fields: closed forms, and messages that name the component."""

from __future__ import annotations

import math

import pytest
import torch
from field_problems import EXPLICIT, errors, order
from ndl.compiler.diagnostics import NDLError

import ndl
from ndl.host.manufactured import studies

PI = math.pi
K = 0.8603335890193798  # k tan k = 1
ROD = f"""
domain Rod = interval(x in 0..1)

model M:
    state v: R[3] on Rod = [sin(pi*x/2), cos({K}*x), 1 + cos(x)]
    v' = 0.1*lap(v) + [0, 0, 0.1*cos(x + t) - sin(x + t)]
    on left(Rod):
        v[0] = 0
        dn(v[1]) = 0
        2*v[-1] = 2 + 2*cos(t)
    on right(Rod):
        dn(v[0]) = 0
        v[1] + dn(v[1]) = 0
        dn(v[2]) = -sin(1 + t)
"""


def on_rod(x: torch.Tensor) -> torch.Tensor:
    """The solution after 0.5."""
    first, second = (math.exp(-0.05 * k**2) for k in (PI / 2, K))
    return torch.stack((first * torch.sin(PI * x / 2), second * torch.cos(K * x), 1 + torch.cos(x + 0.5)), -1)


@pytest.mark.parametrize(
    ("grids", "expected"),
    [
        (("uniform(9)", "uniform(17)"), 1.8),
        (("uniform(13, order=4)", "uniform(25, order=4)"), 3.5),
        (("chebyshev(14)",), math.inf),
    ],
)
def test_each_component_has_its_own(grids: tuple[str, ...], expected: float) -> None:
    found = errors(ROD, list(grids), on_rod, "v", method=EXPLICIT)
    assert found[0] < 1e-9 if expected == math.inf else order(found) > expected, found


BOX = """
domain Box = interval(x in 0..pi, y in 0..pi)

model M:
    param nu = 0.1
    state v: R[2] on Box = [sin(x)*cos(y), -cos(x)*sin(y)]
    {unknown}
    {equation}
    on left(Box):
        v[0] = 0
        dn(v[1]) = 0
    on right(Box):
        v[0] = 0
        dn(v[1]) = 0
    on bottom(Box):
        v[1] = 0
        dn(v[0]) = 0
    on top(Box):
        v[1] = 0
        dn(v[0]) = 0
"""
FREE = BOX.format(unknown="", equation="v' = nu*[lap(v[0]), lap(v[1])]")
FLOW = BOX.format(
    unknown="state p: R on Box = 0",
    equation="v' = nu*lap(v) - v[0]*dx(v) - v[1]*dy(v) - grad(p)\n    0 = div(v)",
)


def vortex(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Taylor and Green's vortex between free-slip walls after 0.5."""
    found = torch.stack((torch.sin(x) * torch.cos(y), -torch.cos(x) * torch.sin(y)), -1)
    return math.exp(-0.1) * found


@pytest.mark.parametrize("kind", ["uniform({}, at=cells)", "fem(size=pi/{})"])
def test_free_slip_walls(kind: str) -> None:
    grids = [kind.format(n) for n in (6, 12)]
    found = errors(FREE, grids, vortex, "v", method="rk4(h=0.02)")
    assert order(found) > 1.7, found


def test_a_flow_between_free_slip_walls() -> None:
    found = errors(FLOW, ["uniform(7)", "uniform(13)"], vortex, "v", method="projection(rk4(h=0.05))")
    assert order(found) > 1.7, found


SEA = """
domain Sea = interval(x in 0..1)

model M:
    state w: R[2] on Sea = [1 + 0.2*cos(pi*x), 0]
    w' = -dx([w[1], w[1]^2/w[0] + w[0]^2/2])
    on boundary(Sea):
        dn(w[0]) = 0
        w[1] = 0

model Apart:
    state h: R on Sea = 1 + 0.2*cos(pi*x)
    state q: R on Sea = 0
    h' = -dx(q)
    q' = -dx(q^2/h + h^2/2)
    on boundary(Sea): dn(h) = 0
    on boundary(Sea): q = 0

test "water between walls":
    a = solve(M, span=0..0.3, grid=uniform(24, at=cells, scheme=vanleer), method=ssprk3(h=0.01), save=end)
    b = solve(Apart, span=0..0.3, grid=uniform(24, at=cells, scheme=vanleer), method=ssprk3(h=0.01), save=end)
    assert max(abs(a.final.w[:, 0] - b.final.h)) < 1e-12 and max(abs(a.final.w[:, 1] - b.final.q)) < 1e-12
    assert max(abs(b.final.q)) > 0.01
"""

PLATE = """
domain Plate = interval(x in 0..1, y in 0..1)

model Pulled:
    param mu = 1.0, lam = 1.0
    state v: R[2] on Plate = 0
    shear = dy(v[0]) + dx(v[1])
    minimize integral(mu*(dx(v[0])^2 + dy(v[1])^2 + shear^2/2) + lam*div(v)^2/2, [x, y] in Plate)
    on left(Plate): v[0] = 0
    on bottom(Plate): v[1] = 0
    on right(Plate): v[0] = 0.1

model Balance:
    state v: R[2] on Plate = 0
    0 = lap(v)
    on left(Plate):
        v[0] = 0
        dn(v[1]) = 0
    on right(Plate):
        v[0] = 0.1
        dn(v[1]) = 0
    on bottom(Plate):
        dn(v[0]) = 0
        v[1] = 0
    on top(Plate):
        dn(v[0]) = 0
        v[1] + dn(v[1]) = 2

model Shaken:
    state v: R[2] on Plate = [0, sin(pi*x/2)]
    state v' = 0
    v'' = 2*grad(div(v)) + lap(v)
    on left(Plate): v = 0
    on right(Plate):
        v[0] = 0
        dn(v[1]) = 0
    on bottom(Plate):
        v[0] = 0
        dn(v[1]) = 0
    on top(Plate):
        v[0] = 0
        dn(v[1]) = 0

test "a plate pulled between rollers narrows by lam/(2*mu + lam)":
    s = solve(Pulled, grid=uniform(5, 5), method=newton(tol=1e-10))
    assert max(abs(s.final.v[:, :, 0] - 0.1*s.grid.x)) < 1e-8
    assert max(abs(s.final.v[:, :, 1] + 0.1/3*s.grid.y)) < 1e-8

test "the same on elements":
    s = solve(Pulled, grid=fem(size=0.5), method=newton(tol=1e-10))
    assert max(abs(s.final.v[:, 0] - 0.1*s.grid.x)) < 1e-8
    assert max(abs(s.final.v[:, 1] + 0.1/3*s.grid.y)) < 1e-8

test "steady fields on points and on elements":
    s = solve(Balance, grid=uniform(5, 5), method=direct())
    assert max(abs(s.final.v[:, :, 0] - 0.1*s.grid.x)) < 1e-10
    assert max(abs(s.final.v[:, :, 1] - s.grid.y)) < 1e-10
    r = solve(Balance, grid=fem(size=0.5), method=direct())
    assert max(abs(r.final.v[:, 0] - 0.1*r.grid.x)) < 1e-10 and max(abs(r.final.v[:, 1] - r.grid.y)) < 1e-10

test "a shear wave is reflected by a roller":
    s = solve(Shaken, span=0..1, grid=[chebyshev(12), chebyshev(3)], method=rk4(h=0.005), save=end)
    assert max(abs(s.final.v[:, :, 1] - cos(pi/2)*sin(pi*s.grid.x/2))) < 1e-7
    assert max(abs(s.final.v[:, :, 0])) < 1e-9
"""


@pytest.mark.parametrize("text", [SEA, PLATE])
def test_schemes_energies_steady_fields_and_waves(text: str) -> None:
    failed = [(o.name, o.error) for o in ndl.loads(text).test() if not o.passed]
    assert not failed


BAD = [
    ("v[0] = 0", "NDL443", "`v[1]` has no condition on `left(Rod)`"),
    ("v = 0; v[1] = 0", "NDL442", "`v[1]` has two conditions on `left(Rod)`"),
    ("v[0] = 0; dn(v[-2]) = 1", "NDL442", "`v[0]` has two conditions on `left(Rod)`"),
    ("v[0] = v[1]; dn(v[1]) = 0", "NDL476", "by another component of `v`"),
    ("dn(v[0]) = dn(v[1])", "NDL444", "one component of it"),
]


@pytest.mark.parametrize(("conditions", "code", "message"), BAD)
def test_errors_name_the_component_and_the_part(conditions: str, code: str, message: str) -> None:
    lines = "".join(f"\n        {c}" for c in conditions.split("; "))
    text = f"""domain Rod = interval(x in 0..1)

model M:
    state v: R[2] on Rod = 0
    v' = lap(v)
    on right(Rod): v = 0
    on left(Rod):{lines}
"""
    with pytest.raises(NDLError) as found:
        ndl.loads(text)
    (told,) = found.value.diagnostics
    assert told.code == code and message in told.message


def test_manufactured_solutions_see_components() -> None:
    program = ndl.loads("""domain Rod = interval(x in 0..1)

model M:
    param k = 0.2
    state v: R[2] on Rod = 0
    0 = k*lap(v) - [v[1]*dx(v[0]), 0]
    on left(Rod):
        2*v[0] = 1
        dn(v[1]) = v[0] - v[1]
    on right(Rod):
        v[0] + dn(v[0]) = 2
        v[1] = 1
""")
    (model,) = program._model_values().values()
    (study,) = studies(program, model, ["uniform(n)"])
    assert study.passed and study.observed == pytest.approx(2, abs=0.3)
