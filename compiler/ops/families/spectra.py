"""Fields in the eigenvectors of the second derivative along each axis, with homogeneous conditions at its
ends.

A basis is (kind, n, what, (low, high)): `fourier` and the length, `stencil` and its attributes, or
`chebyshev` with the layout and the sides whose slope is given; `low` and `high` say whether the value is
given at that end, where eigenvectors are 0. Of n points m eigenvalues are left.

axis_spectrum   (; basis): those along an axis, ascending, [m]
eigenmodes      (x, s; axes, bases, transposed): a field's components along axes in the eigenvectors, times s
eigenmodes_dot  (x, g; axes, bases, transposed): the derivative of sum(g * eigenmodes(x, s)) by s
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ndl.compiler.ops.adjoint import conj, fit, op
from ndl.compiler.ops.families.fields import fourier_matrix, stencil_matrix
from ndl.compiler.ops.rules import tensors
from ndl.compiler.ops.table import Attributes, Op, TypeRuleError, register
from ndl.compiler.ops.text import call
from ndl.compiler.types import Dim, Tensor, Type

if TYPE_CHECKING:
    from ndl.compiler.ir.graph import Graph, Node


def many(basis: Any) -> int:
    """How many eigenvalues a basis has."""
    return int(basis[1]) - sum(map(int, basis[3]))


def _modes(bases: Sequence[Any]) -> tuple[Dim, ...]:
    return tuple(Dim.of(many(b)) for b in bases)


def _values_rule(types: Sequence[Type], a: Attributes) -> Type:
    return Tensor("R", _modes([a["basis"]]))


def _rule(types: Sequence[Type], a: Attributes) -> Type:
    x, s = tensors(types, "a map of eigenvectors")
    if s.shape != _modes(a["bases"]):
        raise TypeRuleError(f"{x} has no modes for {s}", [0, 1])
    return Tensor("C" if "C" in (x.kind, s.kind) else "R", x.shape)


def _dot_rule(types: Sequence[Type], a: Attributes) -> Type:
    x, g = tensors(types, "a map of eigenvectors")
    if x.shape != g.shape:
        raise TypeRuleError(f"{x} and {g} differ", [0, 1])
    return Tensor("C" if "C" in (x.kind, g.kind) else "R", _modes(a["bases"]))


def _decomposed(basis: Any) -> tuple[Any, Any, Any]:
    """Eigenvalues, eigenvectors [n, m] and their inverse [m, n] of the matrix of the second derivative."""
    import torch

    kind, n, what, (low, high) = basis
    if kind == "fourier":
        matrix = fourier_matrix(n, what, 2)
    elif kind == "stencil":
        matrix = stencil_matrix(n, **dict(what))
    else:
        from ndl.compiler.ops.families.fields import chebyshev_matrix

        matrix = chebyshev_matrix(what[0], 2, what[1])
    free = slice(int(low), n - int(high))
    values, vectors = torch.linalg.eig(matrix[free, free])
    order = values.real.argsort()
    vectors = vectors.real[:, order]
    whole = torch.zeros(n, len(order), dtype=torch.float64)
    back = torch.zeros(len(order), n, dtype=torch.float64)
    whole[free], back[:, free] = vectors, torch.linalg.inv(vectors)
    return values.real[order], whole, back


def _along(x: Any, matrix: Any, axis: int) -> Any:
    import torch

    return torch.tensordot(matrix.to(x.dtype), x, dims=([1], [axis])).movedim(0, axis)  # type: ignore[no-untyped-call]


def _taken_apart(x: Any, axes: Any, bases: Any, transposed: bool) -> Any:
    for axis, basis in zip(axes, bases):
        _, vectors, inverse = _decomposed(basis)
        x = _along(x, vectors.T if transposed else inverse, axis)
    return x


def _reference(x: Any, s: Any, axes: Any, bases: Any, transposed: bool = False) -> Any:
    modes = _taken_apart(x, axes, bases, transposed)
    front = modes.movedim(tuple(axes), tuple(range(len(axes))))
    found = (front * s.reshape(*s.shape, *(1,) * (front.ndim - s.ndim))).movedim(
        tuple(range(len(axes))), tuple(axes)
    )
    for axis, basis in zip(axes, bases):
        _, vectors, inverse = _decomposed(basis)
        found = _along(found, inverse.T if transposed else vectors, axis)
    return found


def _dot_reference(x: Any, g: Any, axes: Any, bases: Any, transposed: bool = False) -> Any:
    front = tuple(range(len(axes)))
    first = _taken_apart(x, axes, bases, transposed).movedim(tuple(axes), front)
    second = _taken_apart(g, axes, bases, not transposed).movedim(tuple(axes), front)
    return (first.conj() * second).reshape(*first.shape[: len(axes)], -1).sum(-1)


def _text(name: str) -> Any:
    def text(texts: Sequence[str], types: Sequence[Type], a: Attributes) -> str:
        x = types[0]
        assert isinstance(x, Tensor)
        axes = tuple(k - x.rank for k in a["axes"])
        more = ["True"] if a.get("transposed") else []
        return call(f"ops.{name}", texts[0], texts[1], repr(axes), repr(a["bases"]), str(x.rank), *more)

    return text


def _vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> list[Node | None]:
    x, s = operands
    attrs = {"axes": node.attr("axes"), "bases": node.attr("bases")}
    turned = bool(node.attr("transposed", False))
    back = op(graph, "eigenmodes", g, conj(graph, s), **attrs, transposed=not turned)
    return [
        fit(graph, back, x),
        fit(graph, op(graph, "eigenmodes_dot", x, g, **attrs, transposed=turned), s),
    ]


register(
    Op(
        "axis_spectrum",
        _values_rule,
        lambda basis: _decomposed(basis)[0],
        lambda texts, types, a: call("ops.axis_spectrum", repr(a["basis"])),
    )
)
register(Op("eigenmodes", _rule, _reference, _text("eigenmodes"), _vjp, linear=(0,), multilinear=True))
register(Op("eigenmodes_dot", _dot_rule, _dot_reference, _text("eigenmodes_dot")))
