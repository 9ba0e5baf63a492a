"""Operators to functions: a body run once with graph nodes, its weights collected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ndl.compiler.check.axes import full, split
from ndl.compiler.check.covariances import covariance_of
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.operators import callable_value, header_dims, option_scope, read_net
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.signatures import joined, shaped
from ndl.compiler.check.statements import run_block
from ndl.compiler.check.typing import convert, resolve_type
from ndl.compiler.check.values import NetV, OperatorV, TupleV, Unknown, Value
from ndl.compiler.check.weights import read_item
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.graph import MEMORY, Function, Graph, Node, ParamSpec
from ndl.compiler.lower.builder import GraphBuilder
from ndl.compiler.lower.draws import operator_draw
from ndl.compiler.lower.field_waves import Place
from ndl.compiler.lower.placed import Placed, fields_of
from ndl.compiler.lower.random_fields import starting_field
from ndl.compiler.lower.stored import everywhere, field_axes, formula, stored_spec, waves_along
from ndl.compiler.lower.told import told_by_use
from ndl.compiler.lower.weights import Weights, law_of, start_of
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import Dim, Map, Tensor

COUNTED = ("step", "use")
"""Of what weights may have a set each."""


class OperatorContext:
    """Declarations inside an operator's body while it is lowered."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.spans: dict[str, Span] = {}
        self.memory: dict[str, str] = {}  # by the name in the body, the weight that holds it
        self.updates: dict[str, Node] = {}

    def declared(self, name: str) -> Span | None:
        return self.spans.get(name)

    def statement(self, ev: Evaluator, stmt: tree.Stmt, scope: Scope) -> None:
        if isinstance(stmt, tree.Declare):
            for item in stmt.items:
                self.declare(ev, item, scope, stmt.keyword == "param")
                if stmt.keyword == "state":
                    self.memory[item.name] = scope.names[item.name].ref.attr("name")
        elif isinstance(stmt, tree.Reset):
            self.remember(ev, stmt, scope)
        elif isinstance(stmt, tree.Net):
            scope.names[stmt.name] = read_net(ev, stmt, scope)
        elif isinstance(stmt, tree.Draw):
            scope.names[stmt.name] = operator_draw(ev, stmt, scope)
        else:
            ev.not_lowered("this statement in an operator", stmt.span)

    def remember(self, ev: Evaluator, stmt: tree.Reset, scope: Scope) -> None:
        """`m <- e`: what the memory is to be after the training step."""
        name = stmt.target.id if isinstance(stmt.target, tree.Name) else ""
        if name not in self.memory:
            raise fail(
                "NDL433", f"`{stmt.target.span.text}` is no memory: `<-` changes a `state`", stmt.target.span
            )
        weight = self.memory[name]
        type_ = self.weights.params[weight].type
        value = convert(ev, ev.eval(stmt.value, scope, type_), type_, f"`{name}`", stmt.value.span)
        builder = ev.builder
        assert isinstance(builder, GraphBuilder)
        self.updates[weight] = builder.node(value)

    def declare(self, ev: Evaluator, item: tree.DeclItem, scope: Scope, trainable: bool) -> None:
        """`param W: R[Out, In] ~ law`: a weight, one for each turn of an enclosing `for`."""
        if item.per not in (None, *COUNTED) or (item.per is not None and not trainable):
            ev.not_lowered(f"`{item.name}` per {item.per}", item.span)
        found = read_item(ev, item, scope, with_value=item.type is None)
        type_ = found.type or Tensor()
        self.spans[item.name] = item.name_span
        if not found.present:
            scope.names[item.name] = 0.0 if item.value is None else ev.eval(item.value, scope, type_)
            return
        name = item.name
        while name in self.weights.params or name in self.weights.parts:
            name += "_"
        builder = ev.builder
        assert isinstance(builder, GraphBuilder)
        if type_.on is not None or type_.kind == "C":
            if item.per is not None:
                ev.not_lowered(f"the field or complex `{item.name}` per {item.per}", item.span)
            scope.names[item.name] = self.stored(ev, item, name, type_, scope, trainable)
            return
        if item.per is not None:
            part = self.weights.parts[name] = numbers(ev, item, type_, scope)
            scope.names[item.name] = builder.call(ev, name, part, [], item.name_span)
            return
        self.weights.params[name] = make_spec(ev, name, item, type_, scope, trainable)
        node = builder.add("param", [], item.name_span, type=type_, name=name)
        scope.names[item.name] = Value(type_, node)

    def stored(
        self, ev: Evaluator, item: tree.DeclItem, name: str, type_: Tensor, scope: Scope, trainable: bool
    ) -> Any:
        """A weight that is a field, along the axes of points or wavenumbers, or complex, as pairs of real
        numbers on a last axis."""
        builder = ev.builder
        assert isinstance(builder, GraphBuilder)
        axes = field_axes(ev, item, scope)
        plain = Tensor(type_.kind, (*(a.extent for a in axes), *type_.shape))
        spec = make_spec(ev, name, item, replace(type_, on=None), scope, trainable)
        spec = replace(stored_spec(spec, plain, item), waves=waves_along(ev, axes))
        self.weights.params[name] = spec
        node = builder.add("param", [], item.name_span, type=spec.type, name=name)
        v = Value(spec.type, node)
        if type_.kind == "C":
            v = builder.op("pair", [v], item.name_span, {})
        return split(v, axes)


