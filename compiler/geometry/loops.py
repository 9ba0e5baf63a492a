"""The boundary of a shape in the plane as closed loops of points, corners among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Points = np.ndarray
Test = Callable[[Points], np.ndarray]
FINE = 4
"""Cells of the grid on which the boundary is traced, along one edge of the mesh."""

SAME = 0.2
"""In cells of that grid, the distance within which two marked places are one."""


class Shape(Protocol):
    """Inside where `level` is negative; `leaf` tells which of the shape's curves a point is nearest to."""

    @property
    def dimension(self) -> int: ...

    def level(self, points: Points) -> np.ndarray: ...

    def leaf(self, points: Points) -> np.ndarray: ...

    def leaves(self, points: Points) -> np.ndarray: ...


class ShapeError(Exception):
    """A shape that cannot be meshed; `args[0]` says why in the user's words."""


@dataclass(frozen=True)
class Box:
    lower: np.ndarray
    upper: np.ndarray


def bounds(shape: Shape) -> Box:
    """A box around the shape. Raises `ShapeError` for one that is empty or has no end."""
    d = shape.dimension
    count = {1: 4001, 2: 161, 3: 49}[d]
    low, high = np.full(d, np.inf), np.full(d, -np.inf)
    for radius in 10.0 ** np.arange(-2, 4):
        axis = np.linspace(-radius, radius, count) + radius * 1.2345e-6
        points, step = _grid([axis] * d), 2 * radius / (count - 1)
        inside = points[shape.level(points) < 0]
        if len(inside):
            low, high = np.minimum(low, inside.min(0) - step), np.maximum(high, inside.max(0) + step)
            if radius == 1000 and np.abs(inside).max() > radius - 2 * step:
                raise ShapeError("it has no end: the condition holds at points 1000 from the origin")
    if not np.isfinite(low).all():
        raise ShapeError("no point was found at which its condition holds")
    for _ in range(4):
        axes = [np.linspace(a, b, count) for a, b in zip(low, high)]
        points, step = _grid(axes), (high - low) / (count - 1)
        inside = points[shape.level(points) < 0]
        if not len(inside):
            raise ShapeError("no point was found at which its condition holds")
        low, high = inside.min(0) - step, inside.max(0) + step
    return Box(low, high)


def _grid(axes: Sequence[np.ndarray]) -> Points:
    found: Points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))
    return found


def gradient(f: Test, points: Points, scale: float) -> Points:
    """Central differences of a function of points, `[n, d]`."""
    h = scale * 1e-5
    columns = []
    for k in range(points.shape[1]):
        step = np.zeros(points.shape[1])
        step[k] = h
        columns.append((f(points + step) - f(points - step)) / (2 * h))
    return np.stack(columns, -1)


def projected(shape: Shape, points: Points, scale: float) -> Points:
    """The points moved onto the boundary along the gradient of the level."""
    for _ in range(8):
        f, g = shape.level(points), gradient(shape.level, points, scale)
        step = f / np.maximum((g * g).sum(-1), 1e-300)
        points = points - np.clip(step, -scale, scale)[:, None] * g
    return points


def loops(shape: Shape, size: float, tests: Sequence[Test] = ()) -> list[Points]:
    """The boundary as loops `[k, 2]` of points about `size` apart, the first not repeated. Where two curves
    of the shape meet, and where a test changes, there is a point."""
    from contourpy import contour_generator

    box = bounds(shape)
    counts = np.ceil((box.upper - box.lower) / size * FINE).astype(int) + 7
    if counts.prod() > 25_000_000:
        raise ShapeError(f"a mesh of size {size:g} has too many cells")
    margin = 3 * size / FINE
    x, y = (np.linspace(a - margin, b + margin, n) for a, b, n in zip(box.lower, box.upper, counts))
    values = shape.level(np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)).reshape(len(y), len(x))
    scale = size / FINE
    found = []
    for line in contour_generator(x, y, values).lines(0.0):
        line = projected(shape, np.asarray(line)[:-1], scale)
        found.append(_divided(shape, *_marked(shape, line, tests, scale), size, scale))
    if not found:
        raise ShapeError(f"it is smaller than the size {size:g} of its mesh")
    return found


