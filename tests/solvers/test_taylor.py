"""`taylor` by torch: its order, its tolerances, its continuous output, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import final, model, numbers, slope, solve, turning
from ndl.compiler.backends.torch.module import compile_source
from ndl.compiler.diagnostics import NDLError

import ndl

TEXT = """
model Oscillator:
    state x = 1.0
    state x' = 0.0
    x'' = -x

model Kepler:
    const e = 0.6
    state q: R[2] = [1 - e, 0]
    state p: R[2] = [0, sqrt((1 + e)/(1 - e))]
    q' = p
    p' = -q/norm(q)^3

model Delayed:
    state x = 1.0
    x' = -x(t - 1)

model Fixed:
    state x = 1.0, y = 1.0
    x' = -x*y
    0 = y - cos(y)

model Driven:
    input u: R on time
    state x = 0.0
    x' = u - x

model Steps:
    state x = 0.0
    x' = if t < 0.5 then 1 else -cos(t)
"""


@pytest.mark.parametrize(
    ("order", "counts"), [(1, (256, 384, 512)), (2, (64, 96, 128)), (4, (32, 48, 64)), (9, (8, 12, 16))]
)
def test_fixed_steps_have_the_order_that_is_asked_for(order: int, counts: tuple[int, ...]) -> None:
    runs = [solve(model("Turning"), f"taylor(order={order}, steps={n})", "0..3", save="end") for n in counts]
    errors = [np.abs(final(s, "u", "v", "w") - turning(3)).max() for s in runs]
    assert -slope(counts, errors) == pytest.approx(order, abs=0.12)


@pytest.mark.parametrize("order", [3, 6])
def test_error_and_continuous_output_have_their_orders(order: int) -> None:
    counts = (12, 16, 24)
    runs = [
        solve(model("Turning"), f"taylor(order={order}, steps={n}, rtol=0, atol=1)", "0..3") for n in counts
    ]
    estimates = [numbers(s.steps.error)[len(s.steps.t) // 2 :].max() for s in runs]
    assert -slope(counts, estimates) == pytest.approx(order, abs=0.35)
    t = np.linspace(0, 3, 101)
    inside = [np.abs(numbers(s(t).v) - turning(t)[:, 1]).max() for s in runs]
    assert -slope(counts, inside) == pytest.approx(order, abs=0.35)


@pytest.mark.parametrize("tolerance", [1e-4, 1e-7, 1e-10, 1e-13])
def test_errors_are_of_the_size_of_the_tolerance(tolerance: float) -> None:
    method = f"taylor(rtol={tolerance}, atol={tolerance})"
    error = np.abs(
        final(solve(model("Turning"), method, "0..3", save="end"), "u", "v", "w") - turning(3)
    ).max()
    assert error < 10 * tolerance
    s = solve(model("Oscillator", TEXT), method, "0..20", save="every 0.7")
    assert np.abs(numbers(s.x) - np.cos(numbers(s.t))).max() < 50 * tolerance
    around = final(solve(model("Kepler", TEXT), method, f"0..{4 * np.pi}", save="end"), "q").ravel()
    assert np.abs(around - [0.4, 0.0]).max() < 3000 * tolerance


def test_the_order_follows_from_the_tolerance() -> None:
    few, many = (
        solve(model("Oscillator", TEXT), f"taylor(rtol={r}, atol={r})", "0..20", save="end")
        for r in (1e-5, 1e-14)
    )
    assert int(many.stats.steps) < 1.2 * int(few.stats.steps)
    assert int(few.stats.rejected) == int(many.stats.rejected) == 0


def test_a_break_is_located() -> None:
    s = solve(model("Steps", TEXT), "taylor(rtol=1e-10, atol=1e-10)", "0..2", save="end")
    assert numbers(s.final.x) == pytest.approx(0.5 - np.sin(2) + np.sin(0.5), abs=1e-9)


def test_backwards_in_time() -> None:
    s = solve(model("Oscillator", TEXT), "taylor(rtol=1e-10, atol=1e-10)", "3..0", save="end")
    assert numbers(s.final.x) == pytest.approx(np.cos(3), abs=1e-8)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Fixed", "takes no `mass`: it cannot keep the algebraic equations"),
        ("Driven", "it follows a path in time"),
        ("Delayed", "no continuous output"),
    ],
)
def test_what_has_no_series_is_refused(name: str, why: str) -> None:
    program = ndl.loads(TEXT)
    made = getattr(program, name)()
    made = made.bind(u=lambda t, order: t) if name == "Driven" else made
    with pytest.raises(NDLError, match=why):
        ndl.solve(made, method="taylor", span=(0, 1))


def test_an_order_is_a_whole_number() -> None:
    for order in ("0", "2.5"):
        with pytest.raises(NDLError, match="whole number of at least 1"):
            solve(model("Oscillator", TEXT), f"taylor(order={order}, steps=3)")


def test_a_step_of_ones_own_may_use_the_series() -> None:
    """A Runge–Kutta method of two stages with second derivatives: conditions b1 + b2 = 1/2, b2 c2 = 1/6."""
    text = """
solver two(; order = 2) for ode order 3:
    step(f, x, t, h):
        c = series(f, x, t, order)
        y = x + 2/3*h*c[1] + 4/9*h^2*c[2]
        d = series(f, y, t + 2*h/3, order)
        return x + h*c[1] + h^2*(c[2]/2 + d[2]/2)

model Turning:
    state u = 0.5, v = 1.0, w = 0.0
    u' = u*(1 - u)
    v' = -(1 + t*u*(1 - u))*w
    w' = (1 + t*u*(1 - u))*v
"""
    counts = (64, 96, 128)
    runs = [solve(model("Turning", text), f"two(steps={n})", "0..3", save="end") for n in counts]
    errors = [np.abs(final(s, "u", "v", "w") - turning(3)).max() for s in runs]
    assert -slope(counts, errors) == pytest.approx(3, abs=0.2)


def test_a_count_among_the_options_is_what_is_given() -> None:
    text = """
solver pieces(; k = 1) for ode order 1:
    step(f, x, t, h):
        for i in 1..k:
            x = x + h/k*f(x, t)
        return x

model Decay:
    state x = 1.0
    x' = -x
"""
    for k in (1, 4):
        s = solve(model("Decay", text), f"pieces(k={k}, steps=5)", "0..1", save="end")
        assert numbers(s.final.x) == pytest.approx((1 - 0.2 / k) ** (5 * k), rel=1e-12)


def test_an_exported_module_has_the_series_of_its_methods() -> None:
    text = """
model Kepler:
    state q: R[2] = [0.4, 0]
    state p: R[2] = [0, 2]
    q' = p
    p' = -q/norm(q)^3

solve Kepler:
    span = 0..1
    method = taylor
"""
    source = ndl.loads(text).python_source()
    module = compile_source(source, "exported_kepler")
    x = torch.tensor([0.4, 0.0, 0.0, 2.0], dtype=torch.float64)
    row = module.Kepler().series(torch.tensor(0.0), x, 11)
    assert row.shape == (12, 4) and torch.equal(row[0], x)
    torch.testing.assert_close(row[1], module.Kepler().vector_field(torch.tensor(0.0), x))
    assert "ndl.compiler" not in source
