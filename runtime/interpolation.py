"""Fields at any point: cardinal functions of the points of a grid; see
`ndl.compiler.ops.families.interpolation`."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from ndl.runtime.grids import Layout, chebyshev, grid_points
from torch import Tensor


def cardinal(p: Tensor, layout: Layout, way: str, width: int, degree: int) -> Tensor:
    """Derivatives of the cardinal functions of an axis at the places p `[…]`: `[…, n]`."""
    if not p.is_floating_point():
        p = p.double()
    found: Tensor = _Cardinal.apply(p, layout, way, width, degree)  # type: ignore[no-untyped-call]
    return found


class _Cardinal(torch.autograd.Function):
    """The derivative by p is that of the next degree, at points of the grid too."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, layout: Layout, way: str, width: int, degree: int) -> Tensor:
        ctx.save_for_backward(p)
        ctx.form = layout, way, width, degree
        return _values(p, layout, way, width, degree)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:  # type: ignore[override]
        (p,) = ctx.saved_tensors
        layout, way, width, degree = ctx.form
        return (grad * cardinal(p, layout, way, width, degree + 1)).sum(-1), None, None, None, None


def _values(p: Tensor, layout: Layout, way: str, width: int, degree: int) -> Tensor:
    if way == "fourier":
        return _waves(p, layout, degree)
    return _polynomials(p, layout, degree) if way == "chebyshev" else _pieces(p, layout, width, degree)


def _waves(p: Tensor, layout: Layout, degree: int) -> Tensor:
    """Trigonometric cardinal functions as sums of cosines and sines of both places."""
    _, n, lower, upper = layout
    k = torch.arange(n // 2 + 1, dtype=p.dtype, device=p.device)
    share = torch.full_like(k, 2.0 / n)
    share[0] = 1.0 / n
    if n % 2 == 0:
        share[-1] = 1.0 / n
    w = 2 * math.pi * k / (upper - lower)
    there = w * (p - lower)[..., None] + degree * (math.pi / 2)  # each derivative turns by a quarter
    here = w[:, None] * (grid_points(layout).to(p) - lower)
    scale = share * w**degree
    return (scale * torch.cos(there)) @ torch.cos(here) + (scale * torch.sin(there)) @ torch.sin(here)


def _polynomials(p: Tensor, layout: Layout, degree: int) -> Tensor:
    """By the second barycentric formula (Berrut and Trefethen 2004, SIAM Review 46); derivatives by the
    matrix of those at the points."""
    points = grid_points(layout).to(p)
    n = len(points)
    weights = (-1.0) ** torch.arange(n, dtype=p.dtype, device=p.device)
    weights[0] /= 2
    weights[-1] /= 2
    gap = p[..., None] - points
    hit = gap == 0
    shares = weights / torch.where(hit, torch.ones_like(gap), gap)
    row = shares / shares.sum(-1, keepdim=True)
    row = torch.where(hit.any(-1, keepdim=True), hit.to(p), row)
    return row @ chebyshev(layout, degree, ()).to(p) if degree else row


def _pieces(p: Tensor, layout: Layout, width: int, degree: int) -> Tensor:
    """Lagrange polynomials through the `width` points about p."""
    kind, n, lower, upper = layout
    h = (upper - lower) / (n - 1 if kind == "nodes" else n)
    place = (p - lower) / h - (0.5 if kind == "cells" else 0.0)
    first = torch.floor(place) - (width - 1) // 2
    if kind != "ring":
        first = first.clamp(0, n - width)
    rest = place - first
    table = torch.tensor(_lagrange(width, degree), dtype=p.dtype, device=p.device)
    powers = rest[..., None] ** torch.arange(width, dtype=p.dtype, device=p.device)
    local = powers @ table * h**-degree
    index = (first[..., None].long() + torch.arange(width, device=p.device)) % n
    return local.new_zeros((*p.shape, n)).scatter_add(-1, index, local)


@lru_cache
def _lagrange(width: int, degree: int) -> list[list[float]]:
    """Coefficients `[power, point]` of the derivatives of the Lagrange polynomials of 0, 1, …, width - 1."""
    columns = []
    for j in range(width):
        poly, scale = [1.0], 1.0
        for k in range(width):
            if k != j:
                poly = [(poly[i - 1] if i else 0.0) - k * (poly[i] if i < len(poly) else 0.0)
                        for i in range(len(poly) + 1)]  # fmt: skip
                scale *= j - k
        for _ in range(degree):
            poly = [i * poly[i] for i in range(1, len(poly))] or [0.0]
        columns.append([v / scale for v in poly] + [0.0] * (width - len(poly)))
    return [list(row) for row in zip(*columns)]
