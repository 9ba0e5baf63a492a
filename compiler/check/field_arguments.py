"""What an application sets of a model's fields: formulas in the coordinates, `M(u=x -> sin(x))`, and
domains in place of those that the model declares, `M(Omega=Torus)`. Both make another model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.values import UNKNOWN, Closure, DomainV, FnV, ModelV, Unknown, Value, describe
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import Tensor

if TYPE_CHECKING:
    from ndl.compiler.check.evaluator import Evaluator
    from ndl.compiler.check.model_parts import Parts
    from ndl.compiler.check.models import Elaboration


def written_fields(parts: Parts, model: ModelV) -> dict[str, Any]:
    """The domains that an application sets, and the fields that it sets by a formula."""
    found = {}
    for name, value in model.values.items():
        formula = isinstance(value, (Closure, FnV)) and field_domain(parts, name) is not None
        if formula or name in parts.domains:
            found[name] = value
    return found


def field_domain(parts: Parts, shown: str) -> str | None:
    """The name of the domain on which a state (also `u'`), parameter or constant is declared."""
    name = shown.rstrip("'")
    orders = parts.states.get(name, {})
    decl = orders.get(0) or parts.params.get(name) or parts.consts.get(name)
    written = decl.type if decl is not None else None
    if not isinstance(written, tree.FieldType) or not isinstance(written.domain, tree.Name):
        return None
    return None if written.domain.id == "time" else written.domain.id


def is_formula(el: Elaboration, shown: str, value: Any) -> bool:
    """Whether a value is a formula and its name a field."""
    return isinstance(value, (Closure, FnV)) and field_domain(el.parts, shown) is not None


def formula_value(el: Elaboration, shown: str, value: Any, span: Span) -> Any:
    """A formula at the points of the domain of the field that it is given for."""
    from ndl.compiler.check.calls import apply
    from ndl.compiler.check.typing import convert, resolve_type

    name = shown.rstrip("'")
    orders = el.parts.states.get(name, {})
    decl = orders.get(0) or el.parts.params.get(name) or el.parts.consts[name]
    wanted = resolve_type(el.ev, decl.type, el.scope, el.generic) if decl.type is not None else None
    domain = el.domain(field_domain(el.parts, shown) or "")
    if domain is None or not isinstance(wanted, Tensor):
        return UNKNOWN
    points = [_coordinate(el, domain, c, span) for c in domain.coordinates]
    found = apply(el.ev, value, points, {}, span, None)
    on = found.type.on if isinstance(found, Value) else None
    return convert(el.ev, found, replace(wanted, on=on), f"`{el.prefix}{shown}`", span)


def _coordinate(el: Elaboration, domain: DomainV, name: str, span: Span) -> Any:
    if el.ev.checking:
        return Value(Tensor(on=domain.name))
    return el.ev.fields.coordinate(domain.name, name, span)


def domain_value(ev: Evaluator, decl: tree.DomainDecl, given: Any, found: Any, span: Span) -> Any:
    """A model's domain by the name that the model has for it: `given` by an application, else `found`."""
    if given is not None and not isinstance(given, (DomainV, Unknown)):
        return ev.error("NDL341", f"`{decl.name}` is a domain, and this is {describe(given)}", span)
    if isinstance(given, DomainV):
        return replace(given, name=decl.name, given=given.name or decl.name)
    return replace(found, name=decl.name) if isinstance(found, DomainV) else found
