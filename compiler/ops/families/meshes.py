"""Fields on meshes: values and derivatives at points of quadrature, and mass matrices.

A field is stored by its values at the nodes. Points are those of a `place`, `cell` or `facet`, one after the
other (`compiler/geometry/elements.py`).

mesh_data      (key, size) -> a constant vector: coordinates, weights, normals, marks of parts
mesh_index     (key, size) -> a constant vector of whole numbers: neighbours
mesh_cardinal  (p; mesh, by, size) -> of places p `[…, d]`, on a new last axis, the functions of the nodes
               there, differentiated by the coordinates `by`; beyond the mesh those of a cell nearby go on
mesh_apply     (mesh, place, slope, axis, size, transposed): the value (`slope` -1) or the derivative by a
               coordinate of a field at the points of a place; transposed, what belongs to the points summed
               up with the functions of each node. `size` is how many entries the axis then has
mesh_solve     (mesh, free, axis): M^-1 among the nodes that the vector `free` marks, 0 at others; M is the
               mass matrix
weak_divergence the divergence of a vector that depends on derivatives of fields. It stands for its weak form
               and is gone when a model is lowered: a function that still has one is refused (NDL490)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ndl.compiler.ops.adjoint import fit, op
from ndl.compiler.ops.families.fields import _back, _floating, _named, _plain
from ndl.compiler.ops.rules import axis_of, numeric, tensors
from ndl.compiler.ops.table import Attributes, Op, TypeRuleError, register
from ndl.compiler.ops.text import call
from ndl.compiler.types import Dim, Tensor, Type

if TYPE_CHECKING:
    from ndl.compiler.ir.graph import Graph, Node

Cotangents = list["Node | None"]


def _data_reference(key: str, size: int) -> Any:
    import torch
    from ndl.compiler.geometry.store import ARRAYS

    return torch.from_numpy(ARRAYS[key].copy())


register(
    Op(
        "mesh_data",
        lambda types, a: Tensor("R", (Dim.of(a["size"]),)),
        _data_reference,
        lambda texts, types, a: call("ops.mesh_data", _plain(a["key"])),
    )
)


register(
    Op(
        "mesh_index",
        lambda types, a: Tensor("Z", (Dim.of(a["size"]),)),
        lambda key, size: _data_reference(key, size).long(),
        lambda texts, types, a: call("ops.mesh_index", _plain(a["key"])),
    )
)


def _cardinal_rule(types: Sequence[Type], a: Attributes) -> Type:
    (p,) = tensors(types, "a place")
    numeric([p], "a place")
    return Tensor("R", (*p.shape[:-1], Dim.of(a["size"])))


def _cardinal_reference(p: Any, mesh: str, by: tuple[int, ...], size: int) -> Any:
    """Place by place, by the barycentric coordinates in the cell where the least of them is greatest."""
    import numpy as np
    import torch
    from ndl.compiler.geometry.store import MESHES

    elements, d = MESHES[mesh], p.shape[-1]
    corners = elements.mesh.points[elements.mesh.cells]
    cells = [np.linalg.inv(np.concatenate([np.ones((d + 1, 1)), c], 1).T) for c in corners]
    rows = np.zeros((p.numel() // d, size))
    for row, x in zip(rows, p.detach().reshape(-1, d).tolist()):
        cell = max(range(len(cells)), key=lambda e: float((cells[e] @ [1.0, *x]).min()))
        A = cells[cell]
        for node in elements.cell.dofs[cell]:
            own = np.flatnonzero((A @ [1.0, *elements.nodes[node]]) > 0.25)
            row[node] = _node_function(own, A @ [1.0, *x], A[:, 1:], by, elements.order)
    return torch.from_numpy(rows).reshape(*p.shape[:-1], size)


def _node_function(own: Any, at: Any, slopes: Any, by: tuple[int, ...], order: int) -> float:
    """A function of a node at a corner, `own` its number, or in the middle of two: l of order 1, l (2 l - 1)
    and 4 l l' of order 2; or one of its derivatives."""
    i, j = own[0], own[-1]
    if order == 1:
        return float(at[i] if not by else slopes[i, by[0]] if len(by) == 1 else 0.0)
    weight, less = (2.0, 1.0) if i == j else (4.0, 0.0)
    if not by:
        return float(weight * at[i] * at[j] - less * at[i])
    if len(by) == 1:
        (k,) = by
        return float(weight * (slopes[i, k] * at[j] + at[i] * slopes[j, k]) - less * slopes[i, k])
    if len(by) == 2:
        k, q = by
        return float(weight * (slopes[i, k] * slopes[j, q] + slopes[i, q] * slopes[j, k]))
    return 0.0


