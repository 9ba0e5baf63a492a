"""Noise on a domain with a covariance map, `wiener(cov=K) on Omega`.

W = sum_j sqrt(lambda_j) e_j(x) beta_j(t) with the waves e_j of `ndl.runtime.waves`, in which K multiplies by
lambda_j, and independent Brownian motions beta_j, by which the run drives the model: a Q-Wiener process (Da
Prato and Zabczyk 1992, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.axes import aligned, split
from ndl.compiler.check.covariances import kernel_of, no_function_of_lap
from ndl.compiler.check.maps import Map, as_map
from ndl.compiler.check.model_parts import Equation
from ndl.compiler.check.models import Elaboration
from ndl.compiler.check.noises import covariance, noise_type, standard
from ndl.compiler.check.values import Value
from ndl.compiler.diagnostics import fail
from ndl.compiler.lower.equations import stored
from ndl.compiler.lower.field_waves import Line, Place, lines_of
from ndl.compiler.lower.kernel_fields import kernel_line
from ndl.compiler.lower.random_fields import NotOfWaves, check_sign, coloured, spectrum
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk
from ndl.compiler.types import Tensor

if TYPE_CHECKING:
    from ndl.compiler.lower.fields import Fields
    from ndl.compiler.lower.models import Slot
    from ndl.compiler.lower.sites import GraphSite


def driven_by_waves(el: Elaboration, name: str) -> bool:
    """Whether a noise is one on a domain with a covariance map."""
    type_ = noise_type(el, name)
    return type_ is not None and type_.on is not None and covariance(el, name) is not None


def lines_of_noise(fields: Fields, frame: Elaboration, name: str) -> list[Line]:
    """The waves of a noise along the axes of its grid. They fit what conditions say of it, and else what they
    say of the first state in whose equation it stands."""
    span = frame.parts.noises[name].span
    type_ = noise_type(frame, name)
    domain = frame.domain((type_.on if type_ is not None else None) or "")
    if domain is None:
        raise fail("NDL490", f"the noise `{name}` is not yet lowered", span)
    axes = fields.space.add(frame.ev, domain, span)
    map_, where = _map(frame, name)
    if kernel_of(map_) is not None:
        return [kernel_line(frame.ev, map_, axes, where)]
    own = any(c.field == name for c in fields.conditions.by_part.get(frame.prefix, ()))
    subject = name if own else next(_driven(frame, name), name)
    return lines_of(fields, Place(axes, frame.prefix, subject, Tensor()), span)


def _driven(frame: Elaboration, name: str) -> Any:
    """The states in whose equations a noise stands."""
    for eq in frame.parts.rates.values():
        if any(isinstance(n, tree.Name) and n.id == f"d{name}" for n in walk(eq.value)):
            yield eq.name


def waves_type(lines: Sequence[Line]) -> Tensor:
    """A number for each wave."""
    return Tensor("R", tuple(line.waves.extent for line in lines))


def field_of(site: GraphSite, el: Elaboration, name: str) -> Value:
    """The noise as a field, from the Brownian motions of its waves."""
    lines = lines_of_noise(el.ev.fields, el, name)
    motions = site.read(el.prefix + standard(el, name), waves_type(lines))
    map_, span = _map(el, name)
    return coloured(el.ev, map_, split(motions, tuple(line.waves for line in lines)), lines, span)


def of_waves(el: Elaboration, eq: Equation, slot: Slot, name: str, factor: Any) -> Value:
    """The coefficient in the equation of a field, of shape grid x waves; 0 where the value is given."""
    ev, span = el.ev, eq.value.span
    lines = lines_of_noise(ev.fields, el, name)
    state = el.state_type(eq.name)
    if slot.axes != tuple(a for line in lines for a in line.grid) or state is None or state.rank:
        what = f"the noise `{name}` in the equation of `{eq.name}` is not yet lowered"
        raise fail(
            "NDL490", what, span, help="noise with a covariance map drives a scalar field on its domain"
        )
    map_, where = _map(el, name)
    total: Any = factor
    if kernel_of(map_) is None:
        try:
            total = ev.binary("*", factor, spectrum(ev, Map("^", map_, 0.5), lines, where), span)
            check_sign(ev, spectrum(ev, map_, lines, where), where)
        except NotOfWaves:
            raise no_function_of_lap(where) from None
    for line in lines:
        total = ev.binary("*", total, line.basis(ev.fields, span), span)
    order = (*slot.axes, *(line.waves for line in lines))
    total = ev.value(total, span)
    assert isinstance(total, Value)
    matrix = split(aligned(ev, total, order, span), slot.axes)
    found: Value = stored(ev, matrix, slot, 0, span, homogeneous=True)
    return found


def _map(el: Elaboration, name: str) -> tuple[Map, Span]:
    written = covariance(el, name)
    assert written is not None
    map_ = as_map(el.ev.eval(written, el.scope))
    assert map_ is not None
    return map_, written.span
