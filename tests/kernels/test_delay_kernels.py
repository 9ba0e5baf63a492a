"""Delays in kernels: torch's steps, values and gradients, those by a lag included; a closed form; finite
differences; the interpreters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from compared import off
from interpreted import interpret_runs
from ndl.compiler.diagnostics import NDLError
from ndl.runtime.kernels import ode

import ndl

SOURCE = """
model Glass:
    param k = 1.7
    param beta = 0.4
    state x = 0.5
    x' = beta*x(t - k)/(1 + x(t - k)^4) - 0.2*x

model Pair:
    param k = 1.0
    state x: R[2] = [1.0, 0.5]
    state y = 0.3
    x' = -k*x(t - 0.31)[0]*x + sin(t)
    y' = -y(t - 0.8) + x(t - 0.5)[1]*y

model Steady:
    param k = 1.0
    state x = 1.0
    x' = -x(t - k)

model Moving:
    param k = 0.5
    state x = 1.0
    x' = -x(t - k - 0.1*sin(t))

model Following:
    param k = 0.5
    state x = 1.0
    x' = -x(t - k*(1 + 0.3*x))

model Lost:
    param k = 0.5
    state x = 1.0
    state y = 0.5
    x' = -k*x(t - y)
    y' = 0
    when every 0.7:
        y <- -1

model Struck:
    param k = 0.52
    state x = 1.0
    state y = 0.0
    x' = -x(t - k) + 0.2*y(t - 2*k)
    y' = x - y
    require x < 3
    when falling(x - 0.5):
        x <- 1.0
    when every 0.7:
        y <- y + 0.3
    when falling(y(t - 0.3) - 0.6):
        y <- 0.1*x(t - k)

model Relay:
    param k = 0.52
    state x = 1.0
    x' = if x(t - k) > 0.7 then -x(t - k) else 0.3 - max(x - 0.35, 0)
    when falling(x - 0.4):
        x <- 0.9

model Switched:
    param k = 0.52
    state x = 1.0
    x' = if x > 0.7 then -x(t - k) else 0.8 - 2*x(t - k)

model Mindful:
    state x = 1.0
    x' = -x(t - 0.5)
    require x(t - 0.5) < 3

model Watched:
    state x = 1.0
    x' = -x(t - 0.5)
    y = x(t - 0.2)
"""

METHODS = [
    "rk4(h=0.07)", "heun(h=0.1)", "tsit5(h=0.1)", "tsit5(rtol=1e-5)", "bosh3(rtol=1e-4)", "dopri5(rtol=1e-5)",
    "rosenbrock23(rtol=1e-3)",
]  # fmt: skip
REMEMBERING = ["bdf(rtol=1e-3)", "trapezoidal(h=0.1)", "implicit_euler(h=0.1)", "reversible_heun(h=0.1)"]
COUNT = 5


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(SOURCE)


def run(program: Any, name: str, method: str, backend: str, **settings: Any) -> tuple[Any, torch.Tensor, Any]:
    model = getattr(program, name)()
    k = (float(model.k.detach()) * torch.linspace(0.8, 1.2, COUNT, dtype=torch.float64)).requires_grad_(True)
    usual = {"span": (0, 3), "save": "every 0.53", "gradient": "discrete"}
    s = ndl.solve(model.bind(k=k), method=method, backend=backend, **{**usual, **settings})
    values = torch.cat([s[n].values.flatten() for n in s.names()])
    weight = torch.linspace(-1, 1, len(values), dtype=torch.float64)
    grads = torch.autograd.grad((values * weight).sum(), k)[0] if values.requires_grad else None
    return s, values.detach(), grads


@pytest.mark.parametrize(
    ("name", "method"),
    [*(("Glass", m) for m in METHODS), ("Pair", "heun(h=0.1)"), ("Pair", "tsit5(rtol=1e-5)")],
)
def test_the_same_steps_values_and_gradients(program: Any, name: str, method: str) -> None:
    """In `Glass`, k is the lag."""
    (a, u, g), (b, v, h) = (run(program, name, method, backend) for backend in ("torch", "cpu"))
    assert torch.equal(a.stats.steps, b.stats.steps) and torch.equal(a.stats.rejected, b.stats.rejected)
    assert off(u, v) < 1e-12 and off(g, h) < 1e-9


@pytest.mark.parametrize(
    ("name", "method"),
    [("Moving", "tsit5(rtol=1e-5)"), ("Following", "tsit5(rtol=1e-5)"), ("Following", "rk4(h=0.07)")],
)
def test_lags_that_change(program: Any, name: str, method: str) -> None:
    """With time and with the state."""
    (a, u, g), (b, v, h) = (run(program, name, method, backend, span=(0, 2)) for backend in ("torch", "cpu"))
    assert torch.equal(a.stats.steps, b.stats.steps) and torch.equal(a.stats.rejected, b.stats.rejected)
    assert off(u, v) < 1e-12 and off(g, h) < 1e-9


@pytest.mark.parametrize("method", REMEMBERING)
def test_methods_that_remember_run_and_have_torch_gradients(program: Any, method: str) -> None:
    (a, u, _), (b, v, _) = (
        run(program, "Pair", method, backend, gradient="none") for backend in ("torch", "cpu")
    )
    assert torch.equal(a.stats.steps, b.stats.steps) and off(u, v) < 1e-11
    with pytest.raises(NDLError, match="remembers more than the state"):
        run(program, "Pair", method, "cpu")


def test_the_method_of_steps_by_hand(program: Any) -> None:
    """x' = -x(t - 1) from x = 1: a polynomial on each unit of time."""
    s = ndl.solve(program.Steady(), method="rk4(h=0.25)", backend="cpu", span=(0, 3), save="every 0.125",
                  ensemble=2)  # fmt: skip
    t = torch.as_tensor(s.t, dtype=torch.float64)
    exact = 1 - t + (t - 1).clamp(min=0) ** 2 / 2 - (t - 2).clamp(min=0) ** 3 / 6
    assert float((s.x.values - exact).abs().max()) < 1e-14


