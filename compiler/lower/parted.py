"""Sides of boxes that conditions on the coordinates part, `on left(S) if y < 0.5: …`: what holds at which
points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ndl.compiler.check.boundaries import Component, Condition, side_name
from ndl.compiler.check.missing import of_second_order
from ndl.compiler.check.values import Axis, Value
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.grid import Grid
from ndl.compiler.lower.mesh_space import overlapping
from ndl.compiler.lower.shapes import implicit
from ndl.compiler.lower.subjects import Subject
from ndl.compiler.ops.families.fields import grid_coordinates
from ndl.compiler.source import Span

if TYPE_CHECKING:
    from ndl.compiler.lower.conditions import Conditions

Ends = tuple[list[Condition], list[Condition]]


def parted_ends(
    conditions: Conditions, prefix: str, name: str, axis: Axis, component: Component = ()
) -> Ends | None:
    """The conditions of a component at both ends of an axis, where some hold on a part of a side. Raises
    `NDLError` where two meet or one is missing."""
    domain, k = conditions.fields.space.owner[axis]
    own = [c for c in conditions.by_part.get(prefix, ()) if c.field == name and c.domain.name == domain]
    own = [c for c in own if c.axis == k and c.about(component)]
    if not any(c.part.where for c in own):
        return None
    ends = [c for c in own if c.side == "low"], [c for c in own if c.side == "high"]
    subject = Subject(prefix, name, 0, component)
    key = prefix, f"{subject.text} along {axis.name}"
    if key not in conditions.fields.space.checked:
        conditions.fields.space.checked.add(key)
        for side in ends:
            _check(conditions, subject, axis, side)
    return ends


def _check(conditions: Conditions, subject: Subject, axis: Axis, side: list[Condition]) -> None:
    """No point of a side has two conditions, and each has one where a second derivative needs it."""
    if not side:
        return
    space, frame = conditions.fields.space, conditions.frame(subject.prefix)
    named = conditions.by_part.get(subject.prefix, [])
    name = subject.text
    grid = space.grids[space.owner[axis][0]]
    points = _face(grid, side[0])
    coordinates = [a.coordinate for a in grid.axes]
    total = np.zeros(len(points), dtype=int)
    taken: list[tuple[Condition, np.ndarray]] = []
    for c in side:
        marks = np.ones(len(points), dtype=bool)
        for cond in c.part.where:
            marks &= implicit(cond, coordinates, frame.scope).holds(points)
        for other, earlier in taken:
            if (marks & earlier).any():
                raise overlapping(c, other, name, _near(coordinates, points[marks & earlier]))
        taken.append((c, marks))
        total += marks
    needed = not frame.parts.energies and of_second_order(frame, named, subject.name, subject.component)
    if (total == 0).any() and needed:
        place = side_name(side[0].domain, side[0].axis, side[0].side)
        raise fail(
            "NDL443",
            f"`{name}` has no condition on part of `{place}`",
            frame.parts.spans.get(subject.name, Span()),
            notes=(f"its equation has second derivatives, and {_near(coordinates, points[total == 0])}",),
            help=f"write one for the rest: `on {place} if …: dn({name}) = 0`",
        )


def _near(coordinates: Sequence[str], points: np.ndarray) -> str:
    return "one such place is " + ", ".join(f"{c} = {v:.4g}" for c, v in zip(coordinates, points[0]))


def _face(grid: Grid, c: Condition) -> np.ndarray:
    """The points of the grid on a side `[n, d]`."""
    axes = []
    for k, a in enumerate(grid.axes):
        end = np.array([a.lower if c.side == "low" else a.upper])
        axes.append(end if k == c.axis else grid_coordinates(a.layout).numpy())
    found: np.ndarray = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))
    return found


def combined(conditions: Conditions, prefix: str, ends: Ends, make: Callable[[Any, Any], Value]) -> Value:
    """What `make` gives for a condition at each end, at each point with those that hold there."""
    low, high = ([*side] or [None] for side in ends)  # type: ignore[list-item]

    def along(c: Condition | None) -> Value:
        return _chosen(conditions, prefix, low, lambda d: make(d, c))

    return _chosen(conditions, prefix, high, along)


def _chosen(conditions: Conditions, prefix: str, side: Sequence[Any], make: Callable[[Any], Value]) -> Value:
    """The last one where no other holds: all points have one, or none is needed."""
    total: Any = make(side[-1])
    for c in reversed(side[:-1]):
        total = where(conditions, prefix, c, make(c), total)
    assert isinstance(total, Value)
    return total


def where(conditions: Conditions, prefix: str, c: Condition, then: Any, orelse: Any) -> Any:
    """One value where the part of a condition is, another elsewhere along its side."""
    ev, el = conditions.fields.ev, conditions.frame(prefix)
    scope = conditions.face(el, c, conditions.fields.space.axes[c.domain.name][c.axis])
    for cond in c.part.where:
        holds = ev.known(ev.eval(cond, scope))
        if isinstance(holds, bool):
            then = then if holds else orelse
        else:
            then = ev.choose(holds, then, orelse, cond.span)
    return then
