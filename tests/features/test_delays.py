"""Delays: `x(t - tau)` by the method of steps, against solutions in closed form and differences."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from programs import check, load, refused

import ndl

PROGRAM = """
fn power(t, a, k) = (-a*max(t, 0))^k
fn steps_of(t, a, tau):
    first = 1 + power(t, a, 1) + power(t - tau, a, 2)/2
    return first + power(t - 2*tau, a, 3)/6 + power(t - 3*tau, a, 4)/24

model Plain:
    param a = 1.0, tau = 1.0
    state x = 1.0
    x' = -a*x(t - tau)
    before = x(t - tau/2)

model Wave:
    state x: R[2] = [0, 1]
    y = x(t - pi/2)
    x' = [x[1], -x[0]] + 0*y

model Parts:
    one = Plain(a=1.0)
    two = Plain(tau=0.5, x=2.0)

model Two:
    state x = 1.0, y = 1.0
    x' = -x(t - 0.3)*y(t - 1)
    y' = -y + x(t - 1)

model Varying:
    state x = 1.0
    x' = -x(t/2 - 0.5)

model Mackey:
    param beta = 2.0, gamma = 1.0, n = 9.65, tau = 2.0
    state x = 0.5
    x' = beta*x(t - tau)/(1 + x(t - tau)^n) - gamma*x

model Stiff:
    state x = 1.0
    x' = -30*(x - cos(t)) + x(t - 0.5)

model Pulse:
    state x = 0.0, y = 0.0
    x' = 0
    y' = x(t - 1)
    when every 2: x <- 1

model Relay:
    state x = 1.0, y = 0.0
    x' = -x(t - 1)
    when falling(x): y <- t

test "the polynomials of the method of steps":
    for m in [tsit5(rtol=1e-9, atol=1e-11), dopri5(rtol=1e-9, atol=1e-11), bosh3(rtol=1e-9, atol=1e-11)]:
        s = solve(Plain, span=0..3.9, method=m, save=every 0.13)
        e = [steps_of(v, 1, 1) for v in s.t]
        assert max(abs(s.x - e)) < 1e-8
        b = [if v < 0.5 then 1 else steps_of(v - 0.5, 1, 1) for v in s.t]
        assert max(abs(s.before - b)) < 1e-8
    for m in [rk4(h=0.1), rk4(h=0.3), rk4(h=5)]:
        assert abs(solve(Plain, span=0..3.9, method=m, save=end).final.x - steps_of(3.9, 1, 1)) < 1e-12
    s = solve(Plain(tau=0.4, a=2), span=0..1.6, method=tsit5(rtol=1e-9, atol=1e-11), save=every 0.1)
    assert max(abs(s.x - [steps_of(v, 2, 0.4) for v in s.t])) < 1e-8

test "parts":
    s = solve(Parts, span=0..2, method=tsit5(rtol=1e-9, atol=1e-11), save=end)
    assert abs(s.final.one.x - steps_of(2, 1, 1)) < 1e-8
    assert abs(s.final.two.x - 2*steps_of(2, 1, 0.5)) < 1e-8

test "members have delays and steps of their own":
    f = solve(Plain(tau in [1.0, 0.7]), span=0..2.7, method=tsit5(rtol=1e-9, atol=1e-11), save=every 0.3)
    assert max(abs(f.x[0] - [steps_of(v, 1, 1) for v in f.t])) < 1e-8
    assert max(abs(f.x[1] - [steps_of(v, 1, 0.7) for v in f.t])) < 1e-8

test "methods have their order":
    r = solve(Two, span=0..5, method=dopri8(rtol=1e-13, atol=1e-13), save=end)
    a = [abs(solve(Two, span=0..5, method=rk4(h=h), save=end).final.x - r.final.x) for h in [0.1, 0.05]]
    assert log2(a[0]/a[1]) in 3.6..4.6
    m = [solve(Two, span=0..5, method=midpoint(h=h), save=end).final.x for h in [0.05, 0.025]]
    b = [abs(v - r.final.x) for v in m]
    assert log2(b[0]/b[1]) in 1.8..2.3
    c = [abs(solve(Two, span=0..5, method=tsit5(h=h), save=end).final.y - r.final.y) for h in [0.1, 0.05]]
    assert log2(c[0]/c[1]) in 4.8..5.4

test "a step is no longer than the shortest delay":
    s = solve(Two, span=0..5, method=tsit5(rtol=1e-2, atol=1e-2), save=steps)
    assert max(s.steps.h) < 0.3 + 1e-12
    for v in [0.3, 0.6, 0.9, 1.0, 1.3]:
        assert min(abs(s.t - v)) < 1e-12

test "vectors":
    s = solve(Wave, span=0..6, method=tsit5(rtol=1e-9, atol=1e-11), save=every 0.5)
    k = [if v < pi/2 then 0 else -cos(v) for v in s.t]
    assert max(abs(s.y[:, 0] - k)) < 1e-8

test "a delay that changes":
    s = solve(Varying, span=1..3, method=tsit5(rtol=1e-9, atol=1e-11), save=every 0.25)
    k = [1 - (v - 1) for v in s.t]
    assert max(abs(s.x - k)) < 1e-8

test "stiff methods":
    a = solve(Stiff, span=0..1.5, method=tsit5(rtol=1e-8, atol=1e-8), save=end)
    b = solve(Stiff, span=0..1.5, method=rosenbrock23(rtol=1e-6, atol=1e-8), save=end)
    c = [solve(Stiff, span=0..1.5, method=trapezoidal(h=h), save=end).final.x for h in [0.05, 0.025]]
    assert abs(a.final.x - b.final.x) < 1e-5
    assert log2(abs(c[0] - a.final.x)/abs(c[1] - a.final.x)) in 1.8..2.2

