"""Derivatives of expressions and of graph nodes, exact and sparse.

Differentiation is ours, by the rules of a textbook, because sympy's writes d(x^p)/dx as p x^p / x, which
is 0/0 where the derivative is 0; a head's own derivative is its `fdiff`. Expressions cut by the budget are
differentiated by the chain rule through their symbols, so that nothing grows beyond its bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy as sp
from ndl.compiler.ir.graph import Graph, Node
from ndl.compiler.passes.rewrite import Rewriter
from ndl.compiler.symbolic.bridge import Budget, Reader
from ndl.compiler.symbolic.functions import OP_OF, Equal, NoDerivative, Select
from ndl.compiler.symbolic.leaves import Leaves
from ndl.compiler.symbolic.writer import Writer
from ndl.compiler.types import SCALAR, Tensor, tensor


@dataclass
class Differentiator:
    """Differentiates expressions over the symbols of `leaves`; `lets` are the derivatives of cut
    expressions, by symbol, each after those that it uses."""

    leaves: Leaves
    lets: dict[Any, Any] = field(default_factory=dict)
    _known: dict[Any, Any] = field(default_factory=dict)

    def d(self, expr: Any, x: Any) -> Any:
        """∂expr/∂x; raises `NoDerivative` where an op has none or a value was not read."""
        key = (expr, x)
        if key not in self._known:
            self._known[key] = self._rule(expr, x)
        return self._known[key]

    def _rule(self, expr: Any, x: Any) -> Any:
        if expr == x:
            return sp.S.One
        if x not in self.leaves.support(expr):
            return sp.S.Zero
        if expr.is_Symbol:
            return self._through(expr, x)
        if expr.is_Add:
            return sp.Add(*(self.d(term, x) for term in expr.args))
        if expr.is_Mul:
            return self._product(expr.args, x)
        if expr.is_Pow:
            return self._power(expr.base, expr.exp, x)
        if isinstance(expr, Select):
            condition, a, b = expr.args
            return Select(condition, self.d(a, x), self.d(b, x))
        if expr.func not in OP_OF:
            raise NoDerivative(str(expr.func))
        inner = [(i, self.d(a, x)) for i, a in enumerate(expr.args, 1)]
        return sp.Add(*(expr.fdiff(i) * slope for i, slope in inner if slope != 0))

    def _through(self, symbol: Any, x: Any) -> Any:
        definition = self.leaves.of[symbol].definition
        if definition is None:
            raise NoDerivative(self.leaves.of[symbol].node.op)
        slope = self.d(definition, x)
        if slope.is_Atom:
            return slope
        name = sp.Symbol(f"d{symbol}/d{x}", real=True)
        self.lets[name] = slope
        # A derivative is looked up by its symbol when it is differentiated again.
        self.leaves.adopt(name, symbol, slope)
        return name

    def _product(self, factors: Sequence[Any], x: Any) -> Any:
        terms = []
        for i, factor in enumerate(factors):
            slope = self.d(factor, x)
            if slope != 0:
                terms.append(sp.Mul(*factors[:i], slope, *factors[i + 1 :]))
        return sp.Add(*terms)

    def _power(self, base: Any, exponent: Any, x: Any) -> Any:
        result = exponent * base ** (exponent - 1) * self.d(base, x)
        slope = self.d(exponent, x)
        if slope == 0:
            return result
        # a^b log a is 0 where a = 0 < b, and log a is not.
        logarithm = sp.log(Select(Equal(base, sp.S.Zero), sp.S.One, base))
        return result + base**exponent * logarithm * slope


# ---------------------------------------------------------------- Jacobians


@dataclass(frozen=True)
class Jacobian:
    """∂(components of the outputs)/∂(components of the variables): the entries that are not 0, in the
    order of rows, then columns. `lets` stand for derivatives of cut expressions."""

    reader: Reader
    rows: int
    columns: int
    entries: dict[tuple[int, int], Any]
    lets: dict[Any, Any]

    @property
    def sparsity(self) -> tuple[tuple[int, int], ...]:
        return tuple(self.entries)


def components(reader: Reader, nodes: Sequence[Node]) -> list[Any] | None:
    """The expressions of all components in order, None when a node has too many."""
    found: list[Any] = []
    for node in nodes:
        cells = reader.read(node)
        if cells is None:
            return None
        found.extend(cells.flat)
    return found


def jacobian(
    graph: Graph, outputs: Sequence[Node], wrt: Sequence[Node], budget: Budget | None = None
) -> Jacobian | None:
    """The symbolic Jacobian of nodes with respect to others, None when it has no symbolic form."""
    reader = Reader(graph, budget, hold=[n.id for n in wrt])
    variables = components(reader, wrt)
    values = components(reader, outputs)
    if variables is None or values is None:
        return None
    calculus = Differentiator(reader.leaves)
    entries: dict[tuple[int, int], Any] = {}
    try:
        for i, value in enumerate(values):
            for j, variable in enumerate(variables):
                slope = calculus.d(value, variable)
                if slope != 0:
                    entries[i, j] = slope
    except NoDerivative:
        return None
    return Jacobian(reader, len(values), len(variables), entries, calculus.lets)


def leaf_writer(target: Rewriter, reader: Reader, lets: dict[Any, Any]) -> Writer:
    """A writer whose symbols are components of copied nodes, or derivatives written where first needed."""

    def leaf(symbol: Any) -> Node:
        if symbol in lets:
            return writer.write(lets[symbol])
        found = reader.leaves.of[symbol]
        node = target.copy(found.node)
        assert isinstance(node.type, Tensor)
        shape = node.type.extents
        for depth, at in enumerate(found.component):
            node = target.add("index", [node], type=tensor(*shape[depth + 1 :]), axis=0, at=at)
        return node

    writer = Writer(target, leaf)
    return writer


# ---------------------------------------------------------------- in a growing graph


def diff(graph: Graph, node: Node, *wrt: Node) -> Node | None:
    """The derivative of a scalar node with respect to scalar ones in turn, as nodes of the same graph.

    None when some op on the way has no symbolic derivative; reverse mode on the graph remains.
    """
    for variable in wrt:
        found = jacobian(graph, [node], [variable])
        if found is None:
            return None
        target = Rewriter(graph, into=graph)
        node = leaf_writer(target, found.reader, found.lets).write(found.entries.get((0, 0), sp.S.Zero))
    return node


def jac(graph: Graph, node: Node, wrt: Node) -> Node | None:
    """`jac(e, x)`: shape of e, then shape of x, as a node of the same graph; None as for `diff`."""
    found = jacobian(graph, [node], [wrt])
    if found is None or not isinstance(node.type, Tensor) or not isinstance(wrt.type, Tensor):
        return None
    target = Rewriter(graph, into=graph)
    shape = node.type.extents + wrt.type.extents
    return matrix(target, found, shape)


def matrix(target: Rewriter, found: Jacobian, shape: Sequence[int]) -> Node:
    """The entries as a tensor of a shape that has rows x columns components."""
    writer = leaf_writer(target, found.reader, found.lets)
    cells = [
        writer.write(found.entries.get((i, j), sp.S.Zero))
        for i in range(found.rows)
        for j in range(found.columns)
    ]
    return stacked(target, np.array(cells, dtype=object).reshape(tuple(shape)))


def stacked(target: Rewriter, cells: Any) -> Node:
    """Nested `stack`s of an array of scalar nodes."""
    if not isinstance(cells, np.ndarray):
        found: Node = cells
        return found
    if cells.shape == ():
        return stacked(target, cells[()])
    rows = [stacked(target, cells[i]) for i in range(cells.shape[0])]
    return target.add("stack", rows, type=tensor(*cells.shape) if cells.shape else SCALAR, axis=0)
