"""Fields drawn on the host: members of families, draws of a `train` or `test` block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ndl.compiler.check.axes import aligned, split
from ndl.compiler.check.calls import apply
from ndl.compiler.check.covariances import covariance_of, formula, kernel_of
from ndl.compiler.check.grids import Fem, chosen_for, grid_of
from ndl.compiler.check.values import Axis, Closure, DistV, DomainV, FileV, FnV, ListV, ModelV, PointsV
from ndl.compiler.diagnostics import fail
from ndl.compiler.geometry import store
from ndl.compiler.ir.grid import SLOPE, GridAxis, wave_count
from ndl.compiler.lower.field_waves import STORED
from ndl.compiler.lower.kernel_fields import check_size, kept_factor
from ndl.compiler.source import Span
from ndl.compiler.types import Dim
from ndl.compiler.types import Tensor as Type
from ndl.host.builder import lift
from ndl.host.compiled import register_sets
from ndl.runtime.grids import grid_points
from ndl.runtime.random_fields import RandomField


def member_field(host: Any, model: ModelV, name: str, law: DistV) -> RandomField | None:
    """The random field of `M(name ~ law)`; None where the law has no covariance map. Raises `NDLError` where
    the name is no field."""
    if covariance_of(law) is None:
        return None
    lines = host.compilation.model(model).ir.waves.get(name)
    if lines is None:
        what = f"`{name}` of `{model.decl.name}` has no grid of points, and its law has a covariance map"
        raise fail("NDL585", what, law.span or model.decl.name_span)
    return made(host, law, lines, law.span or model.decl.name_span)


def block_field(session: Any, law: DistV, type_: Type, name: str, span: Span) -> RandomField:
    """The random field of a draw `name: R on Omega ~ law` of a block, on the grid of its settings. Where a
    model that is trained has a field of that name, it takes its conditions; else its slope vanishes at the
    ends. Raises `NDLError`."""
    host = session.host
    for model, _ in session.models.values():
        lines = host.compilation.model(model).ir.waves.get(name)
        if lines is not None:
            return made(host, law, lines, span)
    found = []
    for axis in _axes(session, _domain(host, type_, name, span), name, span):
        ends = ("", "") if axis.periodic else (SLOPE, SLOPE)
        found.append((axis.layout, ends, wave_count(axis.layout, ends)))
    return made(host, law, (tuple(found),), span)


def block_points(session: Any, type_: Type, name: str, span: Span) -> tuple[int, ...]:
    """At how many points a draw `name: R on Omega ~ law` of a block has numbers of their own: those of a set,
    or of the grid of the block's settings along each axis. Raises `NDLError`."""
    domain = _domain(session.host, type_, name, span)
    if isinstance(domain.shape, PointsV) and domain.shape.rows is not None:
        return (len(domain.shape.rows),)
    return tuple(axis.n for axis in _axes(session, domain, name, span))


def _domain(host: Any, type_: Type, name: str, span: Span) -> DomainV:
    domain = host.module.scope.find(type_.on)
    domain = host.ev.file_value(domain) if isinstance(domain, FileV) else domain
    if isinstance(domain, DomainV):
        return domain
    if str(type_.on).startswith("dual("):
        what = f"the draw `{name}` is on the wavenumbers `{type_.on}`, where a block has no numbers"
        hint = f"draw a field, `{name}: R on S ~ normal(0, K)`, and take `fft({name}, m)`"
        raise fail("NDL585", what, span, help=hint)
    raise fail("NDL585", f"the domain `{type_.on}` of the draw `{name}` is not declared in the file", span)


def _axes(session: Any, domain: DomainV, name: str, span: Span) -> tuple[GridAxis, ...]:
    """The axes of the block's grid."""
    ev, choice = session.host.ev, session.grid
    if isinstance(chosen_for(domain, choice, span), Fem):
        what = f"the draw `{name}` on the mesh of `{domain.name}` is that of no input or field of a model"
        hint = f"give a model of this training `input {name}: R on {domain.name}`"
        raise fail("NDL585", what, span, help=hint)
    return grid_of(ev, domain, choice, span).axes


def made(host: Any, law: DistV, parts: Any, span: Span) -> RandomField:
    """`normal(m, K)` on a grid or mesh with these waves, the numbers in K worked out."""
    covariance, log = covariance_of(law), law.law == "lognormal"
    assert covariance is not None
    register_sets()
    points = _points(parts[0])
    mean = law.args[0]
    if isinstance(mean, (Closure, FnV)):
        mean = apply(host.ev, mean, [lift(p) for p in points], {}, span, None)
    kernel = kernel_of(covariance)
    if kernel is not None:
        parts = _of_kernel(host, kernel, points, span)
    return RandomField.of(parts, formula(covariance, host.number, span), host.number(mean), log)


def _points(lines: Any) -> tuple[Tensor, ...]:
    """The coordinates at the points of a grid or the nodes of a mesh."""
    layouts = [line[0] for line in lines]
    if layouts[0][0] == STORED:
        return torch.from_numpy(store.MESHES[layouts[0][3]].nodes).unbind(-1)
    return torch.meshgrid(*map(grid_points, layouts), indexing="ij")


def _of_kernel(host: Any, kernel: Any, points: Sequence[Tensor], span: Span) -> Any:
    """The columns of a factor of a kernel as waves."""
    shape = points[0].shape
    flat = [p.reshape(-1) for p in points]
    check_size(len(flat[0]), span)
    n = len(flat[0])
    axes = Axis("point", Dim.of(n)), Axis("point again", Dim.of(n))
    first, second = ([split(lift(p), (axis,)) for p in flat] for axis in axes)
    pair = [p[0] if len(p) == 1 else ListV(tuple(p)) for p in (first, second)]
    made = host.ev.value(apply(host.ev, kernel, pair, {}, span, None), span)
    C = host.number(aligned(host.ev, made, axes, span))
    key, count = kept_factor(torch.as_tensor(C).detach().double().numpy(), span)
    register_sets()
    line = ((STORED, n, key, ""), ("", ""), count)
    return (((*line, *([tuple(shape)] if len(shape) > 1 else [])),),)