def make_spec(
    ev: Evaluator,
    name: str,
    item: tree.DeclItem,
    type_: Tensor,
    scope: Scope,
    trainable: bool,
    start: Any = None,
    field: Place | None = None,
) -> ParamSpec:
    """The description of a weight: how it starts (at `start`, if that is given), its bounds; `field` says
    where it is stored if it is a field."""
    found = (
        read_item(ev, item, scope, with_value=False) if item.type is not None else read_item(ev, item, scope)
    )
    init: Any = None
    law = None
    if start is not None:
        init = start
    elif item.law is not None:
        covariance = covariance_of(found.law)
        if covariance is None or field is None:
            law = law_of(ev, found.law, type_, item.law.span)
        else:
            law = starting_field(ev, found.law, field, item.law.span)
    elif item.value is not None:
        init = start_of(ev, item, type_, scope)
    else:
        init = 0.0
    return ParamSpec(name, type_, init, law, found.lower, found.upper, trainable, item.name_span)


def numbers(ev: Evaluator, item: tree.DeclItem, type_: Tensor, scope: Scope, start: Any = None) -> Function:
    """`param g: T = v per step`: a part that gives its one weight, with a set of it for each step."""
    spec = make_spec(ev, "value", item, type_, scope, True, start)
    graph = Graph()
    node = graph.add("param", type=type_, span=item.name_span, name="value")
    return Function("Numbers", graph, (), (("value", node),), (spec,), per=item.per or "step")


