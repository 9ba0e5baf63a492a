"""Draws: one for each sample and run, or firing; pure functions of the seed; gradients through the law."""

from __future__ import annotations

import torch
from programs import check, load, refused

PROGRAM = """
model Growth:
    param m = 0.5, s = 0.2
    rate: R[2] ~ normal(m, s)
    shift ~ uniform(0, 1)
    state x: R[2] = 1
    x' = rate*x + 0*shift

model Walk:
    state x = 0.0, y = 0.0
    when every 1:
        kick: R ~ normal(0, 1)
        x <- x + kick
        y <- kick

model Start:
    param c ~ normal(0, 1)
    const k: R[3] ~ normal(0, 1)
    state x ~ uniform(2, 3)
    x' = -x
    total = sum(k)

test "a draw is the same at every stage, for every method, and on record":
    a = solve(Growth, span=0..1, method=tsit5(rtol=1e-10, atol=1e-12), seed=4)
    b = solve(Growth, span=0..1, method=rk4(h=0.05), seed=4)
    c = solve(Growth, span=0..1, method=rk4(h=0.05), seed=5)
    assert max(abs(a.final.x - b.final.x)) < 1e-5
    assert max(abs(a.final.x - c.final.x)) > 1e-3
    assert abs(a.final.x[0] - a.final.x[1]) > 1e-3

test "members have draws of their own, the first that of a single run":
    s = solve(Growth, span=0..1, method=rk4(h=0.05), seed=4, ensemble=400)
    one = solve(Growth, span=0..1, method=rk4(h=0.05), seed=4)
    rates = log(s.final.x)
    assert max(abs(s.final.x[0] - one.final.x)) < 1e-12
    assert abs(mean(rates) - 0.5) < 0.03
    assert abs(mean((rates - 0.5)^2) - 0.04) < 0.006

test "gradients go through the law":
    g = grad(sum(log(solve(Growth, span=0..1, method=rk4(h=0.1), seed=4).final.x)), Growth.params)
    z = (log(solve(Growth, span=0..1, method=rk4(h=0.1), seed=4).final.x) - 0.5)/0.2
    assert abs(g[0] - 2) < 1e-5
    assert abs(g[1] - sum(z)) < 1e-4

test "each firing draws anew, and reads one number in all its resets":
    s = solve(Walk, span=0..50, save=every 1, ensemble=100, seed=2)
    steps = s.x[:, 1:] - s.x[:, :-1]
    assert max(abs(steps - s.y[:, 1:])) < 1e-12
    assert abs(mean(steps)) < 0.05
    assert abs(mean(steps^2) - 1) < 0.06
    assert abs(mean(steps[:, 1:]*steps[:, :-1])) < 0.05
    assert abs(mean(steps[1:, :]*steps[:-1, :])) < 0.05
    again = solve(Walk, span=0..50, save=every 1, seed=2)
    assert max(abs(again.x - s.x[0])) < 1e-12

test "starts and constants":
    s = solve(Start, span=0..1, method=tsit5(rtol=1e-9, atol=1e-9), ensemble=50, seed=1)
    assert min(s.x[:, 0]) >= 2
    assert max(s.x[:, 0]) <= 3
    assert max(s.x[:, 0]) - min(s.x[:, 0]) > 0.5
    a = solve(Start(seed=1), span=0..1)
    b = solve(Start(seed=2), span=0..1)
    assert a.final.total != b.final.total
"""


def test_draws() -> None:
    check(PROGRAM)


def test_what_cannot_be_drawn_is_said() -> None:
    start = "model M:\n    param a = 1.0\n    state x = 1.0\n"
    law = refused(start + '    z ~ gamma(a, 1)\n    x\' = z\n\ntest "t":\n    s = solve(M, span=0..1)\n')
    assert law.code == "NDL349"
    step = refused(
        start + '    z ~ normal(0, 1) per step\n    x\' = z\n\ntest "t":\n    s = solve(M, span=0..1)\n'
    )
    assert (step.code, step.span.text) == ("NDL490", "z ~ normal(0, 1) per step")


DROPOUT = """
operator Dropout(x: R[c]; p = 0.5) -> R[c]:
    keep: R[c] ~ bernoulli(1 - p)
    return if training then x*keep/(1 - p) else x

operator Twice(x: R[c]) -> R[c]:
    y = x
    for i in 1..2:
        y = Dropout(p=0.25)(y)
    return y

operator Masked(x: R[c]) -> R[c]:
    keep: R[c] ~ bernoulli(0.5)
    return x*keep

net f: R[40] -> R[40] = Masked()

model Driven:
    net g: R[8] -> R[8] = Masked()
    state x: R[8] = 0
    rate = g([1.0 for i in 1..8])
    x' = rate + 0*g(x)

test "a draw of an operator is one for each application":
    y = f([1.0 for i in 1..40])
    assert 8 < sum(y) < 32

test "in a model it is the same at all stages":
    s = solve(Driven, span=0..1, method=rk4(h=0.25), seed=1)
    assert max(abs(s.final.x - s.final.rate)) < 1e-12
    assert 0 < sum(s.final.rate) < 8
    m = solve(Driven, span=0..1, method=rk4(h=0.5), seed=1, ensemble=200)
    assert abs(mean(m.final.x) - 0.5) < 0.05
    assert max(abs(m.final.x[0] - s.final.x)) < 1e-12
"""


def test_draws_of_operators() -> None:
    check(DROPOUT)


def test_dropout_acts_in_training_only() -> None:
    program = load(
        DROPOUT + "\nmodel M:\n    net h: R[64] -> R[64] = Twice()\n    state x: R[64] = 1\n    x' = h(x)\n"
    )
    net = program.M(seed=3).h
    x = torch.ones(500, 64, dtype=torch.float64)
    assert torch.equal(net(x), x)
    net.train()
    y = net(x)
    kept = (y > 0).double()
    assert torch.allclose(y[y > 0], torch.full_like(y[y > 0], 1 / 0.75**2))
    assert abs(kept.mean() - 0.75**2) < 0.01
    assert torch.equal(net(x), y)
    assert not torch.equal(y[0], y[1])
