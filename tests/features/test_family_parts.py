"""Families as parts: a model that joins one is a family itself, member by member."""

from __future__ import annotations

import torch
from ndl.runtime.laws import Law
from programs import check, load, refused

PROGRAM = """
model Decay:
    param k > 0 = 1.0
    state x = 1.0
    x' = -k*x

model Pushed(shift: R):
    param k = 1.0
    input push: R
    state x = 1.0
    x' = -k*x + push + shift

model Outer:
    p = Decay(k ~ uniform(1, 2))
    q = Decay(k ~ uniform(1, 2), x=2)
    state y = 0.0
    y' = p.x

model Lists:
    p = Decay(k in [1, 2, 3], x in [1, 1, 2])
    q = Decay(k ~ uniform(1, 2))

model Inputs:
    p = Pushed(k in 1..3, push ~ normal(0, 1), x ~ uniform(2, 3), shift=0)

model Drawn:
    p ~ Decay(k in [1, 2, 3], x in [10, 20, 30])

model Springs:
    legs = [Decay(k ~ uniform(w, w + 1)) for w in 1..3]

model Hier:
    param m = 1.0, s = 0.1
    p ~ Decay(k ~ normal(m, s), x ~ uniform(1, 2))

model Nested:
    inner = Lists()

domain Ring = periodic(x in 0..1)

model Spreading:
    param a = 1.0
    state u: R on Ring = 0
    u' = 0.01*a*lap(u)

model Started:
    param w: R on Ring = cos(2*pi*x)
    q = Spreading(a in [1, 2], u = 2*w)

const m = rk4(h=0.05)

fn rates(x) = -log(x)

test "a start that is a formula of a field is that of every member":
    u = solve(Started, span=0..1, method=m, grid=fourier(8), save=end).final.q.u
    assert abs(u[0, 0] - 2*exp(-0.04*pi^2)) < 1e-7 and abs(u[1, 0] - 2*exp(-0.08*pi^2)) < 1e-7

test "members of a law: each part has numbers of its own, in its law, and drives the whole":
    s = solve(Outer, span=0..1, method=m, ensemble=400, seed=3)
    a, b = rates(s.final.p.x), rates(s.final.q.x/2)
    assert 1 <= min(a) and max(a) <= 2.0001 and abs(mean(a) - 1.5) < 0.06 and abs(var(a) - 1/12) < 0.015
    assert abs(mean((a - 1.5)*(b - 1.5))) < 0.015
    assert max(abs(s.final.y - (1 - s.final.p.x)/a)) < 1e-6
    few = solve(Outer, span=0..1, method=m, ensemble=3, seed=3)
    assert max(abs(few.final.p.x - s.final.p.x[0:3])) < 1e-14
    other = solve(Outer, span=0..1, method=m, ensemble=3, seed=4)
    assert max(abs(few.final.p.x - other.final.p.x)) > 1e-3

test "listed members, taken together, and with them those of a law":
    s = solve(Lists, span=0..1, method=m)
    assert max(abs(s.final.p.x - [exp(-1), exp(-2), 2*exp(-3)])) < 1e-5
    one = solve(Decay(k in [1, 2, 3], x in [1, 1, 2]), span=0..1, method=m)
    assert max(abs(s.final.p.x - one.final.x)) < 1e-14
    assert abs(s.final.q.x[0] - s.final.q.x[1]) > 1e-4
    n = solve(Nested, span=0..1, method=m)
    assert max(abs(n.final.inner.p.x - s.final.p.x)) < 1e-14

test "inputs and starts":
    s = solve(Inputs, span=0..1, method=m, save=every 1)
    k = [1.0, 2.0, 3.0]
    start = s.p.x[:, 0]
    push = (s.p.x[:, 1] - start*exp(-k))*k/(1 - exp(-k))
    assert min(start) >= 2 and max(start) <= 3 and max(start) - min(start) > 1e-3
    assert max(abs(push)) < 5 and max(push) - min(push) > 1e-2

test "a drawn instance is one of the members, whole, each with the same chance":
    s = solve(Drawn, span=0..1, method=m, ensemble=600, save=every 1)
    start = s.p.x[:, 0]
    assert max(abs(s.p.x[:, 1] - start*exp(-start/10))) < 1e-4
    assert abs(mean(start) - 20) < 1.2 and abs(var(start) - 200/3) < 7
    one = solve(Drawn, span=0..1, method=m, save=every 1)
    assert abs(one.p.x[0] - start[0]) < 1e-14

test "lists of parts":
    s = solve(Springs, span=0..1, method=m, ensemble=50)
    for i in 0..2:
        k = rates(s.final.legs[i].x)
        assert i + 1 <= min(k) + 1e-4 and max(k) <= i + 2.0001

test "gradients reach the parameters of a law":
    g = grad(sum(log(solve(Hier, span=0..1, method=m, ensemble=5).final.p.x)), Hier.params)
    x = solve(Hier, span=0..1, method=m, ensemble=5, save=every 1).p.x
    z = (log(x[:, 0]) - log(x[:, 1]) - 1)/0.1
    assert abs(g[0] + 5) < 1e-5
    assert abs(g[1] + sum(z)) < 1e-4
"""