def _marked(shape: Shape, line: Points, tests: Sequence[Test], scale: float) -> tuple[Points, list[int]]:
    """A traced loop with its corners and the places where a test changes, and where these stand in it."""
    leaf = shape.leaf(line)
    states = [test(line) for test in tests]
    points: list[np.ndarray] = []
    corners: list[int] = []
    changes: list[int] = []
    for i in range(len(line)):
        j = (i + 1) % len(line)
        points.append(line[i])
        added: list[tuple[np.ndarray, list[int]]] = []
        if leaf[i] != leaf[j]:
            corner = _corner(shape, line[i], line[j], int(leaf[i]), int(leaf[j]), scale)
            added += [] if corner is None else [(corner, corners)]
        for test, state in zip(tests, states):
            if state[i] != state[j]:
                place = _change(shape, test, line[i], line[j], bool(state[i]), scale)
                added.append((place, changes))
        for p, kind in sorted(added, key=lambda a: float(np.linalg.norm(a[0] - line[i]))):
            kind.append(len(points))
            points.append(p)
    return _kept(np.array(points), corners, changes, scale)


def _kept(points: Points, corners: list[int], changes: list[int], scale: float) -> tuple[Points, list[int]]:
    """The corners, and the changes that are not nearly at another kept place: `y < 1e-6` means a side."""
    kept = list(corners)
    for k in changes:
        if all(np.linalg.norm(points[k] - points[j]) > SAME * scale for j in kept):
            kept.append(k)
    gone = set(changes) - set(kept)
    stay = [k for k in range(len(points)) if k not in gone]
    number = {k: n for n, k in enumerate(stay)}
    return points[stay], sorted(number[k] for k in kept)


def _corner(shape: Shape, p: Points, q: Points, a: int, b: int, scale: float) -> Points | None:
    """Where two curves of the shape meet near p and q, by Newton's method."""

    def curve(k: int) -> Callable[[Points], np.ndarray]:
        return lambda points: shape.leaves(points)[k]

    x = (p + q) / 2
    for _ in range(20):
        f = shape.leaves(x[None])[[a, b], 0]
        J = np.stack([gradient(curve(k), x[None], scale)[0] for k in (a, b)])
        if abs(np.linalg.det(J)) < 1e-12 * np.abs(J).max() ** 2:
            return None
        x = x - np.linalg.solve(J, f)
    near = np.linalg.norm(x - (p + q) / 2) < 3 * scale
    return x if near and abs(shape.level(x[None])[0]) < 1e-7 * scale * np.abs(J).max() else None


def _change(shape: Shape, test: Test, p: Points, q: Points, state: bool, scale: float) -> Points:
    """The place of the boundary between p and q at which a test changes, each time in one of 16 parts."""
    low, high = 0.0, 1.0
    for _ in range(8):
        at = np.linspace(low, high, 17)[1:, None]
        after = np.flatnonzero(test(projected(shape, (1 - at) * p + at * q, scale)) != state)
        k = int(after[0]) if len(after) else 15
        low, high = low + (high - low) * k / 16, low + (high - low) * (k + 1) / 16
    found: Points = projected(shape, ((1 - high) * p + high * q)[None], scale)[0]
    return found


def _divided(shape: Shape, line: Points, fixed: list[int], size: float, scale: float) -> Points:
    """A loop as points about `size` apart, the fixed ones kept."""
    starts = fixed or [0]
    arcs = []
    for i, start in enumerate(starts):
        stop = starts[(i + 1) % len(starts)]
        stop = stop + len(line) if stop <= start else stop
        arc = line[np.arange(start, stop + 1) % len(line)]
        length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(arc, axis=0), axis=1))])
        count = max(1 if len(starts) > 2 else 3, round(length[-1] / size))
        at = np.linspace(0, length[-1], count + 1)
        cut = np.stack([np.interp(at, length, arc[:, k]) for k in range(2)], -1)
        if count > 1:
            cut[1:-1] = projected(shape, cut[1:-1], scale)
        arcs.append(cut[:-1])
    return np.concatenate(arcs)
