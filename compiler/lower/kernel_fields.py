"""Random fields whose covariance is a kernel, a function K(p, q) of two points: the matrix of K at the points
of a grid or mesh has a factor C = L L', and the field is L times standard normals.

A kernel of numbers alone is factored when compiling, by Cholesky's method with pivots, which stops when the
rest is rounding (Harbrecht, Peters, Schneider 2012, Appl. Numer. Math. 62): smooth kernels have few columns.
One with parameters is factored in the run, so that gradients reach them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ndl.compiler.check.axes import aligned, full, split
from ndl.compiler.check.calls import apply
from ndl.compiler.check.covariances import kernel_of
from ndl.compiler.check.maps import Map
from ndl.compiler.check.values import Axis, ListV, Unknown, Value
from ndl.compiler.diagnostics import NDLError, fail
from ndl.compiler.geometry import store
from ndl.compiler.ir.graph import Function
from ndl.compiler.lower.field_waves import Line, coordinates_of, stored_line
from ndl.compiler.source import Span
from ndl.compiler.types import Dim

if TYPE_CHECKING:
    from ndl.compiler.check.evaluator import Evaluator
    from ndl.compiler.lower.fields import Fields

MOST = 4096
"""Points up to which a matrix of all pairs is made: 128 MiB."""
SAME = 1e-8
"""What counts as rounding, over the largest variance."""
LIFT = 1e-10
"""What is added to the diagonal, over its mean, of a matrix that the run factors."""


@dataclass(frozen=True)
class RootLine(Line):
    """A factor that is worked out in the graph."""

    root: Value

    def basis(self, fields: Fields, span: Span) -> Value:
        return self.root


def kernel_line(ev: Evaluator, covariance: Map, axes: tuple[Axis, ...], span: Span) -> Line:
    """The columns of a factor of the covariance of the values at the points of `axes`. Raises `NDLError`."""
    matrix = _matrix(ev, covariance, axes, span)
    graph = ev.lowering.graph
    needed = graph.needed([matrix.ref])
    if any(n.op in ("param", "input", "call", "path", "apply") for n in needed):
        return _in_graph(ev, matrix, axes, span)
    from ndl.compiler.ir.interpret import interpret

    C = interpret(Function("kernel", graph, (), (("C", matrix.ref),), ()), {}, {})["C"].double().numpy()
    return stored_line(axes, *kept_factor(C, span))


def _matrix(ev: Evaluator, covariance: Map, axes: tuple[Axis, ...], span: Span) -> Value:
    """K at all pairs of points, `[n, n]`."""
    n = int(np.prod([a.extent.constant or 0 for a in axes]))
    check_size(n, span)
    others = tuple(Axis(f"{a.name} again", a.extent) for a in axes)
    points = coordinates_of(ev.fields, axes, span)
    again = [_along(p, dict(zip(axes, others))) for p in points]
    kernel = kernel_of(covariance)
    pair = [p[0] if len(p) == 1 else ListV(tuple(p)) for p in (points, again)]
    v = ev.value(apply(ev, kernel, pair, {}, span, None), span)
    if isinstance(v, Unknown):
        raise fail("NDL490", "this kernel is not yet lowered", span)
    if v.type.rank or v.type.kind == "C":
        raise fail("NDL572", f"a kernel gives a number for two points, and this one {v.type}", span)
    flat = aligned(ev, v, (*axes, *others), span)
    found = ev.builder.op("reshape", [flat], span, {"shape": (n, n)})
    assert isinstance(found, Value)
    return found


def _along(v: Value, names: dict[Axis, Axis]) -> Value:
    """A value along other axes of the same extents."""
    return split(full(v), tuple(names[a] for a in v.axes))


def _in_graph(ev: Evaluator, matrix: Value, axes: tuple[Axis, ...], span: Span) -> Line:
    n = matrix.type.shape[0].constant or 0
    one = ev.builder.const(tuple(map(tuple, np.eye(n).tolist())), matrix.type, span)
    trace = ev.op("sum", [ev.binary("*", matrix, one, span)], span, axes=(0, 1))
    lift = ev.binary("*", ev.binary("*", trace, LIFT / n, span), one, span)
    lifted = ev.value(ev.binary("+", matrix, lift, span), span)
    assert isinstance(lifted, Value)
    root = ev.op("cholesky", [lifted], span)
    assert isinstance(root, Value)
    extent = Dim.of(n)
    waves = Axis("point", extent)
    if len(axes) > 1:
        root = ev.op("reshape", [root], span, shape=tuple(a.extent.constant for a in (*axes, waves)))
    assert isinstance(root, Value)
    return RootLine(axes, waves, {}, split(root, (*axes, waves)))


def check_size(n: int, span: Span) -> None:
    """Raises `NDLError` for more points than all pairs are taken of."""
    if n > MOST:
        what = f"a kernel needs a matrix of all pairs of points, and the grid has {n} of them"
        hint = "write the covariance as a function of `lap`, such as `(identity - 0.01*lap)^-2`"
        raise fail("NDL572", f"{what}, more than {MOST}", span, help=hint)


def kept_factor(C: np.ndarray, span: Span) -> tuple[str, int]:
    """The key under which the store has the columns of a factor, as waves, and how many there are. Raises
    `NDLError`."""
    label = f"kernel {hashlib.sha256(np.ascontiguousarray(C).tobytes()).hexdigest()[:12]}"
    if f"{label} basis" not in store.ARRAYS:
        root = factor(C, span)
        store.ARRAYS[f"{label} basis"], store.ARRAYS[f"{label} values"] = root, np.zeros(root.shape[1])
    return label, store.ARRAYS[f"{label} basis"].shape[1]


def factor(C: np.ndarray, span: Span) -> np.ndarray:
    """L `[n, r]` with C = L L'. Raises `NDLError` for a matrix that has none."""
    from scipy.linalg import eigvalsh
    from scipy.linalg.lapack import dpstrf

    size = max(float(np.abs(np.diag(C)).max()), 1e-300)
    if not np.isfinite(C).all():
        raise no_kernel("is not finite at all pairs of points of the grid", span)
    if float(np.abs(C - C.T).max()) > SAME * size:
        raise no_kernel("is not symmetric: K(p, q) and K(q, p) differ", span)
    packed, pivots, rank, _ = dpstrf(C, lower=1)
    root = np.zeros((len(C), rank))
    root[pivots - 1] = np.tril(packed)[:, :rank]
    if float(np.abs(root @ root.T - C).max()) > SAME * size:
        least = float(eigvalsh(C, subset_by_index=[0, 0])[0])
        raise no_kernel(f"at the points of the grid has the eigenvalue {least:.3g}, which is negative", span)
    return root


def no_kernel(why: str, span: Span) -> NDLError:
    hint = "a covariance is a positive semi-definite function, such as `(p, q) -> exp(-distance(p, q))`"
    return fail("NDL587", f"this kernel is no covariance: it {why}", span, help=hint)


__all__ = ["RootLine", "check_size", "kept_factor", "kernel_line"]
