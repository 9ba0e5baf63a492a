"""Splittings by kernels against torch's: values, gradients, and the closed form of linear parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from agreement_problems import SOURCE, TURNING
from ndl.compiler.diagnostics import NDLError

import ndl

MORE = f"""
model Rotor:
    param k = 1.0
    state x = 1.0
    state y = 0.2
    term spin = [-k*y, k*x]
    term stretch = [0.3*x + 0.2*y, -0.5*y + 0.1]
    term push = [0.0, sin(x) + 0.1*cos(t)]
    x', y' = spin + stretch + push

model Linear:
    param k = 1.0
    state x = 1.0
    state y = 0.2
    term spin = [-k*y, k*x]
    term stretch = [-0.5*k*x, -0.5*k*y]
    x', y' = spin + stretch

model Kicked:{TURNING}    when rising(y - 0.4):
        x <- x + 0.1
    when every 0.37:
        y <- y - 0.2*k

model Drawn:
    param k = 1.3
    z ~ normal(0, 1) per step
    state x = 1.0
    state y = 0.2
    term spin = [-k*y + z, k*x]
    term push = [0.3*x, sin(x)]
    x', y' = spin + push

model Steady:
    param k = 1.0
    state x = 1.0
    term a = [-0.25*x(t - k)]
    term b = [-0.75*x(t - k)]
    x' = a[0] + b[0]

model Switched:
    param k = 1.0
    state x = 0.0
    state on = 1
    term a = [0.2 + on*(k - 0.2), 0]
    term b = [-0.1*x, 0]
    x', on' = a + b
    when rising(x - 0.5): on <- 0

model Late:
    param k = 0.5
    state x = 1.0
    state y = 0.2
    term spin = [-y, x]
    term push = [0.3*x(t - k), sin(x) - 0.2*y(t - 2*k)]
    x', y' = spin + push
    when rising(y - 0.6):
        x <- 0.5*x
    when every 0.37:
        y <- y - 0.05
"""
COUNT = 20
CASES = [
    ("Rotor", "lie(spin: exact, stretch: rk4, push: euler, h=0.1)", (0, 1), "every 0.25"),
    ("Rotor", "strang(push: heun(steps=3), spin: exact, stretch: exact, h=0.15)", (0, 1), "every 0.25"),
    ("Rotor", "strang(stretch: rosenbrock23, push, spin, steps=7)", (1, 0), "end"),
    ("Rotor", "lie(stretch: kvaerno5, push: trapezoidal(steps=2), spin: exact, h=0.15)", (0, 1), "end"),
    ("Swinging", "leapfrog(h=0.05)", (0, 1), "every 0.13"),
    ("Swinging", "yoshida4(h=0.1)", (0.5, 2), "end"),
]
EVENTS = [
    ("Bounced", "leapfrog(h=0.05)"),
    ("Kicked", "strang(spin: rk4, push: rk4, h=0.1)"),
    ("Kicked", "lie(spin: implicit_euler, push: heun, h=0.1)"),
    ("Late", "strang(spin: rk4, push: rk4, h=0.1)"),
]


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(SOURCE + MORE)


def solved(program: Any, name: str, method: str, backend: str, own: bool, **settings: Any) -> tuple[Any, Any]:
    """A run of members with values of k of their own, or of one k and starts of their own."""
    k = torch.linspace(0.5, 1.5, COUNT, dtype=torch.float64) if own else torch.tensor(0.8).double()
    start = torch.linspace(0.1, 1.0, COUNT, dtype=torch.float64)
    leaves = (k.requires_grad_(True), start.requires_grad_(True))
    first = "q" if name in ("Swinging", "Bounced") else "x"
    made = getattr(program, name)().bind(**{"k": k, first: start})
    return ndl.solve(made, method=method, backend=backend, gradient="discrete", **settings), leaves


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize(("name", "method", "span", "save"), CASES)
def test_values_and_gradients(
    program: Any, name: str, method: str, span: tuple, save: str, own: bool
) -> None:
    found = []
    for backend in ("torch", "cpu"):
        s, leaves = solved(program, name, method, backend, own, span=span, save=save)
        loss = sum(s[n].values.square().sum() + s.final[n].sum() for n in s.names())
        found.append((s, torch.autograd.grad(loss, leaves)))
    (a, grads_a), (b, grads_b) = found
    assert a.stats.steps.tolist() == b.stats.steps.tolist()
    for n in a.names():
        torch.testing.assert_close(a[n].values, b[n].values, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(a.final[n], b.final[n], rtol=1e-12, atol=1e-12)
    for g, h in zip(grads_a, grads_b):
        torch.testing.assert_close(g, h, rtol=1e-9, atol=1e-9)


def test_exact_parts_that_commute_are_the_solution(program: Any) -> None:
    """A rotation by k t and a decay by exp(-k t/2), with a shorter last step, and its derivative by k."""
    k = torch.linspace(0.5, 1.5, COUNT, dtype=torch.float64).requires_grad_(True)
    s = ndl.solve(
        program.Linear().bind(k=k), span=(0, 1), method="strang(spin: exact, stretch: exact, h=0.3)",
        save="end", backend="cpu", gradient="discrete",
    )  # fmt: skip
    x = torch.exp(-k / 2) * (torch.cos(k) - 0.2 * torch.sin(k))
    torch.testing.assert_close(s.final.x, x, rtol=0, atol=1e-14)
    (found,), (wanted,) = (torch.autograd.grad(v.sum(), k) for v in (s.final.x, x))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("name", "method"), EVENTS)
def test_events_and_gradients_past_them(program: Any, name: str, method: str) -> None:
    found = []
    for backend in ("torch", "cpu"):
        s, leaves = solved(program, name, method, backend, True, span=(0, 1.5), save="every 0.31")
        loss = sum(s[n].values.square().sum() for n in s.names())
        found.append((s, torch.autograd.grad(loss, leaves)))
    (a, ga), (b, gb) = found
    assert a.events.t.shape[1] > 1 and torch.equal(a.stats.steps, b.stats.steps)
    for n in a.names():
        torch.testing.assert_close(a[n].values, b[n].values, rtol=1e-12, atol=1e-12)
    for g, h in zip(ga, gb, strict=True):
        torch.testing.assert_close(g, h, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_a_jump_of_the_rates_at_an_event_by_hand(program: Any, backend: str) -> None:
    """x' = k - x/10 up to 1/2 and 1/5 - x/10 from there on: fixed steps find the place by an event."""
    k = torch.linspace(1, 1.5, COUNT, dtype=torch.float64).requires_grad_()
    s = ndl.solve(
        program.Switched().bind(k=k), method="strang(a: rk4, b: rk4, h=0.05)", span=(0, 2), save="end",
        backend=backend, gradient="discrete",
    )  # fmt: skip
    exact = 2 - 1.5 * torch.exp(-0.2 - torch.log(1 - 0.05 / k))
    torch.testing.assert_close(s.final.x, exact, rtol=1e-4, atol=0)
    (found,), (wanted,) = (torch.autograd.grad(v.sum(), k) for v in (s.final.x, exact))
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=0)


