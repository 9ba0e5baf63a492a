"""Where a model's names get their values while one of its functions is lowered."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.axes import split
from ndl.compiler.check.models import Elaboration
from ndl.compiler.check.values import Object, Value
from ndl.compiler.check.varied import Varied
from ndl.compiler.check.weights import Item
from ndl.compiler.ir.graph import Node
from ndl.compiler.lower.builder import GraphBuilder
from ndl.compiler.lower.fields import Fields, grid_type
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import Tensor, Units

if TYPE_CHECKING:
    from ndl.compiler.lower.models import ModelLowering

NOWHERE = Span()


class GraphSite:
    """A model's names as inputs and weights of one graph."""

    def __init__(self, lowering: ModelLowering, builder: GraphBuilder) -> None:
        self.lowering, self.builder = lowering, builder
        self.inputs: dict[str, Node] = {}
        self.lags: dict[int, Value] = {}
        self.leaves: dict[int, Value] = {}
        self.fields: Fields | None = None

    def read(self, name: str, type: Tensor) -> Value:
        if name not in self.inputs:
            self.inputs[name] = self.builder.add("input", [], NOWHERE, type=type, name=name)
        return Value(type, self.inputs[name])

    def outside(self, name: str, type: Tensor, span: Span = NOWHERE) -> Value:
        """A value that the model holds while it runs: an input that is constant in time, or a draw."""
        return Value(type, self.builder.add("input", [], span, type=type, name=name))

    def state(self, name: str, order: int, type: Tensor) -> Any:
        plain = Tensor(type.kind, type.shape)
        shown = name + "'" * order
        axes = next((s.axes for s in self.lowering.slots if s.spec.name == shown), ())
        found = replace(self.read(shown, grid_type(plain, axes)), type=plain, axes=axes)
        return self._leaf(found, name if order == 0 else "")

    def _leaf(self, v: Value, state: str = "") -> Value:
        """A field that is not computed; on a mesh as it is where the formula is read."""
        if v.axes:
            self.leaves[v.ref.id] = v
        return v if self.fields is None else self.fields.leaf(v, state)

    def weight(self, owner: Elaboration, item: Item, trainable: bool, decl: tree.DeclItem) -> Any:
        if decl.per is not None:
            name, part = self.lowering.bank(owner, item, trainable, decl)
            return self.builder.call(owner.ev, name, part, [], decl.name_span)
        spec = self.lowering.spec(owner, item, trainable, decl)
        node = self.builder.add("param", [], decl.name_span, type=spec.type, name=spec.name)
        axes = self.lowering.axes(owner, item.type or Tensor(), decl.name_span)
        return self._leaf(split(Value(spec.type, node), axes))

    def input(self, name: str, type: Tensor, on_time: bool) -> Any:
        if on_time:
            return Value(type, self._path(name, type, 0))
        axes = self.lowering.input_axes(name, type)
        return self._leaf(split(self.outside(name, grid_type(type, axes)), axes))

    def input_rate(self, name: str, type: Tensor) -> Any:
        plain = Tensor(type.kind, type.shape)
        return Value(plain, self._path(name, plain, 1))

    def _path(self, name: str, type: Tensor, order: int) -> Node:
        time = self.time(None)
        return self.builder.add("path", [time.ref], NOWHERE, type=type, name=name, order=order)

    def noise(self, name: str, type: Tensor) -> Any:
        axes = self.lowering.space.axes.get(type.on or "", ())
        return split(self.read(name, grid_type(type, axes)), axes)

    def coloured(self, owner: Elaboration, name: str, type: Tensor) -> Any:
        """A noise on a domain with a covariance map, from the Brownian motions of its waves."""
        from ndl.compiler.lower.coloured_noise import field_of

        return field_of(self, owner, name)

    def draw(self, owner: Elaboration, stmt: tree.Draw, found: Any) -> Any:
        from ndl.compiler.lower.draws import drawn

        return drawn(self, owner, stmt, found)

    def member(self, owner: Elaboration, name: str, one: Varied, type: Tensor) -> Any:
        from ndl.compiler.lower.draws import member_of

        return member_of(self, owner, name, one, type)

    def past(self, ev: Any, state: Value, at: Value, span: Span) -> Any:
        from ndl.compiler.lower.delays import read_past

        return read_past(self, state, at, span)

    def elsewhere(self, ev: Any, value: Value, at: Value, span: Span) -> Any:
        """`X(e)`: an input on time at the time e."""
        node, when = self.builder.node(value), self.builder.node(at)
        if when is self.builder.node(self.time(None)):
            return value
        if node.op != "path":
            return ev.not_lowered(f"what stands for an input, at another time (`{span.text}`)", span)
        attrs = {"name": node.attr("name"), "order": node.attr("order", 0)}
        return Value(value.type, self.builder.add("path", [when], span, type=node.type, **attrs))

    def time(self, unit: Units | None) -> Any:
        return self.read("t", Tensor())


class Integrand(Object):
    """The unknown of an integral equation inside a kernel: `y(s)` is the input of that name."""

    kind = "path"

    def __init__(self, value: Value) -> None:
        self.value = value

    def call(self, ev: Any, args: list[Any], options: dict[str, Any], span: Any) -> Any:
        return self.value
