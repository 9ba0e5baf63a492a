"""Meshes of shapes by a condition: points on the boundary, a triangular lattice inside, and the Delaunay
triangulation of both, its inner points moved to even it out (Lloyd 1982)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from ndl.compiler.geometry.loops import Points, Shape, ShapeError, Test, bounds, loops, projected
from ndl.compiler.geometry.mesh import Mesh, oriented
from ndl.compiler.geometry.solids import solid_mesh

ROUNDS = 12
"""Times that the inner points are moved."""


def mesh_of(shape: Shape, size: float, tests: Sequence[Test] = ()) -> Mesh:
    """A mesh of a shape. Raises `ShapeError` where none is found. In space `tests` put no nodes."""
    if shape.dimension == 1:
        return _segments(shape, size)
    if shape.dimension == 3:
        return solid_mesh(shape, size)
    edges = loops(shape, size, tests)
    border = np.concatenate(edges)
    start = np.cumsum([0, *map(len, edges)])
    rings = [np.arange(a, b) for a, b in pairwise(start)]
    wanted = np.concatenate([np.stack([r, np.roll(r, -1)], -1) for r in rings])
    inner = _lattice(edges, border, size)
    for _ in range(ROUNDS):
        points, cells = _triangles(edges, border, inner)
        inner = _evened(points, cells, len(border), border, size)
    points, cells = _triangles(edges, border, inner)
    found = oriented(Mesh(points, cells))
    if not _conforms(cells, wanted, points):
        raise ShapeError(f"a mesh of size {size:g} does not follow its boundary; take a smaller size")
    return found


def _inside(edges: Sequence[Points], points: Points) -> np.ndarray:
    """Whether points lie between the loops, by the parity of the loops around them."""
    from matplotlib.path import Path

    found = np.zeros(len(points), dtype=bool)
    for loop in edges:
        found ^= Path(np.concatenate([loop, loop[:1]])).contains_points(points)
    return found


def _distance(border: Points, points: Points) -> np.ndarray:
    from scipy.spatial import cKDTree

    found: np.ndarray = cKDTree(border).query(points)[0]
    return found


def _lattice(edges: Sequence[Points], border: Points, size: float) -> Points:
    """Points of a triangular lattice inside, not near the boundary."""
    low, high = border.min(0), border.max(0)
    height = size * np.sqrt(3) / 2
    columns, rows = ((high - low) / [size, height]).astype(int) + 3
    i, j = np.meshgrid(np.arange(columns), np.arange(rows), indexing="ij")
    points = low + np.stack([(i + 0.5 * (j % 2)) * size, j * height], -1).reshape(-1, 2)
    points = points[_inside(edges, points)]
    found: Points = points[_distance(border, points) > 0.7 * size] if len(points) else points
    return found


def _triangles(edges: Sequence[Points], border: Points, inner: Points) -> tuple[Points, np.ndarray]:
    from scipy.spatial import Delaunay

    points = np.concatenate([border, inner])
    cells = Delaunay(points).simplices
    corner = points[cells]
    a, b = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    area = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 2
    longest = np.max([((corner[:, i] - corner[:, i - 1]) ** 2).sum(-1) for i in range(3)], axis=0)
    return points, cells[_inside(edges, corner.mean(1)) & (area > 1e-6 * longest)]


def _evened(points: Points, cells: np.ndarray, kept: int, border: Points, size: float) -> Points:
    """Inner points moved to the mean of the centres of their triangles, weighted by their areas."""
    corner = points[cells]
    a, b = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    area = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
    total, weight = np.zeros_like(points), np.zeros(len(points))
    for k in range(3):
        np.add.at(total, cells[:, k], corner.mean(1) * area[:, None])
        np.add.at(weight, cells[:, k], area)
    moved = np.where(weight[:, None] > 0, total / np.maximum(weight, 1e-300)[:, None], points)[kept:]
    near = _distance(border, moved) < 0.5 * size if len(moved) else np.zeros(0, dtype=bool)
    return moved[~near]


def _conforms(cells: np.ndarray, wanted: np.ndarray, points: Points) -> bool:
    """Whether the boundary of the cells is the loops."""
    sides = np.sort(np.concatenate([cells[:, [0, 1]], cells[:, [1, 2]], cells[:, [2, 0]]]), axis=1)
    edges, count = np.unique(sides, axis=0, return_counts=True)
    outer = {tuple(e) for e in edges[count == 1].tolist()}
    return outer == {tuple(e) for e in np.sort(wanted, axis=1).tolist()}


def _segments(shape: Shape, size: float) -> Mesh:
    """The intervals of a line on which a condition holds, cut into parts not longer than `size`."""
    box = bounds(shape)
    x = np.linspace(box.lower[0], box.upper[0], 8001)
    inside = shape.level(x[:, None]) < 0
    ends = [_root(shape, x[k], x[k + 1]) for k in np.flatnonzero(inside[1:] != inside[:-1])]
    points: list[Any] = []
    cells: list[Any] = []
    for a, b in zip(ends[::2], ends[1::2]):
        n = max(1, int(np.ceil((b - a) / size - 1e-9)))
        start = sum(map(len, points))
        points.append(np.linspace(a, b, n + 1))
        cells.append(start + np.stack([np.arange(n), np.arange(1, n + 1)], -1))
    return oriented(Mesh(np.concatenate(points)[:, None], np.concatenate(cells)))


def _root(shape: Shape, a: float, b: float) -> float:
    before = shape.level(np.array([[a]]))[0] < 0
    for _ in range(80):
        middle = (a + b) / 2
        if (shape.level(np.array([[middle]]))[0] < 0) == before:
            a = middle
        else:
            b = middle
    return (a + b) / 2


__all__ = ["ShapeError", "mesh_of", "projected"]
