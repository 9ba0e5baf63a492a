"""What solvers for energies ask of a model: the energy, and the Laplacian of its fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ndl.compiler.check.axes import aligned, split
from ndl.compiler.check.binders import reduce_components
from ndl.compiler.check.models import Elaboration
from ndl.compiler.ir.graph import Function
from ndl.compiler.lower.energies import density_of, domain_of
from ndl.compiler.lower.equations import Named, stored

if TYPE_CHECKING:
    from ndl.compiler.lower.models import ModelLowering


def energy(lowering: ModelLowering) -> Function | None:
    """(t, states) -> the energy itself, of fields on grids of points; with `maximize` its negative."""
    frame = _with_energy(lowering)
    if frame is None:
        return None
    (wanted,) = frame.parts.energies

    def make(root: Elaboration, g: Any) -> Named:
        el = root.descend(frame.path)
        domain, span = domain_of(el, wanted.value), wanted.value.span
        axes = el.ev.fields.space.add(el.ev, domain, span)
        density = aligned(el.ev, density_of(el, wanted.value, domain), axes, span)
        total = el.ev.fields.integral(split(density, axes), axes, span)
        return [("energy", el.ev.elementwise("neg", [total], span) if wanted.sense == "maximize" else total)]

    return lowering.function("energy", make)


def measure(lowering: ModelLowering) -> Function | None:
    """(t, states) -> the integral of all components of all fields."""
    if _with_energy(lowering) is None:
        return None

    def make(root: Elaboration, g: Any) -> Named:
        total: Any = 0.0
        for slot in lowering.slots:
            el, span = root.descend(slot.frame.path), slot.spec.span
            v = el.ev.fields.integral(el.lookup(slot.name, 0), slot.axes, span)
            components = reduce_components(el.ev, "sum", v, span) if v.type.rank else v
            total = el.ev.binary("+", total, components, span)
        return [("measure", total)]

    return lowering.function("measure", make)


def laplacian(lowering: ModelLowering) -> Function | None:
    """(t, states) -> the Laplacian of the fields of an energy; None where an end has no condition."""
    frame = _with_energy(lowering)
    if frame is None:
        return None
    fields = lowering.scratch().ev.fields
    for slot in lowering.slots:
        for axis in slot.axes:
            ends = fields.conditions.at_ends(slot.frame.prefix, slot.name, axis, ())
            if not fields.space.grid_axis(axis).periodic and None in ends:
                return None

    def make(root: Elaboration, g: Any) -> Named:
        found: Named = []
        for slot in lowering.slots:
            el = root.descend(slot.frame.path)
            v = el.ev.fields.lap(el.lookup(slot.name, 0), slot.spec.span)
            found.append((slot.spec.name, stored(el.ev, v, slot, 0, slot.spec.span, homogeneous=True)))
        return found

    return lowering.function("laplacian", make)


def _with_energy(lowering: ModelLowering) -> Elaboration | None:
    """The model, if it has one energy of fields on grids of points."""
    (frame, *others) = lowering.frames
    if others or len(frame.parts.energies) != 1:
        return None
    plain = all(s.axes and s.axes[0] in lowering.space.owner for s in lowering.slots)
    return frame if plain and not lowering.space.meshes else None
