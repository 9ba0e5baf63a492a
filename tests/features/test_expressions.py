"""Binders, several results, functions and nets as arguments of models."""

from __future__ import annotations

from programs import check

PROGRAM = """
const A = [[1.0, 2.0], [3.0, 4.0]]

fn pair(x) :
    return x, 2*x

operator Split(x: R[n]) -> (R, R[n]):
    param w = 2.0
    return sum(x), w*x

operator Field(x: R[d]; width = 4, act = tanh) -> R[d]:
    param W: R[width, d] = 0.5
    return W.T @ act(W @ x)

model Binders:
    state x: R[2] = [1, 2]
    a = sum(A[i, j]*x[j], j, i)
    b = [sum(A[i, j]*x[j], j) for i]
    c = softmax(2*x[j], j)
    d = sum([k^2 for k in 1..4 if k != 2])
    p, q = pair(x[0])
    m = mean(integral(s^2*x[0], s in 0..1))
    g = expect((x[1] + z)^2, z ~ normal(0, 3))
    h = max(x[i] - i, i)
    x' = -b + A @ x - x

model Results:
    net f: R[2] -> (R, R[2]) = Split()
    state x: R[2] = [1, 2], y = 0.0
    s, v = f(x)
    x' = -v/2
    y' = s

model Takes(; rate = x -> x, shape = tanh):
    net f: R[2] -> R[2] = Field(width=3, act=shape)
    state x: R[2] = [1, 1]
    x' = rate(f(x))

model Lambda:
    param k = 3.0
    net f: R -> R = x -> -k*x
    state x = 1.0
    x' = f(x)

net shared: R[2] -> R[2] = Field(width=1)

test "matrices of whole numbers":
    turn = [[0, 1], [-1, 0]]
    assert abs(expm(turn)[0, 1] - sin(1)) < 1e-12 and abs(logdet([[2, 0], [0, 2]]) - log(4)) < 1e-12
    assert inv([[2, 0], [0, 4]])[0, 0] == 0.5 and det([[2, 0], [0, 4]]) == 8
    assert cholesky([[4, 0], [0, 9]])[1, 1] == 3
    assert max(abs(turn^-1 @ [1, 2] - [-2, 1])) == 0

test "binders":
    s = solve(Binders, span=0..1, method=tsit5(rtol=1e-9, atol=1e-10))
    x = exp(-1)*[1.0, 2.0]
    assert max(abs(s.final.x - x)) < 1e-8
    assert abs(s.final.a - 16*exp(-1)) < 1e-7
    assert max(abs(s.final.b - A @ x)) < 1e-7
    assert abs(s.final.c[0] - exp(2*x[0])/(exp(2*x[0]) + exp(2*x[1]))) < 1e-8
    assert s.final.d == 26
    assert abs(s.final.p - x[0]) < 1e-8
    assert abs(s.final.q - 2*x[0]) < 1e-8
    assert abs(s.final.m - x[0]/3) < 1e-8
    assert abs(s.final.g - (x[1]^2 + 9)) < 1e-7
    assert abs(s.final.h - x[0]) < 1e-7

test "several results":
    s = solve(Results, span=0..1, method=tsit5(rtol=1e-9, atol=1e-10))
    assert max(abs(s.final.x - exp(-1)*[1.0, 2.0])) < 1e-8
    assert abs(s.final.y - 3*(1 - exp(-1))) < 1e-8

test "functions as options":
    s = solve(Takes(rate=x -> -x, shape=x -> x), span=0..1, method=tsit5(rtol=1e-9, atol=1e-10))
    assert max(abs(s.final.x - exp(-1.5))) < 1e-8
    l = solve(Lambda(k=2), span=0..1, method=tsit5(rtol=1e-9, atol=1e-10))
    assert abs(l.final.x - exp(-2)) < 1e-8

test "nets as arguments":
    s = solve(Takes(f=shared), span=0..1, method=tsit5(rtol=1e-9, atol=1e-10))
    assert abs(s.final.x[0] - s.final.x[1]) < 1e-12
    t = solve(Takes(f=Field(width=1)), span=0..1, method=tsit5(rtol=1e-9, atol=1e-10))
    assert max(abs(s.final.x - t.final.x)) < 1e-8
    u = solve(Takes(f=x -> -x), span=0..1, method=tsit5(rtol=1e-9, atol=1e-10))
    assert max(abs(u.final.x - exp(-1))) < 1e-8

model Outer:
    net mine: R[2] -> R[2] = Field(width=1)
    a = Takes(f=mine)
    b = Takes(f=Field(width=1))
    c = Takes(f=x -> -2*x)

test "nets as arguments of parts":
    s = solve(Outer, span=0..1, method=tsit5(rtol=1e-9, atol=1e-10))
    assert max(abs(s.final.a.x - s.final.b.x)) < 1e-12
    assert max(abs(s.final.c.x - exp(-2))) < 1e-8
"""


def test_expressions() -> None:
    check(PROGRAM)


CONTROLLED = """
use std.nets: MLP

operator Square(x: R[n]) -> R:
    return sum(reshape(x, n//2, 2)^2)

model Controlled:
    input X: R[2] on time
    net F: R[2] -> R[4] = MLP(width=3, depth=1)
    state z: R[2] = [1.0, -1.0]
    same = reshape(z, [2, 1]) - reshape(z, 2, 1)
    dz = reshape(F(z), [2, 2]) @ dX
"""


def test_reshape_takes_its_extents_apart_or_as_a_list() -> None:
    import torch

    import ndl

    slope = torch.tensor([1.0, 2.0]).double()

    def path(t: torch.Tensor, order: int = 0) -> torch.Tensor:
        return slope * (t[..., None] if order == 0 else torch.ones_like(t)[..., None])

    made = ndl.loads(CONTROLLED).Controlled().bind(X=path)
    t, z = torch.tensor(0.3).double(), torch.tensor([1.0, -1.0]).double()
    wanted = made.F(z).reshape(2, 2) @ slope
    torch.testing.assert_close(made.vector_field(t, z), wanted, rtol=1e-12, atol=0)
    assert not made.derived("same", t, z).any()


def test_a_derived_quantity_may_be_the_slope_of_another() -> None:
    check(
        """
model Decay:
    state x = 1.0
    y = x^2
    slope = y'
    x' = -x

test "the slope of exp(-2t)":
    s = solve(Decay, span=0..1, method=tsit5(rtol=1e-10, atol=1e-12))
    assert abs(s.slope(1) + 2*exp(-2)) < 1e-9
"""
    )