def test_gradients_by_a_lag_against_finite_differences(program: Any) -> None:
    """The ends of steps move with the lag; their error is small."""
    settings = {"save": "end", "span": (0, 4)}
    _, _, exact = run(program, "Glass", "tsit5(rtol=1e-10, atol=1e-12)", "cpu", **settings)

    def value(k: torch.Tensor) -> torch.Tensor:
        s = ndl.solve(
            program.Glass().bind(k=k), method="tsit5(rtol=1e-10, atol=1e-12)", backend="cpu", **settings
        )
        return s.x.values.flatten()

    k = 1.7 * torch.linspace(0.8, 1.2, COUNT, dtype=torch.float64)
    rate = (value(k + 1e-4) - value(k - 1e-4)) / 2e-4 * torch.linspace(-1, 1, COUNT, dtype=torch.float64)
    torch.testing.assert_close(rate, exact, rtol=1e-5, atol=1e-8)


def test_a_history_that_was_guessed_too_short_is_made_again(
    program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = run(program, "Pair", "bosh3(rtol=1e-4)", "cpu")[1:]
    monkeypatch.setattr(ode, "FIRST_ROOM", 3)
    monkeypatch.setattr(ode, "_rooms", {})
    found = run(program, "Pair", "bosh3(rtol=1e-4)", "cpu")[1:]
    assert all(torch.equal(a, b) for a, b in zip(wanted, found, strict=True))


def test_delays_that_are_no_longer_above_zero_are_named(program: Any) -> None:
    for backend in ("torch", "cpu"):
        with pytest.raises(NDLError, match="NDL657") as found:
            run(program, "Lost", "tsit5(rtol=1e-4)", backend, gradient="none", span=(0, 2))
        cause: Any = found.value.__cause__
        assert cause.time == pytest.approx(0.7, abs=1e-12)
    assert [f.status for f in cause.failed] == ["delay"] * COUNT


def test_jumps_do_not_come_back_after_delays_that_change(program: Any) -> None:
    with pytest.raises(NDLError, match=r"does not follow the jumps of its events through `x\(t - y\)`"):
        run(program, "Lost", "tsit5(rtol=1e-4)", "cpu", span=(0, 0.5))


@pytest.mark.parametrize("method", ["rk4(h=0.07)", "tsit5(rtol=1e-5)", "bdf(rtol=1e-3)"])
def test_events_beside_delays(program: Any, method: str) -> None:
    """A jump comes back after each lag, and steps end there; guards and resets read the past, too."""
    gradient = "none" if method.startswith("bdf") else "discrete"
    (a, u, g), (b, v, h) = (
        run(program, "Struck", method, backend, gradient=gradient, span=(0, 1.95))
        for backend in ("torch", "cpu")
    )
    assert g is None or off(g, h) < 1e-9
    assert torch.equal(a.stats.steps, b.stats.steps) and torch.equal(a.stats.rejected, b.stats.rejected)
    assert off(u, v) < 1e-12 and a.events.t.shape[1] > 4
    assert torch.equal(a.events.index, b.events.index)
    assert off(a.events.t.detach().nan_to_num(), b.events.t.detach().nan_to_num()) < 1e-12


def test_discontinuities_beside_delays_and_events(program: Any) -> None:
    """Located where the past or the present comes to them."""
    (a, u, g), (b, v, h) = (
        run(program, "Relay", "tsit5(rtol=1e-5)", backend, span=(0, 2)) for backend in ("torch", "cpu")
    )
    assert off(g, h) < 1e-9
    assert torch.equal(a.stats.steps, b.stats.steps) and torch.equal(a.stats.rejected, b.stats.rejected)
    assert int(a.stats.rejected.max()) > 1 and a.events.t.shape[1] > 0 and off(u, v) < 1e-12


def test_gradients_past_jumps_that_come_back_against_finite_differences(program: Any) -> None:
    """The times of jumps follow the lag, and so do those at which they come back; one of them is saved."""
    method = "tsit5(rtol=1e-9, atol=1e-11)"
    settings = {"span": (0, 2.5), "method": method, "backend": "cpu", "save": "every 0.53"}
    k = (0.52 * torch.linspace(0.8, 1.2, COUNT, dtype=torch.float64)).requires_grad_()

    def value(k: torch.Tensor, gradient: str = "none") -> torch.Tensor:
        s = ndl.solve(program.Struck().bind(k=k), gradient=gradient, **settings)
        return (s.x.values.sin() + s.y.values).sum(1) + s.events.t.nan_to_num().square().sum(1)

    (exact,) = torch.autograd.grad(value(k, "discrete").sum(), k)
    with torch.no_grad():
        rate = (value(k + 1e-5) - value(k - 1e-5)) / 2e-5
    torch.testing.assert_close(exact, rate, rtol=1e-7, atol=1e-7)


def test_gradients_past_breaks_that_come_back_against_finite_differences(program: Any) -> None:
    """A jump of the slope comes back after the lag, where the derivative of what is read jumps."""
    method = "tsit5(rtol=1e-9, atol=1e-11)"
    k = (0.52 * torch.linspace(0.8, 1.1, COUNT, dtype=torch.float64)).requires_grad_()

    def value(k: torch.Tensor, gradient: str = "none") -> torch.Tensor:
        s = ndl.solve(program.Switched().bind(k=k), span=(0, 2.5), method=method, backend="cpu",
                      save="every 0.53", gradient=gradient)  # fmt: skip
        return s.x.values.sin().sum(1)

    (exact,) = torch.autograd.grad(value(k, "discrete").sum(), k)
    with torch.no_grad():
        rate = (value(k + 1e-5) - value(k - 1e-5)) / 2e-5
    torch.testing.assert_close(exact, rate, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_a_root_that_rounding_hides_at_the_end_of_a_step_is_met(program: Any, backend: str) -> None:
    """With a lag of 0.5, x = 1 - t comes to 0.5 where the start comes back and a step ends."""
    s = ndl.solve(program.Struck().bind(k=torch.full((2,), 0.5, dtype=torch.float64)), span=(0, 0.65),
                  method="tsit5(rtol=1e-5)", backend=backend)  # fmt: skip
    assert s.events.t.shape == (2, 1) and float((s.events.t - 0.5).abs().max()) < 1e-12


def test_values_at_other_times(program: Any) -> None:
    found = []
    for backend in ("torch", "cpu"):
        s = run(program, "Pair", "tsit5(rtol=1e-5)", backend, gradient="none", save="steps")[0]
        found.append(torch.as_tensor(s.y(1.234)))
    assert off(*found) < 1e-11


def test_the_interpreter_agrees(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"save": "every 0.5", "span": (0, 1.5)}
    _, u, g = run(program, "Pair", "heun(h=0.25)", "cpu", **settings)
    interpret_runs(monkeypatch)
    _, v, h = run(program, "Pair", "heun(h=0.25)", "cpu", **settings)
    assert off(u, v) < 1e-13 and off(g, h) < 1e-12


def test_the_interpreter_agrees_past_breaks(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"save": "end", "span": (0, 1.2)}
    a, u, g = run(program, "Switched", "tsit5(rtol=1e-3)", "cpu", **settings)
    _, w, f = run(program, "Switched", "tsit5(rtol=1e-3)", "torch", **settings)
    interpret_runs(monkeypatch)
    b, v, h = run(program, "Switched", "tsit5(rtol=1e-3)", "cpu", **settings)
    assert off(u, v) < 1e-13 and off(g, h) < 1e-12 and torch.equal(a.stats.steps, b.stats.steps)
    assert off(u, w) < 1e-12 and off(g, f) < 1e-9


@pytest.mark.parametrize(
    ("name", "method", "why"),
    [
        ("Moving", "rosenbrock23(rtol=1e-3)", "is for delays that stay the same"),
        ("Mindful", "rk4(h=0.1)", "a requirement reads the past"),
        ("Watched", "rk4(h=0.1)", "a derived value of it reads the past"),
        ("Steady", "checkpoint", "checkpoints of equations with delays are torch's"),
    ],
)
def test_what_goes_by_torch(program: Any, name: str, method: str, why: str) -> None:
    gradient = "checkpoint(3)" if method == "checkpoint" else "none"
    method = "rk4(h=0.1)" if method == "checkpoint" else method
    with pytest.raises(NDLError, match=why):
        ndl.solve(getattr(program, name)(), method=method, backend="cpu", span=(0, 1), ensemble=2,
                  gradient=gradient)  # fmt: skip
