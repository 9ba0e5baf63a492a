"""Equations with linear constraints by projection: closed forms, orders, divergence, gradients, refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from field_problems import order, solved
from ndl.compiler.diagnostics import NDLError

import ndl

VORTICES = """
domain Torus = periodic(x in 0..2*pi, y in 0..2*pi)

model M:
    param nu = 0.1
    state v: R[2] on Torus = [sin(x)*cos(y), -cos(x)*sin(y)]
    state p: R on Torus = 0
    v' = nu*lap(v) - v[0]*dx(v) - v[1]*dy(v) - grad(p)
    0 = div(v)
"""

CHANNEL = """
domain Channel = periodic(x in 0..1) * interval(y in 0..1)

model M:
    param nu = 0.5
    param speed = 0.0
    state v: R[2] on Channel = [0.05*sin(2*pi*x)*sin(pi*y), 0.05*sin(pi*y)^2*cos(2*pi*x)]
    state p: R on Channel = 0
    v' = nu*lap(v) - v[0]*dx(v) - v[1]*dy(v) - grad(p) + FORCE
    0 = div(v)
    on bottom(Channel): v = 0
    on top(Channel): v = [LID, 0]
"""

CAVITY = """
domain Square = interval(x in 0..1, y in 0..1)

model M:
    param Re = 100.0
    state v: R[2] on Square = 0
    state p: R on Square = 0
    v' = lap(v)/Re - v[0]*dx(v) - v[1]*dy(v) - grad(p)
    0 = div(v)
    on left(Square): v = 0
    on right(Square): v = 0
    on bottom(Square): v = 0
    on top(Square): v = [if x*(1 - x) > 0 then 1 else 0, 0]
"""


def divergence(s: Any, t: float = 0.0) -> float:
    """The largest residual of the constraint at the end."""
    with torch.no_grad():
        x = torch.cat([s.final.v.reshape(-1), s.final.p.reshape(-1)])[None]
        found = s.model.vector_field(torch.tensor(t, dtype=x.dtype), x)[0, s.final.v.numel() :]
    return float(found.abs().max())


def decayed(s: Any, t: float) -> tuple[float, float]:
    """The largest errors of velocity and pressure of Taylor and Green's vortices."""
    x, y = s.grid.x, s.grid.y
    v = math.exp(-0.2 * t) * torch.stack([torch.sin(x) * torch.cos(y), -torch.cos(x) * torch.sin(y)], -1)
    p = math.exp(-0.4 * t) * (torch.cos(2 * x) + torch.cos(2 * y)) / 4
    return float((s.final.v - v).detach().abs().max()), float((s.final.p - p).detach().abs().max())


def test_vortices_by_series_are_exact_in_space_and_of_order_4_in_time() -> None:
    found = []
    for h in (0.25, 0.125):
        s = solved(VORTICES, "fourier(8)", span="0..1", method=f"projection(rk4(h={h}))")
        found.append(decayed(s, 1.0)[0])
        assert divergence(s) < 1e-14
    assert order(found) == pytest.approx(4, abs=0.2)


def test_vortices_by_differences_are_of_order_2() -> None:
    several = []
    for n in (16, 32):
        s = solved(VORTICES, f"uniform({n})", span="0..0.5", method="projection(rk4(h=0.05))")
        several.append(decayed(s, 0.5))
        assert divergence(s) < 1e-14
    for found in zip(*several):
        assert order(list(found)) == pytest.approx(2, abs=0.1), several


def test_an_adaptive_pair_inside() -> None:
    s = solved(VORTICES, "fourier(8)", span="0..1", method="projection(tsit5(rtol=1e-9, atol=1e-11))")
    assert max(decayed(s, 1.0)) < 1e-8


def test_pressure_is_recorded_at_every_saved_time() -> None:
    s = solved(VORTICES, "fourier(8)", span="0..1", method="projection(rk4(h=0.05))", save="[0, 0.37, 1]")
    wave = (torch.cos(2 * s.grid.x) + torch.cos(2 * s.grid.y)) / 4
    for k, t in enumerate((0.0, 0.37, 1.0)):
        assert float((s.p[k] - math.exp(-0.4 * t) * wave).abs().max()) < 1e-5
    assert float((s.p(0.5) - math.exp(-0.2) * wave).abs().max()) < 1e-5


