"""Derivatives against closed forms and finite differences, where sympy's own are wrong too."""

import numpy as np
import pytest
from formulas import E, function, stack, value
from ndl.compiler.ir.graph import Function
from ndl.compiler.passes.cost import total_cost
from ndl.compiler.passes.rewrite import Rewriter
from ndl.compiler.symbolic.bridge import Budget
from ndl.compiler.symbolic.derivatives import diff, jac, jacobian, matrix


def derivative(f, *names):
    by_name = {n.attr("name"): n for n in f.inputs}
    found = diff(f.graph, f.outputs[0][1], *(by_name[n] for n in names))
    return None if found is None else Function("df", f.graph, f.inputs, (("f", found),))


def test_a_power_with_a_symbolic_exponent_at_zero():
    # p x^p / x, as sympy writes it, is 0/0 here.
    df = derivative(function(lambda x, p: x**p, "x", "p"), "x")
    assert value(df, x=0.0, p=2.0)["f"] == 0.0
    assert value(df, x=-2.0, p=3.0)["f"] == 12.0


def test_a_power_by_its_exponent_at_zero():
    df = derivative(function(lambda x, p: x**p, "x", "p"), "p")
    assert value(df, x=0.0, p=2.0)["f"] == 0.0
    assert value(df, x=2.0, p=3.0)["f"] == pytest.approx(8 * np.log(2))


def test_sigmoid_far_out_is_zero_not_nan():
    df = derivative(function(lambda x: x.op("sigmoid"), "x"), "x")
    assert value(df, x=-800.0)["f"] == 0.0 and value(df, x=800.0)["f"] == 0.0


def test_repeated_and_mixed():
    f = function(lambda x, y: (x * y).op("sin"), "x", "y")
    xy = derivative(f, "x", "y")
    got = value(xy, x=0.4, y=1.3)["f"]
    assert got == pytest.approx(np.cos(0.52) - 0.52 * np.sin(0.52), rel=1e-14)


def test_branches_are_differentiated_conditions_are_not():
    f = function(lambda x: x.op("gt", 0.0).op("select", x**2, -3 * x), "x")
    df = derivative(f, "x")
    assert value(df, x=2.0)["f"] == 4.0 and value(df, x=-2.0)["f"] == -3.0


def test_no_formula_no_derivative():
    def formula(x):
        return E(x.graph, x.graph.add("call", [x.node], type=x.node.type, instance="net", index=0)) * x

    assert derivative(function(formula, "x"), "x") is None


def test_derivative_by_what_is_not_an_input():
    f = function(lambda x: x**2, "x")
    square = E(f.graph, f.outputs[0][1])
    cubed = square**3
    found = diff(f.graph, cubed.node, square.node)
    df = Function("df", f.graph, f.inputs, (("f", found),))
    assert value(df, x=2.0)["f"] == pytest.approx(3 * 16.0)


def test_cut_expressions_are_differentiated_through():
    def formula(x, y):
        for _ in range(12):
            x = (x * y).op("sin") + x
        return x

    f = function(formula, "x", "y")
    found = jacobian(f.graph, [f.outputs[0][1]], list(f.inputs), Budget(size=30))
    assert found.reader.cut and found.lets
    target = Rewriter(f.graph)
    inputs = tuple(target.copy(n) for n in f.inputs)
    df = Function("df", target.graph, inputs, (("f", matrix(target, found, (2,))),))
    point, h = {"x": 0.3, "y": -0.3}, 1e-6
    for i, name in enumerate("xy"):
        up, down = ({**point, name: point[name] + s * h} for s in (1, -1))
        numeric = (value(f, **up)["f"] - value(f, **down)["f"]) / (2 * h)
        assert value(df, **point)["f"][i] == pytest.approx(numeric, rel=1e-6, abs=1e-9)
    # Bounded: a constant number of operations for each of the original ones.
    assert total_cost(target.graph, target.graph) < 20 * total_cost(f.graph, f.graph)


def test_jac_has_the_shape_of_both():
    f = function(lambda x: stack(x[0] * x[1], x[1] ** 2, x[0].op("exp")), "x", shapes={"x": (2,)})
    found = jac(f.graph, f.outputs[0][1], f.inputs[0])
    df = Function("df", f.graph, f.inputs, (("f", found),))
    assert value(df, x=[2.0, 3.0])["f"] == [[3.0, 2.0], [0.0, 6.0], [pytest.approx(np.exp(2)), 0.0]]


def test_jac_of_a_scalar_is_a_gradient():
    def formula(x):
        return E(x.graph, x.graph.add("sum", [(x * x).node], axes=(0,)))

    f = function(formula, "x", shapes={"x": (3,)})
    found = jac(f.graph, f.outputs[0][1], f.inputs[0])
    assert value(Function("df", f.graph, f.inputs, (("f", found),)), x=[1.0, 2.0, 3.0])["f"] == [
        2.0,
        4.0,
        6.0,
    ]
