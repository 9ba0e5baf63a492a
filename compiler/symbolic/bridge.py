"""Graph → sympy: nodes read as arrays of expressions, one for each component.

What cannot be read (a call, a linear solve, a tensor too large) becomes symbols that know what they depend
on. An expression that outgrows the budget is cut: it becomes a symbol with a definition, so that the
work on any one expression is bounded, and with it everything that is built on this file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from ndl.compiler.ir.graph import Graph, Node
from ndl.compiler.ops.table import lookup
from ndl.compiler.symbolic.functions import HEADS, NATIVE
from ndl.compiler.symbolic.leaves import Leaves
from ndl.compiler.symbolic.numbers import LONGEST, UNREAL, bits, exact
from ndl.compiler.symbolic.tensors import LAYOUTS, REDUCTIONS
from ndl.compiler.types import Tensor

Cells = npt.NDArray[Any]


@dataclass(frozen=True)
class Budget:
    """Bounds of symbolic work, all counts. `size`: nodes of one expression as a tree; `components`: of one
    tensor; `total`: expressions that are built for one function."""

    size: int = 250
    components: int = 128
    total: int = 20_000


class Reader:
    """Reads the nodes of one graph. `scalars_only` leaves tensors unread (their components, taken by
    `index`, are then symbols of the `index` nodes). Nodes whose ids are in `hold` are variables like inputs.
    """

    def __init__(
        self,
        graph: Graph,
        budget: Budget | None = None,
        scalars_only: bool = False,
        hold: Collection[int] = (),
    ) -> None:
        self.graph = graph
        self.hold = frozenset(hold)
        self.budget = budget or Budget()
        self.scalars_only = scalars_only
        self.leaves = Leaves()
        self.cut: set[int] = set()
        """Nodes whose expressions were cut off by the budget."""
        self._cells: dict[int, Cells | None] = {}
        self._reads: dict[int, frozenset[Any]] = {}
        self._sizes: dict[Any, int] = {}
        self._spent = 0

    def read(self, node: Node) -> Cells | None:
        """The components of a node, None when the node has too many. Operands are read first."""
        if node.id not in self._cells:
            for needed in self.graph.needed([node]):
                if needed.id not in self._cells:
                    self._cells[needed.id] = self._visit(needed)
        return self._cells[node.id]

    def reads(self, node: Node) -> frozenset[Any]:
        """The symbols of inputs that any component of a node depends on."""
        if node.id not in self._reads:
            cells = self.read(node)
            if cells is None:
                operands = self.graph.operands(node)
                self._reads[node.id] = frozenset().union(*(self.reads(n) for n in operands))
            else:
                supports = (self.leaves.support(e) for e in cells.flat)
                self._reads[node.id] = frozenset().union(*supports)
        return self._reads[node.id]

    def expression(self, node: Node) -> Any:
        """The expression of a scalar node."""
        cells = self.read(node)
        assert cells is not None and cells.shape == ()
        return cells[()]

    def size(self, expr: Any) -> int:
        """Nodes of an expression as a tree."""
        if expr not in self._sizes:
            self._sizes[expr] = 1 + sum(map(self.size, expr.args))
        return self._sizes[expr]

    # ------------------------------------------------------------ one node

    def _visit(self, node: Node) -> Cells | None:
        if not isinstance(node.type, Tensor) or node.type.kind == "C":
            return self._opaque(node)
        if node.id in self.hold or (self.scalars_only and self._of_tensors(node)):
            return self._opaque(node)
        operands = [self._cells[i] for i in node.inputs]
        if any(cells is None for cells in operands):
            return self._opaque(node)
        found = self._image(node, [cells for cells in operands if cells is not None])
        if found is None or found.size > self.budget.components:
            return self._opaque(node)
        self._spent += found.size
        if self._spent > self.budget.total or not all(map(is_real, found.flat)):
            return self._opaque(node)
        if node.op in ("const", "input", "param"):
            return found
        bounded = np.empty(found.shape, dtype=object)
        for place in np.ndindex(found.shape):
            bounded[place] = self._bounded(node, place, found[place])
        return bounded

    def _of_tensors(self, node: Node) -> bool:
        """Whether a node is a tensor, or made of one as a component is."""
        return any(isinstance(n.type, Tensor) and n.type.rank for n in (node, *self.graph.operands(node)))

    def _bounded(self, node: Node, place: tuple[int, ...], expr: Any) -> Any:
        if self.size(expr) <= self.budget.size and bits(expr) <= LONGEST:
            return expr
        self.cut.add(node.id)
        return self.leaves.symbol(node, place, definition=expr)

    def _image(self, node: Node, operands: Sequence[Cells]) -> Cells | None:
        attributes = dict(node.attrs)
        if node.op == "const":
            return constant_cells(attributes["value"])
        if node.op in ("input", "param"):
            return self._opaque(node)
        if node.op in LAYOUTS:
            return LAYOUTS[node.op](operands, attributes)
        image = scalar_image(node.op)
        if node.op in REDUCTIONS and not self.scalars_only:
            found = REDUCTIONS[node.op](operands, attributes)
            return found if found is None else np.asarray(found, dtype=object)
        if image is None or any(cells.shape != operands[0].shape for cells in operands):
            return None
        result = np.empty(operands[0].shape, dtype=object)
        for place in np.ndindex(result.shape):
            arguments = [cells[place] for cells in operands]
            if node.op == "pow" and not tame_power(*arguments):
                return None
            result[place] = image(*arguments, **attributes)
        return result

    def _opaque(self, node: Node) -> Cells | None:
        """Fresh symbols for the components, or None when there are too many of them."""
        if not isinstance(node.type, Tensor) or node.type.kind == "C":
            return None
        if any(n.constant is None for n in node.type.shape):
            return None
        shape = node.type.extents
        if int(np.prod(shape, dtype=int)) > self.budget.components:
            return None
        reads: frozenset[Any] | None = None
        if node.op != "input" and node.id not in self.hold:
            reads = frozenset().union(*(self.reads(n) for n in self.graph.operands(node)))
        cells = np.empty(shape, dtype=object)
        for place in np.ndindex(shape):
            cells[place] = self.leaves.symbol(node, place, reads=reads)
        return cells


@cache
def scalar_image(op: str) -> Callable[..., Any] | None:
    """The sympy image of an elementwise op: our own head, sympy's function, else what its entry says."""
    if op in HEADS:
        return HEADS[op]
    if op in NATIVE:
        native: Callable[..., Any] = NATIVE[op]
        return native
    entry = lookup(op)
    return entry.sympy if entry.scalar is not None else None


def constant_cells(value: Any) -> Cells | None:
    """A literal, or nested tuples of them, as exact numbers; None if one of them is not finite."""
    if isinstance(value, bool):
        return None
    array = np.array(value, dtype=object)
    cells = np.empty(array.shape, dtype=object)
    for place in np.ndindex(array.shape):
        cells[place] = exact(array[place])
        if cells[place] is None:
            return None
    return cells


def is_real(expr: Any) -> bool:
    """No infinity and no complex number that sympy has met while evaluating."""
    return not expr.has(*UNREAL) and not (expr.is_number and expr.is_extended_real is False)


def tame_power(base: Any, exponent: Any) -> bool:
    """Can the power be taken exactly without making a number that is too long?"""
    if not exponent.is_Rational:
        return True
    return abs(exponent) <= 64 and bool(abs(int(exponent.p)) * bits(base) <= LONGEST)
