"""Dimensions that a model leaves open, `input x: R[n]`, told by a training's data or by values in Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from ndl.compiler.check.operators import header_dims
from ndl.compiler.check.parts import arguments_of, dimensions_of
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.statements import run as run_statement
from ndl.compiler.check.typing import resolve_type, unify_type
from ndl.compiler.check.values import ModelV, NetV, OperatorV, Value
from ndl.compiler.diagnostics import NDLError, fail
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk
from ndl.compiler.types import Dim, Map, Tensor
from ndl.host.builder import lift
from ndl.host.loss_names import is_panel
from ndl.host.objects import DataObject, PathObject
from ndl.host.sample import One


@dataclass(frozen=True)
class Shaped:
    """Something of which only the shape is known."""

    shape: tuple[Dim, ...]


def shaped(extents: Any) -> Shaped:
    return Shaped(tuple(Dim.of(int(n)) for n in extents))


def open_dims(ev: Any, model: ModelV) -> frozenset[str]:
    """The dimensions of a model that its application does not tell."""
    generic = header_dims(model.decl, model.module.scope)
    return generic - arguments_of(ev, model)[0].keys() if generic else frozenset()


def closed(ev: Any, model: ModelV, given: Mapping[str, Any]) -> ModelV:
    """The model with the dimensions that the shapes of what it is given tell."""
    options, own = arguments_of(ev, model)
    found = dimensions_of(ev, model, options, {**given, **own})
    missing = open_dims(ev, model)
    return replace(model, values={**model.values, **{n: d for n, d in found.items() if n in missing}})


def closed_by_data(session: Any, model: ModelV) -> ModelV:
    """A model that is trained; its open dimensions are those of the columns, definitions and draws that are
    named like its inputs and states."""
    ev = session.host.ev
    if not open_dims(ev, model):
        return model
    given: dict[str, Any] = {}
    declared = [s for s in model.decl.body if isinstance(s, tree.Declare)]
    told = [i for s in declared if s.keyword in ("input", "state") for i in s.items]
    items: list[Any] = [*model.decl.data, *told]
    names = {i.name for i in items}
    table = session.table
    for item in items:
        if table is not None and item.name in table:
            written = item.type.value if isinstance(item.type, tree.FieldType) else item.type
            rank = len(written.dims) if isinstance(written, tree.TypeName) else 0
            extents = table.shape(item.name)
            given[item.name] = shaped(extents[len(extents) - rank :])  # the components stand last
    return closed(ev, model, {**given, **_defined(session, names)})


def _defined(session: Any, names: set[str]) -> dict[str, Any]:
    """What definitions and draws of the block feed a model with, looked at for the first sample."""
    scope = _first_sample(session)
    found = {n: scope.names[n] for n in names if n in scope.names}
    for stmt in session.others:
        if isinstance(stmt, tree.Draw) and stmt.name in names and stmt.type is not None:
            found[stmt.name] = resolve_type(session.host.ev, stmt.type, session.scope)
    return {n: v for n, v in found.items() if v is not None}


def _first_sample(session: Any) -> Scope:
    """The data and the definitions of a block for the first sample, as far as they need no model."""
    ev, table = session.host.ev, session.table
    scope: Scope = session.scope.child()
    if table is not None and table.lazy:
        table = table.take(torch.zeros(1, dtype=torch.int64))
    if table is not None:
        scope.names["data"] = DataObject(table, One(0, table.samples) if is_panel(table) else None)
        if table.time is not None:
            scope.names["t"] = lift(table.time)
    for stmt in session.others:
        if isinstance(stmt, tree.Assign):
            try:
                with torch.no_grad():
                    run_statement(ev, stmt, scope)
            except (NDLError, RuntimeError):
                continue  # it reads what only the model's run has
    return scope


def closed_net(session: Any, net: NetV) -> NetV:
    """A net that is trained by itself: the open dimensions of its signature are those of the values that the
    block gives it, `F(data.x)`."""
    signature = net.signature
    if not isinstance(signature, Map) or not _open(signature):
        return net
    ev, scope, dims = session.host.ev, _first_sample(session), dict[str, Dim]()
    for call in walk(session.block):
        if isinstance(call, tree.Call) and isinstance(call.func, tree.Name) and call.func.id == net.name:
            for wanted, a in zip(signature.params, call.args):
                try:
                    value = ev.value(ev.eval(a.value, scope), a.span)
                except (NDLError, RuntimeError):
                    continue
                if isinstance(value, Value):
                    unify_type(wanted, value.type, dims, _open(signature))
    target = net.target
    if isinstance(target, OperatorV):  # whose own dimensions stand in those of the signature
        target = replace(target, dims={n: d.substitute(dims) for n, d in target.dims.items()})
    inner = None if net.inner is None else _substituted(net.inner, dims)
    return replace(net, signature=_substituted(signature, dims), target=target, inner=inner)


def _substituted(signature: Map, dims: Mapping[str, Dim]) -> Map:
    types = [
        t.substitute(dims) if isinstance(t, Tensor) else t for t in (*signature.params, signature.result)
    ]
    return replace(signature, params=tuple(types[:-1]), result=types[-1])


def _open(signature: Map) -> frozenset[str]:
    """The dimension names of a signature."""
    types = [t for t in (*signature.params, signature.result) if isinstance(t, Tensor)]
    return frozenset(n for t in types for d in t.shape for n in d.names)


def refuse_open(net: NetV, span: Span) -> None:
    """Refuse a net whose signature leaves a dimension open. Raises `NDLError`."""
    open_ = sorted(_open(net.signature)) if isinstance(net.signature, Map) else []
    if open_:
        raise fail(
            "NDL308",
            f"nothing here tells the dimension `{open_[0]}` of `{net.name}`",
            span,
            help=f"write a number for `{open_[0]}` in its signature",
        )


class OpenModel:
    """A model whose dimensions are open, in place of its class: `M(n=3)`, or `M(x=values)` whose shape tells.

    Calling it makes an instance of the class for these dimensions, its inputs bound. Raises `NDLError`
    (NDL308) when nothing tells one of them.
    """

    def __init__(self, program: Any, model: ModelV) -> None:
        self._ndl_source = (program, model)
        self.NAME = self.__name__ = model.decl.name

    def __repr__(self) -> str:
        _, model = self._ndl_source
        return f"<model {self.NAME} of open dimensions {', '.join(sorted(self._dims(model)))}>"

    def _dims(self, model: ModelV) -> frozenset[str]:
        return header_dims(model.decl, model.module.scope)

    def at(self, **values: Any) -> Any:
        """The class for some dimensions, or for the shapes of some values."""
        program, model = self._ndl_source
        numbers = {n: int(v) for n, v in values.items() if n in self._dims(model)}
        shapes = {n: _shape(v) for n, v in values.items() if n not in numbers}
        fixed = replace(model, values={**model.values, **numbers})
        return program.class_of(closed(program.host.ev, fixed, shapes), required=True)

    def __call__(self, **values: Any) -> Any:
        _, model = self._ndl_source
        cls = self.at(**values)
        inputs = {i.name for i in cls.INPUTS} & values.keys()
        made = cls(**{n: v for n, v in values.items() if n not in inputs and n not in self._dims(model)})
        return made.bind(**{n: values[n] for n in inputs}) if inputs else made


def _shape(value: Any) -> Any:
    """The shape of a value, a path or a plain list."""
    if isinstance(value, torch.nn.Module | str):
        return None
    if callable(value):
        return PathObject(value)
    return shaped(torch.as_tensor(value).shape)
