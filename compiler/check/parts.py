"""Parts: a model applied in a model joins its states and equations under a name, `leg = Oscillator(omega=2)`.

An argument is worked out when the part first asks for it, so that two parts may read each other's states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.evaluator import Evaluator, constant_of
from ndl.compiler.check.field_arguments import written_fields
from ndl.compiler.check.maps import Map
from ndl.compiler.check.operators import header_dims
from ndl.compiler.check.scope import Deferred
from ndl.compiler.check.typing import resolve_type, unify_type
from ndl.compiler.check.values import (
    Closure,
    FnV,
    ListV,
    ModelV,
    NetV,
    Object,
    OperatorV,
    Unknown,
    Value,
    is_number,
)
from ndl.compiler.check.varied import varied
from ndl.compiler.diagnostics import did_you_mean
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk
from ndl.compiler.types import Dim, Tensor

if TYPE_CHECKING:
    from ndl.compiler.check.model_parts import Parts
    from ndl.compiler.check.models import Elaboration

Path = tuple[tuple[str, int | None], ...]
"""Where a part stands: names, with a place where a name is a list of parts."""

DEEPEST = 8
"""Parts within parts; more is a model that contains itself."""


class Argument(Deferred):
    """An argument of a model applied in a model."""

    def __init__(self, make: Callable[[], Any], span: Span) -> None:
        super().__init__(make)
        self.span = span


def force(value: Any) -> Any:
    """An argument's value."""
    return value.get() if isinstance(value, Deferred) else value


class PartV(Object):
    """A part, as its model's formulas see it: `leg.x`, `leg.omega`, `l1.D`."""

    kind = "part"

    def __init__(self, elaboration: Elaboration) -> None:
        self.elaboration = elaboration

    def attribute(self, ev: Any, name: str, primes: int, span: Span) -> Any:
        inner = self.elaboration
        found = inner.options[name] if name in inner.parts.domains else inner.lookup(name, primes)
        if found is not None:
            return found
        known = list(inner.parts.spans)
        return ev.error(
            "NDL207",
            f"the part `{inner.prefix[:-1]}` has no `{name}{chr(39) * primes}`",
            span,
            help=did_you_mean(name, known) or f"it has {', '.join(known)}",
        )


def as_parts(outer: Elaboration, name: str, value: Any, span: Span, drawn: bool = False) -> Any:
    """What a definition in a model means when its value is a model, or a list of models; `drawn`: what a
    draw `name ~ value` means."""
    if isinstance(value, ModelV):
        return _part(join(outer, name, None, value, span, drawn))
    if isinstance(value, ListV) and value.items and all(isinstance(i, ModelV) for i in value.items):
        return ListV(tuple(_part(join(outer, name, k, m, span, drawn)) for k, m in enumerate(value.items)))
    if isinstance(value, Map):
        from ndl.compiler.check.linearized import join_maps

        join_maps(outer, name, value)
    return value


def _part(joined: Any) -> Any:
    return joined if isinstance(joined, Unknown) else PartV(joined)


def join(
    outer: Elaboration, name: str, index: int | None, model: ModelV, span: Span, drawn: bool = False
) -> Any:
    """The elaboration of a part within that of its model; unknown after an error."""
    from ndl.compiler.check.applications import parts_of
    from ndl.compiler.check.models import Elaboration

    ev = outer.ev
    shown = name if index is None else f"{name}[{index}]"
    if len(outer.path) >= DEEPEST:
        return ev.error("NDL430", f"`{model.decl.name}` contains itself without end", span)
    parts = parts_of(ev, model.decl)
    if parts.calculus != outer.parts.calculus and parts.noises:
        ev.error(
            "NDL431",
            f"the part `{shown}` reads its noise by the {parts.calculus} calculus, "
            f"`{outer.parts.name}` by the {outer.parts.calculus} one",
            span,
            help=f"write `calculus {parts.calculus}` in `{outer.parts.name}`",
        )
    options, given = arguments_of(ev, model)
    return Elaboration(
        ev,
        parts,
        model.module.scope,
        options,
        outer.site,
        given=given,
        varied=varied(ev, model, parts, drawn, span),
        prefix=f"{outer.prefix}{shown}.",
        path=(*outer.path, (name, index)),
        root=outer.root,
    )


TELLING = ("input", "state", "param", "const")
"""What tells an open dimension by the shape of the value that it is given."""


