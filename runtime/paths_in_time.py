"""Inputs on time: functions, and interpolants through values at knots.

Each is called as `X(t, order)`: t of shape [...], the result [..., *shape], its `order`-th derivative for
order 1 and 2. `X.derivative(t)` is `X(t, 1)`. Interpolants take `ts` [k], increasing, and `xs` [k, *shape]
or, for a family, [members, k, *shape] with `family=True`; they are differentiable by xs. Outside of the knots
the first or last piece goes on. Missing values (nan) are filled channel by channel: see each interpolant, and
`ndl.runtime.gaps` for the ends. A time within rounding of a knot counts as the knot, where the next piece
begins: which piece a stage sees must not hang on the last digit. `breaks` are the knots where a derivative
jumps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from ndl.runtime.errors import DataError
from ndl.runtime.gaps import held, straight
from ndl.runtime.signatures import windows
from torch import Tensor

ROUNDING = 4.0
"""Units of rounding of the largest knot by which a time may miss a knot."""


class FunctionPath:
    """`path(t -> e)`: a function of a scalar t; derivatives by forward differentiation, or as given."""

    breaks: Tensor | None = None

    def __init__(self, fn: Callable[[Tensor], Tensor], *derivatives: Callable[[Tensor], Tensor]) -> None:
        self._functions = (fn, *derivatives)

    def __call__(self, t: Tensor, order: int = 0) -> Tensor:
        t = torch.as_tensor(t, dtype=torch.float64) if not isinstance(t, Tensor) else t
        if order < len(self._functions):
            value = torch.as_tensor(self._functions[order](t))
            return value if value.shape[: t.ndim] == t.shape else value.expand(*t.shape, *value.shape)
        inner = lambda s: self(s, order - 1)  # noqa: E731  # jvp wants a function of one argument
        tangent: Tensor = torch.func.jvp(inner, (t,), (torch.ones_like(t),))[1]
        return tangent

    def derivative(self, t: Tensor, order: int = 1) -> Tensor:
        return self(t, order)


class PiecewiseCubic:
    """On the piece from ts[i], x = c0 + c1 u + c2 u^2 + c3 u^3 with u = t - ts[i].

    coefficients  [pieces, 4, *shape], or [members, pieces, 4, *shape] of a family
    corners       the knots at which the first derivative jumps: steps of a solver end there
    """

    def __init__(
        self,
        ts: Tensor,
        coefficients: Tensor,
        breaks: Tensor | None,
        family: bool,
        corners: Tensor | None = None,
    ) -> None:
        self.ts, self.coefficients, self.breaks, self.family = ts, coefficients, breaks, family
        self.corners = corners
        self.seen: Tensor | None = None
        """Where there are data, [k] or [members, k]; None: at all knots."""

    def __call__(self, t: Tensor, order: int = 0) -> Tensor:
        c = self.coefficients
        precision = t.dtype if isinstance(t, Tensor) and t.is_floating_point() else c.dtype
        t = torch.as_tensor(t, dtype=c.dtype, device=c.device)
        piece = torch.searchsorted(self.edges(precision), t.detach().contiguous(), right=True) - 1
        piece = piece.clamp(0, len(self.ts) - 2)
        u = t - self.ts[piece]
        if self.family:
            if t.ndim == 0 or t.shape[-1] != c.shape[0]:
                t_wide, u = piece.unsqueeze(-1), u.unsqueeze(-1)
                piece = t_wide.expand(*t.shape, c.shape[0])
                u = u.expand(*t.shape, c.shape[0])
            local = c[torch.arange(c.shape[0], device=c.device), piece]
        else:
            local = c[piece]
        rank = local.ndim - u.ndim - 1
        u = u.reshape((*u.shape, *(1,) * rank))
        c0, c1, c2, c3 = local.unbind(-1 - rank)
        if order == 0:
            return c0 + u * (c1 + u * (c2 + u * c3))
        if order == 1:
            return c1 + u * (2 * c2 + u * 3 * c3)
        if order == 2:
            return 2 * c2 + 6 * u * c3
        if order == 3:
            return 6 * c3 + 0 * u
        return torch.zeros_like(c0)

    def edges(self, precision: torch.dtype) -> Tensor:
        """The times [k] from which the pieces count, for times of some precision."""
        coarse = max(torch.finfo(precision).eps, torch.finfo(self.ts.dtype).eps)
        return self.ts - ROUNDING * coarse * self.ts.abs().max()

    def derivative(self, t: Tensor, order: int = 1) -> Tensor:
        return self(t, order)

    def select(self, rows: Tensor) -> PiecewiseCubic:
        """The members `rows` [m] of a family; a single path is shared."""
        if not self.family:
            return self
        chosen = self.coefficients.index_select(0, rows)
        found = PiecewiseCubic(self.ts, chosen, self.breaks, True, self.corners)
        found.seen = None if self.seen is None else self.seen.index_select(0, rows)
        return found

    def marked(self, values: Tensor) -> PiecewiseCubic:
        """This path, which knows at which knots `values` [(members,) k, *shape] are not all gaps."""
        there = ~torch.isnan(values.detach())
        self.seen = there.flatten(1 + self.family).any(-1) if there.ndim > 1 + self.family else there
        return self


def path(fn: Callable[[Tensor], Tensor]) -> FunctionPath:
    """A path given by a formula of t; of a vector t [...] it must give [..., *shape]."""
    return FunctionPath(fn)


def linear(ts: Any, xs: Any, *, family: bool = False) -> PiecewiseCubic:
    """Straight between the knots; the derivative jumps there, so that every inner knot is a break. Gaps are
    straight."""
    ts, raw = _knots(ts, xs, family)
    values = _filled(ts, raw, straight)
    slopes = values.diff(dim=1) / _beside(ts.diff(), values)
    zero = torch.zeros_like(slopes)
    c = torch.stack([values[:, :-1], slopes, zero, zero], 2)
    return _made(PiecewiseCubic(ts, c if family else c[0], ts[1:-1], family, ts[1:-1]), raw)


def hermite(ts: Any, xs: Any, slopes: Any = None, *, family: bool = False) -> PiecewiseCubic:
    """Cubic Hermite through the knots. Without `slopes` [k, *shape], those are backward differences:
    what a control may use that must not look ahead (Morrill et al. 2021, arXiv:2106.11028). Gaps are filled
    by straight lines before."""
    ts, raw = _knots(ts, xs, family)
    x = _filled(ts, raw, straight)
    h = _beside(ts.diff(), x)
    if slopes is None:
        back = x.diff(dim=1) / h
        m = torch.cat([back[:, :1], back], 1)
    else:
        given = torch.as_tensor(slopes, dtype=x.dtype, device=x.device)
        m = given if family else given[None]
    c = _from_slopes(x, m, h)
    return _made(PiecewiseCubic(ts, c if family else c[0], ts[1:-1], family), raw)


def spline(ts: Any, xs: Any, *, family: bool = False) -> PiecewiseCubic:
    """The natural cubic spline: second derivative 0 at both ends and continuous between; linear for two
    knots. Error O(h^4) inside and O(h^2) at the ends. A channel with gaps has a spline through its own
    entries, constant before the first and after the last of them."""
    ts, x = _knots(ts, xs, family)
    c = _splines_with_gaps(ts, x) if _has_gaps(x) else _spline_pieces(ts, x)
    return _made(PiecewiseCubic(ts, c if family else c[0], ts[1:-1], family), x)


def rectilinear(xs: Any, time: int = 0, *, family: bool = False) -> PiecewiseCubic:
    """The path of a stream that must not look ahead: with its own parameter 0, 1, …, 2(k - 1), in turns the
    channel `time` moves on while the others hold, and the others jump. `xs` [k, channels] holds the times
    as a channel; gaps hold the last entry (Morrill et al. 2021, arXiv:2106.11028)."""
    xs = torch.as_tensor(xs)
    places = torch.arange(xs.shape[1 if family else 0] if xs.ndim > family else 0)
    _, x = _knots(places, xs, family)
    if x.ndim != 3 or not -x.shape[2] <= time < x.shape[2]:
        raise DataError(f"a rectilinear path has channels, and the times are one of them, not {time}")
    x = _filled(places, x, lambda ts, values: held(values))
    doubled = x.repeat_interleave(2, 1)
    moved = doubled[:, 1:].clone()[:, :, time]
    x = doubled[:, :-1].clone()
    x[:, :, time] = moved
    ts = torch.arange(x.shape[1]).to(x)
    return linear(ts, x if family else x[0], family=family)


def log_signature(ts: Any, xs: Any, depth: int, window: int, *, family: bool = False) -> PiecewiseCubic:
    """The polygon that drives the log-ODE method: between the ends of windows of `window` pieces of the
    polygon through `xs` [k, channels], it moves by the window's log-signature of some depth, told by Lyndon
    words. Gaps are straight."""
    ts, x = _knots(ts, xs, family)
    if x.ndim != 3 or depth < 1 or window < 1:
        raise DataError("a log-signature is of a path of channels, with a depth and a window of at least 1")
    knots, sums = windows(ts, _filled(ts, x, straight), depth, window)
    return linear(knots, sums if family else sums[0], family=family)


def _spline_pieces(ts: Tensor, x: Tensor) -> Tensor:
    """Coefficients of the natural spline [members, pieces, 4, *shape]."""
    h = _beside(ts.diff(), x)
    if len(ts) == 2:
        return _from_slopes(x, (x.diff(dim=1) / h).expand_as(x), h)
    # slopes m solve  m[i-1]/h[i-1] + 2 (1/h[i-1] + 1/h[i]) m[i] + m[i+1]/h[i]
    #                   = 3 ((x[i]-x[i-1])/h[i-1]^2 + (x[i+1]-x[i])/h[i]^2)
    r = 1 / ts.diff()
    zero = r.new_zeros(1)
    diagonal = 2 * (torch.cat([r, zero]) + torch.cat([zero, r]))
    rises = 3 * x.diff(dim=1) / h**2
    edge = torch.zeros_like(rises[:, :1])
    right = torch.cat([rises, edge], 1) + torch.cat([edge, rises], 1)
    return _from_slopes(x, _tridiagonal(r, diagonal, right), h)


def _splines_with_gaps(ts: Tensor, x: Tensor) -> Tensor:
    """The splines of channels through what they have, channels with the same gaps together."""
    flat = x.movedim(1, -1).reshape(-1, len(ts))
    ends = straight(ts, flat[:, :, None])[:, :, 0]
    seen = ~torch.isnan(flat)
    ahead = (seen.cumsum(1) == 0) | (seen.flip(1).cumsum(1).flip(1) == 0)
    there = seen | ahead
    flat = torch.where(torch.isnan(flat), ends, flat)
    found = flat.new_zeros(len(flat), len(ts) - 1, 4)
    patterns, which = torch.unique(there, dim=0, return_inverse=True)
    for k, pattern in enumerate(patterns):
        own = pattern.nonzero()[:, 0]
        pieces = _spline_pieces(ts[own], flat[which == k][:, own])
        at = (pattern.cumsum(0) - 1)[:-1].clamp(max=len(own) - 2)
        moved = _shifted(pieces[:, at], ts[:-1] - ts[own][at])
        found = found.index_put(((which == k).nonzero()[:, 0],), moved)
    shape = (x.shape[0], *x.shape[2:], len(ts) - 1, 4)
    return found.reshape(shape).movedim((-2, -1), (1, 2))


def _shifted(c: Tensor, u: Tensor) -> Tensor:
    """Cubics [n, pieces, 4] about points further on by u [pieces]."""
    c0, c1, c2, c3 = c.unbind(2)
    return torch.stack(
        [c0 + u * (c1 + u * (c2 + u * c3)), c1 + u * (2 * c2 + u * 3 * c3), c2 + 3 * u * c3, c3], 2
    )


def _made(path: PiecewiseCubic, raw: Tensor) -> PiecewiseCubic:
    """The path through values with gaps, which it remembers. Members of a family are neighbours in memory:
    so kernels read them, without a copy for each run."""
    if path.family:
        path.coefficients = path.coefficients.movedim(0, -1).contiguous().movedim(-1, 0)
    return path.marked(raw if path.family else raw[0]) if _has_gaps(raw) else path


def _has_gaps(x: Tensor) -> bool:
    return bool(torch.isnan(x.detach()).any())


def _filled(ts: Tensor, x: Tensor, fill: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    return fill(ts, x) if _has_gaps(x) else x


def _from_slopes(x: Tensor, m: Tensor, h: Tensor) -> Tensor:
    """Coefficients [members, pieces, 4, *shape] of the cubic with values x and slopes m at the knots."""
    rise = x.diff(dim=1) / h
    c2 = (3 * rise - 2 * m[:, :-1] - m[:, 1:]) / h
    c3 = (m[:, :-1] + m[:, 1:] - 2 * rise) / h**2
    return torch.stack([x[:, :-1], m[:, :-1], c2, c3], 2)


def _tridiagonal(off: Tensor, diagonal: Tensor, right: Tensor) -> Tensor:
    """Solves the symmetric tridiagonal system along axis 1 of `right`; diagonally dominant, so that
    elimination needs no pivots (Thomas)."""
    n = len(diagonal)
    pivots, rows = [diagonal[0]], [right[:, 0]]
    for i in range(1, n):
        w = off[i - 1] / pivots[-1]
        pivots.append(diagonal[i] - w * off[i - 1])
        rows.append(right[:, i] - w * rows[-1])
    found = [rows[-1] / pivots[-1]]
    for i in range(n - 2, -1, -1):
        found.append((rows[i] - off[i] * found[-1]) / pivots[i])
    return torch.stack(found[::-1], 1)


def _knots(ts: Any, xs: Any, family: bool) -> tuple[Tensor, Tensor]:
    """Knots [k], a copy, and values [members, k, *shape] as tensors, checked."""
    xs = xs if isinstance(xs, Tensor) else torch.as_tensor(xs, dtype=torch.float64)
    xs = xs if xs.is_floating_point() else xs.to(torch.float64)
    ts = torch.as_tensor(ts).detach().to(xs, copy=True)
    count = xs.shape[1 if family else 0] if xs.ndim > family else 0
    if ts.ndim != 1 or len(ts) != count:
        raise DataError(f"a path has {len(ts) if ts.ndim else 1} times but {count} values", code="NDL613")
    if len(ts) < 2:
        raise DataError("a path needs at least 2 times", code="NDL613")
    if not bool((ts.diff() > 0).all()):
        k = int((~(ts.diff() > 0)).nonzero()[0])
        raise DataError(
            f"the times of a path must increase, but {float(ts[k]):g} is followed by {float(ts[k + 1]):g}",
            code="NDL613",
        )
    return ts, xs if family else xs[None]


def _beside(h: Tensor, x: Tensor) -> Tensor:
    """h [pieces] shaped to divide x [members, pieces, *shape]."""
    return h.reshape(1, -1, *(1,) * (x.ndim - 2))
