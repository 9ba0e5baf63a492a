"""Eigenvalues, eigenvectors and powers of symmetric matrices.

The compiler gives them matrices that it has proved to be symmetric (`ir/symmetry.py`); derivatives are those
within symmetric matrices: Magnus (1985), Econometric Theory 1, 179–191, and for powers the divided
differences of Daleckii and Krein.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ndl.compiler.ops.adjoint import extents, fit, mul, number, op, scale, spread, zeros
from ndl.compiler.ops.families.linalg import matmul, square, transpose
from ndl.compiler.ops.rules import Rule, numeric, tensors
from ndl.compiler.ops.table import Attributes, Op, TypeRuleError, register
from ndl.compiler.ops.text import call
from ndl.compiler.types import Tensor, Type

if TYPE_CHECKING:
    from ndl.compiler.ir.graph import Graph, Node

Cotangents = list["Node | None"]
NEAR = 1e-5
"""Relative distance below which two eigenvalues are taken as one in a divided difference."""


def _rule(name: str, values: bool) -> Rule:
    def rule(types: Sequence[Type], attributes: Attributes) -> Type:
        (x,) = tensors(types, f"`{name}`")
        numeric([x], f"`{name}`")
        square(x, f"`{name}`")
        return Tensor("R", x.shape[:1] if values else x.shape, x.on)

    return rule


def _runtime(name: str) -> Callable[..., Any]:
    def reference(*x: Any) -> Any:
        from ndl.runtime import eigen

        return getattr(eigen, name)(*x)

    return reference


def _text(name: str) -> Callable[[Sequence[str], Sequence[Type], Attributes], str]:
    return lambda texts, types, a: call(f"ops.{name}", *texts)


def _symmetric(graph: Graph, x: Node) -> Node:
    return scale(graph, 0.5, op(graph, "add", x, transpose(graph, x)))


def _turned(graph: Graph, vectors: Node, inner: Node) -> Node:
    """V^T M V for vectors as rows."""
    return matmul(graph, matmul(graph, transpose(graph, vectors), inner), vectors)


def _grid(graph: Graph, values: Node) -> tuple[Node, Node]:
    """w_i and w_j as matrices."""
    n = extents(values)[0]
    return spread(graph, values, (n, n), (0,)), spread(graph, values, (n, n), (1,))


def _values_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    (a,) = operands
    vectors = op(graph, "eigvecsh", a)
    return [fit(graph, _symmetric(graph, _turned(graph, vectors, op(graph, "diag", g))), a)]


def _vectors_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    """Of simple eigenvalues; those that are equal do not turn each other's vectors."""
    (a,) = operands
    wi, wj = _grid(graph, op(graph, "eigvalsh", a))
    gap = op(graph, "sub", wj, wi)
    same = op(graph, "eq", gap, zeros(graph, extents(a)))
    inverse = op(graph, "div", _like(graph, 1.0, gap), op(graph, "select", same, _like(graph, 1.0, gap), gap))
    weights = op(graph, "select", same, zeros(graph, extents(a)), inverse)
    inner = mul(graph, matmul(graph, node, transpose(graph, g)), weights)
    return [fit(graph, _symmetric(graph, _turned(graph, node, inner)), a)]


def _like(graph: Graph, value: float, matrix: Node) -> Node:
    return spread(graph, number(graph, value), extents(matrix))


register(Op("eigvalsh", _rule("eigvalsh", True), _runtime("eigvalsh"), _text("eigvalsh"), _values_vjp))
register(Op("eigvecsh", _rule("eigvecsh", False), _runtime("eigvecsh"), _text("eigvecsh"), _vectors_vjp))

# ---------------------------------------------------------------- powers


def _power_rule(types: Sequence[Type], attributes: Attributes) -> Type:
    a, s = tensors(types, "a power of a matrix")
    numeric([a, s], "a power of a matrix")
    square(a, "a power")
    if s.rank:
        raise TypeRuleError(f"the power of a matrix is a number, and this is {s}", [1])
    return Tensor("R", a.shape, a.on)


def _power_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    a, s = operands
    w, vectors = op(graph, "eigvalsh", a), op(graph, "eigvecsh", a)
    n = extents(a)[0]
    exponent = spread(graph, s, (n, n))
    wi, wj = _grid(graph, w)
    gap, middle = op(graph, "sub", wi, wj), scale(graph, 0.5, op(graph, "add", wi, wj))
    size = op(graph, "add", op(graph, "abs", wi), op(graph, "abs", wj))
    near = op(graph, "le", op(graph, "abs", gap), scale(graph, NEAR, size))
    safe = op(graph, "select", near, _like(graph, 1.0, gap), gap)
    rise = op(graph, "sub", op(graph, "pow", wi, exponent), op(graph, "pow", wj, exponent))
    lower = op(graph, "sub", exponent, _like(graph, 1.0, gap))
    slope = mul(graph, exponent, op(graph, "pow", middle, lower))
    weights = op(graph, "select", near, slope, op(graph, "div", rise, safe))
    inside = matmul(graph, matmul(graph, vectors, g), transpose(graph, vectors))
    by_a = _symmetric(graph, _turned(graph, vectors, mul(graph, inside, weights)))
    logs = mul(graph, op(graph, "log", w), op(graph, "pow", w, spread(graph, s, (n,))))
    by_s = op(graph, "sum", mul(graph, g, _turned(graph, vectors, op(graph, "diag", logs))), axes=(0, 1))
    return [fit(graph, by_a, a), fit(graph, by_s, s)]


register(
    Op("symmetric_power", _power_rule, _runtime("symmetric_power"), _text("symmetric_power"), _power_vjp)
)