def arguments_of(ev: Evaluator, model: ModelV) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of a model as applied, its dimensions among them where they are known, and what else
    its application sets: parameters, inputs, initial values, nets, data."""
    decl, outer = model.decl, model.module.scope
    options: dict[str, Any] = {}
    for p in decl.options:
        if p.name in model.values:
            options[p.name] = model.values[p.name]
        elif p.default is not None:
            options[p.name] = ev.eval(p.default, outer.child(options))
    given = {k: v for k, v in model.values.items() if k not in options and k != "seed"}
    given |= {p.name: v for p, v in zip(decl.data, model.data)}
    options |= dimensions_of(ev, model, options, given)
    return options, {k: v for k, v in given.items() if k not in options}


def dimensions_of(
    ev: Evaluator, model: ModelV, options: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, int]:
    """The header's dimensions that the data or a keyword tell."""
    decl, outer = model.decl, model.module.scope
    generic = header_dims(decl, outer)
    dims: dict[str, Dim] = {}
    for name in generic:
        number = force(model.values.get(name))
        if is_number(number):
            dims[name] = Dim.of(int(number))
    declared = [s for s in decl.body if isinstance(s, tree.Declare) and s.keyword in TELLING]
    given_by: list[tree.Parameter | tree.DeclItem] = [*decl.data, *(i for s in declared for i in s.items)]
    for p in given_by if generic else ():
        value = force(given.get(p.name))
        wanted = resolve_type(ev, p.type, outer.child(options), dims) if p.type is not None else None
        if isinstance(value, ListV):
            value = ev.value(value, p.span)
        shape = value.type.shape if isinstance(value, Value) else getattr(value, "shape", None)
        if shape is not None and isinstance(wanted, Tensor):
            unify_type(wanted, Tensor(wanted.kind, shape), dims, generic)
    found = {name: d.constant for name, d in dims.items()}
    return {name: n for name, n in found.items() if n is not None}


def check_parts(root: Elaboration) -> None:
    """Check what the applications of a model's parts set, and the parts' equations with it."""
    from ndl.compiler.check.check_model import integral_rate

    frames = list(root.frames())
    for map_ in (m for f in frames for m in f.maps()):
        for name in map_.given:
            map_.check_argument(name)
    for frame in frames[1:]:
        for name in (*frame.given, *frame.varied):
            frame.check_argument(name)
        for name, eq in frame.parts.rates.items():
            if eq.kind == "integral":
                integral_rate(frame, name)
            else:
                frame.rate(name)


def declarations(ev: Evaluator, model: ModelV) -> list[Parts]:
    """What a model and the parts joined to it declare, found from the names that it applies."""
    from ndl.compiler.check.applications import parts_of

    found: list[Parts] = []
    waiting, seen = [model], set()
    while waiting:
        m = waiting.pop()
        if id(m.decl) in seen:
            continue
        seen.add(id(m.decl))
        parts = parts_of(ev, m.decl)
        found.append(parts)
        written = [s.value for s in parts.derived.values()] + [s.law for s in parts.draws.values()]
        for e in written:
            names = {n.id for n in walk(e) if isinstance(n, tree.Name)}
            inner = [m.module.scope.find(n) for n in names if n not in parts.spans]
            waiting += [i for i in inner if isinstance(i, ModelV)]
    return found


def written_nets(ev: Evaluator, model: ModelV) -> dict[str, Any]:
    """The nets that an application writes out, `M(f=MLP(width=8))`, `M(f=x -> -x)`, or names, `M(f=g)`:
    another model, with equations of its own. Of a net of the file that is the operator; its weights are put
    there when the model is made."""
    from ndl.compiler.check.applications import parts_of

    nets = parts_of(ev, model.decl).nets
    given = {k: v for k, v in model.values.items() if k in nets}
    found = {k: v.target if isinstance(v, NetV) and v.per is None else v for k, v in given.items()}
    return {k: v for k, v in found.items() if isinstance(v, (OperatorV, Closure, FnV))}


def written_parts(ev: Evaluator, model: ModelV) -> dict[str, Any]:
    """All that an application sets and that makes another model: nets and fields by formulas, domains."""
    from ndl.compiler.check.applications import parts_of

    return written_nets(ev, model) | written_fields(parts_of(ev, model.decl), model)


def inner_parts(value: Any) -> Iterator[Elaboration]:
    """The parts that a definition's value holds."""
    if isinstance(value, PartV):
        yield value.elaboration
    elif isinstance(value, ListV):
        for item in value.items:
            yield from inner_parts(item)


def descend(root: Elaboration, path: Path) -> Elaboration:
    """The part at a path below a model."""
    found = root
    for name, index in path:
        value = found.lookup(name, 0)
        if isinstance(value, Map):
            from ndl.compiler.check.linearized import model_maps

            found = list(model_maps(value))[index or 0].frame  # type: ignore[assignment]
            continue
        if index is not None:
            value = value.items[index]
        found = value.elaboration
    return found


__all__ = [
    "Argument",
    "PartV",
    "arguments_of",
    "as_parts",
    "check_parts",
    "constant_of",
    "declarations",
    "descend",
    "force",
    "inner_parts",
    "join",
    "written_nets",
    "written_parts",
]
