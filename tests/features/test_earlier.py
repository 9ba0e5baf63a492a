"""`prev(x, k)` of a state with a rate: the value k accepted steps earlier, in every formula of a model."""

from __future__ import annotations

import pytest
import torch
from programs import check, load, refused

import ndl

PROGRAM = """
model Lag:
    param a = 0.7
    state x = 1.0
    x' = -a*prev(x)
    y = prev(x, 2)

model Swing:
    param w = 2.0
    state x = 0.0
    state x' = 1.0
    x'' = -w^2*x - 0.1*prev(x')
    before = [prev(x), prev(x')]

model Two:
    state u: R[2] = [1, 2]
    state k = 0.0
    u' = -prev(u)[1]*u*(1 + 200*exp(-100*(t - 3)^2))
    k' = 1
    seen = prev(u)

model Sharp:
    param at = 1.0
    state x = 1.0
    x' = -prev(x) + 30*exp(-(30*(t - at))^2)

model Noisy:
    state x = 1.0
    noise W: wiener
    dx = -prev(x)*dt + prev(x)*dW

model Split:
    state x = 1.0
    term drive = prev(x)
    term pull = -x
    x' = drive + pull

model Kicked:
    state q = 1.0, v = 0.0
    q' = v
    v' = -prev(q)

model Peak:
    param w = 1.0, c = 1.0
    state x = 0.0, y = 1.0
    state peaks = 0, at = 0.0, high = 0.0
    x' = c*w*y
    y' = -w*x
    when falling(x - prev(x)):
        peaks <- peaks + 1
        at <- t
        high <- max(prev(x), x)
    require abs(x - prev(x)) < 0.5, "steps are short"

model Stiff:
    state x = 1.0
    x' = -50*(x - cos(t)) - prev(x)

model Whole:
    left = Lag(a=0.5, x=2.0)
    right = Lag(a=left.y)

test "the right-hand side is constant within a step, so that each step is a recurrence":
    for m in [euler(h=0.25), rk4(h=0.25), kvaerno5(h=0.25), rodas5(h=0.25), bdf(h=0.25), sdirk(h=0.25)]:
        s = solve(Lag, span=0..2, method=m, save=steps)
        x = [1.0, 1.0]
        for i in 1..8:
            x = append(x, x[i] - 0.25*0.7*x[i - 1])
        assert max(abs(s.x - x[1:])) < 1e-9
        assert max(abs(s.y[2:] - s.x[:-2])) < 1e-12
        assert s.y[0] == 1
        assert s.y[1] == 1

test "a rejected step moves nothing, and methods with error control take their own steps":
    s = solve(Two, span=0..6, method=tsit5(rtol=1e-8, atol=1e-10), save=steps)
    h = s.t[1:] - s.t[:-1]
    assert max(abs(s.seen[1:] - s.u[:-1])) < 1e-14
    r = [s.u[max(i - 1, 0), 1] for i in 0..(len(h) - 1)]
    H = [v + 10*sqrt(pi)*erf(10*(v - 3)) for v in s.t]
    assert max(abs(s.u[1:, 0] - s.u[:-1, 0]*exp(-r*(H[1:] - H[:-1])))) < 1e-7
    assert s.stats.rejected > 0

test "of a derivative":
    s = solve(Swing, span=0..2, method=rk4(h=0.1), save=steps)
    assert max(abs(s.before[1:, 0] - s.x[:-1])) < 1e-14
    assert max(abs(s.before[1:, 1] - s.x'[:-1])) < 1e-14

test "with short steps it is the state itself":
    s = solve(Stiff, span=0..1, method=rodas5(h=0.001), save=end)
    r = solve(Lag(a=1), span=0..1, method=rk4(h=0.0005), save=end)
    assert abs(r.final.x - exp(-1)) < 1e-3
    e = (51*50*cos(1) + 50*sin(1) + (51^2 + 1 - 51*50)*exp(-51))/(51^2 + 1)
    assert abs(s.final.x - e) < 1e-4

test "parts, initial values that are set, and families":
    s = solve(Whole, span=0..2, method=tsit5(rtol=1e-7, atol=1e-9), save=steps)
    assert max(abs(s.left.y[2:] - s.left.x[:-2])) < 1e-14
    assert s.left.y[1] == 2
    one = solve(Lag(x=3.0), span=0..2, method=rk4(h=0.5), save=steps)
    assert one.y[1] == 3
    f = solve(Lag(x in [1, 3], a in [0.7, 1.5]), span=0..2, method=rk4(h=0.5), save=steps)
    assert max(abs(f.x[0]*3 - one.x)) < 1e-14
    other = solve(Lag(x=3, a=1.5), span=0..2, method=rk4(h=0.5), save=steps)
    assert max(abs(f.x[1] - other.x)) < 1e-14

test "each member of an ensemble has its own steps":
    f = solve(Sharp(at in [1.0, 2.0]), span=0..4, method=tsit5(rtol=1e-8, atol=1e-10), save=end)
    a = solve(Sharp(at=1), span=0..4, method=tsit5(rtol=1e-8, atol=1e-10), save=steps)
    b = solve(Sharp(at=2), span=0..4, method=tsit5(rtol=1e-8, atol=1e-10), save=steps)
    assert f.stats.steps[0] == a.stats.steps
    assert f.stats.steps[1] == b.stats.steps
    assert abs(f.final.x[0] - a.final.x) < 1e-14
    assert abs(f.final.x[1] - b.final.x) < 1e-14
    assert abs(a.final.x - b.final.x) > 1e-6

test "with noise, in a splitting, and by kicks":
    s = solve(Noisy, span=0..1, method=euler_maruyama(h=0.125), save=steps, seed=3, ensemble=20)
    d = s.x[:, 1:] - s.x[:, :-1]
    w = s.W[:, 1:] - s.W[:, :-1]
    assert max(abs(d[:, 1:] + 0.125*s.x[:, :-2] - s.x[:, :-2]*w[:, 1:])) < 1e-13
    for m in [lie(drive: rk4, pull: exact, h=0.1), lie(drive: exact, pull: rk4(steps=2), h=0.1)]:
        p = solve(Split, span=0..1, method=m, save=steps)
        assert max(abs(p.x[2:] - (p.x[1:-1] + 0.1*p.x[:-2])*exp(-0.1))) < 1e-6
    k = solve(Kicked, span=0..1, method=leapfrog(h=0.1), save=steps)
    assert max(abs(k.v[2:] - k.v[1:-1] + 0.1*k.q[:-2])) < 1e-13

test "events and requirements see it; a guard that the memory takes past 0 fires at the step's end":
    s = solve(Peak, span=0..10, method=rk4(h=0.1), save=steps)
    assert s.final.peaks == 2
    assert abs(s.final.at - 2.5*pi) < 0.1
    assert abs(s.final.high - 1) < 0.005
    d = solve(Peak, span=0..10, method=tsit5(rtol=1e-8, atol=1e-8, hmax=0.05), save=end)
    assert d.final.peaks == 2

test "gradients are those of the recurrence, for every route":
    for m in [rk4(h=0.25), kvaerno5(h=0.25), tsit5(rtol=1e-6, atol=1e-8)]:
        s = solve(Lag, span=0..2, method=m, save=steps)
        h = s.t[1:] - s.t[:-1]
        x = [1.0, 1.0]
        da = [0.0, 0.0]
        for i in 0..(len(h) - 1):
            x = append(x, x[i + 1] - 0.7*h[i]*x[i])
            da = append(da, da[i + 1] - h[i]*x[i] - 0.7*h[i]*da[i])
        for g in [discrete, checkpoint(3)]:
            d = grad(solve(Lag, span=0..2, method=m, gradient=g).final.x, Lag.params)
            assert abs(d[0] - da[-1]) < 1e-9
"""