def test_families_as_parts() -> None:
    check(PROGRAM)


def test_members_have_the_numbers_of_their_law_under_the_parts_name() -> None:
    text = "\nsolve Outer:\n    span = 0..1\n    method = rk4(h=0.05)\n    ensemble = 5\n    seed = 3\n"
    s = next(iter(load(PROGRAM + text).run()))
    k = Law("uniform", (1, 2)).sample(5, seed=3, stream="p.k")
    assert torch.allclose(s.final["p.x"], torch.exp(-k), atol=1e-5)


def test_mistakes_are_named() -> None:
    start = "model D:\n    param k = 1.0\n    state x = 1.0\n    x' = -k*x\n\nmodel M:\n    "
    run = '\n\ntest "t":\n    s = solve(M, span=0..1, method=rk4(h=0.1){0})\n'
    count = refused(start + "p = D(k ~ normal(0, 1))" + run.format(""))
    assert count.code == "NDL513" and "`p.k ~ normal`" in count.message
    lists = refused(start + "p = D(k in [1, 2])\n    q = D(k in [1, 2, 3])" + run.format(""))
    assert "lists 2 members" in lists.message
    size = refused(start + "p = D(k in [1, 2])" + run.format(", ensemble=3"))
    assert size.code == "NDL512"
    law = refused(start + "p = D(k ~ 3)\n    y = p.x\n")
    assert (law.code, law.span.text) == ("NDL328", "3")
    shape = refused(start + "p = D(k in [[1, 2], [3, 4]])\n    y = p.x\n")
    assert shape.code == "NDL305"
    known = refused(start + "param a = 1.0\n    p = D(k in [a, 2*a])" + run.format(""))
    assert (known.code, known.span.text) == ("NDL512", "[a, 2*a]")
    step = refused(start + "p ~ D(k ~ normal(0, 1)) per step\n    y = p.x\n")
    assert step.code == "NDL436"
    options = "model O(; n = 2):\n    state x: R[n] = 1\n    x' = -x\n\nmodel M:\n    p = O(n in [1, 2])\n"
    fixed = refused(options)
    assert fixed.code == "NDL327"


BLOCKS = """
model Decay:
    param k = 1.0
    state x = 1.0
    x' = -k*x

operator Line(x: R) -> R:
    param a = 1.0, b = 0.0
    return a + b*x

net f: R -> R = Line()

train f:
    p ~ Decay(k ~ uniform(0, 1))
    loss      = (f(p.k) - solve(p, span=0..1, method=rk4(h=0.5)).final.x)^2
    batch     = 30
    samples   = 30
    optimizer = adam(lr=0.1)
    steps     = 100

test "an instance is drawn in a test":
    p ~ Decay(k ~ uniform(1, 2))
    q ~ Decay(k in [3, 4], x in [1, 2])
    assert 1 <= p.k and p.k <= 2
    s = solve(p, span=0..1, method=rk4(h=0.05))
    assert abs(s.final.x - exp(-p.k)) < 1e-6
    assert q.x == q.k - 2

test "an instance is drawn for each sample of a training":
    r = train(f)
    b = 6 - 18*exp(-1)
    assert abs(f(0) - (1 - exp(-1) - b/2)) < 0.05
    assert abs(f(1) - (1 - exp(-1) + b/2)) < 0.05
"""


def test_instances_are_drawn_in_blocks() -> None:
    check(BLOCKS)