def _cardinal_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    (p,) = operands
    assert isinstance(p.type, Tensor) and isinstance(node.type, Tensor)
    last, parts = node.type.rank - 1, []
    for k in range(p.type.shape[-1].constant or 0):
        attrs = dict(node.attrs) | {"by": (*node.attr("by"), k)}
        slope = op(graph, "mesh_cardinal", p, **attrs)
        parts.append(op(graph, "sum", op(graph, "mul", g, slope), axes=(last,)))
    return [fit(graph, op(graph, "stack", *parts, axis=last), p)]


register(
    Op(
        "mesh_cardinal",
        _cardinal_rule,
        _cardinal_reference,
        lambda texts, types, a: call("ops.mesh_cardinal", texts[0], *_named(a, "mesh", "by")),
        _cardinal_vjp,
    )
)


def _apply_rule(types: Sequence[Type], a: Attributes) -> Type:
    (x,) = tensors(types, "a field on a mesh")
    numeric([x], "a field on a mesh")
    axis = axis_of(a, x.rank, "a field on a mesh")
    shape = (*x.shape[:axis], Dim.of(a["size"]), *x.shape[axis + 1 :])
    return Tensor("C" if x.kind == "C" else "R", shape)


def apply_matrix(mesh: str, place: str, slope: int) -> Any:
    """The matrix from the nodes to the points of a place, row by row."""
    import torch
    from ndl.compiler.geometry.store import MESHES

    elements = MESHES[mesh]
    table = getattr(elements, place)
    count = table.weights.shape[1]
    matrix = torch.zeros((table.weights.size, len(elements.nodes)), dtype=torch.float64)
    for e, nodes in enumerate(table.dofs):
        for q in range(count):
            rows = table.values[e % len(table.values)][q] if slope < 0 else table.slopes[e, q, slope]
            for node, w in zip(nodes, rows):
                matrix[e * count + q, node] += float(w)
    return matrix


def _apply_reference(
    x: Any, mesh: str, place: str, slope: int, axis: int, size: int, transposed: bool
) -> Any:
    import torch

    x = _floating(x)
    matrix = apply_matrix(mesh, place, slope).to(x.dtype)
    if transposed:
        matrix = matrix.mT
    return torch.tensordot(matrix, x, dims=([1], [axis])).movedim(0, axis)  # type: ignore[no-untyped-call]


def _apply_text(texts: Sequence[str], types: Sequence[Type], a: Attributes) -> str:
    shown = ["mesh", "place", "slope", *(["transposed"] if a["transposed"] else [])]
    return call("ops.mesh_apply", texts[0], _back(a, types), *_named(a, *shown))


def _apply_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    (x,) = operands
    assert isinstance(x.type, Tensor)
    attrs = dict(node.attrs)
    attrs |= {"transposed": not attrs["transposed"], "size": x.type.shape[attrs["axis"]].constant}
    return [fit(graph, op(graph, "mesh_apply", g, **attrs), x)]


register(Op("mesh_apply", _apply_rule, _apply_reference, _apply_text, _apply_vjp, linear=(0,)))


def _solve_rule(types: Sequence[Type], a: Attributes) -> Type:
    (x,) = tensors(types, "a field on a mesh")
    numeric([x], "a field on a mesh")
    axis_of(a, x.rank, "a field on a mesh")
    return Tensor("C" if x.kind == "C" else "R", x.shape)


def _solve_reference(x: Any, mesh: str, free: str, axis: int) -> Any:
    """By the dense mass matrix."""
    import torch
    from ndl.compiler.geometry.store import ARRAYS, MESHES

    x = _floating(x).movedim(axis, 0)
    V = apply_matrix(mesh, "cell", -1)
    w = torch.from_numpy(MESHES[mesh].cell.weights.reshape(-1).copy())
    inside = torch.from_numpy(ARRAYS[free].copy()).bool()
    M = (V.mT @ (w[:, None] * V))[inside][:, inside].to(x.dtype)
    found = torch.zeros_like(x)
    flat = x[inside].reshape(int(inside.sum()), -1)
    found[inside] = torch.linalg.solve(M, flat).reshape(x[inside].shape)
    return found.movedim(0, axis)


register(
    Op(
        "mesh_solve",
        _solve_rule,
        _solve_reference,
        lambda texts, types, a: call("ops.mesh_solve", texts[0], _back(a, types), *_named(a, "mesh", "free")),
        lambda graph, node, operands, g: [
            fit(graph, op(graph, "mesh_solve", g, **dict(node.attrs)), operands[0])
        ],
        linear=(0,),
    )
)


def _divergence_rule(types: Sequence[Type], a: Attributes) -> Type:
    (x,) = tensors(types, "a divergence")
    if not x.rank:
        raise TypeRuleError("a divergence is of a vector", [0])
    return Tensor(x.kind, x.shape[:-1])


def _gone(*_: Any, **__: Any) -> Any:
    raise NotImplementedError("a weak divergence has no value of its own")


register(Op("weak_divergence", _divergence_rule, _gone, _gone, linear=(0,)))
