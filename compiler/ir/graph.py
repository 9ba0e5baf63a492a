"""The graph IR: a function as a directed acyclic graph of typed operations on one sample.

Inside is a `networkx.DiGraph`; outside, frozen nodes and a builder. A node's inputs are earlier
nodes, so that the order of insertion is a topological order. Shapes are those of one sample: the
batch is added by the backend.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import networkx as nx
from ndl.compiler.source import NO_SPAN, Span
from ndl.compiler.types import Tensor, Type

Attrs = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Node:
    """One operation. `attrs` are sorted (name, hashable value) pairs; `hint` is the user's name for
    the value, if there is one; `type` is the type of the (single) result."""

    id: int
    op: str
    inputs: tuple[int, ...]
    attrs: Attrs
    type: Type
    span: Span = field(default=NO_SPAN, repr=False, compare=False)
    hint: str = field(default="", compare=False)

    def attr(self, name: str, default: Any = None) -> Any:
        return dict(self.attrs).get(name, default)


class Graph:
    """A growing function body. Nodes are added in topological order and never changed."""

    def __init__(self) -> None:
        self._net: nx.DiGraph[int] = nx.DiGraph()

    def add(
        self,
        op: str,
        inputs: Sequence[Node] = (),
        *,
        type: Type | None = None,
        span: Span = NO_SPAN,
        hint: str = "",
        **attrs: Any,
    ) -> Node:
        """Append an operation; its type is inferred by the op's rule unless given.

        Raises `ndl.compiler.ops.table.TypeRuleError` when the operands do not fit.
        """
        from ndl.compiler.ops.table import infer  # the table's entries build graphs themselves

        packed: Attrs = tuple(sorted(attrs.items()))
        result = type if type is not None else infer(op, [n.type for n in inputs], dict(packed))
        node = Node(len(self._net), op, tuple(n.id for n in inputs), packed, result, span, hint)
        self._net.add_node(node.id, node=node)
        for operand in inputs:
            self._net.add_edge(operand.id, node.id)
        return node

    def __getitem__(self, id: int) -> Node:
        found: Node = self._net.nodes[id]["node"]
        return found

    def __iter__(self) -> Iterator[Node]:
        return (self[i] for i in range(len(self._net)))

    def __len__(self) -> int:
        return len(self._net)

    def rename(self, node: Node, hint: str) -> Node:
        """The same node under a user's name."""
        renamed = replace(node, hint=hint)
        self._net.nodes[node.id]["node"] = renamed
        return renamed

    def operands(self, node: Node) -> list[Node]:
        return [self[i] for i in node.inputs]

    def users(self, node: Node) -> list[Node]:
        return [self[i] for i in sorted(self._net.successors(node.id))]

    def needed(self, roots: Sequence[Node]) -> list[Node]:
        """The nodes that the roots depend on (themselves included), in topological order."""
        wanted = {r.id for r in roots}
        for r in roots:
            wanted |= nx.ancestors(self._net, r.id)
        return [self[i] for i in sorted(wanted)]


@dataclass(frozen=True)
class ParamSpec:
    """A weight of a function: its type, constraint and how it starts.

    `init` is a constant array as nested tuples or a number; `law` a (name, arguments) pair, such as
    `("uniform", (-0.1, 0.1))`; exactly one of them is set. `lower`/`upper` bound it (None: free),
    `trainable` is False for `const`; `waves` are how far the wavenumbers go along its first axis, if it has
    an entry for each.
    """

    name: str
    type: Tensor
    init: Any = None
    law: tuple[str, tuple[Any, ...]] | None = None
    lower: float | None = None
    upper: float | None = None
    trainable: bool = True
    span: Span = field(default=NO_SPAN, repr=False, compare=False)
    waves: tuple[int, ...] = ()


MEMORY = "memory:"
EXTERN, FORMULA = "extern", "formula"
"""The docs of parts without a body: nets that come from Python, and formulas that are still to be found."""


@dataclass(frozen=True)
class Function:
    """A graph with named inputs and outputs, its own weights and those of the functions it calls.

    An input is a node of op `input` (attr `name`); a weight one of op `param` (attr `name`); a call
    one of op `call` (attrs `instance`: the name of the part whose weights are used, `index`: which
    result). `parts` maps instance names to functions: the tree of modules. A function of several
    results has several outputs; those called `memory:<weight>` are what the weight is to be after the
    training step. `draws` describes its last inputs, which are drawn and not given. A part with `per` has a
    set of weights for each `step` of a run, or each `use` by a splitting.
    """

    name: str
    graph: Graph
    inputs: tuple[Node, ...]
    outputs: tuple[tuple[str, Node], ...]
    params: tuple[ParamSpec, ...] = ()
    parts: Mapping[str, Function] = field(default_factory=dict)
    doc: str = ""
    draws: tuple[Any, ...] = ()
    per: str = ""

    @property
    def counted(self) -> bool:
        """Whether this part, or one below it, has several sets of weights."""
        return bool(self.per) or any(p.counted for p in self.parts.values())

    @property
    def without_body(self) -> bool:
        """Whether this part, or one below it, comes from Python or is a formula that is to be found."""
        return self.doc in (EXTERN, FORMULA) or any(p.without_body for p in self.parts.values())

    @property
    def results(self) -> tuple[tuple[str, Node], ...]:
        """What a call gives: the outputs without the new values of memory."""
        return tuple(o for o in self.outputs if not o[0].startswith(MEMORY))

    @property
    def memory(self) -> tuple[tuple[str, Node], ...]:
        """The new values of memory, by the weight that holds it."""
        return tuple((n.removeprefix(MEMORY), v) for n, v in self.outputs if n.startswith(MEMORY))

    @property
    def remembers(self) -> bool:
        """Whether a call of this function, or of one that it calls, changes memory."""
        return bool(self.memory) or any(p.remembers for p in self.parts.values())
