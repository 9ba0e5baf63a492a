"""Discontinuities located in kernels: against a closed form and torch's runs."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from ndl.compiler.diagnostics import NDLError

import ndl

SOURCE = """
model Kinked:
    param c = 1.25
    state x = 0.0
    x' = if t < 1/c then c else -2*x

model Relay:
    param c = 1.0
    state x = 0.0
    x' = (if x < 1 then c else 0.1)*(1 + 0.5*cos(x))

model Kicked:
    param c = 2.0
    state x = 1.0
    state v = 0.0
    x' = v
    v' = -c*x - 0.3*abs(v)*v - max(x - 0.2, 0)
    when falling(v): x <- x + 0.3

model Timed:
    param c = 1.0
    noise W: wiener
    state x = 1.0
    dx = (if t > 0.3337*c then -1 else 1)*x*dt + 0.5*dW

model Sliding:
    state x = 0.5
    x' = if x > 0 then -1 else 1

model Pulled:
    state x = 0.5
    x' = if x > 0.3*x(t - 0.3) then -1 else 1

model Recalling:
    state x = 0.5
    x' = (if x > 0 then -1 else 1) + 0.3*x(t - 0.3)

model Shaken:
    param c = 1.0
    noise W: wiener
    state x = 1.0
    dx = (if x > 0.5 then -c else 1)*dt + 0.5*dW
"""

COUNT = 5


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(SOURCE)


def spread() -> torch.Tensor:
    return torch.linspace(0.8, 2, COUNT, dtype=torch.float64)


def solved(program: Any, model: str, method: str, backend: str, **settings: Any) -> Any:
    made = getattr(program, model)().bind(c=spread())
    return ndl.solve(
        made, method=method, backend=backend, **{"span": (0, 2), "save": "every 0.125", **settings}
    )


@pytest.mark.parametrize("model", ["Kinked", "Relay", "Kicked"])
def test_the_same_steps_as_torch(program: Any, model: str) -> None:
    a, b = (solved(program, model, "tsit5(rtol=1e-8)", backend) for backend in ("torch", "cpu"))
    assert torch.equal(a.stats.steps, b.stats.steps) and torch.equal(a.stats.rejected, b.stats.rejected)
    assert torch.equal(a.events.index, b.events.index)
    torch.testing.assert_close(a.x.values, b.x.values, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("model", "tight"), [("Timed", 1e-12), ("Shaken", 1e-7)])
def test_under_noise(program: Any, model: str, tight: float) -> None:
    """At the time when a state comes to a break, no dyadic one, a path shows the rounding of time."""
    found = []
    for backend in ("torch", "cpu"):
        c = spread().requires_grad_()
        run = ndl.solve(
            getattr(program, model)().bind(c=c), method="sosri(rtol=1e-2, atol=1e-2)", backend=backend,
            span=(0, 0.5), save="every 0.125", seed=1, gradient="discrete",
        )  # fmt: skip
        found.append((run, torch.autograd.grad(run.final.x.sum() + run.x.values.square().sum(), c)[0]))
    (a, g), (b, h) = found
    assert int(a.stats.rejected.max()) > 2 and float(g.abs().max()) > 0.1
    torch.testing.assert_close(g, h, rtol=10 * tight, atol=10 * tight)
    assert torch.equal(a.stats.steps, b.stats.steps) and torch.equal(a.stats.rejected, b.stats.rejected)
    torch.testing.assert_close(a.x.values, b.x.values, rtol=tight, atol=tight)
    torch.testing.assert_close(a.W.values, b.W.values, rtol=tight, atol=tight)


def test_a_gradient_past_a_break_under_noise_against_the_exact_one(program: Any) -> None:
    """x' = x before the break and -x behind it, with additive noise: the derivative of x(T) by the time s of
    the break is 2 x(s) exp(s - T), whatever the path."""
    c, end = spread().requires_grad_(), 0.7
    s = ndl.solve(
        program.Timed().bind(c=c), method="sosri(rtol=1e-3, atol=1e-3)", backend="cpu", span=(0, end),
        save="every 0.001", seed=1, gradient="discrete",
    )  # fmt: skip
    (found,) = torch.autograd.grad(s.final.x.sum(), c)
    at = 0.3337 * spread()
    near = (torch.as_tensor(s.t) - at[:, None]).abs().argmin(1)
    x = s.x.values.detach()[torch.arange(COUNT), near]
    torch.testing.assert_close(found, 0.3337 * 2 * x * torch.exp(at - end), rtol=2e-2, atol=0)


def test_against_a_closed_form(program: Any) -> None:
    """x = exp(-2 (t - 1/c)) from t = 1/c on; few steps show that the break was found."""
    s = solved(program, "Kinked", "tsit5(rtol=1e-8)", "cpu")
    exact = torch.exp(-2 * (2 - 1 / spread()))
    torch.testing.assert_close(s.final.x, exact, rtol=1e-7, atol=0)
    assert int((s.stats.steps + s.stats.rejected).max()) < 90
    back = solved(program, "Kinked", "tsit5(rtol=1e-8)", "cpu", span=(2, 0))
    torch.testing.assert_close(
        back.stats.rejected,
        solved(program, "Kinked", "tsit5(rtol=1e-8)", "torch", span=(2, 0)).stats.rejected,
    )


def test_steps_and_continuous_output_of_an_implicit_method(program: Any) -> None:
    a, b = (solved(program, "Kinked", "rosenbrock23(rtol=1e-4)", k, save="steps") for k in ("torch", "cpu"))
    assert torch.equal(a.stats.steps, b.stats.steps)
    torch.testing.assert_close(a.steps.t, b.steps.t, rtol=1e-10, atol=1e-10, equal_nan=True)
    times = torch.linspace(0, 2, 9, dtype=torch.float64)
    torch.testing.assert_close(a.x(times), b.x(times), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_a_solution_that_slides_along_a_break_is_told(program: Any, backend: str) -> None:
    settings = {"span": (0, 2), "save": "end", "method": "tsit5", "max_steps": 400}
    with pytest.raises(NDLError, match="slides along") as found:
        ndl.solve(program.Sliding(), backend=backend, **settings)
    assert found.value.diagnostics[0].code == "NDL652"


@pytest.mark.parametrize("name", ["Sliding", "Recalling"])
@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_the_advice_for_a_solution_that_slides_is_one_that_goes_on(name: str, backend: str) -> None:
    """Written as the help says, with the method that it names, the run comes to its end."""
    settings: dict[str, Any] = {"span": (0, 1), "save": "end", "backend": backend, "max_steps": 300}
    with pytest.raises(NDLError, match="slides along") as found:
        ndl.solve(ndl.loads(SOURCE).models[name](), method="tsit5", **settings)
    advice = str(found.value.diagnostics[0].help)
    stiff = re.findall(r"such as `(\w+)`", advice)[0]
    slope = SOURCE.replace("if x > 0 then -1 else 1", "-tanh(x/0.01)")
    s = ndl.solve(ndl.loads(slope).models[name](), method=f"{stiff}(rtol=1e-4)", **settings)
    assert abs(float(s.final.x)) < 0.1


def test_many_breaks_that_come_back_after_a_delay_are_looked_up_soon(program: Any) -> None:
    """Of each delay the next one, not all that are to come: the run has tens of thousands of them."""
    settings = {"span": (0, 2), "save": "end", "method": "tsit5", "max_steps": 200_000}
    with pytest.raises(NDLError) as found:
        ndl.solve(program.Pulled(), backend="cpu", **settings)
    assert found.value.diagnostics[0].code == "NDL652"
