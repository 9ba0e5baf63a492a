"""A member of an ensemble is the run that it would be alone."""

from __future__ import annotations

import pytest
import torch
from ndl.runtime.solve import solve

from problems import DOPRI5, RK4, SDIRK, Ball, Decay, FirstTouch, Lorenz, Rosenbrock23, VanDerPol, method  # isort: skip

RHO = [10.0, 20.0, 28.0, 0.5]


@pytest.mark.parametrize(
    ("solver", "tol"),
    [(DOPRI5, 1e-9), (SDIRK, 1e-6), (Rosenbrock23(), 1e-4)],
    ids=["dopri5", "sdirk", "ros23"],
)
def test_members_take_their_own_steps(solver, tol):
    m = method(solver, rtol=tol, atol=tol)
    many = solve(Lorenz(rho=torch.tensor(RHO, dtype=torch.float64)), span=(0, 1), method=m)
    for i, rho in enumerate(RHO):
        one = solve(Lorenz(rho=rho), span=(0, 1), method=m)
        steps = one.stats.steps
        assert many.stats.steps[i] == steps
        assert many.stats.rejected[i] == one.stats.rejected
        assert many.stats.evaluations[i] == one.stats.evaluations
        assert torch.allclose(many.x[i][many.valid[i]], one.x.values, rtol=0, atol=1e-10)
        assert torch.allclose(many.steps.h[i, :steps], one.steps.h, rtol=1e-6)
        assert many.x(0.37)[i].item() == pytest.approx(one.x(0.37).item(), abs=1e-10)
    assert len(set(many.stats.steps.tolist())) > 1


def test_members_on_a_grid_and_by_initial_value():
    start = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)
    m = method(DOPRI5, rtol=1e-8, atol=1e-8)
    many = solve(VanDerPol(x=start), span=(0, 2), method=m, save=("every", 0.5))
    assert many.x.shape == (3, 5) and many.t.shape == (5,)
    for i, x in enumerate(start.tolist()):
        one = solve(VanDerPol(x=x), span=(0, 2), method=m, save=("every", 0.5))
        assert torch.allclose(many.x[i], one.x.values, rtol=0, atol=1e-11)


def test_events_of_members():
    heights = [2.0, 10.0, 5.0]
    m = method(DOPRI5, rtol=1e-9, atol=1e-9)
    many = solve(
        Ball(h=torch.tensor(heights, dtype=torch.float64)), span=(0, 3), method=m, save=("every", 0.25)
    )
    for i, h in enumerate(heights):
        one = solve(Ball(h=h), span=(0, 3), method=m, save=("every", 0.25))
        assert torch.allclose(many.h[i], one.h.values, rtol=0, atol=1e-9)
        mine = many.events.t[i][many.events.index[i] >= 0]
        assert torch.allclose(mine, one.events.t, rtol=0, atol=1e-10)
        assert many.stats.steps[i] == one.stats.steps


def test_members_that_stop_are_padded_by_their_last_value():
    heights = torch.tensor([2.0, 10.0], dtype=torch.float64)
    s = solve(FirstTouch(h=heights), span=(0, 3), method=method(DOPRI5), save=("every", 0.5))
    ends = torch.sqrt(2 * heights / 9.81)
    assert torch.allclose(s.final.t, ends, atol=1e-9)
    assert s.valid.sum(1).tolist() == [3, 4]
    assert torch.allclose(s.t[:, -1], ends, atol=1e-9)
    assert s.h[:, -1].abs().max() < 1e-9


def test_an_ensemble_of_one_has_a_member_axis():
    s = solve(Decay(), span=(0, 1), method=method(RK4, h=0.1), ensemble=1)
    assert s.x.shape == (1, 11) and s.final.x.shape == (1,) and s.stats.steps.tolist() == [10]


def test_derived_quantities_have_the_axes_of_states():
    k = torch.tensor([1.0, 2.0], dtype=torch.float64)
    s = solve(Decay(k=k), span=(0, 1), method=method(RK4, h=0.25))
    assert torch.allclose(s.double.values, 2 * k[:, None] * s.x.values)
    assert torch.allclose(s.double(0.5), 2 * k * s.x(0.5))
    assert torch.allclose(s.final.double, 2 * k * s.final.x)
