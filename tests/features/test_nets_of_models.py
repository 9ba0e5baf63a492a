"""The nets of a model as functions, `M.readout(y)`, in losses and tests."""

from __future__ import annotations

from programs import check, refused

PROGRAM = """
model Small(x: R[2]):
    net f: R[2] -> R[2] = MLP(width=4)
    net readout: R[2] -> R[1] = Linear()
    net two: (R, R[2]) -> R[3] = MLP(width=4)
    net scalar: R[2] -> R = MLP(width=4)
    state y: R[2] = x
    y' = f(y)
    out = readout(y)

model Pair:
    left = Small([1.0, 0.5])
    right = Small([0.5, 0.5])

model Bare:
    net f: R[2] -> R[2] = MLP(width=4)
    net readout: R[2] -> R[1] = Linear()
    state y: R[2] = [1, 0]
    y' = f(y)

train Bare as idle:
    span = 0..1
    method = rk4(h=0.25)
    loss = final.y[0]^2
    backend = cpu
    optimizer = adam(lr=0.01)
    steps = 3

train Bare as fitted:
    span = 0..1
    method = rk4(h=0.25)
    loss = (readout(final.y)[0] - 1)^2 + Bare.readout(final.y)[0]^2
    optimizer = adam(lr=0.01)
    steps = 3

train Bare as batched:
    z ~ normal(0, 1)
    span = 0..1
    method = rk4(h=0.25)
    s = solve(Bare(y=[z, z]), span=0..1, method=rk4(h=0.25))
    loss = (Bare.readout(s.final.y)[0] - 1)^2 + readout(s.y[1])[0]
    optimizer = adam(lr=0.01)
    batch = 4
    steps = 3

test "at the end":
    m = Small([1.0, 2.0], seed=1)
    s = solve(m, span=0..1, method=rk4(h=0.25))
    assert norm(m.readout(s.final.y) - s.final.out) < 1e-12
test "at every time":
    m = Small([1.0, 2.0], seed=1)
    s = solve(m, span=0..1, method=rk4(h=0.25))
    assert norm([m.readout(s.y[i]) for i] - s.out) < 1e-12
test "between the times":
    m = Small([1.0, 2.0], seed=1)
    s = solve(m, span=0..1, method=rk4(h=0.25))
    assert norm(m.readout(s.y(0.5)) - s.out(0.5)) < 1e-12
test "nets that no equation reads":
    m = Small([1.0, 2.0], seed=1)
    assert m.scalar([1.0, 2.0]) < 100 and norm(m.two(0.0, [1.0, 2.0])) < 100 and norm(m.two(1, [1, 2])) < 100
test "of a part":
    s = solve(Pair, span=0..1, method=rk4(h=0.25))
    assert norm(Pair.left.readout(s.final.left.y) - s.final.left.out) < 1e-12
test "of a model by its name":
    s = solve(Bare, span=0..1, method=rk4(h=0.25))
    assert norm(Bare.readout(s.final.y)) < 100
test "of a trained model, read by its loss alone":
    s = solve(fitted.model, span=0..1, method=rk4(h=0.25))
    assert norm(fitted.model.readout(s.final.y)) < 100
test "of a trained model, in a loss for many samples":
    assert batched.loss < 100
    s = solve(batched.model, span=0..1, method=rk4(h=0.25))
    assert norm(batched.model.readout(s.final.y)) < 100
test "written out in the application":
    m = Small(readout=y -> [y[0]], x=[1.0, 2.0], seed=1)
    s = solve(m, span=0..1, method=rk4(h=0.25))
    assert norm(m.readout(s.final.y) - s.final.out) < 1e-12
test "with gradients":
    m = Small([1.0, 2.0], seed=1)
    g = grad(sum(m.readout([1.0, 2.0])), m.params)
    assert norm(g) > 0
test "of members":
    s = solve(Small([1.0, 2.0]), span=0..1, method=rk4(h=0.25), ensemble=3)
    m = Small([1.0, 2.0])
    assert norm([m.readout(s.final.y[i]) for i] - s.final.out) < 1e-12
test "as a value":
    m = Small([1.0, 2.0], seed=1)
    s = solve(m, span=0..1, method=rk4(h=0.25))
    f = m.readout
    assert norm(f(s.final.y) - s.final.out) < 1e-12

test "a net that nobody reads keeps its weights":
    assert idle.loss < 100 and norm(idle.model.readout([1.0, 2.0]) - Bare.readout([1.0, 2.0])) < 1e-6
    assert norm(fitted.model.readout([1.0, 2.0]) - Bare.readout([1.0, 2.0])) > 1e-3

fn score(M, z) = sum(M.readout(z))
test "in a function":
    m = Bare(seed=3)
    assert score(m, [1.0, 2.0]) < 100 and score(Bare, [1.0, 2.0]) < 100
model Big = Bare(seed=4)
test "of a named form":
    assert norm(Big.readout([1.0, 2.0])) < 100
test "of an application":
    assert norm(Bare(seed=4).readout([1.0, 2.0])) < 100
"""


