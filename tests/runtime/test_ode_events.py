"""Events, breaks and requirements against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from ndl.runtime.failures import SolveFailure
from ndl.runtime.solve import solve
from problems import (
    DOPRI5,
    RK4,
    Ball,
    Blowup,
    Decay,
    Endless,
    Every,
    FirstTouch,
    Guarded,
    Kinked,
    Relay,
    Rosenbrock23,
    Sampled,
    Simultaneous,
    VanDerPol,
    Waves,
    method,
)  # isort: skip # fmt: skip

TIGHT = method(DOPRI5, rtol=1e-9, atol=1e-9)
T1 = math.sqrt(20 / 9.81)


@pytest.mark.parametrize("m", [TIGHT, method(RK4, h=0.05), method(Rosenbrock23(), rtol=1e-7, atol=1e-7)])
def test_bounces_come_when_they_should(m):
    s = solve(Ball(), span=(0, 6), method=m)
    exact = [T1, T1 * 2.6, T1 * (1 + 2 * 0.8 + 2 * 0.64)]
    assert s.events.t.tolist() == pytest.approx(exact, abs=1e-9)
    assert s.events.index.tolist() == [0, 0, 0]
    assert float(s.h.min()) > -1e-9
    # the value saved at an event is the one after it
    at = torch.argmin((s.t - s.events.t[0]).abs())
    assert s.v[at].item() == pytest.approx(0.8 * 9.81 * T1, abs=1e-8)
    assert s.v(s.events.t[0].item()).item() == pytest.approx(0.8 * 9.81 * T1, abs=1e-8)


def test_a_long_row_of_bounces_does_not_fall_through():
    s = solve(Ball(e=0.5), span=(0, 3 * T1 - 1e-6), method=TIGHT)
    exact = [T1 * (3 - 2 * 0.5**n) for n in range(30)]
    assert s.events.t.tolist() == pytest.approx([t for t in exact if t < 3 * T1 - 1e-6], abs=1e-9)
    assert float(s.h.min()) > -1e-6


def test_stop_ends_the_run_at_the_event():
    for save in ("steps", "end", ("every", 0.5)):
        s = solve(FirstTouch(), span=(0, 6), method=TIGHT, save=save)
        assert s.t[-1].item() == pytest.approx(T1, abs=1e-12)
        assert s.final.t.item() == pytest.approx(T1, abs=1e-12)
        assert abs(s.final.h.item()) < 1e-9


def test_every_fires_at_its_multiples():
    for m in (TIGHT, method(RK4, h=0.07)):
        s = solve(Every(), span=(0, 1), method=m)
        assert s.events.t.tolist() == pytest.approx([0.3, 0.6, 0.9], abs=1e-14)
        assert (s.final.y.item(), s.final.z.item()) == pytest.approx((3, 0.9))
    back = solve(Every(), span=(0, -1), method=TIGHT)
    assert back.events.t.tolist() == pytest.approx([-0.3, -0.6, -0.9], abs=1e-14)


def test_sample_fires_at_the_data_times_and_the_start():
    s = solve(
        Sampled(), span=(0, 1), method=TIGHT, data_times={"m": [0.0, 0.25, 1.0, 3.0]}, save=[0, 0.25, 0.5, 1]
    )
    assert s.events.t.tolist() == [0.0, 0.25, 1.0]
    assert s.y.tolist() == [1, 2, 2, 3]


def test_rising_falling_and_crossing():
    s = solve(Waves(), span=(0, 7), method=method(DOPRI5, rtol=1e-9, atol=1e-9, hmax=0.5))
    roots = [k * math.pi / 3 for k in range(1, 7)]
    assert s.events.t[s.events.index == 2].tolist() == pytest.approx(roots, abs=1e-12)
    assert s.events.of(0).tolist() == pytest.approx(roots[::2], abs=1e-12)
    assert s.events.of(1).tolist() == pytest.approx(roots[1::2], abs=1e-12)
    assert [s.final[n].item() for n in ("down", "up", "both")] == [3, 3, 6]


def test_simultaneous_events_fire_in_file_order():
    s = solve(Simultaneous(), span=(0, 2), method=TIGHT)
    assert s.events.index.tolist() == [0, 1]
    assert s.final.y.item() == 10


def test_endless_events_are_an_error():
    with pytest.raises(SolveFailure, match="without progress") as caught:
        solve(Endless(), span=(0, 2), method=TIGHT)
    assert caught.value.time == pytest.approx(1.0)


def test_a_discontinuity_in_time_is_stepped_onto():
    exact = math.exp(-2 * (2 - 0.8))
    s = solve(Kinked(), span=(0, 2), method=TIGHT)
    assert s.final.x.item() == pytest.approx(exact, abs=1e-8)
    assert float((s.t - 0.8).abs().min()) < 1e-5
    assert s.stats.steps + s.stats.rejected < 90


def test_a_discontinuity_in_the_state():
    class Blind(Relay):
        BREAKS = 0

    m = method(DOPRI5, rtol=1e-8, atol=1e-10)
    fine = solve(Blind(), span=(0, 4), method=method(DOPRI5, rtol=1e-12, atol=1e-13), save="end")
    s, blind = (solve(c(), span=(0, 4), method=m, save="end") for c in (Relay, Blind))
    assert s.final.x.item() == pytest.approx(fine.final.x.item(), abs=1e-8)
    assert abs(s.final.x - fine.final.x) < 0.1 * abs(blind.final.x - fine.final.x)
    assert s.stats.evaluations < blind.stats.evaluations


def test_a_requirement_that_fails_is_explained():
    with pytest.raises(SolveFailure) as caught:
        solve(Guarded(), span=(0, 2), method=method(DOPRI5, h=0.01))
    failed = caught.value
    assert failed.status == "require" and failed.member is None
    assert failed.time == pytest.approx(math.log(2), abs=0.011)
    assert "x > 0.5" in str(failed) and "too little is left" in str(failed)
    assert failed.partial.t[-1].item() == pytest.approx(failed.time)
    k = torch.tensor([0.1, 1.0], dtype=torch.float64)
    with pytest.raises(SolveFailure) as caught:
        solve(Guarded(k=k), span=(0, 2), method=method(DOPRI5))
    assert caught.value.member == 1 and "member 1" in str(caught.value)


def test_a_blow_up_names_time_and_state():
    with pytest.raises(SolveFailure) as caught:
        solve(Blowup(), span=(0, 2), method=method(DOPRI5, rtol=1e-6, atol=1e-9))
    failed = caught.value
    assert failed.status == "step" and failed.state == "x" and "t = 1" in str(failed)
    assert failed.time == pytest.approx(1, abs=1e-6) and failed.last_step < 1e-12
    assert failed.partial.x(0.5).item() == pytest.approx(2.0, abs=1e-4)


def test_fixed_steps_that_overflow_and_runs_that_are_too_long():
    with pytest.raises(SolveFailure) as caught:
        solve(Blowup(), span=(0, 3), method=method(RK4, h=0.1))
    assert caught.value.status == "finite" and caught.value.state == "x"
    with pytest.raises(SolveFailure, match="10 steps") as caught:
        solve(VanDerPol(), span=(0, 20), method=TIGHT, max_steps=10)
    assert caught.value.status == "max_steps" and len(caught.value.partial.t) > 5
    with pytest.raises(SolveFailure):
        solve(Blowup(), span=(0, 3), method=method(RK4, h=0.1), gradient="discrete")


def test_events_leave_a_run_without_them_alone():
    plain = solve(Decay(), span=(0, 1), method=TIGHT)
    assert len(plain.events.t) == 0 and plain.t[0] == 0
