"""Fixed steps show the order that each solver of the library claims, on equations that depend on time."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import final, model, numbers, slope, solve, turning

import ndl

EXPLICIT = {
    "euler": 1, "heun": 2, "midpoint": 2, "rk4": 4, "bosh3": 3, "dopri5": 5, "tsit5": 5, "dopri8": 8,
    "vern7": 7, "reversible_heun": 2, "ssprk2": 2, "ssprk3": 3, "ssprk54": 4,
}  # fmt: skip
STIFF = {
    "implicit_euler": 1,
    "trapezoidal": 2,
    "sdirk": 4,
    "kvaerno5": 5,
    "rosenbrock23": 2,
    "rodas5": 5,
    "bdf": 2,
}
SYMPLECTIC = {"leapfrog": 2, "verlet": 2, "yoshida4": 4}
SPLIT = {"lie": 1, "strang": 2, "imex": 1}
IMEX = {"imex": 1, "ars222": 2, "ars443": 3}
EMBEDDED = {
    "heun": 1, "bosh3": 2, "dopri5": 4, "tsit5": 4, "dopri8": 5, "vern7": 6, "sdirk": 3, "kvaerno5": 4,
    "rosenbrock23": 2, "rodas5": 4, "bdf": 2,
}  # fmt: skip
"""The lower order q of each pair: its error estimate is of order q + 1."""
DENSE = {
    "dopri5": 5, "tsit5": 5, "dopri8": 8, "vern7": 7, "bosh3": 3, "rk4": 4, "heun": 2, "euler": 1, "sdirk": 4,
    "kvaerno5": 5, "rosenbrock23": 2, "rodas5": 5, "bdf": 2,
}  # fmt: skip
"""The order of the largest error over the span: an interpolant of degree d has an error of order d + 1 in one
step, a cubic 4, a shorter step that of the method."""


def counts(order: int) -> tuple[int, ...]:
    """Step counts in the asymptotic range that rounding does not reach."""
    if order >= 7:
        return 8, 12, 16
    return (32, 48, 64) if order >= 3 else (64, 96, 128)


@pytest.mark.parametrize(("method", "order"), [*EXPLICIT.items(), *STIFF.items()])
def test_a_solver_has_its_order(method: str, order: int) -> None:
    steps = counts(order)
    runs = [solve(model("Turning"), f"{method}(steps={n})", "0..3", save="end") for n in steps]
    errors = [np.abs(final(s, "u", "v", "w") - turning(3)).max() for s in runs]
    assert -slope(steps, errors) == pytest.approx(order, abs=0.12)


@pytest.mark.parametrize(("method", "order"), [*SYMPLECTIC.items(), ("lie", 1), ("strang", 2)])
def test_a_symplectic_solver_has_its_order(method: str, order: int) -> None:
    steps = (16, 24, 32)
    runs = [solve(model("Kicked"), f"{method}(steps={n})", "0..2", save="end") for n in steps]
    errors = [np.abs(final(s, "x", "x'") - [np.sin(2), np.cos(2)]).max() for s in runs]
    assert -slope(steps, errors) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize(("method", "order"), SPLIT.items())
def test_a_splitting_has_its_order(method: str, order: int) -> None:
    steps = (32, 48, 64)
    exact = final(solve(model("Parts"), "dopri8(rtol=1e-13, atol=1e-14)", "0..2", save="end"), "x", "y")
    form = f"{method}(first: dopri8, second: dopri8, steps={{}})"
    runs = [solve(model("Parts"), form.format(n), "0..2", save="end") for n in steps]
    errors = [np.abs(final(s, "x", "y") - exact).max() for s in runs]
    assert -slope(steps, errors) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize(("method", "order"), IMEX.items())
def test_implicit_explicit_steps_have_their_order(method: str, order: int) -> None:
    steps = (32, 48, 64) if order < 3 else (128, 192, 256)
    exact = final(solve(model("Parts"), "dopri8(rtol=1e-13, atol=1e-14)", "0..2", save="end"), "x", "y")
    form = f"{method}(first: implicit_euler, second: euler, steps={{}})"
    runs = [solve(model("Parts"), form.format(n), "0..2", save="end") for n in steps]
    errors = [np.abs(final(s, "x", "y") - exact).max() for s in runs]
    assert -slope(steps, errors) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize(("method", "lower"), EMBEDDED.items())
def test_an_error_estimate_has_its_order(method: str, lower: int) -> None:
    """With atol = 1 and rtol = 0 the scaled error is the estimate's own root mean square."""
    steps = (32, 48, 64)
    runs = [solve(model("Turning"), f"{method}(steps={n}, rtol=0, atol=1)", "0..3") for n in steps]
    errors = [numbers(s.steps.error)[len(s.steps.t) // 2 :].max() for s in runs]
    assert -slope(steps, errors) == pytest.approx(lower + 1, abs=0.12)


@pytest.mark.parametrize(("method", "order"), DENSE.items())
def test_continuous_output_has_its_order(method: str, order: int) -> None:
    steps = (12, 16, 24) if order >= 7 else (24, 32, 48, 64)
    t = np.linspace(0, 3, 101)
    errors = []
    for n in steps:
        at = solve(model("Turning"), f"{method}(steps={n})", "0..3")(t)
        errors.append(np.abs(np.stack([numbers(at[k]) for k in "uvw"], -1) - turning(t)).max())
    assert -slope(steps, errors) == pytest.approx(order, abs=0.35)


@pytest.mark.parametrize("method", ["tsit5", "dopri5", "dopri8", "vern7", "bosh3", "rodas5"])
def test_continuous_output_meets_the_steps(method: str) -> None:
    """At both ends of a step the interpolant gives the values of the step."""
    s = solve(model("Turning"), f"{method}(steps=12)", "0..3")
    ends = np.asarray(numbers(s.t))
    before = numbers(s(ends[1:] - 1e-9).v) - numbers(s.v)[1:]
    assert np.abs(before).max() < 1e-8
    assert np.abs(numbers(s(ends).v) - numbers(s.v)).max() < 1e-13


@pytest.mark.parametrize("weights", ["theta^theta", "sin(theta)", "1/2 + theta/2", "theta^2, theta"])
def test_a_dense_output_is_a_list_of_polynomials(weights: str) -> None:
    text = f"""
solver middle for ode order 2:
    tableau:
        0   |
        1/2 | 1/2
        ----+----
            | 0 1
    dense(theta) = [theta - theta^2, {weights}]

model M:
    state x = 1
    x' = -x
"""
    with pytest.raises(ndl.NDLError, match=r"NDL560(.|\n)*list of 2 polynomials"):
        ndl.solve(ndl.loads(text).models["M"](), span=(0, 1), method="middle(h=0.1)")
