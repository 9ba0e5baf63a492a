"""Schemes for what carries fields: order, conservation, no new extrema, shocks and rarefactions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from field_problems import solved
from ndl.compiler.diagnostics import NDLError
from ndl.compiler.ir.interpret import interpret
from ndl.runtime.errors import SettingError

import ndl
from ndl.unplaced import on_grid

PI = math.pi
RING = "domain Ring = periodic(x in 0..2*pi)\n"
LINE = "domain Line = interval(x in -1..1)\n"
LIMITED = ("minmod", "vanleer", "mc")
ADVECTION = f"""{RING}
model M:
    param c = 1.0
    state u: R on Ring = exp(sin(x))
    u' = -dx(c*u)
    mass = integral(u)
"""
ORDERS = {"upwind": (1, 0.15), "minmod": (2, 0.3), "vanleer": (2, 0.25), "mc": (2, 0.25), "weno5": (5, 0.5)}


def mean_error(text: str, n: int, scheme: str, exact: Any, span: str, method: str) -> float:
    s = solved(text, f"uniform({n}, scheme={scheme})", span=span, method=method)
    return float((s.final.u - exact(s.grid.x)).abs().mean())


@pytest.mark.parametrize("scheme", ORDERS)
def test_smooth_waves_show_the_order(scheme: str) -> None:
    """In the mean, since limited schemes flatten extrema; on the finest pair of grids."""
    order, slack = ORDERS[scheme]

    def exact(x: torch.Tensor) -> torch.Tensor:
        return torch.exp(torch.sin(x - 1))

    found = [mean_error(ADVECTION, n, scheme, exact, "0..1", "rk4(h=0.004)") for n in (100, 200)]
    assert math.log2(found[0] / found[1]) == pytest.approx(order, abs=slack)
    if scheme == "weno5":
        assert found[1] < 1e-7


@pytest.mark.parametrize("scheme", ORDERS)
@pytest.mark.parametrize("rate", ["-c*dx(u)", "c*dx(u)", "-(1.2 + sin(x))*dx(u)"])
def test_carried_slopes_show_the_order(scheme: str, rate: str) -> None:
    """With a factor of either sign; where it varies, against characteristics found by quadrature."""
    order, slack = ORDERS[scheme]
    text = f"{RING}model M:\n    param c = 1.0\n    state u: R on Ring = exp(sin(x))\n    u' = {rate}\n"

    def exact(x: torch.Tensor) -> torch.Tensor:
        if "sin(x))*dx" not in rate:
            return torch.exp(torch.sin(x + (-1 if rate[0] == "-" else 1)))
        y, h = x.clone(), 1e-3
        for _ in range(1000):  # backwards along dx/dt = 1.2 + sin(x), by the midpoint rule
            middle = y - 0.5 * h * (1.2 + torch.sin(y))
            y = y - h * (1.2 + torch.sin(middle))
        return torch.exp(torch.sin(y))

    found = [mean_error(text, n, scheme, exact, "0..1", "rk4(h=0.004)") for n in (100, 200)]
    assert math.log2(found[0] / found[1]) == pytest.approx(order, abs=slack + 0.15)


@pytest.mark.parametrize("at", ["nodes", "cells"])
@pytest.mark.parametrize(("scheme", "order"), [("upwind", 1), ("vanleer", 2), ("weno5", 2)])
def test_waves_come_in_and_leave(at: str, scheme: str, order: int) -> None:
    """A moving value at one end, nothing known at the other; in the mean."""
    text = """
domain Line = interval(x in 0..1)

model M:
    state u: R on Line = sin(-4*x)
    u' = -dx(u)
    on left(Line): u = sin(4*t)
"""
    errors = []
    for n in (40, 80):
        points = n + 1 if at == "nodes" else n
        s = solved(text, f"uniform({points}, scheme={scheme}, at={at})", "0..1", "ssprk3(h=0.005)")
        errors.append(float((s.final.u - torch.sin(4 * (1 - s.grid.x))).abs().mean()))
    assert math.log2(errors[0] / errors[1]) > order - 0.15


@pytest.mark.parametrize("scheme", ("mc", "weno5"))
def test_flows_carry_themselves_and_tracers(scheme: str) -> None:
    """(v . grad) v and v . grad(c) against Fourier series; as one equation and by its terms."""
    text = """
domain Torus = periodic(x in 0..2*pi, y in 0..2*pi)

model M:
    state v: R[2] on Torus = [0.5 + 0.3*sin(x)*cos(y), 0.4*cos(x)]
    state c: R on Torus = sin(x + y)
    v' = -grad(v) @ v
    c' = -v[0]*dx(c) - v[1]*dy(c)