@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_delays_by_hand(program: Any, backend: str) -> None:
    """x' = -x(t - 1) from x = 1, in two parts: a polynomial on each unit of time."""
    s = ndl.solve(program.Steady(), method="lie(a: rk4, b: rk4, h=0.25)", backend=backend, span=(0, 3),
                  save="every 0.125", ensemble=2)  # fmt: skip
    t = torch.as_tensor(s.t, dtype=torch.float64)
    exact = 1 - t + (t - 1).clamp(min=0) ** 2 / 2 - (t - 2).clamp(min=0) ** 3 / 6
    assert float((s.x.values - exact).abs().max()) < 1e-14


def test_a_splitting_with_delays_has_its_order(program: Any) -> None:
    def end(method: str) -> float:
        return float(
            ndl.solve(program.Late(), method=method, span=(0, 0.9), save="end", backend="cpu").final.y
        )

    exact = end("tsit5(rtol=1e-11, atol=1e-12)")
    errors = [abs(end(f"strang(spin: rk4, push: rk4, h={h})") - exact) for h in (0.02, 0.01)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)


def test_what_goes_by_torch_says_why(program: Any) -> None:
    method = "strang(spin: exact, push: rk4, h=0.1)"
    with pytest.raises(NDLError, match="events cut steps that exponentials follow"):
        ndl.solve(program.Kicked(), method=method, backend="cpu", span=(0, 1), ensemble=2)
    with pytest.raises(NDLError, match="edges of the past cut steps that exponentials follow"):
        ndl.solve(program.Late(), method=method, backend="cpu", span=(0, 1), ensemble=2)
    with pytest.raises(NDLError, match="follows linear terms with constant coefficients"):
        ndl.solve(program.Late(), method="lie(spin: rk4, push: exact, h=0.1)", span=(0, 1), ensemble=2)
    with pytest.raises(NDLError, match="the exponential of `spin` has draws for each step"):
        ndl.solve(program.Drawn(), method=method, backend="cpu", span=(0, 1), ensemble=2)
