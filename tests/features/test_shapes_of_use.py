"""Dimensions and shapes that the use of a model or net tells: inputs' dimensions, tensors cut from vectors,
options in a header without `;`, inputs read at another time."""

from __future__ import annotations

from programs import check, refused

PROGRAM = """
model Matrices(d = 3, c = 2):
    net f: R[d] -> R[d, c] = MLP(width=5)
    net g: R[d, c] -> R[d] = MLP(width=5)
    net h: (R, R[d, c]) -> R[c, d] = Linear()
    state z: R[d] = [1, 2, 3]
    z' = g(f(z)) + h(t, f(z)).T @ [1, 1]

operator Rows(x: R[4]) -> R[2, 2]:
    return [[x[0], x[1]], [x[2], x[3]]]

operator Same(x: R[n]) -> R[n]:
    return x

model Sums(n = 4):
    net pick: R[n] -> R[2, 2] = Same()
    net flat: R[2, 2] -> R[n] = Same()
    state x: R[n] = [1, 2, 3, 4]
    when every 1: x <- flat(pick(x)) + flat(Rows()(x))

model Driven:
    input X: R[c] on time
    net W: R[c] -> R = Linear()
    state z = sum(X(0))
    z' = W(X(t)) + 0.1*X(0.5)[0] + sin(X(t - 0.3)[0])

model Shifted:
    input X: R on time
    state z = X(1)
    z' = X(2*t)

test "a net of tensors runs the same in a kernel and out of it":
    a = solve(Matrices, span=0..1, method=rk4(h=0.1)).final.z
    b = solve(Matrices, span=0..1, method=rk4(h=0.1), backend=torch).final.z
    assert norm(a - b) < 1e-12 and norm(a - [1, 2, 3]) > 0.01

test "components are cut and joined by rows":
    s = solve(Sums, span=0..1)
    assert norm(s.final.x - [2, 4, 6, 8]) < 1e-15

test "an input's dimension follows from the path":
    P = spline(linspace(-1, 2, 31), [[x, sin(x)] for x in linspace(-1, 2, 31)])
    a = solve(Driven(X=P), span=0..2, method=rk4(h=0.1))
    b = solve(Driven(X=P), span=0..2, method=rk4(h=0.1), backend=torch)
    assert norm(a.z - b.z) < 1e-12
    assert abs(a.z[0]) < 1e-9
    assert solve(Driven(X=path(t -> [t, t, 1])), span=0..1, method=rk4(h=0.1)).z[0] == 1

test "an input at another time":
    s = solve(Shifted(X=path(t -> cos(t))), span=0..1, method=dopri5(rtol=1e-10, atol=1e-12))
    assert abs(s.final.z - cos(1) - sin(2)/2) < 1e-9
"""


def test_shapes_follow_from_the_use() -> None:
    check(PROGRAM)


def test_a_dimension_that_nothing_tells() -> None:
    error = refused(
        "model M:\n    input X: R[c] on time\n    state z = 0.0\n    z' = sum(X)\n"
        'test "a":\n    assert solve(M, span=0..1, method=rk4(h=0.1)).final.z == 0\n'
    )
    assert error.code == "NDL308" and "`c`" in error.message
