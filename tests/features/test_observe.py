"""Measurements: drawn at the saved times, and the likelihood of data."""

from __future__ import annotations

from programs import check

PROGRAM = """
model Decay:
    param k > 0 = 0.5
    state x: R[2] = [1.0, 2.0]
    x' = -k*x
    observe y ~ normal(3*x, 0.1)
    observe n ~ poisson_law(10*x[1])

train Decay:
    data      = solve(Decay(k=1.5), span=0..1, save=every 0.05, method=rk4(h=0.05), seed=3)
    method    = rk4(h=0.05)
    loss      = nll/42
    optimizer = adam(lr=0.1)
    steps     = 60

test "measurements scatter about the state":
    s = solve(Decay, span=0..1, save=every 0.02, method=rk4(h=0.02), ensemble=40, seed=5)
    gap = s.y - 3*s.x
    assert abs(mean(gap)) < 0.01
    assert abs(mean(gap^2) - 0.01) < 0.001
    assert abs(mean(s.n/(10*s.x[:, :, 1])) - 1) < 0.03
    one = solve(Decay, span=0..1, save=every 0.02, method=rk4(h=0.02), seed=5)
    assert max(abs(one.y - s.y[0])) < 1e-12

test "the likelihood finds the rate":
    r = train(Decay)
    assert abs(r.model.k - 1.5) < 0.05
    assert r.history.loss[0] > r.loss + 1
"""


def test_observe() -> None:
    check(PROGRAM)


def test_the_likelihood_is_the_sum_of_log_densities() -> None:
    check(
        """
model Still:
    param m = 0.5
    state x = 0.0
    x' = 0*m
    observe y ~ normal(m, 2)

train Still:
    data      = solve(Still(m=1), span=0..1, save=[0, 0.5, 1], method=euler(h=0.5), seed=3)
    method    = euler(h=0.5)
    loss      = nll
    optimizer = sgd(lr=0)
    steps     = 1

test "by hand":
    d = solve(Still(m=1), span=0..1, save=[0, 0.5, 1], method=euler(h=0.5), seed=3)
    by_hand = sum((d.y - 0.5)^2/8) + 3*(log(2) + log(2*pi)/2)
    assert abs(train(Still).loss - by_hand) < 1e-9
"""
    )
