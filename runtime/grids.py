"""Operations on fields that are stored on grids, with any leading batch axes; axes count from the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from ndl.runtime.errors import did_you_mean
from ndl.runtime.info import GridInfo
from torch import Tensor

Layout = tuple[str, int, float, float]
Rows = Sequence[Sequence[float]]


def grid_points(layout: Layout) -> Tensor:
    """The coordinates along an axis `[n]`."""
    kind, n, lower, upper = layout
    if kind == "chebyshev":
        # sines around the middle keep the points symmetric to the last bit
        z = torch.sin(math.pi * torch.arange(1 - n, n, 2, dtype=torch.float64) / (2 * (n - 1)))
        return (lower + upper) / 2 + (upper - lower) / 2 * z
    count = torch.arange(n, dtype=torch.float64)
    if kind == "nodes":
        return lower + (upper - lower) * (count / (n - 1))
    return lower + (upper - lower) * ((count + (0.5 if kind == "cells" else 0.0)) / n)


def mesh_part(grid: GridInfo, name: str) -> Tensor:
    """Of a mesh its `nodes` or `points` `[n, d]`, or its `cells` (`triangles`) `[m, d + 1]`."""
    from ndl.runtime.meshes import tables

    mesh = tables(grid.mesh)
    return torch.from_numpy(getattr(mesh, "cells" if name == "triangles" else name).copy())


class GridPoints:
    """The coordinates of the points of grids, each an array over all axes of its grid: `grid.x`; where two
    domains have a coordinate of one name, `grid.Rod.x`. A mesh has the coordinates of its nodes,
    `grid.points` and `grid.triangles`."""

    def __init__(self, grids: Sequence[GridInfo]) -> None:
        self._grids = tuple(grids)

    def keys(self) -> tuple[str, ...]:
        """Names of coordinates that mean one grid, and of domains."""
        every = [c for g in self._grids for c in g.coordinates]
        return (*(c for c in every if every.count(c) == 1), *(g.domain for g in self._grids))

    def __getitem__(self, name: str) -> Tensor | GridPoints:
        if name in ("points", "triangles", "cells") and len(self._grids) == 1 and self._grids[0].mesh:
            return mesh_part(self._grids[0], name)
        if name in self.keys():
            for grid in self._grids:
                if grid.domain == name:
                    return GridPoints([grid])
                if name in grid.coordinates and grid.mesh:
                    return mesh_part(grid, "nodes")[:, grid.coordinates.index(name)]
                if name in grid.coordinates:
                    points = torch.meshgrid(*map(grid_points, grid.layouts), indexing="ij")
                    return points[grid.coordinates.index(name)]
        hint = did_you_mean(name, self.keys())
        raise KeyError(f"there is no grid with `{name}`" + (f"; {hint}" if hint else ""))

    def __getattr__(self, name: str) -> Tensor | GridPoints:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as trouble:
            raise AttributeError(trouble.args[0]) from None

    def __repr__(self) -> str:
        lines = []
        for g in self._grids:
            if g.mesh:
                lines.append(f"{g.domain}: {g.layouts[0][1]} nodes, {len(mesh_part(g, 'cells'))} cells")
                continue
            sizes = ", ".join(f"{c} {layout[1]}" for c, layout in zip(g.coordinates, g.layouts))
            lines.append(f"{g.domain}: {sizes}")
        return "\n".join(lines)


def grid_weights(layout: Layout, ends: Sequence[float]) -> Tensor:
    """Quadrature weights `[n]`: those of Clenshaw and Curtis, or equal ones with the ends corrected."""
    kind, n, lower, upper = layout
    if kind == "chebyshev":
        last = n - 1
        theta = math.pi * torch.arange(n, dtype=torch.float64) / last
        total = torch.ones(n, dtype=torch.float64)
        for k in range(1, last // 2 + 1):
            share = 1.0 if 2 * k == last else 2.0
            total -= share * torch.cos(2 * k * theta) / (4 * k * k - 1)
        total[0] /= 2
        total[-1] /= 2
        return total * (upper - lower) / last
    found = torch.ones(n, dtype=torch.float64)
    for j, w in enumerate(ends):
        found[j] += w
        found[n - 1 - j] += w
    return found * ((upper - lower) / (n - 1 if kind == "nodes" else n))


def chebyshev(layout: Layout, degree: int, slopes: Sequence[str]) -> Tensor:
    """The matrix `[n, n]` of a derivative on Chebyshev points; first derivatives at the ends `slopes` are
    left out. Trefethen, Spectral Methods in MATLAB (2000), chapter 6, with the diagonal by the sum of the
    row."""
    _, n, lower, upper = layout
    half = math.pi / (2 * (n - 1))
    j = torch.arange(n, dtype=torch.float64)
    # differences of cosines as products of sines: no cancellation
    gap = 2 * torch.sin((j[:, None] + j[None, :]) * half) * torch.sin((j[:, None] - j[None, :]) * half)
    c = (-1.0) ** j
    c[0] *= 2
    c[-1] *= 2
    D = (c[:, None] / c[None, :]) / (gap + torch.eye(n, dtype=torch.float64))
    D.fill_diagonal_(0.0)
    D -= torch.diag(D.sum(1))
    D *= 2 / (upper - lower)
    M = D.clone()
    for side in slopes:
        M[0 if side == "low" else -1] = 0.0
    for _ in range(degree - 1):
        M = D @ M
    return M


def stencil(
    x: Tensor,
    axis: int,
    *,
    offset: int,
    center: Sequence[float],
    scale: float,
    low: Rows = (),
    high: Rows = (),
    periodic: bool = False,
    transposed: bool = False,
) -> Tensor:
    """A difference along an axis; see `ndl.compiler.ops.families.fields`."""
    x = x.movedim(axis, -1)
    if periodic:
        y = _ring(x, offset, center, transposed)
    elif transposed:
        y = _adjoint(x, offset, center, low, high)
    else:
        n = x.shape[-1]
        parts = [_rows(x[..., : len(low[0])], low)] if low else []
        first, inside = len(low), n - len(low) - len(high)
        parts.append(_weighted(x, [(first + offset + k, w) for k, w in enumerate(center)], inside))
        parts += [_rows(x[..., n - len(high[0]) :], high)] if high else []
        y = torch.cat(parts, -1)
    return (y * scale).movedim(-1, axis)


def _weighted(x: Tensor, places: Sequence[tuple[int, float]], count: int) -> Tensor:
    """The sum of w * x[start : start + count]."""
    total: Tensor | None = None
    for start, w in places:
        if w:
            part = w * x[..., start : start + count]
            total = part if total is None else total + part
    return x.new_zeros((*x.shape[:-1], count)) if total is None else total


def _rows(x: Tensor, rows: Rows) -> Tensor:
    """Rows of weights, all of the same length, applied to the last axis."""
    return torch.nn.functional.linear(x, x.new_tensor(rows))


def _ring(x: Tensor, offset: int, center: Sequence[float], transposed: bool) -> Tensor:
    n, last = x.shape[-1], offset + len(center) - 1
    if transposed:
        offset, last, center = -last, -offset, tuple(reversed(center))
    wide = torch.cat([x[..., n + offset :] if offset < 0 else x[..., :0], x, x[..., : max(last, 0)]], -1)
    start = max(offset, 0)
    return _weighted(wide, [(start + k, w) for k, w in enumerate(center)], n)


def _adjoint(g: Tensor, offset: int, center: Sequence[float], low: Rows, high: Rows) -> Tensor:
    """The transpose of the matrix applied to the last axis."""
    pad = torch.nn.functional.pad
    n, first = g.shape[-1], len(low)
    inside = g[..., first : n - len(high)]
    total = torch.zeros_like(g)
    for k, w in enumerate(center):
        if w:
            before = first + offset + k
            total = total + pad(w * inside, (before, n - before - inside.shape[-1]))
    if low:
        ends = g[..., :first] @ g.new_tensor(low)
        total = total + pad(ends, (0, n - ends.shape[-1]))
    if high:
        ends = g[..., n - len(high) :] @ g.new_tensor(high)
        total = total + pad(ends, (n - ends.shape[-1], 0))
    return total


def mask(x: Tensor, axis: int, low: bool, high: bool) -> Tensor:
    """x with 0 at the ends of an axis."""
    n = x.shape[axis]
    kept = x.movedim(axis, -1)[..., int(low) : n - int(high)]
    return torch.nn.functional.pad(kept, (int(low), int(high))).movedim(-1, axis)


def lift(x: Tensor, axis: int, n: int, *, side: str, weights: Sequence[float], scale: float) -> Tensor:
    """What is known at an end, spread over the first (last) places of a new axis."""
    x = x if x.is_floating_point() or x.is_complex() else x.double()
    column = x.new_tensor(weights if side == "low" else list(reversed(weights))) * scale
    near = x.unsqueeze(-1) * column
    rest = n - len(weights)
    pads = (0, rest) if side == "low" else (rest, 0)
    return torch.nn.functional.pad(near, pads).movedim(-1, axis)


def lower(x: Tensor, axis: int, *, side: str, weights: Sequence[float], scale: float) -> Tensor:
    """The adjoint of `lift`."""
    column = x.new_tensor(weights if side == "low" else list(reversed(weights))) * scale
    moved = x.movedim(axis, -1)
    near = moved[..., : len(weights)] if side == "low" else moved[..., moved.shape[-1] - len(weights) :]
    return near @ column


Terms = tuple[tuple[float, tuple[int, ...]], ...]


@lru_cache(maxsize=64)
def symbol(shape: tuple[int, ...], lengths: tuple[float, ...], terms: Terms, real: bool = True) -> Tensor:
    """What a differential operator with constant coefficients multiplies Fourier modes by; of a real field
    the last axis has the half of the modes."""
    waves = []
    for k, (n, length) in enumerate(zip(shape, lengths)):
        half = real and k == len(shape) - 1
        make = torch.fft.rfftfreq if half else torch.fft.fftfreq
        waves.append(make(n, d=length / (2 * math.pi * n), dtype=torch.float64))
    total: Tensor = torch.zeros((), dtype=torch.complex128)
    for factor, degrees in terms:
        part: Tensor = torch.full((), factor, dtype=torch.complex128)
        for k, (n, degree) in enumerate(zip(shape, degrees)):
            wave = (1j * waves[k]) ** degree
            if n % 2 == 0 and degree % 2:
                wave[n // 2] = 0  # the highest mode is a cosine, its odd derivatives vanish at the points
            place = [1] * len(shape)
            place[k] = len(wave)
            part = part * wave.reshape(place)
        total = total + part
    return total.expand([len(w) for w in waves]).contiguous()


@lru_cache(maxsize=64)
def _kept_symbol(
    shape: tuple[int, ...],
    lengths: tuple[float, ...],
    terms: Terms,
    real: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    wide = torch.complex128 if dtype in (torch.float64, torch.complex128) else torch.complex64
    return symbol(shape, lengths, terms, real).to(device=device, dtype=wide)


def multiplier(
    x: Tensor,
    axes: tuple[int, ...],
    lengths: tuple[float, ...],
    terms: Terms,
) -> Tensor:
    """A differential operator with constant coefficients by Fourier series along axes."""
    real = not x.is_complex()
    moved = x.movedim(axes, tuple(range(-len(axes), 0)))
    shape = tuple(moved.shape[-len(axes) :])
    last = tuple(range(-len(axes), 0))
    factor = _kept_symbol(shape, lengths, terms, real, x.dtype, x.device)
    found: Tensor
    if real:
        found = torch.fft.irfftn(torch.fft.rfftn(moved, dim=last) * factor, s=shape, dim=last)
    else:
        found = torch.fft.ifftn(torch.fft.fftn(moved, dim=last) * factor, dim=last)
    return found.movedim(last, axes)


def truncate(x: Tensor, axes: tuple[int, ...], kept: tuple[int, ...]) -> Tensor:
    """The Fourier modes up to `kept` along each axis; the others are 0."""
    real, last = not x.is_complex(), tuple(range(-len(axes), 0))
    moved = x.movedim(axes, last)
    shape = tuple(moved.shape[-len(axes) :])
    mask = _mask(shape, kept, real, x.device)
    found: Tensor
    if real:
        found = torch.fft.irfftn(torch.fft.rfftn(moved, dim=last) * mask, s=shape, dim=last)
    else:
        found = torch.fft.ifftn(torch.fft.fftn(moved, dim=last) * mask, dim=last)
    return found.movedim(last, axes)


@lru_cache(maxsize=64)
def _mask(shape: tuple[int, ...], kept: tuple[int, ...], half: bool, device: torch.device) -> Tensor:
    """Whether a mode is kept, along all axes; with `half` the last one has no negative waves."""
    found = torch.ones((), dtype=torch.bool, device=device)
    for k, (n, most) in enumerate(zip(shape, kept)):
        wave = torch.arange(n, device=device)
        wave = torch.minimum(wave, n - wave) <= most
        if half and k == len(shape) - 1:
            wave = wave[: n // 2 + 1]
        found = found[..., None] & wave
    return found


def by_modes(x: Tensor, axes: Sequence[int], factor: Tensor) -> Tensor:
    """A field with its Fourier modes along axes (of the last `x.ndim` or fewer, counted from the end)
    multiplied by `factor` `[..., modes]`: of a real field half of them on the last axis."""
    last = tuple(range(-len(axes), 0))
    moved = x.movedim(tuple(axes), last)
    shape = tuple(moved.shape[-len(axes) :])
    inner = moved.ndim - len(axes) - (factor.ndim - len(axes))  # axes of the grid that stay, and components
    batch = factor.ndim - len(axes)
    wide = factor.reshape(*factor.shape[:batch], *(1,) * inner, *factor.shape[batch:])
    found: Tensor
    if x.is_complex():
        found = torch.fft.ifftn(torch.fft.fftn(moved, dim=last) * wide.to(x.dtype), dim=last)
    else:
        modes = torch.fft.rfftn(moved, dim=last)
        found = torch.fft.irfftn(modes * wide.to(modes.dtype), s=shape, dim=last)
    return found.movedim(last, tuple(axes))


def grid_of(shape: Sequence[int], grids: Sequence[GridInfo]) -> GridInfo | None:
    """The grid on which values of a shape stand."""
    for grid in grids:
        extents = tuple(layout[1] for layout in grid.layouts)
        if tuple(shape[: len(extents)]) == extents:
            return grid
    return None