def test_poiseuille_and_couette() -> None:
    """Profiles of second degree, which differences of second order have exactly."""
    drive = {"FORCE": "[12*nu, 0]", "LID": "0"}
    shear = {"FORCE": "[0, 0]", "LID": "1"}
    for words, exact in ((drive, lambda y: 6 * y * (1 - y)), (shear, lambda y: y)):
        text = CHANNEL
        for name, value in words.items():
            text = text.replace(name, value)
        start = "[0.05" if words is drive else "[y + 0.05"
        text = text.replace("[0.05", start, 1)
        s = solved(text, "uniform(8, 9)", span="0..3", method="projection(rk4(h=0.01))")
        assert float((s.final.v[..., 0] - exact(s.grid.y)).abs().max()) < 1e-6
        assert float(s.final.v[..., 1].abs().max()) < 1e-6
        assert divergence(s) < 1e-12


def test_a_lid_that_swings() -> None:
    """Stokes' second problem between walls: the real part of e^(it) sinh(ky)/sinh(k), k^2 = i/nu."""
    text = CHANNEL.replace("FORCE", "[0, 0]").replace("LID", "cos(t)")
    k = (1j / 0.5) ** 0.5
    found = []
    for n in (5, 9):
        y = torch.linspace(0, 1, n, dtype=torch.float64)
        wave = torch.sinh(k * y) / torch.sinh(torch.tensor(k, dtype=torch.complex128))
        start = text.replace("[0.05*sin(2*pi*x)*sin(pi*y), 0.05*sin(pi*y)^2*cos(2*pi*x)]", "[y, 0]")
        s = solved(start, f"uniform(4, {n})", span=f"0..{math.pi}", method="projection(rk4(steps=200))")
        found.append(float((s.final.v[0, :, 0] + wave.real).abs().max()))  # cos(pi) = -1
        assert divergence(s) < 1e-12
    assert order(found) == pytest.approx(2, abs=0.15), found


DUCT = """
domain Duct = interval(x in 0..3, y in 0..1)

model M:
    param nu = 0.1
    state v: R[2] on Duct = [1, 0]
    state p: R on Duct = 0
    v' = nu*lap(v) - v[0]*dx(v) - v[1]*dy(v) - grad(p)
    0 = div(v)
    on left(Duct): v = [6*y*(1 - y), 0]
    on bottom(Duct): v = 0
    on top(Duct): v = 0
    on right(Duct): dn(v) = 0
    on right(Duct): p = 0.5
"""


def test_an_outlet() -> None:
    """A parabola flows in and out; the pressure falls by 12 nu to the value at the outlet."""
    s = solved(DUCT, "uniform(13, 9)", span="0..4", method="projection(rk4(h=0.01))")
    assert float((s.final.v[..., 0] - 6 * s.grid.y * (1 - s.grid.y)).abs().max()) < 1e-12
    assert float(s.final.v[..., 1].abs().max()) < 1e-12
    assert float((s.final.p - (0.5 + 1.2 * (3 - s.grid.x)))[1:].abs().max()) < 1e-10
    assert divergence(s) < 1e-13


SPLIT = """    term spread = nu*lap(v)
    term rest = -v[0]*dx(v) - v[1]*dy(v) - grad(p) + [12*nu*cos(t), 0]
    v' = spread + rest
"""


@pytest.mark.parametrize(("method", "wanted"), [("imex", 1), ("ars222", 2)])
def test_implicit_diffusion(method: str, wanted: int) -> None:
    """Steps some 17 times as long as explicit ones may be."""
    before, after = CHANNEL.split("    v' = nu*lap(v)")
    text = before + SPLIT + after.split("FORCE", 1)[1].lstrip("\n").replace("LID", "0")
    exact = solved(text, "uniform(8, 18)", span="0..0.5", method="projection(rk4(h=0.0025))").final.v
    found = []
    for h in (0.05, 0.025):
        how = f"projection({method}(spread: implicit_euler, rest: euler, h={h}))"
        s = solved(text, "uniform(8, 18)", span="0..0.5", method=how)
        found.append(float((s.final.v - exact).abs().max()))
        assert divergence(s) < 1e-13
    assert order(found) == pytest.approx(wanted, abs=0.15), found
    with pytest.raises(NDLError, match="two terms"):
        solved(text, "uniform(8, 8)", method="projection(imex(spread, rest, h=0.1))")


GHIA = {  # Ghia, Ghia and Shin (1982), J. Comput. Phys. 48, 387-411, tables I and II, Re = 100
    "u": {0.9766: 0.84123, 0.9531: 0.68717, 0.8516: 0.23151, 0.7344: 0.00332, 0.6172: -0.13641, 0.5: -0.20581,
          0.4531: -0.21090, 0.2813: -0.15662, 0.1719: -0.10150, 0.1016: -0.06434, 0.0547: -0.03717},
    "v": {0.9609: -0.07391, 0.9063: -0.16914, 0.8594: -0.22445, 0.8047: -0.24533, 0.5: 0.05454,
          0.2344: 0.17527, 0.1563: 0.16077, 0.0938: 0.12317, 0.0625: 0.09233},
}  # fmt: skip


