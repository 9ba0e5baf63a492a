"""Noises other than the plain Wiener process."""

from __future__ import annotations

from programs import check, refused

PROGRAM = """
const S = [[4.0, 1.0], [1.0, 1.0]]

model Correlated:
    state x: R[2] = 0, y = 0.0, z: R[2] = 0
    noise W: wiener[2](cov=S)
    dx = dW
    dy = 2*dW[1]
    dz = [[1.0, 1.0], [0.0, 1.0]] @ dW

model Scaled:
    param v = 9.0
    state x = 0.0
    noise B: wiener(cov=v)
    dx = dB

model Coloured:
    param theta = 2.0, sigma = 3.0
    noise U: ou(theta, sigma)
    state x = 0.0, y = 0.0
    dx = U*dt
    dy = -U*dt + 2*dU

test "a covariance":
    s = solve(Correlated, span=0..1, method=euler_maruyama(h=0.25), ensemble=1000, seed=3)
    W = s.final.W
    assert max(abs(s.final.x - W)) < 1e-12
    assert max(abs(s.final.y - 2*W[:, 1])) < 1e-12
    assert max(abs(s.final.z[:, 0] - W[:, 0] - W[:, 1])) < 1e-12
    assert abs(mean(W[:, 0]^2) - 4) < 0.6
    assert abs(mean(W[:, 0]*W[:, 1]) - 1) < 0.25
    assert abs(mean(W[:, 1]^2) - 1) < 0.15
    b = solve(Scaled, span=0..1, method=euler_maruyama(h=0.25), ensemble=1000, seed=3)
    assert abs(mean(b.final.x^2) - 9) < 1.4
    assert max(abs(b.final.x - b.final.B)) < 1e-12

test "an Ornstein–Uhlenbeck process is stationary from the start":
    s = solve(Coloured, span=0..1, method=euler_maruyama(h=0.05), save=every 0.5, ensemble=1000, seed=3)
    assert abs(mean(s.U[:, 0]^2) - 9/4) < 0.4
    assert abs(mean(s.U[:, -1]^2) - 9/4) < 0.4
    assert abs(mean(s.U[:, 0]*s.U[:, -1]) - 9/4*exp(-2)) < 0.3
    assert max(abs(s.final.y - (2*(s.final.U - s.U[:, 0]) - s.final.x))) < 1e-9
"""


def test_noises() -> None:
    check(PROGRAM)


def test_what_waits_is_named() -> None:
    body = '    state x = 0.0\n    dx = -x*dt + dN\n\ntest "t":\n'
    body += "    s = solve(M, span=0..1, method=euler_maruyama(h=0.1))\n"
    process = "model P:\n    state y = 1.0\n    y' = -y\n\n"
    own = refused(process + "model M:\n    noise N: P\n" + body)
    assert (own.code, own.span.text) == ("NDL490", "noise N: P")
    shape = refused("model M:\n    noise N: wiener(cov=[1.0, 2.0])\n" + body)
    assert shape.code == "NDL305"


def test_components_of_a_noise() -> None:
    body = '    state x = 0.0\n    dx = -x*dt + {}\n\ntest "t":\n'
    body += "    s = solve(M, span=0..1, method=euler_maruyama(h=0.1))\n"
    size = refused("model M:\n    noise W: wiener(2)\n" + body.format("dW[0]"))
    assert (size.code, size.span.text) == ("NDL416", "2") and "`wiener[2]`" in (size.help or "")
    for law, k in (("wiener", 0), ("wiener[2]", 2)):
        outside = refused(f"model M:\n    noise W: {law}\n" + body.format(f"dW[{k}]"))
        assert (outside.code, outside.span.text) == ("NDL332", str(k))


PROCESS = """
model CIR:
    param kappa = 2.0, theta = 0.5, nu = 0.3
    state v > 0 = 1.0
    noise B: wiener
    dv = kappa*(theta - v)*dt + nu*sqrt(v)*dB

model Heston:
    rate = CIR(theta=0.4)
    state x = 0.0
    noise W: wiener
    dx = sqrt(rate.v)*dW

test "a model that defines a process by its own equation drives another":
    s = solve(Heston, span=0..1, method=euler_maruyama(h=0.02), ensemble=2000, seed=5, save=end)
    assert abs(mean(s.final.rate.v) - (0.4 + 0.6*exp(-2))) < 0.02
    assert abs(mean(s.final.x^2) - (0.4 + 0.6*(1 - exp(-2))/2)) < 0.07
    assert abs(mean(s.final.x*s.final.rate.B)) < 0.07
"""


def test_processes_as_parts() -> None:
    check(PROCESS)
