"""What the symbols of a region stand for: components of graph nodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import sympy as sp
from ndl.compiler.ir.graph import Node

Place = tuple[int, tuple[int, ...]]
"""A node's id and the index of a component, `()` for a scalar."""


@dataclass(frozen=True)
class Leaf:
    """A symbol's node and component. `definition` is set when the node was read but grew over the budget;
    `reads` are the symbols that the value of an unread node depends on."""

    node: Node
    component: tuple[int, ...]
    definition: Any = None
    reads: frozenset[Any] = frozenset()


@dataclass
class Leaves:
    """Symbols in order of creation; names are the user's, so that facts and texts read well."""

    of: dict[Any, Leaf] = field(default_factory=dict)
    at: dict[Place, Any] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)
    _supports: dict[Any, frozenset[Any]] = field(default_factory=dict)

    def symbol(
        self,
        node: Node,
        component: tuple[int, ...] = (),
        definition: Any = None,
        reads: frozenset[Any] | None = frozenset(),
    ) -> Any:
        """The symbol of a component; `reads` None makes it a variable, which reads itself."""
        place = (node.id, component)
        if place not in self.at:
            name = str(node.attr("name", "")) if node.op in ("input", "param") else ""
            name = name or f"_{node.id}"
            if component:
                name += f"[{', '.join(map(str, component))}]"
            while name in self._names:
                name += "_"
            self._names.add(name)
            symbol = self.at[place] = sp.Symbol(name, real=True)
            own = frozenset({symbol}) if reads is None else reads
            self.of[symbol] = Leaf(node, component, definition, own)
        return self.at[place]

    def support(self, expr: Any) -> frozenset[Any]:
        """The symbols of inputs that an expression may depend on, through definitions and unread nodes."""
        found: set[Any] = set()
        for symbol in expr.free_symbols:
            if symbol not in self._supports:
                leaf = self.of[symbol]
                known = leaf.reads if leaf.definition is None else self.support(leaf.definition)
                self._supports[symbol] = known
            found |= self._supports[symbol]
        return frozenset(found)

    def adopt(self, symbol: Any, like: Any, definition: Any) -> None:
        """Give a meaning to a symbol that was made elsewhere, for an expression over known ones."""
        self.of[symbol] = Leaf(self.of[like].node, self.of[like].component, definition)

    def definitions(self) -> list[tuple[Any, Any]]:
        """Symbols that stand for expressions cut off by the budget, each after those that it uses."""
        return [(s, leaf.definition) for s, leaf in self.of.items() if leaf.definition is not None]
