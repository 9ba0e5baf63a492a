"""Taylor coefficients of graphs against mpmath's: every op that has a derivative, and compositions."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
import sympy
from ndl.compiler.ir.graph import Function, Graph, Node
from ndl.compiler.ir.interpret import interpret
from ndl.compiler.ir.series import Expansion, NoSeries, Series, Sharing
from ndl.compiler.ir.verify import verify
from ndl.compiler.ops.adjoint import number, op
from ndl.compiler.ops.table import TABLE, lookup
from ndl.compiler.types import tensor

ORDER = 7
POLYNOMIALS = {"a": [0.4, 0.7, -0.3, 0.2, 0.05], "b": [1.3, -0.6, 0.25, 0.1, -0.02]}
"""Two values that move: a stays within -1..1, b above 0, at 0."""

lookup("const")
BINARY = ("add", "sub", "mul", "div", "pow", "atan2")
REFUSED = ("lgamma", "digamma")
"""Their derivatives end at `trigamma`, which has none in the table."""
UNARY = [
    name for name, entry in TABLE.items()
    if entry.scalar == name and entry.sympy and entry.vjp and not entry.breaks
    and name not in (*BINARY, *REFUSED, "conj", "real", "imag", "stop_gradient")
]  # fmt: skip


def coefficients(build: Any, shape: tuple[int, ...] = ()) -> np.ndarray:
    """Coefficients 0, …, ORDER of what `build(graph, a, b)` makes of the two values, by the interpreter."""
    graph = Graph()
    inputs = [graph.add("input", type=tensor(*shape), name=name) for name in POLYNOMIALS]
    source = Graph()
    moving = [source.add("input", type=tensor(*shape), name=name) for name in POLYNOMIALS]
    output = build(source, *moving)
    target = Sharing(source, graph)
    expansion = Expansion(source, target)
    for old, new, c in zip(moving, inputs, POLYNOMIALS.values()):

        def make(k: int, new: Node = new, c: list[float] = c) -> Node | None:
            return new if k == 0 else number(graph, c[k], new) if k < len(c) else None

        expansion.leaves[old.id] = Series(make)
    found = [expansion.whole(expansion.of(output)[k], output) for k in range(ORDER + 1)]
    function = Function("series", graph, tuple(inputs), tuple((str(k), n) for k, n in enumerate(found)))
    verify(function)
    starts = {name: np.full(shape, c[0]).tolist() for name, c in POLYNOMIALS.items()}
    return np.array([np.asarray(v) for v in interpret(function, starts).values()])


def reference(function: Any) -> list[float]:
    """mpmath's coefficients of function(a(s), b(s)) at s = 0."""
    a, b = ([mpmath.mpf(v) for v in c[::-1]] for c in POLYNOMIALS.values())
    with mpmath.workdps(60):
        composed = lambda s: function(mpmath.polyval(a, s), mpmath.polyval(b, s))  # noqa: E731
        return [float(v) for v in mpmath.taylor(composed, 0, ORDER)]


@pytest.mark.parametrize("name", UNARY)
def test_a_function_of_one_number(name: str) -> None:
    x, y = sympy.symbols("x y")
    positive = name in ("log", "sqrt")
    image = sympy.lambdify((x, y), lookup(name).sympy(y if positive else x), "mpmath")
    found = coefficients(lambda g, a, b: op(g, name, b if positive else a))
    np.testing.assert_allclose(found, reference(image), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", BINARY)
def test_a_function_of_two_numbers(name: str) -> None:
    x, y = sympy.symbols("x y", positive=True)
    image = sympy.lambdify((y, x), lookup(name).sympy(x, y), "mpmath")
    found = coefficients(lambda g, a, b: op(g, name, b, a))
    np.testing.assert_allclose(found, reference(image), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("r", [2, 3, 5, -1, -3, 0.5, -1.5, 2.7, 20])
def test_powers(r: float) -> None:
    found = coefficients(lambda g, a, b: op(g, "pow", a, number(g, r)))
    np.testing.assert_allclose(found, reference(lambda a, b: a**r), rtol=1e-10, atol=1e-12)


def test_a_whole_power_of_zero_has_its_series() -> None:
    def build(g: Graph, a: Node, b: Node) -> Node:
        return op(g, "pow", op(g, "sub", a, number(g, POLYNOMIALS["a"][0])), number(g, 3.0))

    found = coefficients(build)
    np.testing.assert_allclose(found, reference(lambda a, b: (a - POLYNOMIALS["a"][0]) ** 3), atol=1e-13)


def test_compositions_and_pieces() -> None:
    def build(g: Graph, a: Node, b: Node) -> Node:
        inner = op(g, "sin", op(g, "mul", a, op(g, "exp", b)))
        piece = op(g, "select", op(g, "gt", a, b), a, op(g, "div", inner, op(g, "add", b, inner)))
        return op(g, "sub", op(g, "mul", piece, piece), op(g, "abs", op(g, "sub", a, b)))

    def image(a: Any, b: Any) -> Any:
        inner = mpmath.sin(a * mpmath.exp(b))
        return (inner / (b + inner)) ** 2 + (a - b)

    np.testing.assert_allclose(coefficients(build), reference(image), rtol=1e-10, atol=1e-12)


def test_arrays() -> None:
    """Products, contractions and reshapings of vectors, whose entries are all alike here."""

    def build(g: Graph, a: Node, b: Node) -> Node:
        matrix = op(g, "einsum", a, op(g, "mul", a, b), equation="i,j->ij")
        vector = op(g, "matmul", matrix, op(g, "sqrt", b))
        return op(g, "index", op(g, "add", vector, op(g, "cos", a)), axis=0, at=1)

    def image(a: Any, b: Any) -> Any:
        return 3 * a * a * b * mpmath.sqrt(b) + mpmath.cos(a)

    np.testing.assert_allclose(coefficients(build, (3,)), reference(image), rtol=1e-10, atol=1e-12)


def test_what_has_no_recurrence_says_so() -> None:
    with pytest.raises(NoSeries, match="`amax` has no recurrence"):
        coefficients(lambda g, a, b: op(g, "amax", a, axes=(0,)), (3,))
    with pytest.raises(NoSeries, match="`trigamma` has no recurrence"):
        coefficients(lambda g, a, b: op(g, "lgamma", b))


def test_what_does_not_move_has_one_coefficient() -> None:
    found = coefficients(lambda g, a, b: op(g, "floor", op(g, "exp", a)))
    assert found[0] == 1 and not found[1:].any()