"""
    exact = solved(text, "fourier(48)", "0..0.5", "rk4(h=0.02)")
    worst = []
    for n in (24, 48):
        s = solved(text, f"uniform({n}, scheme={scheme})", "0..0.5", "rk4(h=0.02)")
        k = n // 24
        errors = [(s.final[f][::k, ::k] - exact.final[f][::2, ::2]).abs().mean() for f in ("v", "c")]
        worst.append(max(map(float, errors)))
    assert math.log2(worst[0] / worst[1]) > (4 if scheme == "weno5" else 1.7)


def test_terms_have_schemes_too() -> None:
    """A splitting whose flows are those of the terms."""
    text = """
domain Ring = periodic(x in 0..2*pi)

model M:
    state u: R on Ring = if x < 2 then 1.0 else 0
    term advection = -dx(u^2/2)
    term decay = -0.5*u
    u' = advection + decay
    mass = integral(u)
"""
    method = "strang(advection: ssprk3, decay: rk4, h=0.02)"
    s = solved(text, "uniform(64, scheme=minmod)", "0..1", method, save="every 0.1")
    variation = (s.u - s.u.roll(1, -1)).abs().sum(-1)
    assert float((variation[1:] - variation[:-1]).max()) < 0
    assert (s.mass / s.mass[0] - torch.exp(-0.5 * s.t)).abs().max() < 1e-8


@pytest.mark.parametrize("scheme", ("upwind", *LIMITED))
def test_variation_does_not_grow(scheme: str) -> None:
    """Of a step and a hump that a nonlinear flux carries: after each step of half the Courant number."""
    text = f"""{RING}
model M:
    state u: R on Ring = (if x < 2 then 1.0 else 0) + exp(-20*(x - 4)^2)
    u' = -dx(u^2/2)
"""
    s = solved(text, f"uniform(100, scheme={scheme})", "0..2", "ssprk2(cfl=0.4)", save="steps")
    variation = (s.u - s.u.roll(1, -1)).abs().sum(-1)
    assert len(variation) > 20
    assert float((variation[1:] - variation[:-1]).max()) < 1e-12


def test_central_differences_make_new_extrema() -> None:
    """The property that the test above wants is one that differences without a scheme do not have."""
    text = f"{RING}model M:\n    state u: R on Ring = if x < 2 then 1.0 else 0\n    u' = -dx(u)\n"
    s = solved(text, "uniform(100)", "0..0.5", "rk4(h=0.01)", save="steps")
    variation = (s.u - s.u.roll(1, -1)).abs().sum(-1)
    assert float((variation[1:] - variation[:-1]).max()) > 1e-2


@pytest.mark.parametrize("scheme", ("upwind", *LIMITED, "weno5"))
@pytest.mark.parametrize("at", ["nodes", "cells"])
def test_shocks_have_their_speed(scheme: str, at: str) -> None:
    """Rankine and Hugoniot: the step from 1 to 0 moves with 1/2."""
    text = f"""{LINE}
model M:
    state u: R on Line = if x < -0.5 then 1.0 else 0
    u' = -dx(u^2/2)
    on left(Line): u = 1
"""
    s = solved(text, f"uniform(200, scheme={scheme}, at={at})", "0..1.5", "ssprk3(cfl=0.5)")
    h = float(s.grid.x[1] - s.grid.x[0])
    # where the mass says that the front is
    front = -1 + h * float(s.final.u.sum()) - (h / 2 if at == "nodes" else 0)
    assert abs(front - 0.25) < 0.6 * h
    assert s.final.u[s.grid.x < 0.2].sub(1).abs().max() < 0.02
    assert s.final.u[s.grid.x > 0.3].abs().max() < 0.02


@pytest.mark.parametrize("scheme", ("upwind", *LIMITED, "weno5"))
def test_rarefactions_open_at_the_sonic_point(scheme: str) -> None:
    """u from -1 to 1: not the standing jump, which is a weak solution too, but the fan x/t."""
    text = f"{LINE}model M:\n    state u: R on Line = if x < 0 then -1.0 else 1.0\n    u' = -dx(u^2/2)\n"
    errors = []
    for n in (50, 100):
        s = solved(text, f"uniform({n}, scheme={scheme}, at=cells)", "0..0.5", "ssprk3(cfl=0.5)")
        errors.append(float((s.final.u - (s.grid.x / 0.5).clamp(-1, 1)).abs().mean()))
    assert errors[1] < (0.04 if scheme == "upwind" else 0.012)
    assert errors[1] < 0.72 * errors[0]


def test_gradients_agree_with_difference_quotients() -> None:
    text = ADVECTION.replace("-dx(c*u)", "-dx(c*u^2/2) - c*dx(u)")

    def run(c: float, scheme: str, gradient: str = "none") -> Any:
        start = text.replace("param c = 1.0", f"param c = {c!r}")
        s = solved(start, f"uniform(24, scheme={scheme})", "0..0.3", "ssprk3(h=0.02)", gradient=gradient)
        return (s.final.u**3).mean(), s.model

    for scheme in ("upwind", "vanleer", "weno5"):
        value, m = run(1.0, scheme, "discrete")
        (found,) = torch.autograd.grad(value, [dict(m.named_parameters())["c"]])
        quotient = float(run(1 + 1e-5, scheme)[0] - run(1 - 1e-5, scheme)[0]) / 2e-5
        assert float(found) == pytest.approx(quotient, rel=1e-6)


def test_interpreter_agrees(tmp_path: Path) -> None:
    """The rates of the generated class are those of the reference interpreter, ends included."""
    text = f"""{LINE}
