"""Nearest points of boundaries and points drawn from sets.

Generated code names boundaries and sets by keys; `register_surface` and `register_region` say what they are.
Their arrays have the shapes of `ndl.compiler.geometry.surfaces`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from ndl.runtime.errors import RunError
from ndl.runtime.second_order import once
from torch import Tensor

Again = Callable[[int], tuple[Tensor, Tensor]]
"""Two uniforms for each component, anew for each number of a try."""

CHUNK = 2_000_000
"""Pairs of a point and a facet that are looked at together."""

NEAR = 8

STEPS = 4

SINGULAR = 1e-3

ONCE = "write the distance as a formula, or take a boundary of straight pieces, for second derivatives"

TRIES = 10_000
"""How often a point is drawn in a box before a set counts as empty."""


@dataclass(frozen=True, eq=False)
class SurfaceTable:
    """Facets: `corners` `[F, d, d]`, `normals` `[F, d]`, `leaf` `[F]`, `sharp` `[F, d]`, `edges` `[F, 3]`,
    `middles` `[F, d]`, `radius` `[F]` of the ball about the middle that holds a facet.

    `most`: how many facets are looked at for a point, all that can be the nearest or, where they only tell
    where Newton's method begins, some of the first."""

    corners: Tensor
    normals: Tensor
    leaf: Tensor
    sharp: Tensor
    edges: Tensor
    middles: Tensor
    radius: Tensor
    size: float
    most: int
    structure: Any = None
    curves: Callable[..., Any] | None = None

    def on(self, device: torch.device) -> SurfaceTable:
        if self.leaf.device == device:
            return self
        names = [f.name for f in fields(self) if isinstance(getattr(self, f.name), Tensor)]
        return replace(self, **{n: getattr(self, n).to(device) for n in names})


@dataclass(frozen=True, eq=False)
class RegionTable:
    lower: Tensor
    upper: Tensor
    holds: Callable[[np.ndarray], np.ndarray] | None
    corners: Tensor | None
    shares: Tensor | None
    """Sums of the sizes of the simplices up to each, the last one 1."""


SURFACES: dict[str, SurfaceTable] = {}
REGIONS: dict[str, RegionTable] = {}


def register_surface(key: str, surface: Any, curves: Callable[..., Any] | None = None) -> None:
    """`curves`: a function of coordinates `[n]`, see `ndl.compiler.lower.nearest`."""
    if key in SURFACES:
        return

    def array(values: Any, kind: Any = np.float64) -> Tensor:
        return torch.from_numpy(np.array(values, dtype=kind))

    corners = array(surface.corners)
    middles = corners.mean(1)
    radius = (corners - middles[:, None]).norm(dim=-1).amax(1)
    marks = array(surface.sharp, bool), array(surface.edges, bool)
    most = min(NEAR, len(corners)) if surface.size else len(corners)
    SURFACES[key] = SurfaceTable(
        corners, array(surface.normals), array(surface.leaf, np.int64), *marks, middles, radius,
        float(surface.size), most, surface.structure, curves,
    )  # fmt: skip


def register_region(key: str, region: Any, shares: np.ndarray | None) -> None:
    if key in REGIONS:
        return
    lower, upper = (torch.from_numpy(np.array(a, dtype=np.float64)) for a in (region.lower, region.upper))
    corners = None if region.corners is None else torch.from_numpy(np.array(region.corners, dtype=np.float64))
    summed = None if shares is None else torch.from_numpy(np.cumsum(shares) / np.sum(shares))
    REGIONS[key] = RegionTable(lower, upper, region.holds, corners, summed)


def _known(table: dict[str, Any], key: str) -> Any:
    if key not in table:
        raise RunError(
            f"this module was made for the set `{key}`, which is not loaded",
            help="run the `.ndl` file that it was made from",
        )
    return table[key]


# ---------------------------------------------------------------- nearest points


def nearest(p: Tensor, *, surface: str) -> Tensor:
    """Of points `[…, d]` the nearest of a boundary and its derivatives by the point, `[…, d + d^2]`; see
    `ndl.compiler.ops.families.sets`."""
    p = p if p.is_floating_point() else p.double()
    found: Tensor = _Nearest.apply(p, surface)  # type: ignore[no-untyped-call]
    return found