def test_earlier_values() -> None:
    check(PROGRAM)


@pytest.mark.parametrize("route", ["discrete", "checkpoint(4)"])
@pytest.mark.parametrize("name, method", [("Peak", "rk4(h=0.1)"), ("Noisy", "euler_maruyama(h=0.125)")])
def test_batched_gradients_are_those_of_single_runs_and_of_differences(
    name: str, method: str, route: str
) -> None:
    """By the initial values, which the memory starts with, and by a parameter where there is one."""
    model = load(PROGRAM).models[name]
    start = torch.tensor([1.0, 1.2], dtype=torch.float64, requires_grad=True)
    given = {"y": start, "w": torch.tensor([1.0, 1.1])} if name == "Peak" else {"x": start}
    quantity = "high" if name == "Peak" else "x"

    def end(**values: torch.Tensor) -> torch.Tensor:
        bound = model().bind(**values)
        return ndl.solve(bound, span=(0, 10), method=method, gradient=route, seed=2).final[quantity]

    (whole,) = torch.autograd.grad((end(**given) * torch.tensor([1.0, 3.0])).sum(), start)
    for k, weight in enumerate([1.0, 3.0]):
        steps = [start.detach() + torch.tensor([d, d]) for d in (1e-5, -1e-5)]
        up, down = (end(**{**given, "y" if name == "Peak" else "x": s})[k].detach() for s in steps)
        assert abs(whole[k] - weight * (up - down) / 2e-5) < 1e-7


TEXT = """
model M:
    param a = 1.0
    state x = 1.0
    y = 2*x
    x' = -{0}

test "t":
    g = grad(solve(M, span=0..1, method=rk4(h=0.1), gradient={1}).final.x, M.params)
"""


@pytest.mark.parametrize("route", ["adjoint", "reversible"])
def test_gradients_that_know_no_steps(route: str) -> None:
    found = refused(TEXT.format("prev(x)", route))
    assert "does not know the steps" in found.message


@pytest.mark.parametrize("written", ["prev(y)", "prev(x, a)", "prev(x, 0)", "prev(2*x)"])
def test_what_is_no_state_has_no_earlier_value(written: str) -> None:
    found = refused(TEXT.format(written, "discrete"))
    assert (found.code, found.span.text) == ("NDL490", written)
