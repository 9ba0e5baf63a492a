"""The body of one function as Python: named values on lines of their own, the rest within expressions.

A value gets a name when the user gave it one, or when it is used more than once. A repeated value
(`expand`) stays small as long as only elementwise operations read it: axes of extent 1 broadcast. Such
axes are called lazy here, and are made full where another operation needs them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ndl.compiler.backends.torch.arrays import Made
from ndl.compiler.backends.torch.names import LOCALS, Names
from ndl.compiler.ir.errors import InternalError
from ndl.compiler.ir.graph import Function, Node
from ndl.compiler.ops.families.fields import SOURCES
from ndl.compiler.ops.families.shape import lazy_expand
from ndl.compiler.ops.families.sources import constant_text
from ndl.compiler.ops.table import lookup
from ndl.compiler.ops.text import Text, call, is_number, items
from ndl.compiler.types import Tensor

LONGEST = 88
"""Characters of an expression beyond which it is given a name."""

WRITTEN = 256
"""Entries of an array of one number beyond which the number is repeated when it is read."""


@dataclass(frozen=True)
class Value:
    """The text of a node, and the axes of its type that it holds only once."""

    text: str
    lazy: frozenset[int] = frozenset()


@dataclass
class Scope:
    """What a body may refer to.

    `attribute` turns a dotted weight or part into text, `array` a constant array, `results` says how many
    results a part has; `read` says how inputs are read, `outside` how others are, `extents` are the texts
    of dimensions that are not known, `taken` names that are not free.
    """

    attribute: Callable[[str], str]
    array: Callable[[Any, Tensor], str]
    results: Callable[[str], int]
    read: Mapping[str, str] = field(default_factory=dict)
    outside: Callable[[str], str] = lambda name: f"self.input({name!r})"
    extents: Mapping[str, str] = field(default_factory=dict)
    taken: Iterable[str] = ()


class Body:
    """Prints the nodes of one function into lines."""

    def __init__(self, function: Function, scope: Scope, names: Names | None = None) -> None:
        self.function, self.scope = function, scope
        self.graph = function.graph
        self.names = names or Names([*LOCALS, *scope.taken])
        self.lines: list[str] = []
        self._values: dict[int, Value] = {}
        self._roots = [n for _, n in function.outputs]
        self._uses = self._count()

    # ------------------------------------------------------------ what is named

    def _count(self) -> dict[int, int]:
        """How often each node's text would appear."""
        uses: dict[int, int] = {}
        for node in self.graph.needed(self._roots):
            for i in node.inputs:
                uses[i] = uses.get(i, 0) + 1
        for root in self._roots:
            uses[root.id] = uses.get(root.id, 0) + 1
        # a repetition costs nothing by itself: its operand is what is read several times
        for node in reversed(self.graph.needed(self._roots)):
            if node.op == "expand" and uses.get(node.id, 0) > 1:
                uses[node.inputs[0]] += uses[node.id] - 1
        return uses

    def _named(self, node: Node, text: str) -> bool:
        if is_number(text) or text.isidentifier():
            return False
        uses = self._uses.get(node.id, 0)
        if node.op in ("expand", "const") or self._is_row(node):
            return False
        if node.op == "param":
            return uses > 1
        if node in self._roots and uses == 1:
            return False
        return uses > 1 or bool(node.hint) or len(text) > LONGEST

    # ------------------------------------------------------------ printing

    def value(self, node: Node) -> Value:
        """The text of a node, printing what it needs first."""
        if node.id not in self._values:
            for earlier in self.graph.needed([node]):
                # a constant is printed by those who read it: a number, an entry, or a stored array
                if earlier.id not in self._values and (earlier.op != "const" or earlier is node):
                    self._values[earlier.id] = self._print(earlier)
        return self._values[node.id]

    def full(self, node: Node) -> str:
        """The text of a node with every axis at its full extent, and a tensor."""
        value = self.value(node)
        type_ = node.type
        if not isinstance(type_, Tensor):
            return value.text
        abstract = any(n.constant is None for n in type_.shape)
        if is_number(value.text) and not abstract and math.prod(type_.extents) <= WRITTEN:
            entry = constant_of(self.graph, node)
            return self.scope.array(filled(entry, type_.extents), type_)
        if is_number(value.text):
            entry = constant_of(self.graph, node)
            text = self.scope.array(entry, Tensor(type_.kind))
        elif not value.lazy:
            return value.text
        else:
            text = value.text
        return call("ops.expand", text, items([self.scope.extents.get(str(n), str(n)) for n in type_.shape]))

    def numeric(self, node: Node) -> str:
        """As `full`, but a scalar may be a Python number."""
        value = self.value(node)
        if isinstance(node.type, Tensor) and node.type.rank == 0:
            return value.text
        return self.full(node)

    def _print(self, node: Node) -> Value:
        value = self._expression(node)
        if not self._named(node, value.text):
            return value
        name = self.names.fresh(node.hint or self._guess(node))
        self.lines.append(f"{name} = {value.text}")
        return Value(name, value.lazy)

    def _guess(self, node: Node) -> str:
        """A name for a value that the user gave none."""
        if node.op == "param":
            return str(node.attr("name")).split(".")[-1]
        return "v"

    def _expression(self, node: Node) -> Value:
        op = lookup(node.op)
        operands = self.graph.operands(node)
        types = [n.type for n in operands]
        attrs = dict(node.attrs)
        if node.op == "const":
            return self._constant(node)
        if node.op in SOURCES and isinstance(node.type, Tensor):
            return Value(self.scope.array(Made(op.torch([], [], attrs)), node.type))
        if node.op == "input":
            name = attrs["name"]
            return Value(self.scope.read.get(name) or self.scope.outside(name))
        if node.op == "param":
            return Value(self.scope.attribute(attrs["name"]))
        if node.op == "call":
            return self._call(node, operands)
        if node.op == "expand":
            return self._expand(node, operands[0])
        if node.op == "root":
            return self._root(node, operands)
        if node.op.startswith("map_function"):
            return self._map_function(node, operands)
        if node.op == "stack" and (rows := self._rows(node, operands)) is not None:
            return Value(call("ops.matrix", f"[{', '.join(rows)}]"))
        if op.scalar is not None:
            return self._elementwise(node, operands)
        if node.op in ("stack", "path"):
            texts = [self.numeric(n) for n in operands]
            if all(map(is_number, texts)):
                texts[0] = self.full(operands[0])
        else:
            texts = [self.full(n) for n in operands]
        if node.op.startswith("apply"):
            attrs["callee"] = self.scope.read.get(attrs["callee"], attrs["callee"])
        return Value(op.torch(texts, types, attrs))

    def _constant(self, node: Node) -> Value:
        value = node.attr("value")
        if not isinstance(node.type, Tensor):
            raise InternalError(f"a constant of type {node.type}", "NDL903")
        if not node.type.rank:
            return Value(constant_text(value))
        entry = uniform(value)
        if entry is not None and all(lookup(u.op).scalar is not None for u in self.graph.users(node)):
            return Value(constant_text(entry), frozenset(range(node.type.rank)))
        return Value(self.scope.array(value, node.type))

    def _expand(self, node: Node, operand: Node) -> Value:
        inner = self.value(operand)
        axes = node.attr("axes")
        rank = len(node.attr("shape"))
        lazy = frozenset(i for i in range(rank) if i not in axes)
        lazy |= frozenset(axes[i] for i in inner.lazy)
        if is_number(inner.text):
            return Value(inner.text, lazy)
        return Value(lazy_expand(inner.text, axes, rank), lazy)

    def _elementwise(self, node: Node, operands: Sequence[Node]) -> Value:
        values = [self.value(n) for n in operands]
        texts = [v.text for v in values]
        # torch would give two numbers its default precision, and functions want tensors
        branches = texts[1:] if node.op == "select" else texts
        if all(map(is_number, branches)):
            at = len(texts) - len(branches)
            texts[at] = self.full(operands[at])
        if node.op == "select" and is_number(texts[0]):
            texts[0] = self.full(operands[0])
        lazy = frozenset.intersection(*(v.lazy for v in values))
        return Value(lookup(node.op).torch(texts, [n.type for n in operands], dict(node.attrs)), lazy)

    def _call(self, node: Node, operands: Sequence[Node]) -> Value:
        instance, index = node.attr("instance"), node.attr("index", 0)
        texts = [self.full(n) for n in operands]
        text = call(self.scope.attribute(instance), *texts)
        count = self.scope.results(instance)
        if count == 1:
            return Value(text)
        same = [
            n
            for n in self.graph.needed(self._roots)
            if n.op == "call" and n.inputs == node.inputs and n.attr("instance") == instance
        ]
        names = ["_"] * count
        for n in same:
            if names[n.attr("index", 0)] == "_":
                names[n.attr("index", 0)] = self.names.fresh(n.hint or instance.split(".")[-1] + "_out")
            self._values[n.id] = Value(names[n.attr("index", 0)])
        self.lines.append(f"{', '.join(names)} = {text}")
        return Value(names[index])

    def _is_row(self, node: Node) -> bool:
        """Is it printed only as a row of matrices?"""
        users = self.graph.users(node)
        return (
            node.op == "stack"
            and bool(users)
            and node not in self._roots
            and all(u.op == "stack" and self._rows(u, self.graph.operands(u)) is not None for u in users)
        )

    def _rows(self, node: Node, operands: Sequence[Node]) -> list[str] | None:
        """The rows of a matrix that is written out entry by entry, None for other stacks."""
        rows: list[list[str]] = []
        for row in operands:
            if row.op == "const" and isinstance(row.type, Tensor) and row.type.rank == 1:
                rows.append([constant_text(v) for v in row.attr("value")])
            elif row.op == "stack" and isinstance(row.type, Tensor) and row.type.rank == 1:
                rows.append([self.value(n).text for n in self.graph.operands(row)])
            else:
                return None
        if node.attr("axis") != 0 or all(is_number(t) for row in rows for t in row):
            return None
        return [f"[{', '.join(row)}]" for row in rows]

    def _root(self, node: Node, operands: Sequence[Node]) -> Value:
        """The equation as a local function, then its root."""
        inner: Function = node.attr("function")
        texts = [self.full(n) for n in operands]
        name = self._local(inner, "residual", texts)
        types = [n.type for n in operands]
        called = {n.attr("callee") for n in inner.graph if n.op == "apply"}
        like = next(self.scope.read.get(c, c) for c in called) if len(called) == 1 else None
        return Value(lookup("root").torch(texts, types, {"function": name, "like": like}))

    def _map_function(self, node: Node, operands: Sequence[Node]) -> Value:
        """The map and its transpose as local functions, then the function of the map."""
        texts = [self.full(n) for n in operands]
        first = 5 if node.op == "map_function_back" else 4
        given = [texts[first - 4], *texts[first:]]
        attrs = dict(node.attrs)
        for key, name in (("function", "along"), ("back", "backward")):
            attrs[name] = self._local(attrs[key], name, given)
        return Value(lookup(node.op).torch(texts, [n.type for n in operands], attrs))

    def _local(self, inner: Function, called: str, texts: Sequence[str]) -> str:
        """Prints a function of an unknown and of what it captures, whose texts are given; its name."""
        name = self.names.fresh(called)
        # what is captured keeps its name inside when it has one
        arguments = [
            text if i and text.isidentifier() and texts.count(text) == 1 else self.names.fresh(n.attr("name"))
            for i, (n, text) in enumerate(zip(inner.inputs, texts))
        ]
        read = {n.attr("name"): a for n, a in zip(inner.inputs, arguments)}
        body = Body(inner, replace(self.scope, read=read), self.names)
        result = body.full(inner.outputs[0][1])
        self.lines.append(f"def {name}({', '.join(f'{a}: Tensor' for a in arguments)}) -> Tensor:")
        self.lines += [f"    {line}" for line in [*body.lines, f"return {result}"]]
        return name


def uniform(value: Any) -> Any:
    """The entry that all places of nested tuples share, or None."""
    if not isinstance(value, tuple):
        return value
    found = [uniform(v) for v in value]
    same = found and found[0] is not None and all(repr(f) == repr(found[0]) for f in found)
    return found[0] if same else None


def constant_of(graph: Any, node: Node) -> Any:
    """The number that a constant node holds or repeats."""
    while node.op == "expand":
        node = graph.operands(node)[0]
    return uniform(node.attr("value"))


def filled(entry: Any, shape: Sequence[int]) -> Any:
    """An array of one entry, as nested tuples."""
    for n in reversed(shape):
        entry = tuple([entry] * n)
    return entry


__all__ = ["Body", "Scope", "Text", "Value", "constant_of", "filled", "uniform"]
