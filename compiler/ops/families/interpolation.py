"""Fields at any point: the functions that are 1 at one point of a grid and 0 at the others.

cardinal    (p; layout, way, width, degree) -> on a new last axis the derivatives of that degree, at p, of the
            cardinal functions of each point of an axis. By `way`: `fourier`, trigonometric polynomials;
            `chebyshev`, the polynomials through all points; `uniform`, those through the `width` points
            about p, of a periodic axis across its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ndl.compiler.ops.adjoint import fit, op
from ndl.compiler.ops.families.fields import grid_coordinates
from ndl.compiler.ops.rules import numeric, tensors
from ndl.compiler.ops.table import Attributes, Op, register
from ndl.compiler.ops.text import call
from ndl.compiler.types import Dim, Tensor, Type

if TYPE_CHECKING:
    from ndl.compiler.ir.graph import Graph, Node


def _rule(types: Sequence[Type], a: Attributes) -> Type:
    (p,) = tensors(types, "a place")
    numeric([p], "a place")
    return Tensor("R", (*p.shape, Dim.of(a["layout"][1])))


def _reference(p: Any, layout: Any, way: str, width: int, degree: int) -> Any:
    import torch

    rows = [_row(float(x), layout, way, width, degree) for x in p.reshape(-1)]
    return torch.tensor(rows, dtype=torch.float64).reshape(*p.shape, layout[1])


def _row(x: float, layout: Any, way: str, width: int, degree: int) -> list[float]:
    points = grid_coordinates(layout).tolist()
    if way == "fourier":
        return [_wave(x - p, len(points), layout[3] - layout[2], degree) for p in points]
    if way == "chebyshev":
        return [_lagrange(x, points, j, degree) for j in range(len(points))]
    n, length, h = len(points), layout[3] - layout[2], points[1] - points[0]
    first = int((x - points[0]) // h) - (width - 1) // 2
    if layout[0] != "ring":
        first = min(max(first, 0), n - width)
    near = [points[(first + k) % n] + length * ((first + k) // n) for k in range(width)]
    row = [0.0] * n
    for k in range(width):
        row[(first + k) % n] += _lagrange(x, near, k, degree)
    return row


def _wave(gap: float, n: int, length: float, degree: int) -> float:
    """The mean of the waves that n points resolve, the highest one of an even n as a cosine."""
    import cmath

    total = 0j
    for k in range(-(n // 2), n // 2 + 1):
        w = 2j * cmath.pi * k / length
        total += (0.5 if 2 * abs(k) == n else 1.0) * w**degree * cmath.exp(w * gap)
    return total.real / n


def _lagrange(x: float, points: Sequence[float], j: int, degree: int) -> float:
    import math

    others = [p for k, p in enumerate(points) if k != j]
    return _derivative(x, others, degree) / math.prod(points[j] - p for p in others)


def _derivative(x: float, roots: Sequence[float], degree: int) -> float:
    """Of the product of x - root, factor by factor."""
    import math

    if degree == 0:
        return math.prod(x - r for r in roots)
    return sum(_derivative(x, [*roots[:i], *roots[i + 1 :]], degree - 1) for i in range(len(roots)))


def _text(texts: Sequence[str], types: Sequence[Type], a: Attributes) -> str:
    shown = (a["layout"], a["way"], a["width"], a["degree"])
    return call("ops.cardinal", texts[0], *map(repr, shown))


def _vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> list[Node | None]:
    attrs = dict(node.attrs)
    attrs["degree"] += 1
    slope = op(graph, "cardinal", operands[0], **attrs)
    last = node.type.rank - 1 if isinstance(node.type, Tensor) else 0
    found = op(graph, "sum", op(graph, "mul", g, slope), axes=(last,))
    return [fit(graph, found, operands[0])]


register(Op("cardinal", _rule, _reference, _text, _vjp))
