"""The ops of a graph at one point of a grid, each as a weighted sum of values."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from ndl.compiler.ir.graph import Node
from ndl.compiler.kernels.forms import Coord, Form, Position
from ndl.compiler.kernels.ir import Unsupported
from ndl.compiler.kernels.scalars import UNCHANGED, shape_of
from ndl.compiler.kernels.sweeps import TIME
from ndl.compiler.ops.families.contraction import matmul_equation

if TYPE_CHECKING:
    from ndl.compiler.kernels.points import Points

MOST_COMPONENTS = 16
"""Entries over which a sum at a point goes."""

Handler = Callable[["Points", Node, Sequence[Node], Position], Form]


def _input(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    name = node.attr("name")
    if name == "t":
        return Form({p.slot(TIME): 1.0})
    rank = len(p.shape)
    rest = position[rank:]
    grid = [p.coord(c, k) for k, c in enumerate(position[:rank])]
    if any(c.axis != k for k, c in enumerate(grid)):
        raise Unsupported(f"`{name}` is read with its axes turned")
    offset = tuple(c.offset for c in grid)
    component = tuple(c for c in rest if isinstance(c, int))
    return p.inputs(p, name, component, offset)


def _add(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    a, b = (p.form(x, position if shape_of(x) else ()) for x in operands)
    return a.plus(b, -1.0 if node.op == "sub" else 1.0)


def _neg(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    return p.form(operands[0], position).times(-1.0)


def _mul(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    first, second = sorted(operands, key=lambda x: x.id not in p.linear)
    a = p.form(first, position if shape_of(first) else ())
    if not a.terms and not a.constant:
        return a  # the other factor may not be known here
    b = p.form(second, position if shape_of(second) else ())
    for x, y in ((a, b), (b, a)):
        if not x.terms:
            return y.times(x.constant)
    return p.named(p.code.op("mul", p.made(a), p.made(b)))


def _div(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    a = p.form(operands[0], position if shape_of(operands[0]) else ())
    if not a.terms and not a.constant:
        return a
    b = p.form(operands[1], position if shape_of(operands[1]) else ())
    if not b.terms and b.constant:
        return a.times(1 / b.constant)
    below = p.made(b)
    if operands[1].id not in p.moving and not shape_of(operands[1]):
        return p.named(p.code.op("mul", p.made(a), p.code.op("div", 1.0, below)))
    return p.named(p.code.op("div", p.made(a), below))


def _stencil(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    axis = node.attr("axis")
    coord = p.coord(position[axis], axis)
    weights = (_column if node.attr("transposed") else _row)(p, node, coord)
    found = Form()
    for offset, w in weights:
        if w:
            moved = Coord(coord.axis, coord.offset + offset)
            near = p.form(operands[0], (*position[:axis], moved, *position[axis + 1 :]))
            found = found.plus(near, w * node.attr("scale"))
    return found


def _row(p: Points, node: Node, coord: Coord) -> list[tuple[int, float]]:
    """Which neighbours, as offsets from the coordinate, a difference weighs how."""
    low, high = _ends(node)
    at = p.index(coord, len(low), len(high)) if low or high else None
    if at is None:
        return [(node.attr("offset") + k, w) for k, w in enumerate(node.attr("center"))]
    if at >= 0:
        return [(k - at, w) for k, w in enumerate(low[at])]
    row = high[at + len(high)]
    return [(k - len(row) - at, w) for k, w in enumerate(row)]


def _column(p: Points, node: Node, coord: Coord) -> list[tuple[int, float]]:
    """The same of the transpose: which rows of the difference weigh this place how."""
    low, high = _ends(node)
    first, center = node.attr("offset"), node.attr("center")
    inside = [(-first - k, w) for k, w in enumerate(center)]
    if not low and not high:
        return inside
    near = max([len(low) + first + len(center) - 1, len(low), *map(len, low)])
    far = max([len(high) - first, len(high), *map(len, high)])
    at, n = p.index(coord, near, far), p.shape[coord.axis]
    if at is None:
        return inside
    i = at % n
    rows = [(i + o, w) for o, w in inside if len(low) <= i + o < n - len(high)]
    rows += [(j, row[i]) for j, row in enumerate(low) if i < len(row)]
    rows += [(n - len(high) + j, row[i - n + len(row)]) for j, row in enumerate(high) if i >= n - len(row)]
    return [(j - i, w) for j, w in rows]


def _ends(node: Node) -> tuple[Sequence[Sequence[float]], Sequence[Sequence[float]]]:
    """The rows near the ends of an axis."""
    return ((), ()) if node.attr("periodic") else (node.attr("low"), node.attr("high"))


def _lift(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    axis, weights = node.attr("axis"), node.attr("weights")
    coord = p.coord(position[axis], axis)
    upper = node.attr("side") == "high"
    at = p.index(coord, 0 if upper else len(weights), len(weights) if upper else 0)
    if at is None:
        return Form()
    weight = weights[-1 - at] if upper else weights[at]
    return p.form(operands[0], (*position[:axis], *position[axis + 1 :])).times(weight * node.attr("scale"))


def _lower(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    axis, weights, scale = node.attr("axis"), node.attr("weights"), node.attr("scale")
    upper, shape = node.attr("side") == "high", shape_of(operands[0])
    k = p.grid_axis(shape, axis) if p.densities else None
    if k is None:
        places = [shape[axis] - 1 - j if upper else j for j in range(len(weights))]
    else:
        at = p.index(Coord(k), 0 if upper else len(weights), len(weights) if upper else 0)
        if at is None:
            return Form()
        places, weights = [Coord(k)], [weights[-1 - at] if upper else weights[at]]
    found = Form()
    for place, w in zip(places, weights):
        found = found.plus(p.form(operands[0], (*position[:axis], place, *position[axis:])), w * scale)
    return found


def _mask(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    axis = node.attr("axis")
    coord = p.coord(position[axis], axis)
    at = p.index(coord, int(node.attr("low")), int(node.attr("high")))
    return p.form(operands[0], position) if at is None else Form()


def _expand(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    return p.form(operands[0], tuple(position[a] for a in node.attr("axes")))


def _permute(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    found: list[Coord | int] = [0] * len(position)
    for at, axis in zip(position, node.attr("axes")):
        found[axis] = at
    return p.form(operands[0], tuple(found))


def _reshape(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    """Axes of one entry that come or go."""
    old, new = shape_of(operands[0]), shape_of(node)
    kept = [c for c, n in zip(position, new) if n != 1]
    if [n for n in old if n != 1] != [n for n in new if n != 1]:
        raise Unsupported("its axes are taken together or apart")
    rest = iter(kept)
    return p.form(operands[0], tuple(0 if n == 1 else next(rest) for n in old))


def _index(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    shape = shape_of(operands[0])
    axis = node.attr("axis") % len(shape)
    return p.form(operands[0], (*position[:axis], node.attr("at") % shape[axis], *position[axis:]))


def _slice(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    shape = shape_of(operands[0])
    axis, start = node.attr("axis") % len(shape), node.attr("start") or 0
    at = position[axis]
    if not isinstance(at, int):
        raise Unsupported("it takes a part of the grid")
    at += start if start >= 0 else start + shape[axis]
    return p.form(operands[0], (*position[:axis], at, *position[axis + 1 :]))


def _stack(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    axis = node.attr("axis") % len(position)
    at = position[axis]
    if not isinstance(at, int):
        raise Unsupported("it puts grids together")
    return p.form(operands[at], (*position[:axis], *position[axis + 1 :]))


def _concat(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    axis = node.attr("axis") % len(position)
    at = position[axis]
    sizes = [shape_of(x)[axis] for x in operands]
    if isinstance(at, Coord):
        large = sizes.index(max(sizes))
        if not _zero(p, operands[large]):
            raise Unsupported("it puts grids together")
        found = p.index(at, sum(sizes[:large]), sum(sizes[large + 1 :]))
        if found is None:
            return Form()
        at = found % sum(sizes)
    for x, n in zip(operands, sizes):
        if at < n:
            return p.form(x, (*position[:axis], at, *position[axis + 1 :]))
        at -= n
    raise AssertionError(position)


def _zero(p: Points, node: Node) -> bool:
    while node.op == "expand":
        node = p.function.graph[node.inputs[0]]
    return node.op == "const" and not np.any(node.attr("value"))


def _total(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    shape = shape_of(operands[0])
    given = node.attr("axes")
    axes = range(len(shape)) if given is None else sorted(a % len(shape) for a in given)
    count = int(np.prod([shape[a] for a in axes]))
    places = [_summed(p, shape, a) for a in axes]
    if np.prod([len(found) for found in places]) > MOST_COMPONENTS:
        raise Unsupported("it sums over the grid")
    found = Form()
    for at in itertools.product(*places):
        whole = list(position)
        for a, k in zip(axes, at):
            whole.insert(a, k)
        found = found.plus(p.form(operands[0], tuple(whole)))
    return found.times(1 / count) if node.op == "mean" else found


def _summed(p: Points, shape: Sequence[int], axis: int) -> Sequence[Coord | int]:
    """The places along an axis over which a sum goes at this point."""
    if p.densities:
        k = p.grid_axis(shape, axis)
        return range(shape[axis]) if k is None else [Coord(k)]
    if axis < len(p.shape) and tuple(shape[: len(p.shape)]) == p.shape:
        raise Unsupported("it sums over the grid")
    return range(shape[axis])


def _einsum(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    ranks = [len(shape_of(x)) for x in operands]
    equation = matmul_equation(*ranks) if node.op == "matmul" else node.attr("equation")
    left, _, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    over = {
        c: _summed(p, shape_of(x), k)
        for term, x in zip(terms, operands)
        for k, c in enumerate(term)
        if c not in right
    }
    if np.prod([len(places) for places in over.values()]) > MOST_COMPONENTS:
        raise Unsupported("it sums over the grid")
    known: dict[str, Coord | int] = dict(zip(right, position))
    found = Form()
    for at in itertools.product(*over.values()):
        known |= dict(zip(over, at))
        product = Form(constant=1.0)
        for term, x in zip(terms, operands):
            factor = p.form(x, tuple(known[c] for c in term))
            if not factor.terms:
                product = product.times(factor.constant)
            elif not product.terms:
                product = factor.times(product.constant)
            else:
                product = p.named(p.code.op("mul", p.made(product), p.made(factor)))
        found = found.plus(product)
    return found


def _same(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    return p.form(operands[0], position)


HANDLERS: dict[str, Handler] = {
    "input": _input, "add": _add, "sub": _add, "neg": _neg, "mul": _mul, "div": _div,
    "stencil": _stencil, "lift": _lift, "lower": _lower, "mask": _mask,
    "expand": _expand, "permute": _permute, "reshape": _reshape, "index": _index, "slice": _slice,
    "stack": _stack, "concat": _concat, "sum": _total, "mean": _total, "einsum": _einsum, "matmul": _einsum,
    **{name: _same for name in UNCHANGED},
}  # fmt: skip