class _Nearest(torch.autograd.Function):
    @staticmethod
    def forward(p: Tensor, surface: str) -> Tensor:
        return nearest_points(p, _known(SURFACES, surface))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        p, surface = inputs
        ctx.curved = SURFACES[surface].curves is not None and p.shape[-1] > 1
        ctx.save_for_backward(output, p)
        ctx.save_for_forward(output)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, None]:  # type: ignore[override]
        row, p = ctx.saved_tensors
        slopes, d = _slopes(row)
        made: Tensor | None = (g[..., None, :d] @ slopes)[..., 0, :]
        if ctx.curved:
            (made,) = once("the nearest point of a curved boundary", ONCE, (made,), (p,))
        return made, None

    @staticmethod
    def jvp(ctx: Any, dp: Tensor, _: Any) -> Tensor:  # type: ignore[override]
        (row,) = ctx.saved_tensors
        slopes, d = _slopes(row)
        moved = (slopes @ dp[..., None])[..., 0]
        return torch.cat([moved, torch.zeros_like(row[..., d:])], -1)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], p: Tensor, surface: str) -> tuple[Tensor, int]:
        return _Nearest.apply(p.movedim(in_dims[0], 0), surface), 0  # type: ignore[no-untyped-call]


def _slopes(row: Tensor) -> tuple[Tensor, int]:
    """The derivatives in a row of `nearest`, as constants, and the number of coordinates."""
    d = round((row.shape[-1] + 0.25) ** 0.5 - 0.5)
    return row[..., d:].detach().reshape(*row.shape[:-1], d, d), d


