"""Models applied in models: states and equations joined under a name."""

from __future__ import annotations

from typing import Any

from programs import check, load, refused

PROGRAM = """
model Osc:
    param omega = 1.0
    state x = 1.0
    state x' = 0.0
    energy = x'^2/2 + omega^2*x^2/2
    x'' = -omega^2*x

model Lag(u: R[n]; gain = 1):
    param tau > 0 = 1.0
    state z: R[n] = 0
    D = gain*u - z
    z' = D/tau

model Pair:
    param w = 3.0
    leg = Osc(omega=2)
    arm = Osc(omega=w/2, x=2*w, x'=1)
    state y = 0.0
    total = leg.energy
    y' = leg.x' + arm.x

model Chain:
    first = Lag(gain=2)([1.0, 3.0])
    second = Lag(tau=0.5)(first.z)
    legs = [Osc(omega=k) for k in 1..4]
    s = sum([l.x for l in legs])

model Left:
    input other: R on time
    state x = 1.0
    x' = other

model Swing:
    a = Left(other=b.x)
    b = Left(other=-a.x, x=0)

model Ball:
    state h = 1.0, v = 0.0
    h' = v
    v' = -9.81
    when falling(h): v <- -v/2

model Two:
    low = Ball()
    high = Ball(h=2)

model Nested:
    pair = Pair(w=2)

test "parts have the solutions of their models":
    s = solve(Pair, span=0..1, method=tsit5(rtol=1e-10, atol=1e-12))
    assert abs(s.leg.x(1) - cos(2)) < 1e-8
    assert abs(s.final.leg.x' + 2*sin(2)) < 1e-8
    assert abs(s.final.arm.x - (6*cos(1.5) + sin(1.5)/1.5)) < 1e-8
    assert abs(s.final.leg.energy - 2) < 1e-8
    assert abs(s.final.total - 2) < 1e-8
    n = solve(Nested, span=0..1, method=tsit5(rtol=1e-10, atol=1e-12))
    assert abs(n.final.pair.arm.x - (4*cos(1) + sin(1))) < 1e-8

test "data, options and lists of parts":
    s = solve(Chain, span=0..1, method=tsit5(rtol=1e-10, atol=1e-12))
    assert max(abs(s.final.first.z - 2*(1 - exp(-1))*[1.0, 3.0])) < 1e-8
    assert max(abs(s.final.second.z - 2*(1 - 2*exp(-1) + exp(-2))*[1.0, 3.0])) < 1e-8
    assert max(abs(s.final.second.D - (s.final.first.z - s.final.second.z))) < 1e-12
    assert abs(s.final.legs[2].x - cos(3)) < 1e-8
    assert abs(s.final.s - (cos(1) + cos(2) + cos(3) + cos(4))) < 1e-7

test "two parts read each other":
    s = solve(Swing, span=0..1, method=tsit5(rtol=1e-10, atol=1e-12))
    assert abs(s.final.a.x - cos(1)) < 1e-8
    assert abs(s.final.b.x + sin(1)) < 1e-8

test "events of parts":
    s = solve(Two, span=0..0.6, method=tsit5(rtol=1e-10, atol=1e-12))
    hit = sqrt(2/9.81)
    assert abs(s.final.low.v - (9.81*hit/2 - 9.81*(0.6 - hit))) < 1e-7
    assert abs(s.final.high.v + 9.81*0.6) < 1e-8
"""


def test_parts_solve_as_their_models() -> None:
    check(PROGRAM)


def test_a_number_starts_a_parameter_and_an_expression_replaces_it() -> None:
    cls = load(PROGRAM).Pair
    values = cls().values()
    assert {n: float(v.detach()) for n, v in values.items()} == {"w": 3.0, "leg.omega": 2.0}
    assert [s.name for s in cls.STATES] == ["y", "leg.x", "leg.x'", "arm.x", "arm.x'"]


NETS = """
model Field(; width = 4):
    net f: R[2] -> R[2] = MLP(width=width, depth=1)
    state x: R[2] = [1, 0]
    x' = f(x) + MLP(width=2, depth=1)(x)

model Both:
    a = Field(width=3)
    b = Field(width=3)
"""


def test_each_part_has_weights_of_its_own() -> None:
    model = load(NETS).Both()
    one = load(NETS).Field()
    assert size(model) == 2 * (one_net(3) + one_net(2))
    assert size(one) == one_net(4) + one_net(2)


def size(model: Any) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def one_net(width: int) -> int:
    return (2 * width + width) + (width * 2 + 2)


def test_noise_of_parts_is_their_own() -> None:
    check(
        """
model Walk:
    param s = 1.0
    state x = 0.0
    noise W: wiener
    dx = s*dW

model Walks:
    a = Walk(s=2)
    b = Walk()

test "two walks":
    r = solve(Walks, span=0..1, method=euler_maruyama(h=0.25), seed=3)
    assert abs(r.final.a.x - 2*r.final.a.W) < 1e-12
    assert abs(r.final.b.x - r.final.b.W) < 1e-12
    assert abs(r.final.a.W - r.final.b.W) > 1e-3
"""
    )


def test_mistakes_are_named() -> None:
    start = "model Osc:\n    param w = 1.0\n    state x = 1.0\n    x' = -w*x\n\nmodel M:\n    "
    unknown = refused(start + "leg = Osc(v=2)\n")
    assert (unknown.code, unknown.span.text) == ("NDL208", "v")
    missing = refused(start + "leg = Osc()\n    y = leg.z\n")
    assert (missing.code, missing.span.text) == ("NDL207", "z")
    shape = refused(start + "leg = Osc(w=[1.0, 2.0])\n    y = leg.x\n")
    assert shape.code == "NDL305"
    itself = refused("model M:\n    m = M()\n")
    assert itself.code == "NDL430"


def test_a_part_is_fitted_by_its_name() -> None:
    check(
        """
model Decay:
    param k = 1.0
    state x = 1.0
    x' = -k*x

model Two:
    fast = Decay(k=1)
    slow = Decay(k=0.5)

train Two:
    data      = solve(Two, span=0..1, save=every 0.25, method=rk4(h=0.25))
    loss      = mean((fast.x - exp(-2*t))^2)
    fit       = fast.k
    method    = rk4(h=0.25)
    optimizer = adam(lr=0.2)
    steps     = 80

test "the rate of the fast part is found, the other kept":
    r = train(Two)
    assert abs(r.model.fast.k - 2) < 0.1
    assert r.model.slow.k == 0.5
"""
    )
