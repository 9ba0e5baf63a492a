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
        start + "    z ~ normal(0, 1) per step\n    x' = z\n\n"
        'test "t":\n    g = grad(solve(M, span=0..1, gradient=adjoint).final.x, M.params)\n'
    )
    assert "does not know the steps" in step.message


STEPS = """
model Kicks:
    param s = 1.0
    z: R[2] ~ normal(0, s) per step
    state x: R[2] = 0
    y = 2*z
    x' = z

model Noisy:
    k ~ uniform(0, 1) per step
    state x = 0.0
    noise W: wiener
    dx = k*dt + 0.1*dW

model Parts:
    z ~ normal(0, 1) per step
    state x = 0.0, y = 1.0
    term a = [z, 0]
    term b = [0, -y]
    x', y' = a + b

test "steps of fixed size: one number each, the same for every stage and method":
    a = solve(Kicks, span=0..10, method=rk4(h=0.5), save=steps, seed=3)
    b = solve(Kicks, span=0..10, method=euler(h=0.5), save=steps, seed=3)
    c = solve(Kicks, span=0..10, method=rodas5(h=0.5), save=steps, seed=3)
    d = solve(Kicks, span=0..10, method=kvaerno5(h=0.5), save=steps, seed=3)
    assert max(abs(a.x - b.x)) < 1e-12
    assert max(abs(a.x - c.x)) < 1e-9
    assert max(abs(a.x - d.x)) < 1e-9
    assert max(abs(a.x[1:] - a.x[:-1] - 0.25*a.y[1:])) < 1e-12

test "independent over steps and members":
    s = solve(Kicks, span=0..100, method=rk4(h=1), save=steps, seed=3, ensemble=50)
    d = s.x[:, 1:] - s.x[:, :-1]
    assert abs(mean(d)) < 0.05
    assert abs(mean(d^2) - 1) < 0.05
    assert abs(mean(d[:, 1:]*d[:, :-1])) < 0.05
    one = solve(Kicks, span=0..100, method=rk4(h=1), save=steps, seed=3)
    assert max(abs(one.x - s.x[0])) < 1e-12

test "rejected steps and gradients":
    s = solve(Kicks, span=0..5, method=tsit5(rtol=1e-6, atol=1e-8), save=steps, seed=3)
    h = s.t[1:] - s.t[:-1]
    assert max(abs(s.x[1:, 0] - s.x[:-1, 0] - h*s.y[1:, 0]/2)) < 1e-10
    m = rk4(h=0.5)
    g = grad(sum(solve(Kicks, span=0..5, method=m, seed=3, gradient=discrete).final.x), Kicks.params)
    f = sum(solve(Kicks, span=0..5, method=rk4(h=0.5), save=end, seed=3).final.x)
    assert abs(g[0] - f) < 1e-5
    c = grad(sum(solve(Kicks, span=0..5, method=m, seed=3, gradient=checkpoint(3)).final.x), Kicks.params)
    assert abs(g[0] - c[0]) < 1e-10

test "with noise, and in a splitting":
    s = solve(Noisy, span=0..1, method=euler_maruyama(h=0.25), save=steps, seed=1, ensemble=300)
    m = mean(s.final.x)
    assert abs(m - 0.5) < 0.03
    p = solve(Parts, span=0..4, method=lie(a: euler, b: exact, h=1), save=steps, seed=1, ensemble=500)
    q = p.x[:, 1:] - p.x[:, :-1]
    assert abs(mean(q^2) - 1) < 0.1
    assert abs(mean(q[:, 1:]*q[:, :-1])) < 0.05
    assert abs(p.final.y[0] - exp(-4)) < 1e-12
"""


def test_draws_for_each_step() -> None:
    check(STEPS)


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
