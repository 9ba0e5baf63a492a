"""Orders, tolerances, dense output and step counts of the engine, against closed forms and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ndl.runtime.errors import SettingError
from ndl.runtime.solve import solve
from problems import (
    BOSH3,
    DOPRI5,
    EULER,
    HEUN,
    IMPLICIT_EULER,
    RK4,
    SDIRK,
    TRAPEZOIDAL,
    Decay,
    Forced,
    Lorenz,
    Midpoint,
    Robertson,
    RobertsonDAE,
    Rosenbrock23,
    VanDerPol,
    method,
)  # isort: skip # fmt: skip
from scipy.integrate import solve_ivp


@pytest.mark.parametrize(
    ("solver", "order"),
    [(EULER, 1), (HEUN, 2), (RK4, 4), (BOSH3, 3), (DOPRI5, 5), (IMPLICIT_EULER, 1), (TRAPEZOIDAL, 2),
     (SDIRK, 4), (Midpoint(), 2), (Rosenbrock23(), 2)],
    ids=lambda v: method(v).name if not isinstance(v, int) else str(v),
)  # fmt: skip
def test_a_method_has_its_order(solver, order):
    """On an equation that depends on t, so that wrong nodes c show."""
    errors = []
    for n in (20, 40):
        s = solve(Forced(), span=(0, 4), method=method(solver, steps=n))
        errors.append(float((s.x - Forced.exact(s.t)).abs().max()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.3)


@pytest.mark.parametrize("solver", [DOPRI5, BOSH3, SDIRK, Rosenbrock23()], ids=lambda s: method(s).name)
def test_the_error_follows_the_tolerance(solver):
    reference = solve_ivp(
        lambda t, y: [y[1], 5 * (1 - y[0] ** 2) * y[1] - y[0]],
        (0, 2),
        [2, 0],
        "DOP853",
        rtol=1e-12,
        atol=1e-12,
    ).y[:, -1]
    errors = []
    for tol in (1e-4, 1e-6):
        s = solve(VanDerPol(), span=(0, 2), method=method(solver, rtol=tol, atol=tol), save="end")
        errors.append(np.abs(s.last["x"][0].numpy() - reference).max() / tol)
    assert max(errors) < 50
    assert 0.02 < errors[0] / errors[1] < 50


def test_agrees_with_dop853():
    def lorenz(t, y):
        return [10 * (y[1] - y[0]), y[0] * (28 - y[2]) - y[1], y[0] * y[1] - 8 / 3 * y[2]]

    times = np.linspace(0, 2, 9)
    reference = solve_ivp(lorenz, (0, 2), [1, 1, 1], "DOP853", rtol=1e-12, atol=1e-13, t_eval=times).y
    s = solve(Lorenz(), span=(0, 2), method=method(DOPRI5, rtol=1e-10, atol=1e-12), save=times)
    for name, row in zip("xyz", reference, strict=True):
        assert np.abs(s[name].numpy() - row).max() < 1e-7


@pytest.mark.parametrize("tol", [1e-4, 1e-7, 1e-10])
def test_step_counts_are_those_of_scipy(tol):
    """The same pair at the same tolerance, with another controller: within a fifth."""
    found = solve_ivp(
        lambda t, y: [y[1], 5 * (1 - y[0] ** 2) * y[1] - y[0]], (0, 20), [2, 0], "RK45", rtol=tol, atol=tol
    )
    s = solve(VanDerPol(), span=(0, 20), method=method(DOPRI5, rtol=tol, atol=tol), save="end")
    assert s.stats.evaluations <= 1.2 * found.nfev
    assert s.stats.steps <= 1.2 * (len(found.t) - 1)


def test_evaluations_are_counted_once_a_stage():
    s = solve(Decay(), span=(0, 1), method=method(DOPRI5, h=0.1), save="end")
    assert (s.stats.steps, s.stats.rejected, s.stats.evaluations) == (10, 0, 61)
    s = solve(Decay(), span=(0, 1), method=method(RK4, steps=10), save="end")
    assert (s.stats.steps, s.stats.evaluations) == (10, 40)


@pytest.mark.parametrize(("solver", "order"), [(DOPRI5, 4), (RK4, 3)], ids=["dopri5", "rk4"])
def test_dense_output_has_its_order(solver, order):
    """The error between steps: local order + 1 for one step, seen here over a fixed span."""
    errors = []
    for n in (8, 16):
        s = solve(Forced(), span=(0, 2), method=method(solver, steps=n))
        t = torch.linspace(0, 2, 101, dtype=torch.float64)
        errors.append(float((s.x(t) - Forced.exact(t)).abs().max()))
    assert math.log2(errors[0] / errors[1]) > order - 0.3


def test_dense_output_meets_the_steps_and_the_grid():
    s = solve(Lorenz(), span=(0, 1), method=method(DOPRI5, rtol=1e-7, atol=1e-7))
    assert torch.allclose(s.x(s.t), s.x.values, rtol=0, atol=1e-12)
    grid = solve(Lorenz(), span=(0, 1), method=method(DOPRI5, rtol=1e-7, atol=1e-7), save=("every", 0.1))
    assert grid.t.tolist() == pytest.approx([0.1 * k for k in range(11)])
    assert torch.allclose(grid.y.values, s.y(grid.t), rtol=0, atol=1e-11)
    assert grid.stats.steps == s.stats.steps


def test_a_span_may_run_backwards():
    forwards = solve(Decay(), span=(0, 2), method=method(DOPRI5, rtol=1e-10, atol=1e-12))
    back = Decay(x=forwards.final.x.item())
    for m in (method(DOPRI5, rtol=1e-10, atol=1e-12), method(RK4, h=0.01)):
        s = solve(back, span=(2, 0), method=m, save=("every", 0.5))
        assert s.t.tolist() == [2.0, 1.5, 1.0, 0.5, 0.0]
        assert s.x[-1].item() == pytest.approx(1.0, abs=1e-8)
        assert s.x(1.25).item() == pytest.approx(math.exp(-1.25), abs=2e-3 if m.options.get("h") else 1e-8)


def test_the_last_step_is_no_sliver():
    for n in (3, 7, 10, 30):
        s = solve(Decay(), span=(0, 1), method=method(RK4, h=1 / n))
        assert s.stats.steps == n
    s = solve(Decay(), span=(0, 3), method=method(DOPRI5, rtol=1e-6, atol=1e-9))
    assert s.steps.h[-1] > 0.3 * s.steps.h[-2]
    s = solve(Decay(), span=(0, 1), method=method(RK4, h=0.4))
    assert s.t.tolist() == pytest.approx([0, 0.4, 0.8, 1.0])


def test_a_pair_with_fixed_steps_reports_its_error():
    s = solve(Decay(), span=(0, 1), method=method(DOPRI5, h=0.1, rtol=1e-6, atol=1e-6))
    assert s.steps.h.tolist() == pytest.approx([0.1] * 10)
    assert bool((s.steps.error > 0).all())


def test_stiffness_is_the_size_of_the_jacobian():
    s = solve(Decay(k=30.0), span=(0, 1), method=method(DOPRI5, rtol=1e-6, atol=1e-6))
    assert s.steps.stiffness.numpy() == pytest.approx(30.0, rel=1e-6)


@pytest.mark.parametrize("solver", [SDIRK, Rosenbrock23()], ids=["sdirk", "rosenbrock23"])
def test_stiff_kinetics_as_ode_and_dae(solver):
    m = method(solver, rtol=1e-6, atol=1e-10)
    ode = solve(Robertson(), span=(0, 40), method=m, save="end")
    assert ode.final.a.item() == pytest.approx(0.7158270687194149, abs=2e-6)
    assert ode.final.b.item() == pytest.approx(9.18553476455822e-06, rel=2e-5)
    dae = solve(RobertsonDAE(c=0.5), span=(0, 40), method=m)  # an inconsistent first guess
    assert dae.c[0].item() == 0.0
    assert dae.final.c.item() == pytest.approx(0.2841637457458199, abs=2e-6)
    assert float((dae.a + dae.b + dae.c - 1).abs().max()) < 1e-10
    assert dae.stats.steps < 1200 and ode.stats.steps < 1200


def test_tolerances_by_state():
    loose = solve(
        Lorenz(), span=(0, 1), method=method(DOPRI5, rtol=0.0, atol={"x": 1e-3, "y": 1e-3, "z": 1e-3})
    )
    listed = solve(Lorenz(), span=(0, 1), method=method(DOPRI5, rtol=0.0, atol=[1e-3, 1e-3, 1e-3]))
    tight = solve(Lorenz(), span=(0, 1), method=method(DOPRI5, rtol=0.0, atol=[1e-3, 1e-3, 1e-9]))
    assert loose.stats.steps == listed.stats.steps < tight.stats.steps


def test_single_precision():
    s = solve(Decay(), span=(0, 1), method=method(DOPRI5, rtol=1e-4, atol=1e-4), precision=torch.float32)
    assert s.x.dtype == torch.float32
    assert s.final.x.item() == pytest.approx(math.exp(-1), abs=1e-4)


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(SettingError, match="needs a step"):
        solve(Decay(), span=(0, 1), method=method(RK4))
    with pytest.raises(SettingError, match="outside the span"):
        solve(Decay(), span=(0, 1), method=method(RK4, h=0.1), save=[0.5, 2.0])
    with pytest.raises(SettingError, match="explicit"):
        solve(RobertsonDAE(), span=(0, 1), method=method(DOPRI5))
    with pytest.raises(SettingError, match="stiffly accurate"):
        from problems import Tableau

        midpoint = Tableau("implicit_midpoint", 2, None, (0.5,), ((0.5,),), (1.0,))
        solve(RobertsonDAE(), span=(0, 1), method=method(midpoint, h=0.1))


@pytest.mark.parametrize("cls", [Robertson, RobertsonDAE])
@pytest.mark.parametrize("solver", [SDIRK, Rosenbrock23()], ids=["sdirk", "rosenbrock23"])
def test_dense_output_does_not_magnify_errors_of_stiff_states(cls, solver):
    times = np.geomspace(1e-3, 40, 12)
    reference = solve_ivp(
        lambda t, y: [
            -0.04 * y[0] + 1e4 * y[1] * y[2],
            0.04 * y[0] - 1e4 * y[1] * y[2] - 3e7 * y[1] ** 2,
            3e7 * y[1] ** 2,
        ],
        (0, 40), [1, 0, 0], "Radau", rtol=1e-10, atol=1e-14, t_eval=times,
    ).y  # fmt: skip
    s = solve(cls(), span=(0, 40), method=method(solver, rtol=1e-5, atol=1e-9), save=times)
    assert np.abs(s.b.numpy() / reference[1] - 1).max() < 3e-3
    assert np.abs(s.c.numpy() / reference[2] - 1).max() < 3e-3
