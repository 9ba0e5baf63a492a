"""Constant folding: an operation on constants becomes its value, by the reference implementation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ndl.compiler.ir.graph import Function, Node
from ndl.compiler.ops.table import lookup
from ndl.compiler.passes.rewrite import Rewriter
from ndl.compiler.types import Tensor

LARGEST = 4096
"""Entries of an array beyond which it is better computed than stored."""

KEPT = frozenset(
    {"expand", "stop_gradient", "call", "apply", "apply_jac", "apply_series", "apply_phi", "apply_linear"}
    | {"apply_transposed"}
)
KEPT |= {"root", "path", "map_function", "map_function_back", "map_function_along"}
"""`expand` of a constant stays: a repeated number is best written as a number."""

REGULAR = frozenset({"inv", "cholesky", "solve"})
"""What some matrices do not have."""

ON_GRIDS = frozenset({"stencil", "mask", "lift", "lower", "multiplier", "truncate", "nearest"})
ON_GRIDS |= {"cardinal", "eigenmodes", "eigenmodes_dot", "from_waves", "mesh_apply"}
ON_GRIDS |= {"mesh_cardinal", "mesh_solve", "modal", "modal_dot"}
ON_GRIDS |= {"to_waves"}
"""Their results are as large as a grid."""


def nested(value: Any) -> Any:
    """A tensor's entries as a number or nested tuples."""

    def frozen(entry: Any) -> Any:
        return tuple(map(frozen, entry)) if isinstance(entry, list) else entry

    return frozen(value.tolist())


def constant_tensor(node: Node) -> Any:
    """The value of a `const` node in the precision of its kind."""
    import torch

    dtypes = {"R": torch.float64, "C": torch.complex128, "Z": torch.int64, "Bool": torch.bool}
    kind = node.type.kind if isinstance(node.type, Tensor) else "R"
    return torch.tensor(node.attr("value"), dtype=dtypes[kind])


class Folder(Rewriter):
    """Remakes nodes, replacing those whose operands are all constants."""

    def remake(self, node: Node) -> Node:
        self._widen(node)
        operands = [self.image[i] for i in node.inputs]
        values = [self._value(n) for n in operands]
        foldable = operands and node.op not in KEPT | ON_GRIDS and all(v is not None for v in values)
        if not foldable or not isinstance(node.type, Tensor):
            return super().remake(node)
        if any(d.constant is None for d in node.type.shape) or _entries(node.type) > LARGEST:
            return super().remake(node)
        result = lookup(node.op).reference(*values, **dict(node.attrs))
        if node.op in REGULAR and not result.isfinite().all():
            return super().remake(node)  # the run says where it has no value
        return self.add("const", type=node.type, span=node.span, hint=node.hint, value=nested(result))

    def _widen(self, node: Node) -> None:
        """Arrays of whole numbers that meet real ones become real, so that nothing is converted later."""
        if not isinstance(node.type, Tensor) or node.type.kind != "R" or node.op in ("gather", "const"):
            return
        for i in node.inputs:
            constant = self.image[i]
            type_ = constant.type
            if constant.op == "const" and isinstance(type_, Tensor) and type_.kind == "Z" and type_.rank:
                value = nested(constant_tensor(constant).double())
                self.image[i] = self.add(
                    "const",
                    type=replace(type_, kind="R"),
                    span=constant.span,
                    hint=constant.hint,
                    value=value,
                )

    def _value(self, node: Node) -> Any:
        """The tensor of a constant, or of a repeated constant of bounded size; else None."""
        if node.op == "const":
            return constant_tensor(node)
        if node.op == "expand" and isinstance(node.type, Tensor):
            inner = self._value(self.graph[node.inputs[0]])
            sized = all(d.constant is not None for d in node.type.shape)
            if inner is not None and sized and _entries(node.type) <= LARGEST:
                return lookup("expand").reference(inner, **dict(node.attrs))
        return None


def _entries(type_: Tensor) -> int:
    total = 1
    for n in type_.extents:
        total *= n
    return total


def fold(function: Function) -> Function:
    """The same function with constant operations computed."""
    return Folder(function.graph).function(function)
