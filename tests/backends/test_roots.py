"""Roots in generated code: a batch at a time, differentiable by all that the equation reads."""

from __future__ import annotations

import torch
from ndl.compiler.backends.torch import compile_source, print_module
from ndl.compiler.ir.graph import Function, Graph, ParamSpec
from ndl.compiler.types import SCALAR, tensor
from ndl.runtime.implicit import implicit_root


def kepler() -> Function:
    """E with E - e sin E = m, its eccentricity a weight; and a vector equation z + A tanh z = b."""
    graph = Graph()
    m = graph.add("input", type=SCALAR, name="m")
    b = graph.add("input", type=tensor(2), name="b")
    e = graph.add("param", type=SCALAR, name="e")
    A = graph.add("param", type=tensor(2, 2), name="A")
    inner = Graph()
    E, m1, e1 = (inner.add("input", type=SCALAR, name=n) for n in ("E", "captured0", "captured1"))
    left = inner.add("sub", [E, inner.add("mul", [e1, inner.add("sin", [E])])])
    one = Function("r", inner, (E, m1, e1), (("r", inner.add("sub", [left, m1])),))
    inner = Graph()
    z, b1 = (inner.add("input", type=tensor(2), name=n) for n in ("z", "captured0"))
    A1 = inner.add("input", type=tensor(2, 2), name="captured1")
    left = inner.add("add", [z, inner.add("matmul", [A1, inner.add("tanh", [z])])])
    two = Function("r", inner, (z, b1, A1), (("r", inner.add("sub", [left, b1])),))
    outputs = (
        ("E", graph.add("root", [m, m, e], function=one)),
        ("z", graph.add("root", [b, b, A], function=two)),
    )
    params = (ParamSpec("e", SCALAR, init=0.6), ParamSpec("A", tensor(2, 2), init=((0.5, 0.2), (-0.3, 0.4))))
    return Function("Kepler", graph, (m, b), outputs, params)


def test_roots_of_a_batch_and_their_gradients() -> None:
    part = compile_source(print_module([], operators=[kepler()]), "generated_kepler").Kepler()
    m = torch.linspace(0.1, 3.0, 7, dtype=torch.float64, requires_grad=True)
    b = torch.randn(7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    E, z = part(m, b)
    torch.testing.assert_close(E - 0.6 * torch.sin(E), m)
    torch.testing.assert_close(z + torch.tanh(z) @ part.A.mT, b)
    by_m, by_e = torch.autograd.grad(E.sum(), [m, part.e], retain_graph=True)
    torch.testing.assert_close(by_m, 1 / (1 - 0.6 * torch.cos(E)).detach())
    torch.testing.assert_close(by_e, (torch.sin(E) / (1 - 0.6 * torch.cos(E))).sum().detach())
    (by_A,) = torch.autograd.grad(z[:, 0].sum(), part.A)
    h = 1e-6
    for i, j in ((0, 0), (1, 0), (0, 1)):
        ends = []
        for sign in (1, -1):
            moved = part.A.detach().clone()
            moved[i, j] += sign * h
            ends.append(
                implicit_root(lambda w, c, A=moved: w + torch.tanh(w) @ A.mT - c, b, (b,), 1)[:, 0].sum()
            )
        torch.testing.assert_close(by_A[i, j], (ends[0] - ends[1]) / (2 * h), rtol=1e-6, atol=1e-8)


def test_a_member_without_a_root_does_not_spoil_the_others() -> None:
    c = torch.tensor([4.0, -1.0, 9.0], dtype=torch.float64)
    z = implicit_root(lambda w, a: w * w - a, torch.ones(3, dtype=torch.float64), (c,), 0)
    assert z[[0, 2]].tolist() == [2.0, 3.0]
    assert z[1].isnan()