model M:
    state h: R on Line = 1 + 0.3*sin(3*x)
    state q: R on Line = 0.2*(1 - x^2)
    h' = -dx(q)
    q' = -dx(q^2/h + h^2/2)
    on boundary(Line): q = 0
    on boundary(Line): dn(h) = 0
"""
    for scheme in ("upwind", "mc", "weno5"):
        grid = f"uniform(16, scheme={scheme}, at=cells)"
        run = f"solve M:\n    span = 0..1\n    grid = {grid}\n    method = euler(h=1)\n    save = steps\n"
        p = ndl.loads(f"{text}\n{run}")
        (s,) = p.run()
        ir = p.host.compilation.model(on_grid(p, p._model_values()["M"], grid)).optimized
        given = {"t": torch.tensor(0.0), "h": s.h[0], "q": s.q[0]}
        found = interpret(ir.drift, given, {})
        for name in ("h", "q"):
            assert (s[name][1] - s[name][0] - found[name]).abs().max() < 1e-13


def test_errors_say_what_to_do() -> None:
    text = f"""{RING}
model M:
    state h: R on Ring = 1 + 0.1*sin(x)
    state u: R on Ring = 0
    h' = -h*dx(u) - u*dx(h)
    u' = -dx(u^2/2 + h)
"""
    with pytest.raises(NDLError, match="NDL454") as found:
        solved(text, "uniform(20, scheme=weno5)")
    assert "divergence of a flux" in str(found.value)
    with pytest.raises(NDLError, match="did you mean `weno5`"):
        solved(text, "uniform(20, scheme=weno4)")
    with pytest.raises((NDLError, SettingError), match="wants the speed of waves"):
        solved(text, "uniform(20)", method="rk4(cfl=0.5)")
    with pytest.raises(NDLError, match="has no option `scheme`"):
        solved(text, "fourier(20, scheme=upwind)")


def test_sweeps_agree_with_torch() -> None:
    """The fused kernels take the same operations: differences at both ends, limiters, weights."""
    text = f"""{LINE}
model M:
    state u: R on Line = exp(-20*x^2)
    u' = -dx(u^2/2) + 0.01*dxx(u)
    on left(Line): u = 0
    on right(Line): dn(u) = 0
"""
    for scheme in ("vanleer", "weno5"):
        runs = [
            solved(text, f"uniform(100, scheme={scheme})", "0..0.1", "ssprk2(h=0.005)", backend=b)
            for b in ("torch", "cpu")
        ]
        assert (runs[0].final.u - runs[1].final.u).abs().max() < 1e-13


def test_explain_says_what_is_carried() -> None:
    text = f"""{RING}
model M:
    state h: R on Ring = 1 + 0.1*sin(x)
    state q: R on Ring = 0
    state c: R on Ring = 1
    v = q/h
    h' = -dx(q)
    q' = -dx(q*v + h^2/2) + 0.1*dx(h)*dx(v)
    c' = -v*dx(c)

solve M:
    span   = 0..1
    grid   = uniform(32, scheme=weno5)
    method = ssprk3(cfl=0.5)
"""
    said = [text for what, text in ndl.loads(text).facts("M") if what == "scheme"]
    assert any("fluxes of `h`, `q`, which depend on each other" in s and "2×2 Jacobian" in s for s in said)
    assert any("for the slope of `c`, from the side" in s for s in said)
    assert any(s.startswith("central differences for a part of the rate of `q`") for s in said)
