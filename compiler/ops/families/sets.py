"""Nearest points of boundaries (`compiler/geometry/surfaces.py`).

nearest    (p; surface) -> of a point p `[d]` the nearest point q of a boundary and the derivatives of q by p,
           row by row: `[d + d^2]`. These count as constant where the op itself is differentiated.

The nearest facet gives a first guess q and the smooth piece f(q) = 0 on which it lies. Newton's method then
solves q - p + m grad f(q) = 0, f(q) = 0; the step is

    A dq + g dm = -(q - p + m g),  g dq = -f,  A = 1 + m H,  g = grad f,  H its derivative,

with the m that makes the first right side tangential. Where A is nearly singular, at a centre of curvature,
where the nearest point is not the only one, H is left out. Corners and edges at which pieces meet, and facets
that are the boundary itself, need no step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ndl.compiler.ops.adjoint import fit, op
from ndl.compiler.ops.families.fields import _floating
from ndl.compiler.ops.rules import numeric, tensors
from ndl.compiler.ops.table import Attributes, Op, TypeRuleError, register
from ndl.compiler.ops.text import call
from ndl.compiler.types import Dim, Tensor, Type

if TYPE_CHECKING:
    from ndl.compiler.ir.graph import Graph, Node


def _rule(types: Sequence[Type], a: Attributes) -> Type:
    (p,) = tensors(types, "a point")
    numeric([p], "a point")
    if not p.rank or p.shape[-1].constant is None:
        raise TypeRuleError(f"a point is a vector, and this is {p}", code="NDL307")
    return Tensor("R", (*p.shape[:-1], Dim.of(p.shape[-1].constant * (p.shape[-1].constant + 1))))


STEPS = 4
"""Steps of Newton's method: from an error of a tenth of the radius the fourth is exact to rounding."""

SINGULAR = 1e-3
"""The part of what A is without curvature below which it counts as singular."""


def _reference(p: Any, surface: str) -> Any:
    """Facet by facet, by the distance to each of its corners, edges and its inside."""
    import torch
    from ndl.compiler.geometry.store import SURFACES

    d = p.shape[-1]
    rows = [_row(x, SURFACES[surface]) for x in p.detach().reshape(-1, d).tolist()]
    return torch.tensor(rows, dtype=torch.float64).reshape(*p.shape[:-1], d * (d + 1)).to(_floating(p))


def _row(p: list[float], surface: Any) -> list[float]:
    import numpy as np

    point, best = np.array(p), np.inf
    place, facet, meeting = point, 0, True
    for f, corners in enumerate(surface.corners):
        q, meets = _on_facet(point, corners, surface.sharp[f], surface.edges[f])
        away = float(((q - point) ** 2).sum())
        if away < best:
            best, place, facet, meeting = away, q, f, meets
    n = surface.normals[facet]
    slope = np.zeros((len(p), len(p))) if meeting or len(p) == 1 else np.eye(len(p)) - np.outer(n, n)
    if not meeting and surface.curves is not None and len(p) > 1:
        place, slope = _newton(point, place, int(surface.leaf[facet]), surface, slope)
    return [*place.tolist(), *slope.reshape(-1).tolist()]


def _newton(p: Any, start: Any, leaf: int, surface: Any, slope: Any) -> tuple[Any, Any]:
    """The nearest point of a smooth piece by bordered systems; the start where that leads away."""
    import numpy as np

    d, q, made = len(p), start, slope
    for _ in range(STEPS):
        f, g, H = pieces(surface, q)[leaf]
        m = (p - q) @ g / (g @ g)
        A = np.eye(d) + m * H
        if min(np.linalg.det(A), np.linalg.det(A) * (g @ np.linalg.pinv(A) @ g) / (g @ g)) <= SINGULAR:
            A = np.eye(d)
        whole = np.block([[A, g[:, None]], [g[None], np.zeros((1, 1))]])
        inverse = np.linalg.inv(whole)
        q, made = q - (inverse @ [*(q - p + m * g), f])[:d], inverse[:d, :d]
    level = abs(level_of(surface.structure, [f for f, _, _ in pieces(surface, q)]))
    good = np.linalg.norm(q - start) < 2 * surface.size and level < 1e-6 * surface.size
    return (q, made) if good else (start, slope)


def pieces(surface: Any, q: Any) -> list[tuple[float, Any, Any]]:
    """f, its gradient and its second derivatives of each piece."""
    import numpy as np
    import torch
    from ndl.compiler.ir.interpret import interpret

    d = len(q)
    inputs = {f"x{k}": torch.tensor(x, dtype=torch.float64) for k, x in enumerate(q.tolist())}
    made = interpret(surface.curves, inputs)
    values = [float(made[name]) for name, _ in surface.curves.outputs]
    size = 1 + d + d * (d + 1) // 2
    found = []
    for k in range(0, len(values), size):
        H = np.zeros((d, d))
        H[np.triu_indices(d)] = values[k + 1 + d : k + size]
        found.append((values[k], np.array(values[k + 1 : k + 1 + d]), H + np.triu(H, 1).T))
    return found


def level_of(part: Any, values: Any) -> Any:
    """The level of a combination of pieces of these levels."""
    if isinstance(part, int):
        return values[part]
    inner = [level_of(p, values) for p in part[1]]
    return max(inner) if part[0] == "all" else min(inner)


def _on_facet(p: Any, corners: Any, sharp: Any, edges: Any) -> tuple[Any, bool]:
    import numpy as np

    if len(p) == 1:
        return corners[0], bool(sharp[0])
    sides = [(0, 1)] if len(p) == 2 else [(0, 1), (1, 2), (2, 0)]
    found: list[tuple[float, Any, bool]] = []
    if len(p) == 3:
        a, b, c = corners
        way = np.stack([b - a, c - a], 1)
        s, t = np.linalg.lstsq(way, p - a, rcond=None)[0]
        if s >= 0 and t >= 0 and s + t <= 1:
            return a + way @ [s, t], False
    for k, (i, j) in enumerate(sides):
        way = corners[j] - corners[i]
        t = min(max(float((p - corners[i]) @ way / (way @ way)), 0.0), 1.0)
        place = corners[i] + t * way
        meeting = bool((t == 0 and sharp[i]) or (t == 1 and sharp[j]) or (len(p) == 3 and edges[k]))
        found.append((float(((place - p) ** 2).sum()), place, meeting))
    _, place, meeting = min(found, key=lambda one: one[0])
    return place, meeting


def _text(texts: Sequence[str], types: Sequence[Type], a: Attributes) -> str:
    return call("ops.nearest", texts[0], f"surface={a['surface']!r}")


def _vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> list[Node | None]:
    (p,) = operands
    assert isinstance(p.type, Tensor)
    last, d = p.type.rank - 1, p.type.shape[-1].constant or 1
    lead = tuple(n.constant if n.constant is not None else n for n in p.type.shape[:-1])
    slopes = op(graph, "slice", node, axis=last, start=d, stop=d + d * d)
    slopes = op(graph, "reshape", slopes, shape=(*lead, d, d))
    own = op(graph, "slice", g, axis=last, start=0, stop=d)
    names = "abcdefgh"[:last]
    found = op(graph, "einsum", own, slopes, equation=f"{names}i,{names}ij->{names}j")
    return [fit(graph, found, p)]


register(Op("nearest", _rule, _reference, _text, _vjp))
