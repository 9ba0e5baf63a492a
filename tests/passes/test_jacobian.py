"""The symbolic Jacobian against automatic differentiation and by its text."""

import math

import pytest
import torch
from formulas import E, model, stack
from ndl.compiler.ir.interpret import interpret
from ndl.compiler.ir.verify import verify
from ndl.compiler.passes.cost import total_cost
from ndl.compiler.passes.jacobian import with_jacobian
from test_facts import lorenz, robertson


def drift_vector(m, x):
    """The flat drift as a torch function of the flat state."""
    inputs, at = {"t": torch.tensor(0.0, dtype=torch.float64)}, 0
    for s in m.states:
        inputs[s.name] = x[at : at + s.size].reshape(s.type.extents)
        at += s.size
    weights = {p.name: torch.tensor(p.init, dtype=torch.float64) for p in m.params}
    return inputs, weights


def both(m, x):
    x = torch.tensor(x, dtype=torch.float64)

    def f(v):
        found = interpret(m.drift, *drift_vector(m, v))
        return torch.cat([found[name].reshape(-1) for name, _ in m.drift.outputs])

    symbolic = interpret(m.jacobian, *drift_vector(m, x))["jacobian"]
    return symbolic, torch.autograd.functional.jacobian(f, x)


def brusselator(cells):
    """A chain of cells: a banded Jacobian."""

    def drift(t, u, v, a, b):
        du, dv = [], []
        for i in range(cells):
            left, right = (i - 1) % cells, (i + 1) % cells
            react = u[i] ** 2 * v[i]
            du.append(a + react - (b + 1) * u[i] + 0.1 * (u[left] - 2 * u[i] + u[right]))
            dv.append(b * u[i] - react)
        return {"u": stack(*du), "v": stack(*dv)}

    start = tuple(1.0 + 0.1 * i for i in range(cells))
    return model({"u": start, "v": start}, drift, params={"a": 1.0, "b": 3.0})


@pytest.mark.parametrize(
    "m, point",
    [
        (robertson(), [0.9, 1e-5, 0.1]),
        (robertson(dae=True), [0.9, 1e-5, 0.1]),
        (lorenz(), [1.0, -2.0, 20.0]),
        (brusselator(5), [1.0 + 0.1 * i for i in range(10)]),
    ],
)
def test_it_agrees_with_automatic_differentiation(m, point):
    m = with_jacobian(m)
    verify(m.jacobian)
    symbolic, automatic = both(m, point)
    assert torch.allclose(symbolic, automatic, rtol=1e-13, atol=1e-13)
    pattern = {(i, j) for i, j in automatic.nonzero().tolist()}
    assert pattern <= set(m.sparsity)


def test_robertson_costs_no_more_than_by_hand():
    m = with_jacobian(robertson())
    # By hand: 1e4*c, 1e4*b, 6e7*b, two signs and one sum.
    arithmetic = [n for n in m.jacobian.graph if n.op != "stack"]
    assert total_cost(m.jacobian.graph, arithmetic) == 6


def test_shared_subexpressions_are_computed_once():
    m = model(
        {"x": 0.3, "y": 0.7},
        lambda t, x, y: {"x": (x * y).op("exp"), "y": (x * y).op("exp") * 2.0},
    )
    m = with_jacobian(m)
    assert sum(node.op == "exp" for node in m.jacobian.graph) == 1
    symbolic, automatic = both(m, [0.3, 0.7])
    assert torch.allclose(symbolic, automatic)
    assert symbolic[0, 0] == pytest.approx(0.7 * math.exp(0.21))


def test_sparse_where_it_is():
    m = with_jacobian(brusselator(5))
    assert len(m.sparsity) == 5 * 3 + 5 + 5 + 5


def test_no_formula_or_too_large():
    def drift(t, x):
        return {"x": E(x.graph, x.graph.add("call", [x.node], type=x.node.type, instance="net", index=0))}

    assert with_jacobian(model({"x": 1.0}, drift)).jacobian is None
    large = model({"x": tuple([1.0] * 33)}, lambda t, x: {"x": -x})
    assert with_jacobian(large).jacobian is None
