"""Windows over arrays of values, and convolutions by them.

A convolution of some size is a product of a matrix and a vector at each place: its weights stay whole, and so
does what it gives. A small one, and one whose weights differ between trajectories, is written out; what meets
the zeros beyond the ends drops out there. Axes and geometry are those of
`ndl.compiler.ops.families.windows`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from ndl.compiler.ir.graph import Node
from ndl.compiler.kernels.arrays import Matrix, dense, dense_t, elements, pack
from ndl.compiler.kernels.tensors import LARGE
from ndl.compiler.kernels.vectors import WIDE, Held, Vector
from ndl.compiler.ops.families.windows import counts, offsets, same

if TYPE_CHECKING:
    from ndl.compiler.kernels.scalars import Scalars, Values


def unfold(s: Scalars, node: Node, operands: list[Values]) -> Values:
    """The windows of x, `[…, *places, *size]`."""
    return _windows(s, node, operands[0], s.extents(node.attr("size")))


def fold(s: Scalars, node: Node, operands: list[Values]) -> Values:
    """The sum of what overlapping windows give to each place."""
    return _overlapped(s, node, operands[0], s.extents(node.attr("shape")))


def convolve(s: Scalars, node: Node, operands: list[Values]) -> Values:
    """K `[out, in/groups, *size]` over x `[…, in, *n]`."""
    K, x = operands
    parts, lead, at = _grouped_windows(s, node, K.shape, x)
    return s.einsum("goi,lgip->lgop", [_grouped(K, node), parts]).reshape(*lead, K.shape[0], *at)


def convolve_back(s: Scalars, node: Node, operands: list[Values]) -> Values:
    """What K makes of y `[…, out, *places]` turned round, `[…, in, *n]`."""
    K, y = operands
    windows = s.einsum("goi,lgop->lgip", [_grouped(K, node), _by_group(node, K.shape, y)])
    return _turned(s, node, K.shape, y, windows)


def whole(s: Scalars, node: Node, operands: list[Values]) -> Values:
    """Either convolution by products with a matrix that stays whole; None where it is better written out."""
    K, x = operands
    if not isinstance(K, Held):
        return None
    (x,) = s.spread([x])
    ahead, groups, code = node.op == "convolve", node.attr("groups"), s.code
    if ahead:
        parts, lead, at = _grouped_windows(s, node, K.shape, x)
    else:
        parts = _by_group(node, K.shape, x)
    many, _, _, places = parts.shape
    rows, columns = K.shape[0] // groups, math.prod(K.shape[1:])
    results = (rows if ahead else columns) * groups * many * places
    if results < WIDE and rows * columns * groups * many * places <= LARGE:
        return None
    out = np.empty((many, groups, rows if ahead else columns, places), dtype=object)
    for m, g, p in np.ndindex(many, groups, places):
        matrix = Matrix(K.buffer, K.at + g * rows * columns, rows, columns)
        given = pack(code, list(parts[m, g, :, p]))
        out[m, g, :, p] = elements(code, (dense if ahead else dense_t)(code, matrix, given))
    if not ahead:
        return _turned(s, node, K.shape, x, out)
    shape = (*lead, K.shape[0], *at)
    return Vector(pack(code, list(out.flat)), shape)


def _grouped(K: Values, node: Node) -> Values:
    """K `[groups, out, in · window]`."""
    groups = node.attr("groups")
    return K.reshape(groups, K.shape[0] // groups, -1)


def _grouped_windows(
    s: Scalars, node: Node, kernel: tuple[int, ...], x: Values
) -> tuple[Values, tuple[int, ...], tuple[int, ...]]:
    """What K meets at each place, `[lead, groups, in · window, places]`; the leading axes, and the places."""
    groups, size = node.attr("groups"), kernel[2:]
    d, wide = len(size), math.prod(size)
    lead = x.shape[: x.ndim - d - 1]
    windows = _windows(s, node, x, size)
    at = windows.shape[len(lead) + 1 : len(lead) + 1 + d]
    parts = windows.reshape(-1, groups, kernel[1], math.prod(at), wide)
    return parts.transpose(0, 1, 2, 4, 3).reshape(len(parts), groups, -1, math.prod(at)), lead, at


def _by_group(node: Node, kernel: tuple[int, ...], y: Values) -> Values:
    """What K gives at each place, `[lead, groups, out, places]`."""
    d, groups = len(kernel) - 2, node.attr("groups")
    return y.reshape(-1, groups, kernel[0] // groups, math.prod(y.shape[y.ndim - d :]))


def _turned(s: Scalars, node: Node, kernel: tuple[int, ...], y: Values, windows: Values) -> Values:
    """The sum of windows `[lead, groups, in · window, places]` of what y was."""
    d, groups, size = len(kernel) - 2, node.attr("groups"), kernel[2:]
    lead, at = y.shape[: y.ndim - d - 1], y.shape[y.ndim - d :]
    apart = windows.reshape(-1, groups, kernel[1], math.prod(size), math.prod(at)).transpose(0, 1, 2, 4, 3)
    whole = apart.reshape(*lead, groups * kernel[1], *at, *size)
    return _overlapped(s, node, whole, s.extents(node.attr("shape")))


def _windows(s: Scalars, node: Node, x: Values, size: tuple[int, ...]) -> Values:
    geometry, d = same(node), len(size)
    n = x.shape[x.ndim - d :]
    wide = _zeros(s, x.shape[: x.ndim - d], n, geometry["pad"])
    wide[_inside(n, geometry["pad"])] = x
    read = [wide[(..., *where)] for where in offsets(size, geometry, counts(n, size, geometry))]
    return np.stack(read, -1).reshape(*read[0].shape, *size)


def _overlapped(s: Scalars, node: Node, y: Values, n: tuple[int, ...]) -> Values:
    geometry, d = same(node), len(n)
    size = y.shape[y.ndim - d :]
    wide = _zeros(s, y.shape[: y.ndim - 2 * d], n, geometry["pad"])
    flat = y.reshape(*y.shape[: y.ndim - d], -1)
    add = np.frompyfunc(lambda a, b: s.code.op("add", a, b), 2, 1)
    for k, where in enumerate(offsets(size, geometry, counts(n, size, geometry))):
        wide[(..., *where)] = add(wide[(..., *where)], flat[..., k])
    return wide[_inside(n, geometry["pad"])]


def _zeros(s: Scalars, lead: tuple[int, ...], n: tuple[int, ...], pad: tuple[tuple[int, int], ...]) -> Values:
    return np.full((*lead, *(k + a + b for k, (a, b) in zip(n, pad))), s.code.const(0.0), dtype=object)


def _inside(n: tuple[int, ...], pad: tuple[tuple[int, int], ...]) -> tuple[object, ...]:
    return (..., *(slice(a, a + k) for k, (a, _) in zip(n, pad)))
