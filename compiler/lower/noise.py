"""Noise: the coefficient of each noise in each differential form, and the kind that their form tells."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.differentials import Summand
from ndl.compiler.check.model_parts import Equation
from ndl.compiler.check.models import Elaboration
from ndl.compiler.check.noises import covariance, noise_parts, noise_type, spread_noise, standard
from ndl.compiler.check.values import Unknown
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.graph import Function
from ndl.compiler.ir.model import NoiseSpec
from ndl.compiler.lower.builder import GraphBuilder
from ndl.compiler.lower.coloured_noise import driven_by_waves, lines_of_noise, of_waves, waves_type
from ndl.compiler.lower.equations import stored
from ndl.compiler.lower.fields import grid_type
from ndl.compiler.types import Tensor

if TYPE_CHECKING:
    from ndl.compiler.lower.models import ModelLowering, Slot

Key = tuple[str, str]
"""A state and a noise that meet."""


def noises(lowering: ModelLowering) -> tuple[NoiseSpec, ...]:
    found = []
    for frame in lowering.frames:
        for name in frame.parts.noises:
            type_ = driver_type(lowering, frame, name)
            size = 1
            for n in type_.extents:
                size *= n
            law = "waves" if driven_by_waves(frame, name) else "wiener"
            found.append(NoiseSpec(frame.prefix + standard(frame, name), size, type_.extents, law))
    return tuple(found)


def diffusion(lowering: ModelLowering) -> tuple[Function | None, str]:
    """(t, states) -> a value for each pair of a state and a noise; and the kind of noise."""
    if not lowering.noises:
        return None, "none"
    paired: dict[Key, bool] = {}  # component by component, or a matrix

    def make(root: Elaboration, g: GraphBuilder) -> list[tuple[str, Any]]:
        total: dict[Key, Any] = {}
        for frame in lowering.frames:
            _coefficients(lowering, root.descend(frame.path), total, paired)
        kind = _kind(lowering, paired)
        found = []
        for (state, noise), (value, el, driver) in total.items():
            if kind != "diagonal":
                value = _matrix(el, value, driver, paired[state, noise])
            found.append((f"{state},{noise}", value))
        return found

    function = lowering.function("diffusion", make)
    kind = _kind(lowering, paired)
    return function, "additive" if kind != "diagonal" and not _reads_states(lowering, function) else kind


def driver_type(lowering: ModelLowering, frame: Elaboration, name: str) -> Tensor:
    """The type of a noise as it is stored: of one on a domain, a number for each point of the grid."""
    type_ = noise_type(frame, name) or Tensor()
    if type_.on is not None and covariance(frame, name) is not None:
        scratch = lowering.scratch().descend(frame.path)
        return waves_type(lines_of_noise(scratch.ev.fields, scratch, name))
    return grid_type(type_, lowering.axes(frame, type_, frame.parts.noises[name].span))


def _coefficients(
    lowering: ModelLowering, el: Elaboration, total: dict[Key, Any], paired: dict[Key, bool]
) -> None:
    for eq in el.parts.rates.values():
        for noise, summand, factor in noise_parts(el, eq):
            key = (el.prefix + eq.name, el.prefix + standard(el, noise))
            driver = driver_type(lowering, el, noise)
            slot = next(s for s in lowering.slots if s.spec.name == key[0])
            if driven_by_waves(el, noise):
                value, fits = of_waves(el, eq, slot, noise, factor), False
            elif slot.axes:
                value, fits = _of_field(el, eq, slot, noise, driver, factor), driver.rank > 0
            else:
                value, fits = _coefficient(el, eq, driver, summand, factor)
            if covariance(el, noise) is not None and not driven_by_waves(el, noise):
                value = spread_noise(el, noise, _matrix(el, value, driver, fits), first=False)
                fits = fits and not driver.rank
            if key in total:
                before = _matrix(el, total[key][0], driver, paired[key])
                value = el.ev.binary("+", before, _matrix(el, value, driver, fits), eq.value.span)
                fits = False
            total[key], paired[key] = (value, el, driver), fits


def _kind(lowering: ModelLowering, paired: dict[Key, bool]) -> str:
    """What the form of the equations tells; the facts refine it."""
    states, drivers = [s for s, _ in paired], [n for _, n in paired]
    if all(paired.values()) and len(set(states)) == len(states) and len(set(drivers)) == len(drivers):
        return "diagonal"
    return "scalar" if sum(n.size for n in lowering.noises) == 1 else "general"


def _reads_states(lowering: ModelLowering, function: Function) -> bool:
    names = {s.spec.name for s in lowering.slots}
    needed = function.graph.needed([n for _, n in function.outputs])
    return any(n.op == "input" and n.attr("name") in names for n in needed)


def _of_field(el: Elaboration, eq: Equation, slot: Slot, noise: str, driver: Tensor, factor: Any) -> Any:
    """The coefficient of a noise in the equation of a field, at every point. White noise is averaged over the
    cell of a point, whose variance is one over its size; where the value is given there is none."""
    ev, span = el.ev, eq.value.span
    if driver.rank and driver.shape != slot.spec.type.shape:
        raise fail(
            "NDL490",
            f"the noise `{noise}` in the equation of `{eq.name}` is not yet lowered",
            span,
            help="a field takes a scalar noise, or white noise on its own domain",
        )
    if driver.rank:
        factor = ev.binary("*", factor, ev.fields.cell_power(slot.axes, -0.5, span), span)
    return stored(ev, factor, slot, 0, span, homogeneous=True)


def _coefficient(el: Elaboration, eq: Equation, driver: Tensor, s: Summand, factor: Any) -> tuple[Any, bool]:
    """A noise's coefficient, and whether it pairs the state's components with the noise's."""
    ev, span = el.ev, eq.value.span
    state = el.state_type(eq.name) or Tensor()
    value = ev.value(factor, span)
    if isinstance(value, Unknown):
        raise fail("NDL902", f"the coefficient of `d{s.name}` has no value", span)
    if s.matrix:
        return value, False
    if value.type.rank == 0 and state.rank:
        value = ev.spread(value, state.shape, span)
    if s.at:
        index = ev.known(ev.eval(s.at[0], el.scope))
        size = driver.extents[0]
        unit = tuple(float(i == int(index) % size) for i in range(size))
        row = ev.builder.const(unit, Tensor("R", driver.shape), span)
        if state.rank:
            return ev.op("einsum", [value, row], span, equation="a,b->ab"), False
        return ev.binary("*", value, row, span), False
    return value, driver.shape == state.shape


def _matrix(el: Elaboration, value: Any, driver: Tensor, paired: bool) -> Any:
    """A coefficient of shape state × noise."""
    if not paired or not driver.rank or value.type.shape != driver.shape:
        return value
    span = el.parts.decl.name_span
    if driver.rank > 1:
        value = el.ev.op("reshape", [value], span, shape=(prod(driver.extents),))
    return el.ev.op("diag", [value], span)