def nearest_points(p: Tensor, table: SurfaceTable) -> Tensor:
    d = p.shape[-1]
    flat = p.reshape(-1, d).to(torch.float64)
    if not len(flat):
        return p.new_zeros(*p.shape[:-1], d * (d + 1))
    rows = max(1, CHUNK // len(table.leaf))
    t = table.on(p.device)
    found = torch.cat([_nearest(part, t) for part in torch.split(flat, rows)])
    return found.reshape(*p.shape[:-1], d * (d + 1)).to(p)


def _nearest(p: Tensor, t: SurfaceTable) -> Tensor:
    """The same of points `[n, d]`. A facet whose ball is farther than some middle cannot be the nearest."""
    d = p.shape[-1]
    away = torch.cdist(p, t.middles)
    least = away if t.size else away - t.radius
    count = t.most
    if count > NEAR:
        count = int((least <= away.amin(1, keepdim=True)).sum(1).max())
    near = least.topk(count, dim=1, largest=False).indices
    places, kind = _on_facets(p, t.corners[near], t.sharp[near], t.edges[near])
    best = (places - p[:, None]).square().sum(-1).argmin(1)
    rows = torch.arange(len(p), device=p.device)
    facet, meeting, q = near[rows, best], kind[rows, best], places[rows, best]
    n = t.normals[facet]
    smooth = (~meeting & (d > 1))[:, None, None]
    slope = torch.where(smooth, torch.eye(d).to(p) - n[:, :, None] * n[:, None], torch.zeros(()).to(p))
    if t.curves is not None and d > 1:
        made, bent = _newton(p, q, t.leaf[facet], t)
        level = level_of(t.structure, _curves(made, t)[:, :, 0].unbind(1)).abs()
        good = ~meeting & ((made - q).norm(dim=1) < 2 * t.size) & (level < 1e-6 * t.size)
        q = torch.where(good[:, None], made, q)
        slope = torch.where(good[:, None, None], bent, slope)
    return torch.cat([q, slope.reshape(len(p), d * d)], 1)


def _newton(p: Tensor, q: Tensor, leaf: Tensor, t: SurfaceTable) -> tuple[Tensor, Tensor]:
    """Nearest points of smooth pieces and their derivatives."""
    d = p.shape[-1]
    one, rows = torch.eye(d).to(p), torch.arange(len(p), device=p.device)
    upper = torch.triu_indices(d, d, device=p.device)
    place = torch.zeros(d, d, dtype=torch.int64, device=p.device)
    place[upper[0], upper[1]] = torch.arange(upper.shape[1], device=p.device)
    place = torch.maximum(place, place.mT)
    slope = one
    for _ in range(STEPS):
        row = _curves(q, t)[rows, leaf]
        f, g, H = row[:, :1], row[:, 1 : 1 + d], row[:, 1 + d :][:, place]
        square = g.square().sum(1, keepdim=True)
        m = ((p - q) * g).sum(1, keepdim=True) / square
        A = one + m[:, :, None] * H
        det = torch.linalg.det(A)
        safe = torch.where((det.abs() > SINGULAR)[:, None, None], A, one)
        bordered = det * (g * torch.linalg.solve(safe, g)).sum(1) / square[:, 0]
        curved = (torch.minimum(det, bordered) > SINGULAR)[:, None, None]
        A = torch.where(curved, A, one)
        inverse = torch.linalg.inv(A)
        turned = (inverse @ g[:, :, None])[:, :, 0]
        whole = (g * turned).sum(1)[:, None]
        slope = inverse - turned[:, :, None] * turned[:, None] / whole[:, :, None]
        q = q - (slope @ (q - p + m * g)[:, :, None])[:, :, 0] - turned / whole * f
    return q, slope


def _curves(q: Tensor, t: SurfaceTable) -> Tensor:
    """f, first and second derivatives of each piece `[n, pieces, …]`."""
    assert t.curves is not None
    values = t.curves(*q.unbind(1))
    values = values if isinstance(values, tuple) else (values,)
    d = q.shape[1]
    stacked = torch.stack([torch.as_tensor(v).to(q).expand(len(q)) for v in values], 1)
    return stacked.reshape(len(q), -1, 1 + d + d * (d + 1) // 2)


def level_of(part: Any, values: Sequence[Tensor]) -> Tensor:
    """The level of a combination of pieces of these levels."""
    if isinstance(part, int):
        return values[part]
    inner = torch.stack([level_of(p, values) for p in part[1]])
    return inner.amax(0) if part[0] == "all" else inner.amin(0)


def _on_facets(p: Tensor, corners: Tensor, sharp: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest points `[n, k, d]` of facets `[n, k, d, d]`, and whether each lies where pieces meet."""
    d = p.shape[-1]
    if d == 1:
        return corners[:, :, 0], sharp[:, :, 0]
    if d == 2:
        place, t = _on_segment(p[:, None], corners[:, :, 0], corners[:, :, 1])
        return place, ((t <= 0) & sharp[:, :, 0]) | ((t >= 1) & sharp[:, :, 1])
    a, b, c = corners.unbind(2)
    normal = torch.linalg.cross(b - a, c - a)
    inside = p[:, None] - normal * (((p[:, None] - a) * normal).sum(-1) / normal.square().sum(-1))[..., None]
    turns = [torch.linalg.cross(v - u, inside - u) for u, v in ((a, b), (b, c), (c, a))]
    within = torch.stack([(w * normal).sum(-1) >= 0 for w in turns]).all(0)
    best, away, mark = inside, torch.where(within, 0.0, torch.inf), torch.zeros_like(within)
    for k, (u, v) in enumerate(((a, b), (b, c), (c, a))):
        place, t = _on_segment(p[:, None], u, v)
        gap = (place - inside).square().sum(-1)
        ends = ((t <= 0) & sharp[:, :, k]) | ((t >= 1) & sharp[:, :, (k + 1) % 3])
        closer = ~within & (gap < away)
        best = torch.where(closer[..., None], place, best)
        mark = torch.where(closer, ends | edges[:, :, k], mark)
        away = torch.where(closer, gap, away)
    return best, mark


def _on_segment(p: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    way = b - a
    t = (((p - a) * way).sum(-1) / way.square().sum(-1)).clamp(0, 1)
    return a + t[..., None] * way, t


# ---------------------------------------------------------------- drawn points


def drawn_points(u: Tensor, v: Tensor, again: Again, key: str) -> Tensor:
    """Uniform points of a set from uniform numbers `[…, d]` (`[…]` in one dimension): each point is the first
    of its own tries that lies inside, so that no other point matters."""
    region: RegionTable = _known(REGIONS, key)
    single = len(region.lower) == 1 and (u.ndim == 0 or u.shape[-1] != 1)
    u, v = (u[..., None], v[..., None]) if single else (u, v)
    if region.corners is not None:
        found = _in_simplices(u, v, region)
    else:
        found = region.lower + (region.upper - region.lower) * u
        if region.holds is not None:
            found = _first_inside(found, region, again, single)
    return found[..., 0] if single else found


def _in_simplices(u: Tensor, v: Tensor, region: RegionTable) -> Tensor:
    """A simplex by its size, in it the gaps between sorted uniforms as weights of its corners."""
    assert region.corners is not None and region.shares is not None
    which = torch.searchsorted(region.shares, v[..., 0].contiguous()).clamp(max=len(region.shares) - 1)
    ordered = u.sort(-1).values
    padded = torch.cat([torch.zeros_like(u[..., :1]), ordered, torch.ones_like(u[..., :1])], -1)
    return (padded.diff(dim=-1)[..., None] * region.corners[which]).sum(-2)


def _first_inside(found: Tensor, region: RegionTable, again: Again, single: bool) -> Tensor:
    assert region.holds is not None
    d = found.shape[-1]
    shape, flat = found.shape, found.reshape(-1, d).clone()
    outside = torch.arange(len(flat))
    for k in range(1, TRIES):
        inside = torch.from_numpy(np.asarray(region.holds(flat[outside].numpy()), dtype=bool))
        outside = outside[~inside]
        if not len(outside):
            return flat.reshape(shape)
        u = again(k)[0]
        u = (u[..., None] if single else u).reshape(-1, d)[outside]
        flat[outside] = region.lower + (region.upper - region.lower) * u
    raise RunError(
        f"no point of the set was found in {TRIES:,} tries",
        help="a set to draw from fills at least about a thousandth of the box around it",
    )


__all__ = ["SURFACES", "drawn_points", "nearest", "register_region", "register_surface"]
