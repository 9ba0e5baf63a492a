"""Gradients of runs: against differences in double precision, and the routes against each other."""

from __future__ import annotations

import math

import pytest
import torch
from ndl.runtime.errors import SettingError
from ndl.runtime.solve import solve
from problems import (
    DOPRI5,
    RK4,
    SDIRK,
    TRAPEZOIDAL,
    Ball,
    Bounded,
    Every,
    FirstTouch,
    Kinked,
    Lorenz,
    Midpoint,
    Relay,
    RobertsonDAE,
    Rosenbrock23,
    VanDerPol,
    method,
)  # isort: skip # fmt: skip

FINE = {"rtol": 1e-10, "atol": 1e-12}


def value(cls, name, p, m, out, gradient="none", span=(0, 2), **settings):
    return out(solve(cls().bind(**{name: p}), span=span, method=m, gradient=gradient, **settings))


def gradient_of(cls, name, p, m, out, route, **settings):
    leaf = torch.tensor(p, dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(value(cls, name, leaf, m, out, route, **settings), leaf)[0]


def difference(cls, name, p, m, out, eps=1e-6, **settings):
    high, low = (
        value(cls, name, torch.tensor(p + e, dtype=torch.float64), m, out, **settings) for e in (eps, -eps)
    )
    return float((high - low) / (2 * eps))


def squares(s):
    return s.final.y + (s.x**2).mean()


@pytest.mark.parametrize(
    "m",
    [method(RK4, h=0.05), method(TRAPEZOIDAL, h=0.05), method(Midpoint(), h=0.05), method(DOPRI5, h=0.05)],
    ids=lambda m: m.name,
)
def test_fixed_steps_have_the_gradient_of_what_was_computed(m):
    found = gradient_of(VanDerPol, "mu", 1.5, m, squares, "discrete", save=("every", 0.4))
    assert found.item() == pytest.approx(
        difference(VanDerPol, "mu", 1.5, m, squares, save=("every", 0.4)), rel=2e-7
    )
    pieces = gradient_of(VanDerPol, "mu", 1.5, m, squares, ("checkpoint", 4), save=("every", 0.4))
    assert abs(pieces - found) < 1e-12 * abs(found)


@pytest.mark.parametrize("solver", [DOPRI5, SDIRK], ids=["dopri5", "sdirk"])
@pytest.mark.parametrize("save", ["end", ("every", 0.4)])
def test_the_routes_agree(solver, save):
    m = method(solver, **(FINE if solver is DOPRI5 else {"rtol": 1e-5, "atol": 1e-6}))
    found = {
        str(r): gradient_of(VanDerPol, "mu", 1.5, m, squares, r, save=save)
        for r in ("discrete", ("checkpoint", 3), "adjoint")
    }
    a, b, c = found.values()
    assert abs(a - b) < 1e-11 * abs(a)
    assert abs(a - c) < (1e-8 if solver is DOPRI5 else 1e-3) * abs(a)


def test_the_adjoint_of_a_rosenbrock_method():
    m = method(Rosenbrock23(), rtol=1e-5, atol=1e-6)
    exact = gradient_of(
        VanDerPol, "x", 2.0, method(DOPRI5, **FINE), squares, "discrete", save="end", span=(0, 1)
    )
    for route in ("discrete", "adjoint"):
        found = gradient_of(VanDerPol, "x", 2.0, m, squares, route, save="end", span=(0, 1))
        assert found.item() == pytest.approx(exact.item(), rel=1e-3)


def test_members_have_their_own_gradients():
    rho = [10.0, 28.0, 0.5]
    m = method(DOPRI5, rtol=1e-9, atol=1e-9)
    many = {
        r: gradient_of(Lorenz, "rho", rho, m, lambda s: s.final.x.sum(), r, span=(0, 0.5), save="end")
        for r in ("discrete", "adjoint")
    }
    for i, one in enumerate(rho):
        alone = gradient_of(Lorenz, "rho", one, m, lambda s: s.final.x, "discrete", span=(0, 0.5), save="end")
        assert many["discrete"][i].item() == pytest.approx(alone.item(), rel=1e-9)
        assert many["adjoint"][i].item() == pytest.approx(alone.item(), rel=1e-6)


def test_the_gradient_of_an_adaptive_run_is_close_to_the_exact_one():
    m = method(DOPRI5, **FINE)
    found = gradient_of(VanDerPol, "mu", 2.0, m, squares, "discrete", save=("every", 0.25))
    assert found.item() == pytest.approx(
        difference(VanDerPol, "mu", 2.0, m, squares, save=("every", 0.25)), rel=1e-6
    )


@pytest.mark.parametrize(("name", "p"), [("e", 0.8), ("g", 9.81), ("h", 10.0)])
def test_gradients_go_through_located_events(name, p):
    m = method(DOPRI5, **FINE)

    def out(s):
        return s.final.h + s.h.sum() + s.events.t[1]

    settings = {"save": [0.3, 2.2, 4.9], "span": (0, 5)}
    found = gradient_of(Ball, name, p, m, out, "discrete", **settings)
    assert found.item() == pytest.approx(difference(Ball, name, p, m, out, **settings), rel=1e-6)


def test_the_time_of_a_stop_has_a_gradient():
    exact = -0.5 * (20 / 9.81) ** 0.5 / 9.81
    for m in (method(DOPRI5, **FINE), method(RK4, h=0.1)):
        found = gradient_of(FirstTouch, "g", 9.81, m, lambda s: s.events.t[0], "discrete", span=(0, 5))
        assert found.item() == pytest.approx(exact, rel=1e-9)


def test_gradients_go_through_discontinuities():
    m = method(DOPRI5, **FINE)
    for cls, p in ((Kinked, 1.25), (Relay, 1.0)):
        found = gradient_of(cls, "c", p, m, lambda s: s.final.x, "discrete", span=(0, 3))
        assert found.item() == pytest.approx(
            difference(cls, "c", p, m, lambda s: s.final.x, span=(0, 3)), rel=1e-4
        )


def test_gradients_of_an_equation_with_constraints():
    m = method(SDIRK, rtol=1e-7, atol=1e-10)
    found = gradient_of(RobertsonDAE, "a", 0.9, m, lambda s: s.final.b * 1e4, "discrete", span=(0, 1))
    assert found.item() == pytest.approx(
        difference(RobertsonDAE, "a", 0.9, m, lambda s: s.final.b * 1e4, 1e-3, span=(0, 1)), rel=1e-3
    )


def test_timed_events_in_a_gradient():
    found = gradient_of(
        Every, "x", 0.5, method(DOPRI5), lambda s: s.final.z + s.final.y, "discrete", span=(0, 1)
    )
    assert found.item() == pytest.approx(1.0)


def test_the_solvers_own_estimates_can_be_a_loss():
    m = method(DOPRI5, h=0.1, rtol=1e-6, atol=1e-6)

    def out(s):
        return s.steps.error.sum() + s.steps.stiffness.mean()

    found = gradient_of(VanDerPol, "mu", 1.5, m, out, "discrete")
    assert found.item() == pytest.approx(difference(VanDerPol, "mu", 1.5, m, out), rel=1e-5)


def test_routes_that_cannot_serve_say_so():
    m = method(DOPRI5)
    with pytest.raises(SettingError, match="events"):
        gradient_of(Ball, "e", 0.8, m, lambda s: s.final.h, "adjoint")
    with pytest.raises(SettingError, match="needs fixed steps"):
        gradient_of(VanDerPol, "mu", 1.5, m, squares, "reversible")
    with pytest.raises(SettingError, match="cannot be undone"):
        gradient_of(VanDerPol, "mu", 1.5, method(DOPRI5, h=0.1), squares, "reversible")
    with pytest.raises(SettingError, match="gradient"):
        gradient_of(VanDerPol, "mu", 1.5, m, squares, "magic")


@pytest.mark.parametrize("route", ["discrete", ("checkpoint", 2), "adjoint"])
def test_constrained_weights_have_gradients_of_their_free_image(route):
    """d exp(-k)/d log k = -k exp(-k), for one model and for members that leave at different steps."""
    m = method(DOPRI5, **FINE)
    one = Bounded(k=1.5)
    solve(one, span=(0, 1), method=m, gradient=route, save="end").final.x.backward()
    assert one.raw_k.grad.item() == pytest.approx(-1.5 * math.exp(-1.5), rel=1e-7)
    rates = torch.tensor([0.5, 30.0, 1.5], dtype=torch.float64)
    many = Bounded(k=rates)
    s = solve(many, span=(0, 1), method=m, gradient=route, save="end")
    assert len(set(s.stats.steps.tolist())) == 3
    s.final.x.sum().backward()
    assert torch.allclose(many.raw_k.grad, -rates * torch.exp(-rates), rtol=1e-6, atol=1e-9)
