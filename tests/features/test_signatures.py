"""Nets of numbers and of several vectors: an operator on one vector takes them joined, and gives its only
component."""

from __future__ import annotations

import torch
from programs import check, load, refused

PROGRAM = """
net U: R -> R[2] = MLP(width=16, depth=2)
net H: R[4] -> R = MLP(width=8)
net G: (R, R[2], R) -> R = MLP(width=8)

model LV:
    net F: (R, R) -> R[2] = MLP(width=16, depth=2)
    net V: R -> R = MLP(width=4)
    state x = 0.44, y = 4.63
    x', y' = [1.3*x, -1.8*y] + F(x, y) + 0*V(x)

model Hamilton:
    net H: R[2] -> R = MLP(width=8)
    state q = 1.0, p = 0.0
    energy = H([q, p])
    q' = diff(H([q, p]), p)
    p' = -diff(H([q, p]), q)

train LV, H as both:
    data      = solve(LV(seed=3), span=0..1, save=every 0.1)
    loss      = mean((x - data.x)^2) + (H([1, 2, 3, 4]) - 1)^2 + F(1, 2)[0]^2
    steps     = 20
    optimizer = adam(lr=0.05)

test "shapes":
    assert norm(U(0.5)) > 0
    assert H([1, 2, 3, 4]) != 0
    assert G(1, [2, 3], 4) != G(1, [3, 2], 4)
    s = solve(LV, span=0..1)
    assert s.final.x != 0.44

test "a net of one number is a Hamiltonian":
    s = solve(Hamilton, span=0..3, method=tsit5(rtol=1e-10, atol=1e-12))
    assert max(abs(s.energy - s.energy[0])) < 1e-8

test "a named training, of a net too":
    r = train(both)
    assert r.loss < 0.5*r.history.loss[0]
    assert both.loss == r.loss
"""


def test_numbers_and_vectors() -> None:
    check(PROGRAM)


def test_the_module_has_the_arguments_of_the_signature() -> None:
    model = load(PROGRAM).models["LV"](seed=1)
    x = torch.tensor([0.3, 0.4], dtype=torch.float64)
    out = model.F(x, 2 * x)
    assert out.shape == (2, 2)
    assert torch.allclose(out[1], model.F(x[1], 2 * x[1]))
    assert model.V(x).shape == (2,)


def test_a_signature_that_does_not_fit_is_refused() -> None:
    operator = "operator Same(x: R[n]) -> R[n]:\n    return x\n\n"
    found = refused(operator + 'net f: R[2] -> R[3] = Same()\n\ntest "t":\n    assert f([1, 2]) == 0\n')
    assert found.code == "NDL309"
