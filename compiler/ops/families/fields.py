"""Fields on grids: points and quadrature weights, differences along an axis, Fourier multipliers, ends of
axes.

A difference is one node whatever the size of the grid: its weights are static, those of the interior once,
and a row for each place near an end. Axes are counted from the front, so that any more may follow.

grid_points     (layout) -> the coordinates along an axis; a layout is (`nodes` | `ring` | `cells` |
                `chebyshev`, n, lower, upper)
grid_weights    (layout, ends) -> quadrature weights; `ends` corrects those of the first and last points
chebyshev       (layout, degree, slopes) -> the matrix of a derivative on Chebyshev points; where an end is in
                `slopes` the first derivative is not read there
stencil         (axis, offset, center, low, high, scale, periodic, transposed): y_i = scale * sum_k
                center[k] * x_(i + offset + k); the first len(low) places have rows of weights of the first
                points, the last those of the last points
lift            (axis, n, side, weights, scale): what is known at an end, times `weights` from that end
                inwards, on a new axis
lower           the adjoint of `lift`: an axis contracted with weights at one end
mask            (axis, low, high): 0 at those ends
multiplier      (axes, lengths, terms): sum of c * d^(a1)/dx1 ... d^(ad)/dxd by Fourier series; terms are
                (c, (a1, …, ad))
truncate        (axes, kept): the Fourier modes up to `kept` along each axis, the others 0
symbol          (shape, lengths, terms) -> what `multiplier` multiplies the modes of a real field by
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ndl.compiler.ops.adjoint import extents, fit, op
from ndl.compiler.ops.rules import axis_of, dims, numeric, tensors
from ndl.compiler.ops.table import Attributes, Op, TypeRuleError, register
from ndl.compiler.ops.text import call
from ndl.compiler.types import Dim, Tensor, Type

if TYPE_CHECKING:
    from ndl.compiler.ir.graph import Graph, Node

Cotangents = list["Node | None"]
SOURCES = ("grid_points", "grid_weights", "chebyshev", "mesh_data", "eigenbasis", "eigenvalues")
"""Arrays that a generated class makes once."""


def _plain(value: Any) -> str:
    return repr(value)


def _named(a: Attributes, *names: str) -> list[str]:
    return [f"{n}={_plain(a[n])}" for n in names]


# ---------------------------------------------------------------- sources


def _points_rule(types: Sequence[Type], a: Attributes) -> Type:
    return Tensor("R", (Dim.of(a["layout"][1]),))


def grid_coordinates(layout: Any) -> Any:
    """The points of an axis, worked out plainly."""
    import torch

    kind, n, lower, upper = layout
    if kind == "chebyshev":
        import math

        nodes = [-math.cos(math.pi * j / (n - 1)) for j in range(n)]
        return torch.tensor([lower + (upper - lower) * (1 + z) / 2 for z in nodes], dtype=torch.float64)
    step = (upper - lower) / (n - 1 if kind == "nodes" else n)
    shift = 0.5 if kind == "cells" else 0.0
    return torch.tensor([lower + step * (j + shift) for j in range(n)], dtype=torch.float64)


register(
    Op(
        "grid_points",
        _points_rule,
        grid_coordinates,
        lambda texts, types, a: call("ops.grid_points", _plain(a["layout"])),
    )
)


def _weights_reference(layout: Any, ends: Any) -> Any:
    import torch

    kind, n, lower, upper = layout
    if kind == "chebyshev":
        # exact for the polynomial through the points: the moments of Chebyshev polynomials
        z = grid_coordinates(("chebyshev", n, -1.0, 1.0))
        rows = torch.stack([torch.cos(k * torch.arccos(z.clamp(-1, 1))) for k in range(n)])
        moments = torch.tensor([0.0 if k % 2 else 2 / (1 - k * k) for k in range(n)], dtype=torch.float64)
        return torch.linalg.solve(rows, moments) * (upper - lower) / 2
    step = (upper - lower) / (n - 1 if kind == "nodes" else n)
    found = torch.ones(n, dtype=torch.float64)
    for j, w in enumerate(ends):
        found[j] += w
        found[n - 1 - j] += w
    return found * step


register(
    Op(
        "grid_weights",
        _points_rule,
        _weights_reference,
        lambda texts, types, a: call("ops.grid_weights", _plain(a["layout"]), _plain(a["ends"])),
    )
)


def _square_rule(types: Sequence[Type], a: Attributes) -> Type:
    n = Dim.of(a["layout"][1])
    return Tensor("R", (n, n))


def chebyshev_matrix(layout: Any, degree: int, slopes: Any) -> Any:
    """Derivatives of the Lagrange polynomials at the points, by products of differences."""
    import torch

    _, n, lower, upper = layout
    x = grid_coordinates(("chebyshev", n, -1.0, 1.0)).tolist()
    first = torch.zeros((n, n), dtype=torch.float64)
    for j in range(n):
        for i in range(n):
            total = 0.0
            for m in range(n):
                if m == j:
                    continue
                product = 1 / (x[j] - x[m])
                for k in range(n):
                    if k not in (j, m):
                        product *= (x[i] - x[k]) / (x[j] - x[k])
                total += product
            first[i, j] = total
    first *= 2 / (upper - lower)
    kept = torch.ones(n, dtype=torch.float64)
    for side in slopes:
        kept[0 if side == "low" else n - 1] = 0.0
    matrix = kept[:, None] * first
    for _ in range(degree - 1):
        matrix = first @ matrix
    return matrix


register(
    Op(
        "chebyshev",
        _square_rule,
        chebyshev_matrix,
        lambda texts, types, a: call(
            "ops.chebyshev", _plain(a["layout"]), _plain(a["degree"]), _plain(a["slopes"])
        ),
    )
)


# ---------------------------------------------------------------- differences


def _same_rule(types: Sequence[Type], a: Attributes) -> Type:
    (x,) = tensors(types, "a difference")
    numeric([x], "a difference")
    axis_of(a, x.rank, "a difference")
    return x if x.kind in ("R", "C") else Tensor("R", x.shape)


def _stencil_rule(types: Sequence[Type], a: Attributes) -> Type:
    found = _same_rule(types, a)
    assert isinstance(found, Tensor)
    n, width = found.shape[a["axis"]].constant, len(a["center"])
    most = max([width, *(len(r) for r in (*a["low"], *a["high"]))])
    if n is not None and n < most:
        raise TypeRuleError(f"a difference over {most} points does not fit on an axis of {n}", [0])
    return found


def _floating(x: Any) -> Any:
    """Whole numbers as reals."""
    return x if x.is_floating_point() or x.is_complex() else x.double()


def stencil_matrix(n: int, **a: Any) -> Any:
    """The matrix of a stencil, row by row."""
    import torch

    matrix = torch.zeros((n, n), dtype=torch.float64)
    low, high, offset = a["low"], a["high"], a["offset"]
    for i in range(n):
        if not a["periodic"] and i < len(low):
            matrix[i, : len(low[i])] = torch.tensor(low[i], dtype=torch.float64)
        elif not a["periodic"] and i >= n - len(high):
            row = high[i - n + len(high)]
            matrix[i, n - len(row) :] = torch.tensor(row, dtype=torch.float64)
        else:
            for k, w in enumerate(a["center"]):
                matrix[i, (i + offset + k) % n] += w
    matrix *= a["scale"]
    return matrix.mT if a["transposed"] else matrix


def _stencil_reference(x: Any, axis: int, **a: Any) -> Any:
    import torch

    x = _floating(x)
    matrix = stencil_matrix(x.shape[axis], **a).to(x.dtype)
    return torch.tensordot(matrix, x, dims=([1], [axis])).movedim(0, axis)  # type: ignore[no-untyped-call]


def _back(a: Attributes, types: Sequence[Type]) -> str:
    """The axis counted from the end."""
    (x,) = types
    assert isinstance(x, Tensor)
    return str(a["axis"] - x.rank)


def _stencil_text(texts: Sequence[str], types: Sequence[Type], a: Attributes) -> str:
    shown = ["offset", "center", "scale"]
    shown += [n for n in ("low", "high", "periodic", "transposed") if a[n]]
    return call("ops.stencil", texts[0], _back(a, types), *_named(a, *shown))


def _stencil_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    attrs = dict(node.attrs) | {"transposed": not node.attr("transposed")}
    return [fit(graph, op(graph, "stencil", g, **attrs), operands[0])]


register(Op("stencil", _stencil_rule, _stencil_reference, _stencil_text, _stencil_vjp, linear=(0,)))


def _mask_reference(x: Any, axis: int, low: bool, high: bool) -> Any:
    found = _floating(x).clone().movedim(axis, 0)
    if low:
        found[0] = 0
    if high:
        found[-1] = 0
    return found.movedim(0, axis)


def _mask_text(texts: Sequence[str], types: Sequence[Type], a: Attributes) -> str:
    return call("ops.mask", texts[0], _back(a, types), _plain(a["low"]), _plain(a["high"]))


register(
    Op(
        "mask",
        _same_rule,
        _mask_reference,
        _mask_text,
        lambda graph, node, operands, g: [fit(graph, op(graph, "mask", g, **dict(node.attrs)), operands[0])],
        linear=(0,),
    )
)


# ---------------------------------------------------------------- what is known at an end


def _lift_rule(types: Sequence[Type], a: Attributes) -> Type:
    (x,) = tensors(types, "what is known at an end")
    numeric([x], "what is known at an end")
    if not 0 <= a["axis"] <= x.rank or len(a["weights"]) > a["n"]:
        raise TypeRuleError(f"{x} has no place for axis {a['axis']} of {a['n']}", [0])
    shape = (*x.shape[: a["axis"]], *dims([a["n"]]), *x.shape[a["axis"] :])
    return Tensor(x.kind if x.kind == "C" else "R", shape)


def _column(n: int, side: str, weights: Sequence[float], scale: float) -> Any:
    import torch

    found = torch.zeros(n, dtype=torch.float64)
    for j, w in enumerate(weights):
        found[j if side == "low" else n - 1 - j] = w * scale
    return found


def _lift_reference(x: Any, axis: int, n: int, side: str, weights: Any, scale: float) -> Any:
    x = _floating(x)
    column = _column(n, side, weights, scale).to(x.dtype)
    return column.reshape(*([1] * axis), n, *([1] * (x.ndim - axis))) * x.unsqueeze(axis)


def _lift_text(texts: Sequence[str], types: Sequence[Type], a: Attributes) -> str:
    (x,) = types
    assert isinstance(x, Tensor)
    axis = str(a["axis"] - x.rank - 1)
    return call("ops.lift", texts[0], axis, str(a["n"]), *_named(a, "side", "weights", "scale"))


register(
    Op(
        "lift",
        _lift_rule,
        _lift_reference,
        _lift_text,
        lambda graph, node, operands, g: [fit(graph, op(graph, "lower", g, **dict(node.attrs)), operands[0])],
        linear=(0,),
    )
)


def _lower_rule(types: Sequence[Type], a: Attributes) -> Type:
    (x,) = tensors(types, "the end of an axis")
    numeric([x], "the end of an axis")
    axis = axis_of(a, x.rank, "the end of an axis")
    return Tensor(x.kind if x.kind == "C" else "R", (*x.shape[:axis], *x.shape[axis + 1 :]))


def _lower_reference(x: Any, axis: int, n: int, side: str, weights: Any, scale: float) -> Any:
    import torch

    x = _floating(x)
    column = _column(n, side, weights, scale).to(x.dtype)
    return torch.tensordot(column, x, dims=([0], [axis]))  # type: ignore[no-untyped-call]


def _lower_text(texts: Sequence[str], types: Sequence[Type], a: Attributes) -> str:
    return call("ops.lower", texts[0], _back(a, types), *_named(a, "side", "weights", "scale"))


register(
    Op(
        "lower",
        _lower_rule,
        _lower_reference,
        _lower_text,
        lambda graph, node, operands, g: [fit(graph, op(graph, "lift", g, **dict(node.attrs)), operands[0])],
        linear=(0,),
    )
)


# ---------------------------------------------------------------- Fourier multipliers


def _multiplier_rule(types: Sequence[Type], a: Attributes) -> Type:
    (x,) = tensors(types, "a derivative by Fourier series")
    numeric([x], "a derivative by Fourier series")
    if any(not 0 <= axis < x.rank for axis in a["axes"]):
        raise TypeRuleError(f"{x} has no axes {a['axes']}", [0])
    return Tensor(x.kind if x.kind == "C" else "R", x.shape)


def _multiplier_reference(x: Any, axes: Any, lengths: Any, terms: Any) -> Any:
    """Each term by matrices of trigonometric interpolation, axis by axis."""
    import torch

    x = _floating(x)
    total = torch.zeros_like(x)
    for factor, degrees in terms:
        part = x
        for axis, length, degree in zip(axes, lengths, degrees):
            matrix = fourier_matrix(x.shape[axis], length, degree).to(x.dtype)
            part = torch.tensordot(matrix, part, dims=([1], [axis])).movedim(0, axis)  # type: ignore[no-untyped-call]
        total = total + factor * part
    return total


def fourier_matrix(n: int, length: float, degree: int) -> Any:
    """The derivative of the trigonometric interpolant; the highest mode of an even number of points counts
    as a cosine, whose odd derivatives vanish at the points."""
    import math

    import torch

    index = torch.arange(n, dtype=torch.float64)
    gap = 2 * math.pi * (index[:, None] - index[None, :]) / n
    matrix = torch.zeros((n, n), dtype=torch.float64)
    for k in range(n // 2 + 1):
        share = 1.0 if k == 0 or 2 * k == n else 2.0
        if 2 * k == n and degree % 2:
            continue
        wave = (2 * math.pi * k / length) ** degree if degree else 1.0
        matrix += share / n * wave * torch.cos(k * gap + degree * math.pi / 2)
    return matrix


def _multiplier_text(texts: Sequence[str], types: Sequence[Type], a: Attributes) -> str:
    (x,) = types
    assert isinstance(x, Tensor)
    axes = tuple(axis - x.rank for axis in a["axes"])
    return call("ops.multiplier", texts[0], _plain(axes), _plain(a["lengths"]), _plain(a["terms"]))


def _multiplier_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    terms = tuple((-c if sum(d) % 2 else c, d) for c, d in node.attr("terms"))
    attrs = dict(node.attrs) | {"terms": terms}
    return [fit(graph, op(graph, "multiplier", g, **attrs), operands[0])]


register(
    Op("multiplier", _multiplier_rule, _multiplier_reference, _multiplier_text, _multiplier_vjp, linear=(0,))
)


def _truncate_reference(x: Any, axes: Any, kept: Any) -> Any:
    """The projection on the kept waves, axis by axis, by its matrix of cosines."""
    import math

    import torch

    x = _floating(x)
    for axis, most in zip(axes, kept):
        n = x.shape[axis]
        index = torch.arange(n, dtype=torch.float64)
        gap = 2 * math.pi * (index[:, None] - index[None, :]) / n
        matrix = torch.ones((n, n), dtype=torch.float64) / n
        for k in range(1, min(most, n // 2) + 1):
            matrix += (1.0 if 2 * k == n else 2.0) / n * torch.cos(k * gap)
        x = torch.tensordot(matrix.to(x.dtype), x, dims=([1], [axis])).movedim(0, axis)  # type: ignore[no-untyped-call]
    return x


def _truncate_text(texts: Sequence[str], types: Sequence[Type], a: Attributes) -> str:
    (x,) = types
    assert isinstance(x, Tensor)
    axes = tuple(axis - x.rank for axis in a["axes"])
    return call("ops.truncate", texts[0], _plain(axes), _plain(a["kept"]))


def _truncate_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    return [fit(graph, op(graph, "truncate", g, **dict(node.attrs)), operands[0])]


register(Op("truncate", _multiplier_rule, _truncate_reference, _truncate_text, _truncate_vjp, linear=(0,)))


def _symbol_rule(types: Sequence[Type], a: Attributes) -> Type:
    shape = a["shape"]
    return Tensor("C", dims(shape if a.get("whole") else (*shape[:-1], shape[-1] // 2 + 1)))


def _symbol_reference(shape: Any, lengths: Any, terms: Any, whole: bool = False) -> Any:
    """The eigenvalues of the operator: what it makes of each wave, read at the first point; `whole`: of
    complex fields."""
    import itertools
    import math

    import torch

    kept = [range(n) for n in shape[:-1]] + [range(shape[-1] if whole else shape[-1] // 2 + 1)]
    found = torch.zeros([len(k) for k in kept], dtype=torch.complex128)
    for index in itertools.product(*kept):
        for factor, degrees in terms:
            value = complex(factor)
            for k, n, length, degree in zip(index, shape, lengths, degrees):
                signed = k - n if 2 * k > n else k
                gone = 2 * k == n and degree % 2
                value *= 0 if gone else (2j * math.pi * signed / length) ** degree
            found[index] += value
    return found


register(
    Op(
        "symbol",
        _symbol_rule,
        _symbol_reference,
        lambda texts, types, a: call(
            "ops.symbol",
            *(_plain(a[n]) for n in ("shape", "lengths", "terms")),
            *(["False"] if a.get("whole") else []),
        ),
    )
)

__all__ = ["SOURCES", "chebyshev_matrix", "extents", "fourier_matrix", "grid_coordinates", "stencil_matrix"]
