"""Graph → sympy → graph keeps the meaning, for every elementwise op; literals are exact; nothing hangs."""

import math
from fractions import Fraction

import mpmath
import pytest
import sympy as sp
from formulas import E, function, stack, value
from ndl.compiler.ir.graph import Function, Graph
from ndl.compiler.ops.table import TABLE, lookup
from ndl.compiler.passes.rewrite import Rewriter
from ndl.compiler.symbolic.bridge import Budget, Reader
from ndl.compiler.symbolic.derivatives import diff, leaf_writer
from ndl.compiler.symbolic.numbers import exact, number
from ndl.compiler.symbolic.text import expr_text
from ndl.compiler.types import BOOL, tensor

lookup("add")
ELEMENTWISE = sorted(
    name for name, op in TABLE.items() if op.scalar and name not in ("conj", "real", "imag", "isfinite")
)
BINARY = frozenset(
    [
        "add",
        "sub",
        "mul",
        "div",
        "pow",
        "coarse_power",
        "floordiv",
        "mod",
        "maximum",
        "minimum",
        "atan2",
        "lt",
        "le",
        "gt",
        "ge",
        "eq",
        "ne",
        "and",
        "or",
    ]
)
WITHOUT_DERIVATIVE = ("trigamma", "coarse_power", "eq", "ne", "stop_gradient")
POINTS = [(0.3, 0.7), (0.85, 0.25), (0.5, 0.5)]


def rewritten(f):
    """The function with every scalar output read as an expression and written back."""
    reader, target = Reader(f.graph), Rewriter(f.graph)
    writer = leaf_writer(target, reader, {})
    inputs = [target.copy(n) for n in f.inputs]
    outputs = {name: E(target.graph, writer.write(reader.expression(n))) for name, n in f.outputs}
    return Function(f.name, target.graph, tuple(inputs), tuple((k, e.node) for k, e in outputs.items()))


def elementwise(name):
    """f(x, y) that applies an op to operands of the kind that it takes."""

    def formula(x, y):
        truth = [x.op("lt", 0.4), y.op("lt", 0.4)]
        if name == "not":
            return truth[0].op("not").op("select", x, y)
        if name in ("and", "or"):
            return truth[0].op(name, truth[1]).op("select", x, y)
        if name == "select":
            return truth[0].op("select", x * 2, y)
        found = x.op(name, y) if name in BINARY else x.op(name)
        return found.op("select", x, y) if found.node.type == BOOL else found

    return function(formula, "x", "y")


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_every_elementwise_op_survives_the_round_trip(name):
    f = elementwise(name)
    g = rewritten(f)
    for x, y in POINTS:
        assert value(g, x=x, y=y)["f"] == pytest.approx(value(f, x=x, y=y)["f"], rel=1e-14)


@pytest.mark.parametrize("name", [n for n in ELEMENTWISE if n not in WITHOUT_DERIVATIVE])
def test_derivatives_agree_with_mpmath(name):
    f = elementwise(name)
    x, y = f.inputs
    (_, output) = f.outputs[0]
    for variable in (x, y):
        slope = diff(f.graph, output, variable)
        assert slope is not None
        df = type(f)("df", f.graph, f.inputs, (("f", slope),))
        for at in POINTS[:2]:
            point = dict(zip("xy", at))
            moved = variable.attr("name")
            numeric = mpmath.diff(
                lambda v, p=point, m=moved: value(f, **{**p, m: float(v)})["f"], point[moved], h=1e-5
            )
            assert value(df, **point)["f"] == pytest.approx(float(numeric), rel=1e-5, abs=1e-6)


def test_literals_are_exact():
    assert exact(0.1) == sp.Rational(1, 10) and exact(3e7) == 30_000_000 and exact(2) == 2
    assert exact(math.inf) is None and exact(True) is None and exact(1j) is None
    for v in (0.1, 1 / 3, 6.02214076e23, 1.7e-300, -0.3, 5e-324):
        assert number(exact(v)) == v
    assert number(exact(math.pi)) == math.pi


def test_a_quotient_of_literals_is_a_rational():
    f = function(lambda x: E(x.graph, x.graph.add("const", value=1)) / 3 * x * 3, "x")
    assert Reader(f.graph).expression(f.outputs[0][1]).is_Symbol


def test_reals_are_real():
    f = function(lambda x: ((x**2).op("sqrt")).op("log") + x.op("exp").op("log"), "x")
    assert expr_text(Reader(f.graph).expression(f.outputs[0][1])) == "x + log(abs(x))"


def test_components_of_tensors():
    def formula(x, a):
        y = E(x.graph, x.graph.add("matmul", [a.node, x.node]))
        return {"y": stack(y[1], y[0]), "s": E(x.graph, x.graph.add("sum", [y.node], axes=(0,)))}

    f = function(formula, "x", "a", shapes={"x": (2,), "a": (2, 2)})
    reader = Reader(f.graph)
    first, second = reader.read(f.outputs[0][1])
    assert expr_text(first) == "a[1, 0]*x[0] + a[1, 1]*x[1]"
    assert expr_text(second) == "a[0, 0]*x[0] + a[0, 1]*x[1]"
    total = reader.read(f.outputs[1][1])[()]
    assert sp.expand(total - first - second) == 0


def test_what_cannot_be_read_knows_what_it_depends_on():
    def formula(x, y):
        graph = x.graph
        called = graph.add("call", [x.node], type=tensor(), instance="net", index=0)
        return E(graph, called) * y

    f = function(formula, "x", "y")
    reader = Reader(f.graph)
    expr = reader.expression(f.outputs[0][1])
    assert {s.name for s in reader.leaves.support(expr)} == {"x", "y"}


def test_a_tower_of_squares_is_cut_not_expanded():
    def formula(x):
        for _ in range(60):
            x = x * x + x
        return x

    f = function(formula, "x")
    reader = Reader(f.graph, Budget(size=50))
    expr = reader.expression(f.outputs[0][1])
    assert reader.size(expr) <= 50 and reader.cut
    g = rewritten_with_cuts(f, reader)
    assert value(g, x=1e-20)["f"] == pytest.approx(value(f, x=1e-20)["f"], rel=1e-13)
    assert len(g.graph) <= len(f.graph) + 2


def rewritten_with_cuts(f, reader):
    target = Rewriter(f.graph)
    lets = dict(reader.leaves.definitions())
    writer = leaf_writer(target, reader, lets)
    inputs = tuple(target.copy(n) for n in f.inputs)
    return type(f)("f", target.graph, inputs, (("f", writer.write(reader.expression(f.outputs[0][1]))),))


def test_huge_powers_are_left_alone():
    f = function(lambda x: (2 * x) ** 10**9 + E(x.graph, x.graph.add("const", value=7)) ** 10**8, "x")
    expr = Reader(f.graph).expression(f.outputs[0][1])
    assert len(expr.free_symbols) == 2


def test_values_that_are_not_real_stay_operations():
    graph = Graph()
    minus = E(graph, graph.add("const", value=-1.0))
    assert Reader(graph).expression(minus.op("sqrt").node).is_Symbol
    assert Reader(graph).expression((minus / 0.0).node).is_Symbol
    assert Reader(graph).expression((minus * 8 ** Fraction(1)).op("pow", 1 / 3).node).is_Symbol