def lower_operator(
    op: OperatorV,
    types: list[Tensor],
    outer: Evaluator,
    name: str,
    net: NetV | None = None,
    placed: Placed | None = None,
) -> Function:
    """The function of one construction, specialised to its dimensions and options; for a net, with the
    arguments and the result of its signature. Of an operator of fields `placed` says where they stand."""
    inner = net.inner if net is not None else None
    if outer.depth > 400:
        raise RecursionError(name)
    graph, weights = Graph(), Weights()
    builder = GraphBuilder(graph, weights)
    ev = Evaluator(builder, outer.sink, strict=True)
    ev.depth = outer.depth
    context = ev.context = OperatorContext(weights)
    if placed is not None:
        ev.fields = fields_of(ev, placed)
        op = told_by_use(op, placed.arguments)
    decl, module = op.decl, op.module
    scope = option_scope(ev, op)
    refuse_untold(op.dims, name, decl.name_span)
    for dim in sorted({*header_dims(decl, module.scope), *op.dims}):
        if dim in op.dims:
            scope.names[dim] = op.dims[dim].constant
    inputs: list[Node] = []
    given: list[Any] = []
    names = [p.name for p in decl.data]
    if len(types) != len(names):
        names = [f"{names[0]}{k}" for k in range(len(types))]
    for argument, type_ in zip(names, types):
        inputs.append(builder.add("input", [], decl.name_span, type=type_, name=argument))
        own = placed.arguments[len(given)] if placed is not None else ()
        given.append(split(Value(type_, inputs[-1]), own))
    if inner is not None and inner.params != _sample_types(net):
        given = [joined(ev, given, decl.name_span)]
    scope.names.update(zip((p.name for p in decl.data), given))
    wanted = resolve_type(ev, decl.result, scope, op.dims) if decl.result is not None else None
    found = run_block(ev, decl.body, scope, wanted)
    values = list(found.items) if isinstance(found, TupleV) else [found]
    outputs = []
    for k, v in enumerate(values):
        if placed is not None and callable_value(v) and isinstance(decl.result, tree.FieldType):
            v = formula(ev, v, decl.result, scope, decl.name_span)
        result = ev.value(v, decl.name_span)
        if isinstance(result, Unknown):
            ev.not_lowered(f"what `{decl.name}` returns", decl.name_span)
            continue
        if result.type.rank == 0 and isinstance(wanted, Tensor) and wanted.rank:
            result = ev.spread(result, wanted.shape, decl.name_span)
        if placed is None and not result.axes:
            _refuse_shape(result.type, wanted, decl.name, decl.name_span)
        if placed is not None and len(values) == 1 and isinstance(decl.result, tree.FieldType):
            result = everywhere(ev, result, decl.result, scope)
        declared = _declared_result(net)
        if inner is not None and declared is not None and inner.result != declared:
            result = ev.value(shaped(ev, result, declared, decl.name_span), decl.name_span)
            assert isinstance(result, Value)
        if placed is not None:
            placed.results.append(result.axes)
            result = full(result)
        outputs.append(("result" if len(values) == 1 else f"result{k}", builder.node(result)))
    outputs += [(MEMORY + name, node) for name, node in context.updates.items()]
    return Function(
        decl.name,
        graph,
        (*inputs, *(builder.draw_nodes[d] for d in weights.draws)),
        tuple(outputs),
        tuple(weights.params.values()),
        weights.parts,
        decl.doc or "",
        tuple(weights.draws.values()),
    )


def _refuse_shape(found: Tensor, wanted: Any, name: str, span: Span) -> None:
    """Refuse other extents than were declared, which only a use tells: a slice may be cut off (NDL309)."""
    if not isinstance(wanted, Tensor) or found.on is not None or wanted.on is not None:
        return
    told = all(d.constant is not None for d in (*found.shape, *wanted.shape))
    if told and found.shape != wanted.shape:
        raise fail("NDL309", f"`{name}` is declared to give {wanted}, but here it gives {found}", span)


def refuse_untold(dims: Mapping[str, Dim], name: str, span: Span) -> None:
    """Refuse a net whose signature leaves a dimension open (NDL308)."""
    untold = next((d for d in dims.values() if d.constant is None), None)
    if untold is not None:
        what = f"nothing here tells the dimension `{untold}` of `{name}`"
        raise fail("NDL308", what, span, help=f"write a number for `{untold}` in its signature")


def _sample_types(net: NetV | None) -> tuple[Any, ...]:
    """The arguments of a net's signature."""
    return net.signature.params if net is not None and isinstance(net.signature, Map) else ()


def _declared_result(net: NetV | None) -> Tensor | None:
    """What a net's signature says that it gives."""
    found = net.signature.result if net is not None and isinstance(net.signature, Map) else None
    return found if isinstance(found, Tensor) else None
