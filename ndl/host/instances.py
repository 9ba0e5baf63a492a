"""Models and nets with their weights, made for a run."""

from __future__ import annotations

from typing import Any

import torch

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.operators import header_dims
from ndl.compiler.check.parts import written_parts
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.sets import of_fields
from ndl.compiler.check.values import (
    UNKNOWN,
    Closure,
    DistV,
    FnV,
    ModelV,
    NetV,
    OperatorV,
    Value,
    WordV,
    describe,
)
from ndl.compiler.diagnostics import NDLError, fail
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import Map, Tensor
from ndl.host.builder import lift
from ndl.host.families import uncounted
from ndl.host.objects import ModelObject, NetObject, PathObject
from ndl.host.paths import Paths
from ndl.host.random_fields import member_field
from ndl.host.sample import batched
from ndl.runtime.weights import Extern


class Instances(Paths):
    """Instances of models and nets, each made once."""

    # ------------------------------------------------------------ weights outside models

    def apply_operator(self, ev: Evaluator, op: OperatorV, args: list[Any], span: Span) -> Any:
        if of_fields(op.decl):
            return self.field_net(op.place or id(op), op, args, op.decl.name, span).call(ev, args, {}, span)
        return self.net(op.place or id(op), op, args, op.decl.name).call(ev, args, {}, span)

    def apply_net(self, ev: Evaluator, net: NetV, args: list[Any], span: Span) -> Any:
        if net.per is not None:
            return ev.not_lowered(f"the net `{net.name}` per {net.per}, outside of a model", span)
        if net.target is None:
            module = self.bind.get(net.name)
            if module is None:
                raise self.unbound(net.name, span)
            params = net.signature.params if isinstance(net.signature, Map) else ()
            kinds = tuple(p.kind if isinstance(p, Tensor) else "R" for p in params)
            return NetObject(module, kinds).call(ev, args, {}, span)
        if isinstance(net.target, WordV):
            from ndl.host.discovery import formula_net

            return NetObject(formula_net(self, net, span)).call(ev, args, {}, span)
        if not isinstance(net.target, OperatorV):
            return ev.apply(net.target, args, span)
        if of_fields(net.target.decl):
            made = self.field_net((id(net.owner), net.name), net.target, args, net.name, span, net)
            return made.call(ev, args, {}, span)
        return self.net((id(net.owner), net.name), net.target, args, net.name, net).call(ev, args, {}, span)

    def field_net(
        self, key: Any, op: OperatorV, args: list[Any], name: str, span: Span, named: NetV | None = None
    ) -> NetObject:
        """The module of a net of fields outside any model."""
        from ndl.host.field_nets import FieldNet

        key = tuple(id(k) if isinstance(k, tree.Node) else k for k in key) if isinstance(key, tuple) else key
        if key not in self.nets:
            values = [self.ev.value(a, span) for a in args]
            shapes = [v.type.extents for v in values if isinstance(v, Value)]
            self.nets[key] = self._begun(FieldNet(self, op, name, named, None).module(shapes, 0), named)
        return NetObject(self.nets[key])

    def net(
        self, key: Any, op: OperatorV, args: list[Any], name: str, named: NetV | None = None
    ) -> NetObject:
        """The module of a net outside any model, made when it is first applied."""
        key = tuple(id(k) if isinstance(k, tree.Node) else k for k in key) if isinstance(key, tuple) else key
        if key not in self.nets:
            from ndl.compiler.lower.operators import lower_operator

            types = [v.type for v in args]
            function = lower_operator(op, types, self.ev, name, named)
            # equal nets start at different weights, which belong to their names
            path = name if named is not None else f"{name} {len(self.nets)}"
            self.nets[key] = self._begun(self.compilation.operator(function)(seed=0, path=path), named)
        return NetObject(self.nets[key])

    def trained_net(
        self, net: NetV, seed: int, precision: torch.dtype, span: Span, choice: Any = None
    ) -> Any:
        """The module of a file-level net, in a precision; `choice` says where fields stand."""
        module = self.module_of(net, span, seed, choice)
        return module if net.target is None else module.to(precision)

    def module_of(self, net: NetV, span: Span, seed: int = 0, choice: Any = None) -> Any:
        """The module of a file-level net with a signature, made before it is applied."""
        from ndl.compiler.lower.operators import lower_operator
        from ndl.host.open_dims import refuse_open

        key = (id(net.owner), net.name)
        if net.target is None and net.name in self.bind:
            return self.bind[net.name]
        if key not in self.nets:
            if not isinstance(net.signature, Map) or not isinstance(net.target, OperatorV):
                raise fail(
                    "NDL357",
                    f"`{net.name}` can be trained by itself only with a signature of tensors",
                    span,
                    help=f"write `net {net.name}: R[2] -> R[1] = …`",
                )
            refuse_open(net, span)
            if of_fields(net.target.decl):
                from ndl.host.field_nets import FieldNet

                made = FieldNet(self, net.target, net.name, net, choice).module(None, seed)
                self.nets[key] = self._begun(made, net)
                return self.nets[key]
            types = [p for p in net.signature.params if isinstance(p, Tensor)]
            function = lower_operator(net.target, types, self.ev, net.name, net)
            made = self.compilation.operator(function)(seed=seed, path=net.name)
            self.nets[key] = self._begun(made, net)
        return self.nets[key]

    def _begun(self, module: Any, net: NetV | None) -> Any:
        """A new module; that of a remade net with the weights of the other one."""
        if net is None or net.origin is None:
            return module
        from ndl.host.remade import carry

        span = net.owner.span if isinstance(net.owner, tree.Node) else net.owner.stmt.span
        old = self.module_of(net.origin, span) if isinstance(net.origin, NetV) else net.origin.module
        carry(old, module, span)
        return module

    def attribute(self, ev: Evaluator, value: Any, name: str, span: Span) -> Any:
        """`M.alpha`, `n.params` of a model named in a program."""
        if isinstance(value, ModelV):
            found = value.origin.attribute(name) if value.origin is not None else None
            if found is not None:
                return found
            return ModelObject(self.instance(value), value).attribute(ev, name, 0, span)
        return ev.error("NDL207", f"{describe(value)} has no `{name}`", span)

    def drawn_const(self, ev: Evaluator, item: tree.DeclItem, scope: Scope) -> Any:
        """A file-level `const c: T ~ law`: from the seed, never fitted."""
        from ndl.compiler.check.weights import read_item
        from ndl.runtime.laws import Law

        found = read_item(ev, item, scope)
        law = found.law
        if not isinstance(law, DistV) or found.type is None:
            return UNKNOWN
        arguments = tuple(self.number(a) for a in law.args)
        return lift(Law(law.law, arguments).sample(1, found.type.extents, seed=0, stream=item.name)[0])

    # ------------------------------------------------------------ instances

    def instance(
        self, model: Any, ensemble: int | None = None, seed: int = 0, first: int | None = None
    ) -> Any:
        """The runtime instance of a model as applied; a family gets its members, from `first` on."""
        if isinstance(model, ModelObject):
            return model.instance
        if self.sample is not None:
            made = self._make(model)  # its values are those of a batch
        else:
            if id(model) not in self.instances:
                self.instances[id(model)] = (model, self._make(model))
            made = self.instances[id(model)][1]
        if model.laws or model.members:
            made = made.bind(**self._family(model, made, ensemble, seed, first))
        return made

    def _make(self, model: ModelV) -> Any:
        compiled = self.compilation.model(model)
        options = {p.name for p in model.decl.options} | header_dims(model.decl, model.module.scope)
        written = written_parts(self.ev, model)
        values: dict[str, Any] = {}
        inputs: dict[str, Any] = {}
        names = {p.name for p in compiled.cls.PARAMETERS} | {s.name for s in compiled.cls.STATES}
        for key, value in model.values.items():
            if key == "seed" or key in options or (key in written and not isinstance(value, NetV)):
                continue
            if isinstance(value, PathObject):
                inputs[key] = value.path
            elif isinstance(value, (NetObject,)):
                inputs[key] = value.module
            elif isinstance(value, NetV):
                inputs[key] = self.trained_net(value, 0, torch.float64, model.decl.name_span)
            elif isinstance(value, (Closure, FnV)):
                if key in names:
                    what = f"`{key}` of `{model.decl.name}` is no field, so it takes a number and no formula"
                    where = (value.expr if isinstance(value, Closure) else value.decl).span
                    raise fail("NDL576", what, where, help=f"declare it `{key}: R on Omega`")
                inputs[key] = self._path(
                    self.ev, [value], {}, tree.Call(Span(), tree.Name(Span(), key), ())
                ).path
            else:
                number = self.number(value)
                several = batched(number)
                (values if key in names and not several else inputs)[key] = (
                    self.whole(number) if several else number
                )
        for data, value in zip(model.decl.data, model.data):
            number = self.number(value)
            inputs[data.name] = self.whole(number) if batched(number) else number
        seed = self.number(model.values.get("seed", 0))
        if int(seed) != seed:
            raise fail("NDL518", f"`seed` must be a whole number, not {seed}", model.decl.name_span)
        made = compiled.cls.make(values, seed=int(seed))
        if model.origin is not None:
            model.origin.settle(made)
        made = made.bind(**inputs) if inputs else made
        for module in made.modules():
            if isinstance(module, Extern):
                raise self.unbound(module.name, model.decl.name_span)
        return made

    def unbound(self, name: str, span: Span) -> NDLError:
        """An extern net that Python does not give, at its declaration."""
        declared = (i for i in self.module.items if isinstance(i, tree.Extern) and i.name == name)
        return fail(
            "NDL355",
            f"`extern net {name}` is given no Python module",
            next((i.name_span for i in declared), span),
            help=f'load the file with `ndl.load(path, bind={{"{name}": module}})`',
        )

    def _family(
        self, model: ModelV, made: Any, ensemble: int | None, seed: int, first: int | None
    ) -> dict[str, Any]:
        """Members of `M(rho ~ law)` and `M(rho in [..])`."""
        from ndl.runtime.laws import Law

        found: dict[str, Any] = {}
        for name, value in model.members.items():
            items = self.ev.value(value, Span())
            if not isinstance(items, Value) or not items.ref.ndim:
                what = f"the members of `{name}` are a list, not {describe(value)}"
                raise fail("NDL512", what, model.decl.name_span, help=f"write `{name} in [1, 2]`")
            listed = items.ref.to(torch.float64)
            found[name] = (
                listed[first : first + ensemble] if first is not None and ensemble is not None else listed
            )
        for name, law in model.laws.items():
            if not isinstance(law, DistV):
                raise fail(
                    "NDL328",
                    f"`{name}` is drawn from a distribution, not from {describe(law)}",
                    model.decl.name_span,
                )
            if ensemble is None:
                raise uncounted(name, law.law, law.span or model.decl.name_span)
            shape = next((s.shape for s in (*made.PARAMETERS, *made.STATES) if s.name == name), ())
            field = member_field(self, model, name, law)
            if field is not None:
                numbers = torch.arange(first or 0, (first or 0) + ensemble)
                components = shape[len(field.lines) :]
                found[name] = field.at(numbers, components, seed=seed, stream=name)
                continue
            arguments = tuple(self.number(a) for a in law.args)
            found[name] = Law(law.law, arguments).sample(
                ensemble, shape, seed=seed, stream=name, first=first or 0
            )
        return found

    def draws(self, model: Any, ensemble: int | None, seed: int, step: int = 0, first: int = 0) -> Any:
        """The model with its draws bound: one for each member of a run."""
        from ndl.runtime.chance import with_draws

        return with_draws(model, ensemble, seed, step, first)
