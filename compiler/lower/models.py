"""Models to `ModelIR`: one function for each thing that a solver asks.

A model is lowered together with its parts: `frames` are their elaborations, the model's own first, and names
of a part carry its prefix (`leg.x`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ndl.compiler.check.applications import parts_of
from ndl.compiler.check.boundaries import conditions_of
from ndl.compiler.check.check_model import check_model
from ndl.compiler.check.evaluator import Evaluator, TypeBuilder
from ndl.compiler.check.maps import Map
from ndl.compiler.check.model_parts import Parts
from ndl.compiler.check.models import CheckSite, Elaboration
from ndl.compiler.check.noises import covariance
from ndl.compiler.check.operators import header_dims
from ndl.compiler.check.parts import arguments_of, inner_parts, written_parts
from ndl.compiler.check.values import Axis, Closure, FnV, ModelV, NetV, Unknown, Value
from ndl.compiler.check.weights import Item, read_item
from ndl.compiler.diagnostics import Sink, fail
from ndl.compiler.ir.graph import Function, Graph, ParamSpec
from ndl.compiler.ir.model import DelaySpec, InputSpec, ModelIR, StateSpec
from ndl.compiler.lower import constraints, delays, energy_functions, equations, events, integrals, noise
from ndl.compiler.lower.builder import GraphBuilder
from ndl.compiler.lower.field_waves import Place, waves_of
from ndl.compiler.lower.fields import Fields, grid_type
from ndl.compiler.lower.mesh_fields import refuse_standing
from ndl.compiler.lower.mesh_space import Reading
from ndl.compiler.lower.observes import observes
from ndl.compiler.lower.operators import make_spec, numbers
from ndl.compiler.lower.refused import refuse
from ndl.compiler.lower.schemes import Schemes
from ndl.compiler.lower.sites import GraphSite
from ndl.compiler.lower.space import Space
from ndl.compiler.lower.unread_nets import keep_nets
from ndl.compiler.lower.weights import Weights
from ndl.compiler.passes.breaks import breaks_of
from ndl.compiler.passes.real_parts import with_real_parts
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import Tensor


@dataclass(frozen=True)
class Slot:
    """A state of first order: where it is declared and which derivative of that state it is."""

    spec: StateSpec
    frame: Elaboration
    name: str
    order: int
    axes: tuple[Axis, ...] = ()
    """Those of the grid, of a field."""

    @property
    def moving(self) -> bool:
        return self.name in self.frame.parts.rates


class ModelLowering:
    """Lowers one model with the options of an application."""

    def __init__(self, model: ModelV, sink: Sink, read: Reading | None = None) -> None:
        self.model, self.sink = model, sink
        self.decl, self.module = model.decl, model.module
        self.weights = Weights()
        self.weights.of_model = True
        self.smooth: set[int] = set()
        self.delays: list[DelaySpec] = []
        check = Evaluator(TypeBuilder(), sink)
        self.parts: Parts = parts_of(check, self.decl)
        self.options = self._options(check)
        if sink.failed:
            sink.check()
        self.given = written_parts(check, model)
        self.types = Elaboration(
            check, self.parts, self.module.scope, self.options, CheckSite(), given=self.given
        )
        if sink.failed:
            sink.check()
        check.context = self.types
        self.frames = list(self.types.frames())
        for frame in self.frames:
            refuse(frame)
        self.maps = [m for frame in self.frames for m in frame.maps()]
        """The models whose derivatives are maps here."""
        self.space = Space(model.grid, read)
        self.schemes: Schemes | None = None
        """Those of the function lowered last, where its fields have some."""
        self.conditions = {f.prefix: conditions_of(check, f) for f in self.frames}
        self.space.conditions = self.conditions, {f.prefix: f.scope for f in self.frames}
        self.map_conditions = {f.prefix: conditions_of(check, f) for f in self.maps}
        self.paths = {f.prefix: f.path for f in self.frames}
        self.multipliers: frozenset[tuple[str, str]] = frozenset()
        self.slots = [slot for frame in self.frames for slot in self.slots_of(frame)]
        self.noises = noise.noises(self)
        self.multipliers = constraints.multipliers(self)

    # ------------------------------------------------------------ header and states

    def _options(self, ev: Evaluator) -> dict[str, Any]:
        """Options and dimensions; data and what is set at run time stay inputs and weights."""
        options, _ = arguments_of(ev, self.model)
        for name in header_dims(self.decl, self.module.scope):
            if name not in options:
                raise fail(
                    "NDL308",
                    f"nothing here tells the dimension `{name}` of `{self.decl.name}`",
                    self.decl.name_span,
                    help=f"set it where the model is used: `{self.decl.name}({name}=…)`",
                )
        return options

    def slots_of(self, frame: Elaboration) -> list[Slot]:
        """The states of a model or part after reduction to first order."""
        found = []
        parts, free = frame.parts, frame.parts.algebraic()
        for name, orders in parts.states.items():
            type_ = frame.state_type(name) or Tensor()
            axes = self.axes(frame, type_, parts.spans[name])
            plain = grid_type(replace(type_, kind="R" if type_.kind == "Z" else type_.kind), axes)
            source, by_step = parts.kept.get(name, (None, False))
            base = next(iter(orders.values()))
            for k in range(max(parts.order(name), 1)):
                decl = orders.get(k)
                item = read_item(frame.ev, decl, frame.scope, False) if decl is not None else None
                spec = StateSpec(
                    frame.prefix + name + "'" * k,
                    plain,
                    name in free,
                    item.lower if item else None,
                    item.upper if item else None,
                    (decl or base).name_span,
                    None if source is None else frame.prefix + source,
                    by_step,
                )
                found.append(Slot(spec, frame, name, k, axes))
        return found

    def axes(self, frame: Elaboration, type_: Tensor, span: Span) -> tuple[Axis, ...]:
        """The axes along which a value of a type is stored: those of the grid for a field."""
        if type_.on in (None, "time"):
            return ()
        domain = frame.domain(type_.on or "")
        if domain is None:
            raise fail("NDL490", f"a field on `{type_.on}` is not yet lowered", span)
        return self.space.add(frame.ev, domain, span)

    def input_axes(self, name: str, type_: Tensor) -> tuple[Axis, ...]:
        """The axes of an input, by its name with the prefix of its part."""
        frame = next(f for f in self.frames if f.prefix == name[: name.rfind(".") + 1])
        return self.axes(frame, type_, frame.parts.spans.get(name[len(frame.prefix) :], Span()))

    # ------------------------------------------------------------ functions

    def spec(self, owner: Elaboration, item: Item, trainable: bool, decl: tree.DeclItem) -> ParamSpec:
        """A weight of the model or a part, described when it is first read."""
        name = owner.prefix + decl.name
        if name not in self.weights.params:
            el = self.scratch().descend(owner.path)
            type_ = item.type or Tensor()
            axes = self.axes(owner, type_, decl.name_span)
            plain, start = grid_type(type_, axes), el.starts_at(decl.name)
            place = Place(axes, owner.prefix, decl.name, Tensor(type_.kind, type_.shape)) if axes else None
            self.weights.params[name] = make_spec(el.ev, name, decl, plain, el.scope, trainable, start, place)
        return self.weights.params[name]

    def bank(
        self, owner: Elaboration, item: Item, trainable: bool, decl: tree.DeclItem
    ) -> tuple[str, Function]:
        """`param g: T = v per step`: a part that gives its one weight, with a set of it for each step."""
        name = owner.prefix + decl.name
        if name not in self.weights.parts:
            el = self.scratch().descend(owner.path)
            plain = grid_type(item.type or Tensor(), self.axes(owner, item.type or Tensor(), decl.name_span))
            start = el.starts_at(decl.name)
            self.weights.parts[name] = numbers(el.ev, decl, plain, el.scope, start)
        return name, self.weights.parts[name]

    def scratch(self) -> Elaboration:
        """The model's formulas with a graph that is thrown away."""
        return self._elaborate(GraphBuilder(Graph(), self.weights))[0]

    def elaborated(self, builder: GraphBuilder) -> Elaboration:
        """The model's formulas, their operations added to a builder."""
        return self._elaborate(builder)[0]

    def _elaborate(self, builder: GraphBuilder) -> tuple[Elaboration, GraphSite]:
        site = GraphSite(self, builder)
        ev = Evaluator(builder, self.sink, strict=True)
        el = Elaboration(ev, self.parts, self.module.scope, self.options, site, given=self.given)
        ev.context = el
        ev.fields = site.fields = Fields(self.space, el, self.conditions, self.paths)
        ev.fields.multipliers = self.multipliers
        return el, site

    def function(
        self,
        name: str,
        make: Callable[[Elaboration, GraphBuilder], Sequence[tuple[str, Any]]],
        extra: Mapping[str, Tensor] | None = None,
        with_states: bool = True,
    ) -> Function:
        """A function of (t, states): `make` gives its outputs by name."""
        builder = GraphBuilder(Graph(), self.weights)
        el, site = self._elaborate(builder)
        if with_states:
            site.time(None)
            for s in self.slots:
                site.read(s.spec.name, s.spec.type)
        for key, type_ in (extra or {}).items():
            site.read(key, type_)
        outputs = []
        for key, value in make(el, builder):
            found = el.ev.value(value, self.decl.name_span)
            if isinstance(found, Unknown):
                raise fail("NDL902", f"`{key}` of `{self.decl.name}` has no value", self.decl.name_span)
            found = el.ev.fields.whole(found, None, self.decl.name_span)
            outputs.append((key, builder.node(found)))
        needed = builder.graph.needed([node for _, node in outputs])
        delays.refuse_slopes(self, needed)
        refuse_standing(needed)
        self.smooth |= builder.smooth_nodes
        return Function(
            name,
            builder.graph,
            tuple(site.inputs.values()),
            tuple(outputs),
            tuple(self.weights.params.values()),
            self.weights.parts,
        )

    # ------------------------------------------------------------ the whole

    def lower(self) -> ModelIR:
        for frame in (*self.frames, *self.maps):
            self._touch(frame)
        initial = equations.initial(self)
        integral, forcing = integrals.integral_parts(self)
        drift = equations.drift(self) if self.slots and not integral else None
        schemes = tuple(dict.fromkeys(self.schemes.findings)) if self.schemes is not None else ()
        breaks = breaks_of(drift, frozenset(self.smooth)) if drift is not None else None
        pace = equations.pace(self)
        diffusion, kind = noise.diffusion(self)
        waiting = events.events_of(self)
        events.refuse_held(waiting, (drift, diffusion))
        derived = self._derived()
        terms = {f.prefix + n: equations.term(self, f, n) for f in self.frames for n in f.parts.terms}
        for frame in (*self.frames, *self.maps):
            keep_nets(self, frame)
        return ModelIR(
            name=self.decl.name,
            doc=self.decl.doc or "",
            states=tuple(s.spec for s in self.slots),
            inputs=self._inputs(),
            noises=self.noises,
            initial=initial,
            drift=drift,
            diffusion=diffusion,
            noise_kind=kind,
            calculus=self.parts.calculus,
            derived=derived,
            terms=terms,
            events=waiting,
            requires=tuple(events.require_of(self, f, r) for f in self.frames for r in f.parts.requires),
            breaks=breaks,
            integrals=integral,
            forcing=forcing,
            observes=observes(self),
            lags=delays.lags(self),
            delays=tuple(self.delays),
            draws=tuple(self.weights.draws.values()),
            outputs=tuple(derived),
            equations=self._equations(),
            spans={f.prefix + n: span for f in self.frames for n, span in f.parts.spans.items()},
            # last: the functions above made them
            params=tuple(self.weights.params.values()),
            parts=dict(self.weights.parts),
            grids=tuple(self.space.grids.values()),
            schemes=schemes,
            pace=pace,
            energy=energy_functions.energy(self),
            measure=energy_functions.measure(self),
            laplacian=energy_functions.laplacian(self),
            waves=self._waves(),
        )

    def _waves(self) -> dict[str, Any]:
        """The waves of which random states and weights are made, where they have any."""
        fields = self.scratch().ev.fields
        places = {s.spec.name: Place(s.axes, s.frame.prefix, s.name, Tensor()) for s in self.slots}
        for frame in self.frames:
            weights = {**frame.parts.params, **frame.parts.consts}
            types = {n: (frame.item(n, d).type, d.name_span) for n, d in weights.items()}
            types |= {n: (frame.input_type(n)[0], d.name_span) for n, d in frame.parts.inputs.items()}
            for name, (type_, span) in types.items():
                axes = self.axes(frame, type_ or Tensor(), span)
                places[frame.prefix + name] = Place(axes, frame.prefix, name, Tensor())
        found = {name: waves_of(fields, place) for name, place in places.items()}
        return {name: lines for name, lines in found.items() if lines}

    def _touch(self, frame: Elaboration) -> None:
        """Every parameter and draw belongs to the model, read by an equation or not."""
        parts = frame.parts
        for name, decl in {**parts.params, **parts.consts}.items():
            if frame.replaced(name):
                continue
            if name in parts.params or decl.type is not None or decl.law is not None:
                made = self.spec if decl.per is None else self.bank
                made(frame, frame.item(name, decl), name in parts.params, decl)
        inner = self.scratch().descend(frame.path)
        for name in (*parts.draws, *(n for n in frame.varied if frame.replaced(n))):
            inner.lookup(name, 0)

    def _derived(self) -> dict[str, Function]:
        """The derived quantities, those of parts by their dotted names; not those that are functions."""
        found: dict[str, Function] = {}
        known = {n.name: Tensor("R", _dims(n.shape)) for n in self.noises}
        for frame in self.frames:
            for name in frame.parts.noises:
                if covariance(frame, name) is not None:
                    found[frame.prefix + name] = self._quantity(frame, name, known)
            for name in frame.parts.derived:
                value = frame.lookup(name, 0)
                if any(True for _ in inner_parts(value)) or isinstance(value, (Closure, FnV, Map, NetV)):
                    continue
                found[frame.prefix + name] = self._quantity(frame, name, known)
        return found

    def _quantity(self, frame: Elaboration, name: str, noises: Mapping[str, Tensor]) -> Function:
        def make(root: Elaboration, g: GraphBuilder) -> list[tuple[str, Any]]:
            def value() -> Any:
                return root.descend(frame.path).lookup(name, 0)

            span = frame.parts.spans.get(name, self.decl.name_span)
            found = root.ev.fields.weak.quantity(value, span) if self.space.meshes else value()
            return [(frame.prefix + name, found)]

        return self.function(f"derived_{frame.prefix}{name}", make, noises)

    def _inputs(self) -> tuple[InputSpec, ...]:
        found = []
        for frame in self.frames:
            for data in self.decl.data if frame is self.types else frame.parts.decl.data:
                value = frame.lookup(data.name, 0)
                if isinstance(value, Value) and not frame.replaced(data.name):
                    name = frame.prefix + data.name
                    axes = self.input_axes(name, value.type)
                    found.append(InputSpec(name, grid_type(value.type, axes), False))
            for name in frame.parts.inputs:
                if name != "t" and not frame.replaced(name):
                    type_, on_time = frame.input_type(name)
                    axes = () if on_time or type_ is None else self.input_axes(frame.prefix + name, type_)
                    found.append(InputSpec(frame.prefix + name, grid_type(type_ or Tensor(), axes), on_time))
        return tuple(found)

    def _equations(self) -> tuple[str, ...]:
        """The equations as they are written, those of a part after its name."""
        found: list[str] = []
        for frame in self.frames:
            seen: set[int] = set()
            rates = frame.parts.rates.values()
            for eq in [*rates, *frame.parts.zeros]:
                if eq.value.span.start in seen:
                    continue
                seen.add(eq.value.span.start)
                left = "0" if eq.kind == "algebraic" else eq.span.text
                if eq.part is not None:
                    left = ", ".join(q.span.text for q in rates if q.value is eq.value)
                where = f"{frame.prefix[:-1]}: " if frame.prefix else ""
                found.append(f"{where}{left} = {' '.join(eq.value.span.text.split())}")
        return tuple(found)


def _dims(shape: Sequence[int]) -> tuple[Any, ...]:
    from ndl.compiler.types import Dim

    return tuple(Dim.of(n) for n in shape)


def lower_model(model: ModelV, sink: Sink, read: Reading | None = None) -> ModelIR:
    """Lower a model with the options that its application sets, complex states by their real and imaginary
    parts; `read` says where a file lies that it names."""
    check_sink = Sink()
    check_model(Evaluator(TypeBuilder(), check_sink), model)
    check_sink.check()
    return with_real_parts(ModelLowering(model, sink, read).lower())
