"""Poisson noise: jump times that no step changes, jumps of the values before them, counts as the law says."""

from __future__ import annotations

from programs import check, load, refused

PROGRAM = """
model Shot:
    param r = 3.0, a = 1.0
    noise N: poisson(r)
    state x = 0.0
    dx = a*dN - x*dt

model Growth:
    noise N: poisson(2)
    state x = 1.0, y = 1.0
    dx = 0.5*x*dN
    dy = x*dN - (y + x)*dN

model Merton:
    param mu = 0.1, s = 0.2, j = -0.3
    noise N: poisson(1.5)
    noise W: wiener
    state S = 1.0, z = 0.0
    dS = mu*S*dt + s*S*dW + j*S*dN
    dz = dW + 2*dN

model Several:
    noise N: poisson[2](4.0)
    state z: R[3] = 0, y: R[2] = 0, w = 0.0
    dz = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]] @ dN
    dy = [1.0, 10.0]*dN
    dw = 3*dN[1]

model Pair:
    first = Shot()
    second = Shot(r=6)

const fine = tsit5(rtol=1e-10, atol=1e-12)

test "counts and shot noise have the moments of Campbell's theorem":
    s = solve(Shot, span=0..2, method=rk4(h=0.25), ensemble=1500, seed=1, save=end)
    assert abs(mean(s.final.N) - 6) < 0.25
    assert abs(var(s.final.N) - 6) < 0.8
    assert abs(mean(s.final.x) - 3*(1 - exp(-2))) < 0.13
    assert abs(var(s.final.x) - 1.5*(1 - exp(-4))) < 0.2

test "the path is the sum over its jumps, for every method and step":
    s = solve(Shot, span=0..2, method=fine, seed=7)
    assert abs(s.final.x - sum(exp(-(2 - s.events.t)))) < 1e-8
    for h in [0.5, 0.1]:
        c = solve(Shot, span=0..2, method=rk4(h=h), seed=7)
        assert c.final.N == s.final.N
        assert max(abs(c.events.t - s.events.t)) < 1e-14
        assert abs(c.final.x - s.final.x) < 0.01*h
    longer = solve(Shot, span=0..4, method=fine, seed=7)
    assert longer.N(2) == s.final.N
    many = solve(Shot, span=0..2, method=fine, seed=7, ensemble=3, save=end)
    assert abs(many.final.x[0] - s.final.x) < 1e-12 and many.final.x[0] != many.final.x[1]
    assert solve(Shot, span=0..2, method=fine, seed=8).final.x != s.final.x

test "a jump is of the values before it":
    s = solve(Growth, span=0..3, method=fine, ensemble=20, seed=2, save=end)
    assert max(abs(s.final.x - 1.5^s.final.N)) < 1e-9
    assert max(abs(s.final.y - (if s.final.N > 0 then 0 else 1))) < 1e-12

test "jumps beside a Wiener process":
    s = solve(Merton, span=0..1, method=milstein(h=1/128), ensemble=200, seed=3, save=end)
    exact = exp((0.1 - 0.02) + 0.2*s.final.W)*0.7^s.final.N
    assert max(abs(s.final.S/exact - 1)) < 0.01
    assert max(abs(s.final.z - s.final.W - 2*s.final.N)) < 1e-12
    c = solve(Merton, span=0..1, method=milstein(h=1/16), ensemble=200, seed=3, save=end)
    assert max(abs(c.final.N - s.final.N)) == 0 and max(abs(c.final.W - s.final.W)) < 1e-12

test "components and parts jump by themselves":
    s = solve(Several, span=0..5, method=rk4(h=0.5), ensemble=300, seed=3, save=end)
    N = s.final.N
    a, b = N[:, 0], N[:, 1]
    assert max(abs(s.final.z[:, 2] - 5*a - 6*b)) < 1e-12
    assert max(abs(s.final.y[:, 1] - 10*b)) < 1e-12
    assert max(abs(s.final.w - 3*b)) < 1e-12
    assert abs(mean((a - 20)*(b - 20))) < 5 and abs(mean(a) - 20) < 1.1
    p = solve(Pair, span=0..3, method=fine, ensemble=50, seed=1, save=end)
    assert max(abs(p.final.first.N - p.final.second.N)) > 0
    assert abs(mean(p.final.second.N) - 18) < 3

test "rates of members":
    s = solve(Shot(r in [0.001, 1, 100]), span=0..1, method=rk4(h=0.25), seed=3, save=end)
    assert s.final.N[0] == 0 and 60 < s.final.N[2] < 140
"""


def test_jumps() -> None:
    check(PROGRAM)


def test_gradients_go_through_jumps() -> None:
    check(
        PROGRAM[: PROGRAM.index("test")]
        + """
test "the size of a jump":
    x = solve(Shot, span=0..2, method=rk4(h=0.1), seed=7).final.x
    for mode in [discrete, checkpoint(3)]:
        g = grad(solve(Shot, span=0..2, method=rk4(h=0.1), seed=7, gradient=mode).final.x, Shot.params)
        assert abs(g[1] - x) < 1e-9
    j = grad(solve(Merton, span=0..1, method=milstein(h=1/32), seed=4).final.S, Merton.params)
    m = solve(Merton, span=0..1, method=milstein(h=1/32), seed=4).final
    assert m.N > 0 and abs(j[2] - m.N*m.S/0.7) < 1e-9
"""
    )


def test_the_module_says_what_jumps() -> None:
    cls = load(PROGRAM).Shot
    assert [e.kind for e in cls.EVENTS] == ["poisson"]
    assert cls.NOISES == ()


def test_mistakes_are_named() -> None:
    start = "model M:\n    param r = 2.0\n    noise N: poisson({0})\n    state x = 1.0\n    dx = {1}\n"
    run = '\ntest "t":\n    s = solve(M, span={0}, method={1}{2})\n'
    state = refused(start.format("x", "dN") + run.format("0..1", "rk4(h=0.1)", ""))
    assert (state.code, state.span.text) == ("NDL439", "x")
    time = refused(start.format("1 + t", "dN") + run.format("0..1", "rk4(h=0.1)", ""))
    assert time.code == "NDL439"
    product = refused(start.format("r", "dN*dt"))
    assert product.code == "NDL418"
    low = refused(start.format("-1", "dN"))
    assert low.code == "NDL422"
    method = refused(start.format("r", "dN") + run.format("0..1", "euler_maruyama(h=0.1)", ""))
    assert method.code == "NDL505" and "only jumps" in method.message
    back = refused(start.format("r", "dN") + run.format("1..0", "rk4(h=0.1)", ""))
    assert "backwards" in back.message
    adjoint = start.format("r", "r*dN - x*dt") + (
        '\ntest "t":\n    s = solve(M, span=0..1, method=rk4(h=0.1), gradient=adjoint)\n'
    )
    assert "has jumps" in refused(adjoint).message
    sizes = refused("model M(; n = 2):\n    noise N: poisson[n](1)\n    state x: R[n] = 0\n    dx = dN\n")
    assert sizes.code == "NDL438"