def profiles(v: torch.Tensor) -> dict[str, Any]:
    """The velocities `[n, n, 2]` on the lines through the middle, as cubic functions of their place."""
    from scipy.interpolate import CubicSpline

    n = len(v)
    places = [k / (n - 1) for k in range(n)]
    # n is even: the line through the middle is between points
    u, w = (v[n // 2 - 1, :, 0] + v[n // 2, :, 0]) / 2, (v[:, n // 2 - 1, 1] + v[:, n // 2, 1]) / 2
    return {"u": CubicSpline(places, u.numpy()), "v": CubicSpline(places, w.numpy())}


def test_lid_driven_cavity_against_ghia() -> None:
    """Their table is some 0.01 from the spectral extrema -0.21404, -0.25380, 0.17957 of Botella and Peyret
    (1998), Comput. Fluids 27, 421-433."""
    s = solved(CAVITY, "uniform(26, 26)", span="0..14", method="projection(rk4(h=0.033))")
    assert divergence(s) < 1e-12
    found = profiles(s.final.v)
    for name, table in GHIA.items():
        for place, value in table.items():
            assert float(found[name](place)) == pytest.approx(value, abs=0.015), (name, place)
    line = torch.linspace(0, 1, 400).numpy()
    assert float(found["u"](line).min()) == pytest.approx(-0.21404, abs=0.004)
    assert float(found["v"](line).max()) == pytest.approx(0.17957, abs=0.004)


@pytest.mark.parametrize("n", [8, 18])
def test_gradients_against_difference_quotients(n: int) -> None:
    """By a dense matrix and by sparse factors; of velocity and pressure."""

    def loss(Re: float, gradient: str = "none") -> tuple[torch.Tensor, Any]:
        text = CAVITY.replace("Re = 100.0", f"Re = {Re}")
        s = solved(
            text, f"uniform({n}, {n})", span="0..0.08", method="projection(rk4(h=0.02))", gradient=gradient
        )
        return (s.final.v**2).sum() + (s.final.p[2:5] ** 2).sum(), s.model

    value, model = loss(100.0, "discrete")
    (found,) = torch.autograd.grad(value, [dict(model.named_parameters())["Re"]])
    quotient = float(loss(100.1)[0] - loss(99.9)[0]) / 0.2
    assert float(found) == pytest.approx(quotient, rel=1e-5)


PENDULUM = """
model M:
    param g = 1.0
    state a = 1.0
    state b = 0.5
    state c = -1.0
    state force = 0
    a' = b*c + 2*force
    b' = -a*c + force
    c' = -g*a
    0 = CONSTRAINT
"""


def run(text: str, method: str, grid: str = "") -> Any:
    grid = f"    grid = {grid}\n" if grid else ""
    (s,) = ndl.loads(
        f"{text}\nsolve M as run:\n    span = 0..1\n    method = {method}\n    save = end\n{grid}"
    ).run("run")
    return s


def test_constraints_of_numbers() -> None:
    """x' = f + B p with 0 = C x - g(t), against the same by elimination."""
    s = run(PENDULUM.replace("CONSTRAINT", "a + b - sin(t)"), "projection(rk4(h=0.01))")
    assert abs(float(s.final.a + s.final.b) - math.sin(1)) < 1e-14
    free = """
model M:
    param g = 1.0
    state a = 1.0 - 2*1.5/3
    state c = -1.0
    b = sin(t) - a
    force = (cos(t) - b*c + a*c)/3
    a' = b*c + 2*force
    c' = -g*a
"""
    exact = run(free, "rk4(h=0.01)")
    assert float(s.final.a) == pytest.approx(float(exact.final.a), abs=1e-9)
    assert float(s.final.force) == pytest.approx(float(exact.force.reshape(-1)[-1]), abs=1e-8)


@pytest.mark.parametrize(
    ("text", "method", "words"),
    [
        (PENDULUM.replace("CONSTRAINT", "a*b - 1"), "projection(rk4(h=0.1))", "not linear"),
        (
            PENDULUM.replace("CONSTRAINT", "a + force"),
            "projection(rk4(h=0.1))",
            "do not read their multipliers",
        ),
        (
            PENDULUM.replace("CONSTRAINT", "a + b").replace("2*force", "a*force"),
            "projection(rk4(h=0.1))",
            "linearly",
        ),
        (PENDULUM.replace("CONSTRAINT", "a + b"), "projection(rodas5(h=0.1))", "explicit"),
        ("model M:\n    state a = 1\n    a' = -a\n", "projection(rk4(h=0.1))", "has none"),
    ],
)
def test_what_is_refused(text: str, method: str, words: str) -> None:
    with pytest.raises(NDLError, match=words):
        run(text, method)
