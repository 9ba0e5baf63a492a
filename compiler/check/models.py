"""Models: names worked out on demand, equations checked against their states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.field_arguments import domain_value, formula_value, is_formula
from ndl.compiler.check.fields import derivative
from ndl.compiler.check.linearized import model_maps
from ndl.compiler.check.model_parts import Equation, Parts
from ndl.compiler.check.noises import drift, noise_value
from ndl.compiler.check.operators import draw_value, header_dims, read_net
from ndl.compiler.check.parts import Path as PartPath
from ndl.compiler.check.parts import as_parts, constant_of, descend, force, inner_parts
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.sites import CheckSite, Site
from ndl.compiler.check.typing import apart, convert, resolve_type
from ndl.compiler.check.values import (
    UNKNOWN,
    Closure,
    DomainV,
    FileV,
    FnV,
    ModelV,
    NetV,
    NotLowered,
    OperatorV,
    Unknown,
    Value,
    WordV,
    describe,
    is_number,
)
from ndl.compiler.check.varied import Varied
from ndl.compiler.check.weights import Item, read_item
from ndl.compiler.diagnostics import Label
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import SCALAR, Dim, Tensor, Units, unit_product


class Elaboration:
    """One reading of a model's formulas with one site. Derived quantities are worked out when they
    are first named; a chain of names that leads back to itself is an algebraic loop."""

    defers = True  # a model applied here is a part: its arguments are worked out when they are asked for

    def __init__(
        self,
        ev: Evaluator,
        parts: Parts,
        outer: Scope,
        options: Mapping[str, Any],
        site: Site,
        *,
        given: Mapping[str, Any] | None = None,
        varied: Mapping[str, Varied] | None = None,
        prefix: str = "",
        path: PartPath = (),
        root: Elaboration | None = None,
    ) -> None:
        self.ev, self.parts, self.site = ev, parts, site
        self.given, self.prefix, self.path = dict(given or {}), prefix, path
        self.varied = dict(varied or {})
        self.root: Elaboration = root or self
        self.cache: dict[tuple[str, int], Any] = {}
        self.items: dict[tuple[str, int], Item] = {}
        self.pending: list[str] = []
        self.options = dict(options)
        turns = (*outer.turns, prefix) if prefix else None
        self.scope = Scope(outer, self.options, lazy=self.lookup, known=self.known, turns=turns)
        self.coordinates: dict[str, str] = {}
        dims = header_dims(parts.decl, outer)
        self.generic = {d: Dim.of(d) for d in dims if not is_number(self.options.get(d))}
        for d in parts.domains.values():
            chosen = self.given.get(d.name)
            own = ev.eval(d.value, self.scope) if chosen is None else None
            self.options[d.name] = domain_value(ev, d, force(chosen), own, getattr(chosen, "span", d.span))
        self.scope.names.update(self.options)
        self.coordinates = self._coordinates()

    def known(self) -> Iterator[str]:
        return self.parts.names()

    def declared(self, name: str) -> Span | None:
        return self.parts.spans.get(name)

    # ------------------------------------------------------------ parts

    def frames(self) -> Iterator[Elaboration]:
        """This model and the parts joined to it, the outer ones first."""
        yield self
        for name in (*self.parts.derived, *self.parts.draws):
            if name in self.pending:  # a formula that asks for a derivative along the solution: no part
                continue
            for part in inner_parts(self.lookup(name, 0)):
                yield from part.frames()

    def maps(self) -> Iterator[Elaboration]:
        """The models whose derivatives the definitions of this one name, `A = linearize(Heat, u)`."""
        for name in self.parts.derived:
            if name not in self.pending:
                for map_ in model_maps(self.lookup(name, 0)):
                    if map_.frame is not None:
                        yield map_.frame
                        yield from map_.frame.maps()

    def descend(self, path: PartPath) -> Elaboration:
        """The part at a path below this model."""
        return descend(self, path)

    def is_part(self, name: str) -> bool:
        """Whether a definition joins parts."""
        return any(True for _ in inner_parts(self.lookup(name, 0)))

    def start(self, name: str, order: int, wanted: Tensor | None) -> Any:
        """The initial value of a state, as its part's application or its declaration says; None where
        neither does."""
        shown = name + "'" * order
        if shown in self.varied:
            return self._member(shown, wanted)
        if shown in self.given:
            return self._converted(shown, wanted)
        decl = self.parts.states[name].get(order)
        if decl is None or decl.value is None:
            return None
        return self.ev.eval(decl.value, self.scope, wanted)

    def _converted(self, name: str, wanted: Tensor | None) -> Any:
        """What the application of a part sets, as the type that the part declares."""
        argument = self.given[name]
        span = getattr(argument, "span", self.parts.decl.name_span)
        value = force(argument)
        if is_formula(self, name, value):
            return formula_value(self, name, value, span)
        on = None if wanted is None or not self.ev.checking else wanted.on
        # a state on a grid has the points in its shape, and a field bound to the grid's axes has not
        lead = len(getattr(value, "axes", ()))
        plain = None if wanted is None else Tensor(wanted.kind, wanted.shape[lead:], on, wanted.unit)
        return convert(self.ev, value, plain, f"`{self.prefix}{name}`", span)

    def starts_at(self, name: str) -> Any:
        """The number or array at which a part's parameter is set to start; None for another value."""
        return constant_of(force(self.given[name])) if name in self.given else None

    def _member(self, name: str, wanted: Tensor | None) -> Any:
        """What a name is in one instance of the family that is joined."""
        type_ = Tensor() if wanted is None else wanted
        return self.site.member(self, name, self.varied[name], type_)

    def check_argument(self, name: str) -> None:
        """Work out what the application of this part sets, against what the part declares."""
        bare = name.rstrip("'")
        if bare in self.parts.states:
            self.start(bare, len(name) - len(bare), self.state_type(bare))
        else:
            self._given(name)

    def _given(self, name: str) -> Any:
        """What the application of a part puts in place of a parameter, constant, input, datum or net."""
        p = self.parts
        if name in self.varied:
            return self._member(name, self._declared_type(name))
        if name in p.nets:
            found = force(self.given[name])
            if not isinstance(found, (OperatorV, Closure, FnV)):
                return found
            net = read_net(self.ev, p.nets[name], self.scope, owner=self, target=found)
            return replace(net, name=self.prefix + name)
        if name in p.params or name in p.consts or name in p.inputs:
            return self._converted(name, self._declared_type(name))
        if any(data.name == name and data.type is not None for data in p.decl.data):
            return self._converted(name, self._declared_type(name))
        return None

    def _declared_type(self, name: str) -> Tensor | None:
        """The type of a parameter, constant, input or datum."""
        p = self.parts
        if name in p.params or name in p.consts:
            return self.item(name, p.params.get(name) or p.consts[name]).type
        if name in p.inputs:
            return self.input_type(name)[0]
        for data in p.decl.data:
            if data.name == name and data.type is not None:
                found = resolve_type(self.ev, data.type, self.scope, self.generic)
                return found if isinstance(found, Tensor) else None
        return None

    # ------------------------------------------------------------ names

    def lookup(self, name: str, primes: int) -> Any:
        key = (name, primes)
        if key in self.cache:
            return self.cache[key]
        shown = name + "'" * primes
        if shown in self.pending:
            return self._loop(shown)
        self.pending.append(shown)
        try:
            found = self._find(name, primes)
        finally:
            self.pending.pop()
        if found is not None:
            self.cache[key] = found
        return found

    def _loop(self, name: str) -> Any:
        ring = [*self.pending[self.pending.index(name) :], name]
        first = self.parts.derived.get(ring[0]) or self.parts.terms.get(ring[0])
        lines = sorted(
            (s.span for n in ring if (s := self.parts.derived.get(n)) is not None), key=lambda s: s.start
        )
        span = (
            lines[0] if lines else first.span if first is not None else self.parts.spans.get(name.rstrip("'"))
        )
        return self.ev.error(
            "NDL415",
            f"an algebraic loop: {' → '.join(f'`{n}`' for n in ring)}",
            span or self.parts.decl.span,
            notes=("each of these is defined by the next, so none has a value",),
            help="declare one of them a `state` and give it an equation `0 = …`",
        )

    def _find(self, name: str, primes: int) -> Any:
        p = self.parts
        if self.replaced(name):
            found = self._given(name) if primes == 0 else self._given_rate(name)
            if found is not None:
                return found
        if primes == 0:
            if name in p.params:
                return self.site.weight(self, self.item(name, p.params[name]), True, p.params[name])
            if name in p.consts:
                return self._const(name)
            if name in p.states:
                return self._state(name, 0)
            if name in p.inputs and name != "t":
                return self._input(name)
            if name in p.derived:
                return self._derived(name)
            if name in p.terms:
                return self.ev.eval(p.terms[name].value, self.scope)
            if name in p.noises:
                return noise_value(self, name)
            if name in p.nets:
                return self._net(name)
            if name in p.draws:
                return self._draw(name)
            if name == "t":
                return self.site.time(self.time_unit() if self.has_units() else None)
            for data in p.decl.data:
                if data.name == name:
                    return self._data(data)
            if name in self.coordinates:
                return self._coordinate(name)
            for observed in p.observes:
                if observed.name == name:
                    return UNKNOWN
            return derivative(name, self.coordinates)
        if name in p.states:
            order = p.order(name)
            if primes < max(order, 1) or (primes in p.states[name] and primes < order):
                return self._state(name, primes)
            if primes == order and name in p.rates:
                return self.rate(name)
            return None
        if name in p.derived and primes == 1:
            return self._derivative(name)
        return None

    def replaced(self, name: str) -> bool:
        """Whether a part's application puts something in the place of a name, other than a start."""
        if name in self.parts.states:
            return False
        if name in self.varied:
            return True
        return name in self.given and (name not in self.parts.params or self.starts_at(name) is None)

    def item(self, name: str, decl: tree.DeclItem) -> Item:
        key = (name, decl.primes)
        if key not in self.items:
            self.items[key] = read_item(self.ev, decl, self.scope)
        return self.items[key]

    def _draw(self, name: str) -> Any:
        """A random value, or a part that is drawn from a family."""
        stmt = self.parts.draws[name]
        law = self.ev.eval(stmt.law, self.scope)
        if isinstance(law, ModelV):
            if stmt.per is not None:
                return self.ev.error(
                    "NDL436",
                    f"the part `{name}` cannot be drawn per {stmt.per}: its states belong to a whole run",
                    stmt.span,
                    help=f"write `{name} ~ {stmt.law.span.text}`, one instance for each member and run",
                )
            return as_parts(self, name, law, stmt.span, drawn=True)
        return self.site.draw(self, stmt, draw_value(self.ev, stmt, self.scope))

    def _const(self, name: str) -> Any:
        """A `const` known when compiling stays a number; others are weights that are never fitted."""
        decl = self.parts.consts[name]
        if decl.value is not None and decl.type is None:
            value = self.ev.eval(decl.value, self.scope)
            if not isinstance(value, Value):
                return value
        return self.site.weight(self, self.item(name, decl), False, decl)

    def state_type(self, name: str, order: int = 0) -> Tensor | None:
        """The declared type of a state, or that of its initial value; of a rate, per time."""
        orders = self.parts.states[name]
        if not orders:
            return None
        decl = orders.get(0) or next(iter(orders.values()))
        if decl.type is not None:
            found = resolve_type(self.ev, decl.type, self.scope, self.generic)
            type_ = found if isinstance(found, Tensor) else None
        else:
            type_ = self.item(name, decl).type
            if type_ is not None and decl.value is None and decl.law is None:
                guess = self._guess_type(name)
                type_ = guess or type_
        if type_ is not None and type_.kind == "Z" and decl.type is None:
            type_ = Tensor("R", type_.shape, type_.on, type_.unit)
        if type_ is not None and order and type_.unit is not None:
            return Tensor(
                type_.kind, type_.shape, type_.on, unit_product(type_.unit, self.time_unit(), -order)
            )
        return type_

    def _guess_type(self, name: str) -> Tensor | None:
        return None

    def _state(self, name: str, order: int) -> Any:
        type_ = self.state_type(name, order)
        if type_ is None:
            return UNKNOWN
        if type_.on == "time":
            type_ = Tensor(type_.kind, type_.shape, None, type_.unit)
        return self.site.state(self.prefix + name, order, type_)

    def _input(self, name: str) -> Any:
        decl = self.parts.inputs[name]
        type_, on_time = self.input_type(name)
        if type_ is None:
            return UNKNOWN
        if decl.value is not None:
            self.ev.eval(decl.value, self.scope)
        return self.site.input(self.prefix + name, type_, on_time)

    def moves(self, name: str) -> bool:
        """Whether a name is a state or an input on time, which have values at other times as well."""
        return name in self.parts.states or (name in self.parts.inputs and self.input_type(name)[1])

    def at_time(self, ev: Evaluator, name: str, value: Value, args: list[Any], span: Span) -> Any:
        """`x(e)`: a state or an input on time at the time e."""
        at = ev.value(args[0], span) if len(args) == 1 else None
        if len(args) != 1 or (isinstance(at, Value) and at.type.rank):
            return ev.error("NDL322", f"`{name}` takes one time", span, help=f"write `{name}(t - 1)`")
        if ev.checking or isinstance(at, Unknown):
            return value
        read = "past" if name in self.parts.states else "elsewhere"
        found = getattr(self.site, read, None)
        if found is None:
            return ev.not_lowered(f"another time's value (`{span.text}`)", span)
        return found(ev, value, at, span)

    def input_type(self, name: str) -> tuple[Tensor | None, bool]:
        decl = self.parts.inputs[name]
        found = (
            resolve_type(self.ev, decl.type, self.scope, self.generic) if decl.type is not None else SCALAR
        )
        if not isinstance(found, Tensor):
            return None, False
        if found.on == "time":
            return Tensor(found.kind, found.shape, None, found.unit), True
        return found, False

    def _data(self, data: tree.Parameter) -> Any:
        found = resolve_type(self.ev, data.type, self.scope, self.generic) if data.type is not None else None
        if isinstance(found, Tensor):
            return self.site.input(self.prefix + data.name, found, False)
        return UNKNOWN

    def _net(self, name: str) -> Any:
        net = read_net(self.ev, self.parts.nets[name], self.scope, owner=self)
        return replace(net, name=self.prefix + name)

    def _derived(self, name: str) -> Any:
        stmt = self.parts.derived[name]
        value = self.ev.eval(stmt.value, self.scope)
        if len(stmt.targets) > 1:
            from ndl.compiler.check.calls import take_apart

            found = take_apart(self.ev, value, len(stmt.targets), stmt.span)
            for target, v in zip(stmt.targets, found or []):
                if isinstance(target, tree.Name):
                    self.cache[(target.id, 0)] = v
            return self.cache.get((name, 0), UNKNOWN)
        if stmt.type is not None:
            wanted = resolve_type(self.ev, stmt.type, self.scope, self.generic)
            value = convert(self.ev, value, wanted, f"`{name}`", stmt.span)
        if isinstance(value, Value) and self.ev.builder.mode == "graph":
            value = self.ev.worker.named(value, self.prefix + name)
        return as_parts(self, name, value, stmt.value.span)

    def _given_rate(self, name: str) -> Any:
        """The time derivative of what stands in place of an input."""
        value = self._given(name)
        return None if not isinstance(value, Value) else self._along(value)

    def _derivative(self, name: str) -> Any:
        """`y'` of a derived quantity: along the solution."""
        value = self.lookup(name, 0)
        return self._along(value) if isinstance(value, Value) else UNKNOWN

    def _along(self, value: Value) -> Any:
        if self.ev.checking:
            return Value(Tensor(value.type.kind, value.type.shape, value.type.on))
        return self.ev.lowering.along_solution(self.root, value)

    def _coordinates(self) -> dict[str, str]:
        """Coordinates of the domains in sight: name → domain."""
        found: dict[str, str] = {}
        on = self.domains()
        if not on and not self.parts.domains:
            return found
        for name in on:  # those of the model's own fields come first
            domain = self.domain(name)
            if domain is not None:
                found |= {c: domain.name for c in domain.coordinates if c not in found}
        scope: Scope | None = self.scope
        while scope is not None:
            for value in list(scope.names.values()):
                if isinstance(value, FileV) and value.kind == "domain":
                    value = self.ev.file_value(value)
                if isinstance(value, DomainV):
                    for c in value.coordinates:
                        found.setdefault(c, value.name)
            scope = scope.parent
        return found

    def domain(self, name: str) -> DomainV | None:
        """A domain by its name."""
        found = self.scope.find(name)
        if isinstance(found, FileV) and found.kind == "domain":
            found = self.ev.file_value(found)
        return found if isinstance(found, DomainV) else None

    def domains(self) -> list[str]:
        """The names of the domains on which states, weights and noises are fields."""
        p = self.parts
        items = [i for orders in p.states.values() for i in orders.values()]
        types = [i.type for i in (*items, *p.params.values(), *p.consts.values(), *p.inputs.values())]
        types += [n.law for n in p.noises.values() if isinstance(n.law, tree.FieldType)]
        on = [t.domain.id for t in types if isinstance(t, tree.FieldType) and isinstance(t.domain, tree.Name)]
        return [n for n in dict.fromkeys(on) if n != "time"]

    def _coordinate(self, name: str) -> Any:
        if name in self.parts.spans:
            return None
        if self.ev.checking:
            return Value(Tensor(on=self.coordinates[name]))
        if self.ev.fields is None:
            return self.ev.not_lowered("a field's coordinate", self.parts.decl.name_span)
        return self.ev.fields.coordinate(self.coordinates[name], name, self.parts.decl.name_span)

    def has_units(self) -> bool:
        """Whether any declaration has a unit; without one, `t` is a plain number."""
        p = self.parts
        items = [*p.params.values(), *p.consts.values(), *p.inputs.values()]
        items += [i for orders in p.states.values() for i in orders.values()]
        return any(_written_unit(i.type) for i in items)

    def time_unit(self) -> Units:
        """Seconds, unless the model says `input t: R{day}`."""
        decl = self.parts.inputs.get("t")
        if decl is not None and decl.type is not None:
            found = resolve_type(self.ev, decl.type, self.scope)
            if isinstance(found, Tensor) and found.unit is not None:
                return found.unit
        return (("s", Fraction(1)),)

    # ------------------------------------------------------------ equations

    def rate(self, name: str) -> Any:
        """The right side of a state's equation: its highest derivative."""
        key = (name, -1)
        if key not in self.cache:
            eq = self.parts.rates[name]
            self.cache[key] = drift(self, eq) if eq.kind == "differential" else self._right(eq)
        return self.cache[key]

    def _right(self, eq: Equation) -> Any:
        wanted = self.state_type(eq.name, eq.order)
        value = self.joint(eq) if eq.part is not None else self.ev.eval(eq.value, self.scope, wanted)
        return self.fit(value, eq, wanted)

    def joint(self, eq: Equation) -> Any:
        """One component of `u', v' = e`."""
        from ndl.compiler.check.calls import take_apart

        key = (f"={eq.value.span.start}", 0)
        if key not in self.cache:
            value = self.ev.eval(eq.value, self.scope)
            self.cache[key] = take_apart(self.ev, value, eq.parts, eq.value.span) or [UNKNOWN] * eq.parts
        return self.cache[key][eq.part or 0]

    def fit(self, value: Any, eq: Equation, wanted: Tensor | None) -> Any:
        """A right side as the rate of its state: scalars fill, shapes and units agree."""
        if isinstance(value, NotLowered):
            value = self.ev.value(value, eq.span)
        if isinstance(value, Unknown) or wanted is None:
            return UNKNOWN if isinstance(value, Unknown) else value
        found = self.ev.value(value, eq.value.span)
        if isinstance(found, Unknown):
            return UNKNOWN
        shown = eq.name + "'" * eq.order if eq.kind != "integral" else f"{eq.name}(t)"
        if wanted.on is not None and found.type.on is None:
            found = replace(found, type=replace(found.type, on=wanted.on))
        if found.type.rank == 0 and wanted.rank:
            found = self.ev.spread(found, wanted.shape, eq.value.span)
        if self.ev.checking and apart(found.type, wanted):
            what = f"`{eq.name}` is {wanted}, and the other side of its equation is {found.type}"
            hint = _at_points(found.type, wanted, eq.value.span.text)
            return self.ev.error("NDL302", what, eq.value.span, text=str(found.type), help=hint)
        if found.type.shape != wanted.shape:
            if any(d.constant is None for d in (*found.type.shape, *wanted.shape)) and len(
                found.type.shape
            ) == len(wanted.shape):
                return found
            return self.ev.error(
                "NDL301",
                f"the two sides of the equation for `{shown}` differ in shape",
                eq.value.span,
                text=str(found.type),
                labels=(Label(eq.span, f"{wanted}"),),
                notes=(f"`{eq.name}` is {wanted}, declared on line {self.parts.spans[eq.name].line}",),
            )
        if wanted.unit is not None and found.type.unit is not None and wanted.unit != found.type.unit:
            left, right = Tensor(unit=wanted.unit), Tensor(unit=found.type.unit)
            return self.ev.error(
                "NDL306",
                f"the two sides of the equation for `{shown}` differ in unit: {left} and {right}",
                eq.value.span,
                text=str(found.type),
                notes=(
                    f"`{eq.name}` is in {Tensor(unit=self._unit(eq.name))}, and its rate is per "
                    f"{'second' if self.time_unit()[0][0] == 's' else self.time_unit()[0][0]}",
                ),
            )
        return found

    def _unit(self, name: str) -> Units | None:
        found = self.state_type(name)
        return found.unit if found is not None else None


def _written_unit(t: tree.TypeExpr | None) -> bool:
    if isinstance(t, tree.FieldType):
        return _written_unit(t.value)
    return isinstance(t, tree.TypeName) and t.unit is not None


def _at_points(found: Tensor, wanted: Tensor, text: str) -> str:
    if wanted.on is None:
        return f"declare it `R on {found.on}`, or take one number: `mean({text}, x in {found.on})`"
    return f"take it at the points of `{wanted.on}`, `{text}(x)`, or declare both on one domain"


def condition_value(ev: Evaluator, value: Any, span: Span, what: str) -> None:
    """A condition must be a truth value."""
    if isinstance(value, (Unknown, bool, NotLowered)):
        return
    if isinstance(value, Value):
        if value.type.kind != "Bool":
            ev.error("NDL331", f"{what} must be true or false, not {value.type}", span)
        return
    if not isinstance(value, WordV):
        ev.error("NDL331", f"{what} must be true or false, not {describe(value)}", span)


__all__ = ["CheckSite", "Elaboration", "NetV", "Site", "condition_value"]