def test_nets_are_functions_of_their_model() -> None:
    check(PROGRAM)


EMPTY = """
operator Value() -> R[2]:
    param v: R[2] ~ normal(0, 1)
    return v

net shared: () -> R[2] = Value()
net bare = Value()

model M:
    net g: () -> R[2] = Value()
    state x: R[2] = [1.0, 2.0]
    x' = g()*x

model N:
    net g: () -> R[2] = Value() per step
    state x: R[2] = [1.0, 2.0]
    x' = g()*x

operator Twice(x: R[2]) -> R[2]:
    net g: () -> R[2] = Value()
    return x*g() + Value()

net twice: R[2] -> R[2] = Twice()

test "nets without arguments":
    m = M(seed=1)
    s = solve(m, span=0..1, method=euler(steps=1))
    assert norm(s.final.x - [1.0, 2.0]*(1 + m.g())) < 1e-14
    assert norm(shared()) > 0 and norm(bare()) > 0 and norm(bare() - shared()) > 0
    n = N(seed=1)
    s = solve(n, span=0..1, method=euler(steps=2))
    assert norm(s.x[1]/s.x[0] - s.x[2]/s.x[1]) > 1e-3
    assert norm(twice([1.0, 1.0]) - twice([0.0, 0.0])) > 0 and norm(twice([0.0, 0.0])) > 0

test "a kernel has them":
    a = solve(M(seed=1), span=0..1, method=rk4(steps=4), backend=cpu)
    b = solve(M(seed=1), span=0..1, method=rk4(steps=4), backend=torch)
    assert norm(a.final.x - b.final.x) < 1e-14
    g = grad(solve(M, span=0..1, method=euler(steps=1)).final.x[0], M.params)
    assert max(abs(g - [1, 0])) < 1e-14
"""


def test_nets_without_arguments() -> None:
    """They are made where they are named, and nets of the same kind start at different weights."""
    check(EMPTY)


GIVEN = """
model Falls:
    net f: R[4] -> R = MLP(width=6, depth=1)
    state y: R[4] = 1
    y' = -grad(f(y), y)

model Grows:
    net f: R[4] -> R[4] = MLP(width=6, depth=1)
    state y: R[4] = 1
    y' = f(y)

model Other:
    net f: R[4] -> R = MLP(width=6, depth=1, act=relu)
    net g: R[4] -> R[4] = MLP(width=6, depth=1, act=relu)
    net same: R[4] -> R = MLP(width=6, depth=1)
    state y: R[4] = 1
    y' = f(y)*g(y)

net potential: R[4] -> R = MLP(width=6, depth=2, act=softplus)
net field: R[4] -> R[4] = MLP(width=6, depth=2, act=relu)

fn unit(i) = [if i == j then 1e-4 else 0 for j in 0..3]
fn slope(f) = [(f(ones(4) + unit(i)) - f(ones(4) - unit(i)))/2e-4 for i in 0..3]

test "derivatives are those of the net that is given":
    for how in [torch, cpu]:
        y = solve(Falls(f=potential), span=0..0.001, method=euler(steps=1), backend=how).final.y
        assert max(abs((1 - y)/0.001 - slope(potential))) < 1e-6
    o = Other(seed=1)
    y = solve(Falls(f=o.same), span=0..0.001, method=euler(steps=1), backend=cpu).final.y
    assert max(abs((1 - y)/0.001 - slope(o.same))) < 1e-6

test "a kernel has the net that is given":
    a = solve(Grows(f=field), span=0..1, method=rk4(steps=4), backend=torch).final.y
    b = solve(Grows(f=field), span=0..1, method=rk4(steps=4), backend=cpu).final.y
    assert norm(a - b) < 1e-12
    m = Grows(f=field)
    g = grad(sum(solve(m, span=0..1, method=rk4(steps=4)).final.y), m.params)
    assert norm(g) > 0
    o = Other(seed=1)
    y = ones(4)
    y = y + 0.5*o.g(y)
    assert norm(solve(Grows(f=o.g), span=0..1, method=euler(steps=2)).final.y - y - 0.5*o.g(y)) < 1e-12
"""


def test_a_net_that_is_given_stands_in_derivatives_and_kernels() -> None:
    check(GIVEN)


def test_another_kind_of_net_is_refused_where_it_would_be_differentiated() -> None:
    start = GIVEN[: GIVEN.index("test")] + '\ntest "t":\n    o = Other(seed=1)\n    s = solve('
    found = refused(start + "Falls(f=o.f), span=0..1, method=euler(steps=1))\n")
    assert found.code == "NDL675" and "`Falls` differentiate its net `f`" in found.message
    found = refused(start + "Grows(f=o.g), span=0..1, method=euler(steps=1), backend=cpu)\n")
    assert "its nets are others than it was compiled with" in found.message
