"""Resets of several components at once: slices, lists of indices, and the order of resets."""

from __future__ import annotations

from programs import check, refused

PROGRAM = """
model Parts:
    param a = 2.0
    state x: R[5] = [0, 1, 2, 3, 4]
    state M: R[3, 3] = 0
    state y: R[4] = [1, 2, 3, 4]
    y' = -y
    when every 1:
        x[1:3] <- a*x[0:2] + 10
        x[[4, 0]] <- [x[0] + 40, 7]
        M[1, :] <- [1.0, 2.0, 3.0]
        M[0:2, [0, 2]] <- [[5.0, 6.0], [7.0, 8.0]]
        M[-1, -1] <- 9
        y[2:] <- 0
        y[0] <- y[0] + 1

model Falls:
    state q: R[4] = [1, 2, 0, 0]
    q' = [q[2], q[3], -2.0, -2.0]
    when falling(q[0]):
        q[0:2] <- [0, 5]
        q[2:] <- -0.5*q[2:]

test "slices and lists":
    s = solve(Parts, span=0..1, method=tsit5(rtol=1e-10, atol=1e-12)).final
    assert max(abs(s.x - [7, 10, 12, 3, 40])) < 1e-12
    assert max(abs(s.M - [[5, 0, 6], [7, 2, 8], [0, 0, 9]])) < 1e-12
    assert max(abs(s.y - [exp(-1) + 1, 2*exp(-1), 0, 0])) < 1e-9

test "all resets of an event read the values before it":
    s = solve(Falls, span=0..1.2, method=tsit5(rtol=1e-10, atol=1e-12)).final
    v = 1 - 0.4
    assert max(abs(s.q - [0.2 - 0.04, 5.2 - 0.04, v, v])) < 1e-7

test "gradients go through a reset of a slice":
    g = grad(sum(solve(Parts, span=0..1, method=rk4(h=0.25)).final.x), Parts.params)
    assert abs(g[0] - 1) < 1e-12
"""


def test_resets_of_several_components() -> None:
    check(PROGRAM)


def test_mistakes_are_named() -> None:
    start = "model M:\n    state x: R[3] = 1, k = 0\n    x' = -x\n    when every 1:\n        "
    run = '\n        k <- k + 1\n\ntest "t":\n    s = solve(M, span=0..2, method=rk4(h=0.1))\n'
    size = refused(start + "x[0:2] <- [1.0, 2.0, 3.0]" + run)
    assert size.code == "NDL305"
    loose = refused(start + "x[argmax(x)] <- 0" + run)
    assert (loose.code, loose.span.text) == ("NDL327", "argmax(x)")
