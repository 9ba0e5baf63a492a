"""Fields drawn on the host: members of families, draws of a `train` or `test` block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ndl.compiler.check.covariances import covariance_of, formula
from ndl.compiler.check.grids import grid_choice, grid_of
from ndl.compiler.check.values import Closure, DistV, DomainV, FileV, FnV, ModelV, Unknown
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.grid import SLOPE, wave_count
from ndl.compiler.source import Span
from ndl.compiler.types import Tensor
from ndl.runtime.random_fields import Line, RandomField


def member_field(host: Any, model: ModelV, name: str, law: DistV) -> RandomField | None:
    """The random field of `M(name ~ law)`; None where the law has no covariance map. Raises `NDLError` where
    the name is no field."""
    if covariance_of(law) is None:
        return None
    lines = host.compilation.model(model).ir.waves.get(name)
    if lines is None:
        what = f"`{name}` of `{model.decl.name}` has no grid of points, and its law has a covariance map"
        raise fail("NDL585", what, law.span or model.decl.name_span)
    return made(host, law, [Line(*line) for line in lines], law.span or model.decl.name_span)


def block_field(session: Any, law: DistV, type_: Tensor, name: str, span: Span) -> RandomField:
    """The random field of a draw `name: R on Omega ~ law` of a block, on the grid of its settings. Where a
    model that is trained has a field of that name, it takes its conditions; else its slope vanishes at the
    ends. Raises `NDLError`."""
    host = session.host
    for model, _ in session.models.values():
        lines = host.compilation.model(model).ir.waves.get(name)
        if lines is not None:
            return made(host, law, [Line(*line) for line in lines], span)
    domain = host.module.scope.find(type_.on)
    domain = host.ev.file_value(domain) if isinstance(domain, FileV) else domain
    if not isinstance(domain, DomainV):
        raise fail(
            "NDL585", f"the domain `{type_.on}` of the draw `{name}` is not declared in the file", span
        )
    choice = None
    if "grid" in session.settings:
        setting, where = session.settings["grid"]
        made_of = grid_choice(host.ev, host.ev.eval(setting, session.scope), where)
        choice = None if isinstance(made_of, Unknown) else made_of
    found = []
    for axis in grid_of(host.ev, domain, choice, span).axes:
        ends = ("", "") if axis.periodic else (SLOPE, SLOPE)
        found.append(Line(axis.layout, ends, wave_count(axis.layout, ends)))
    return made(host, law, found, span)


def made(host: Any, law: DistV, lines: Sequence[Line], span: Span) -> RandomField:
    """`normal(m, K)` on a grid, the numbers in K worked out."""
    covariance = covariance_of(law)
    assert covariance is not None
    mean = law.args[0]
    if isinstance(mean, (Closure, FnV)):
        mean = _at_points(host, mean, lines, span)
    return RandomField(
        tuple(lines), formula(covariance, host.number, span), host.number(mean), law.law == "lognormal"
    )


def _at_points(host: Any, mean: Any, lines: Sequence[Line], span: Span) -> Any:
    """A formula in the coordinates at the points of the grid."""
    import torch

    from ndl.compiler.check.calls import apply
    from ndl.host.builder import lift
    from ndl.runtime.grids import grid_points

    points = torch.meshgrid(*(grid_points(line.layout) for line in lines), indexing="ij")
    return apply(host.ev, mean, [lift(p) for p in points], {}, span, None)