test "what jumps comes back after the delay":
    s = solve(Pulse, span=0..6, method=tsit5(rtol=1e-6, atol=1e-8), save=every 0.25)
    assert max(abs(s.y - [max(v - 3, 0) for v in s.t])) < 1e-12
    r = solve(Relay, span=0..1.4, method=tsit5(rtol=1e-9, atol=1e-11), save=end)
    assert abs(r.final.y - 1) < 1e-8
"""


def test_delays() -> None:
    check(PROGRAM)


@functools.cache
def model(name: str) -> Any:
    return load(PROGRAM).models[name]


def end(name: str, route: str, method: str, span: float, **values: torch.Tensor) -> torch.Tensor:
    bound = model(name)().bind(**values)
    found: torch.Tensor = ndl.solve(bound, span=(0, span), method=method, gradient=route, save="end").final[
        "x"
    ]
    return found


@pytest.mark.parametrize("route", ["discrete", "checkpoint(3)"])
@pytest.mark.parametrize("method", ["tsit5(rtol=1e-8, atol=1e-10)", "rk4(h=0.1)"])
def test_gradients_are_those_of_the_closed_form(route: str, method: str) -> None:
    """By the delay, a factor, and the initial value, which is the past before the start."""
    a, tau, x = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (1.1, 0.8, 1.5))
    found = torch.autograd.grad(end("Plain", route, method, 3.1, a=a, tau=tau, x=x), (a, tau, x))
    t = 3.1
    terms = [
        (-a) ** k * (t - (k - 1) * tau).clamp(min=0) ** k / torch.tensor(k + 1.0).lgamma().exp()
        for k in range(5)
    ]
    exact = torch.autograd.grad(x * sum(terms), (a, tau, x))
    for g, e in zip(found, exact, strict=True):
        assert abs(g - e) < 1e-6


@pytest.mark.parametrize("method", ["rosenbrock23(h=0.2)", "bdf(h=0.2)", "trapezoidal(h=0.2)"])
def test_gradients_of_stiff_methods_are_differences(method: str) -> None:
    """By what leaves the steps where they are."""
    a, x = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (1.1, 1.5))
    found = torch.autograd.grad(end("Plain", "discrete", method, 2.0, a=a, x=x), (a, x))
    for g, (da, dx) in zip(found, ((1e-5, 0.0), (0.0, 1e-5)), strict=True):
        up, down = (
            end("Plain", "none", method, 2.0, a=a.detach() + s * da, x=x.detach() + s * dx) for s in (1, -1)
        )
        assert abs(g - (up - down) / 2e-5) < 1e-6


def test_gradients_of_members_are_differences() -> None:
    names = ("beta", "tau", "x")
    start = {"beta": [2.0, 1.8], "tau": [2.0, 1.5], "x": [0.5, 0.6]}
    values = {k: torch.tensor(v, dtype=torch.float64, requires_grad=True) for k, v in start.items()}
    method = "tsit5(rtol=1e-7, atol=1e-9)"
    whole = torch.autograd.grad(
        end("Mackey", "discrete", method, 4.5, **values).sum(), [values[n] for n in names]
    )
    for name, g in zip(names, whole, strict=True):
        for k in range(2):
            ends = []
            for d in (1e-4, -1e-4):
                moved = {n: v.detach().clone() for n, v in values.items()}
                moved[name][k] += d
                ends.append(end("Mackey", "none", method, 4.5, **moved)[k])
            assert abs(g[k] - (ends[0] - ends[1]) / 2e-4) < 1e-4


TEXT = """
model M:
    param tau = 1.0
    state x = 1.0
    {1}
    x' = -{0}

test "t":
    s = solve(M, span={2}, method={3})

test "routes":
    g = grad(solve(M, span=0..1, method=bdf(h=0.1), gradient=adjoint).final.x, M.params)
"""


@pytest.mark.parametrize(
    "read, more, span, method, said",
    [
        ("x(t - tau)", "", "0..1", "kvaerno5", "no continuous output"),
        ("x(t - tau)", "", "1..0", "tsit5", "cannot be run backwards"),
        ("x(t - 0*tau)", "", "0..1", "tsit5", "a delay is above 0"),
        ("x(t + 1)", "", "0..1", "tsit5", "a delay is not above 0"),
        ("x(t/2)", "", "0..1", "tsit5", "a delay is not above 0"),
        ("x(t - 1 - x^2)", "", "0..1", "rosenbrock23", "is for delays that stay the same"),
        ("x", "state y = 0.0\n    y' = x'(t - tau)", "0..1", "tsit5", "a delay of anything but a state"),
        ("y(t - tau)", "y = 2*x", "0..1", "tsit5", "cannot be called"),
    ],
)
def test_what_a_delay_cannot_be(read: str, more: str, span: str, method: str, said: str) -> None:
    found = refused(TEXT.format(read, more, span, method))
    assert said in found.message


def test_the_slope_of_a_delayed_state_waits() -> None:
    found = refused(
        """
model D:
    state x = 1.0, w = 0.0
    y = x(t - 1)
    x' = -y
    w' = y'

test "runs":
    s = solve(D, span=0..3, method=tsit5(rtol=1e-6))
    assert abs(s.w(2.5)) >= 0
"""
    )
    assert found.code == "NDL490" and "x(t - 1)" in found.message
