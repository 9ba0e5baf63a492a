"""y(t) = forcing(t, integrals of kernels) at the nodes of a quadrature: an operator on the values there."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ndl.runtime.errors import SettingError
from ndl.runtime.model import Model
from ndl.runtime.problem import Floats
from ndl.runtime.quadrature import Quadrature, Rule
from torch import Tensor

BLOCK = 1 << 21
"""Values of a kernel that are made at once."""


class IntegralOperator:
    """K(Y) for Y `[B, m*n]`, the flat states at the m nodes.

    The nodes cover every interval of integration for t in the span. Volterra kernels are not asked beyond t.
    """

    def __init__(self, model: Model, rule: Rule, t0: float, t1: float, count: int, like: Tensor) -> None:
        self.model, self.count, self.like = model, count, like
        self.size = like.shape[-1]
        low, high = self._hull(t0, t1)
        self.rule: Quadrature = rule.on(low, high)
        self.nodes = self.rule.nodes
        self.places = len(self.nodes)

    def _hull(self, t0: float, t1: float) -> tuple[float, float]:
        ends: list[float] = []
        for k, integral in enumerate(self.model.INTEGRALS):
            a, b = self._limits(k, np.linspace(t0, t1, 33))
            ends += [float(a.min()), float(a.max()), float(b.min()), float(b.max())]
            if integral.volterra and min(t0, t1) < a.min() and max(t0, t1) < a.max():
                raise SettingError(f"the span of `{self.model.NAME}` ends before its integral begins")
        if not np.isfinite(ends).all():
            raise SettingError(f"an integral of `{self.model.NAME}` has an infinite limit")
        if not max(ends) > min(ends):
            raise SettingError(f"the integrals of `{self.model.NAME}` are over nothing")
        return min(ends), max(ends)

    def _limits(self, k: int, t: Floats) -> tuple[Floats, Floats]:
        at = torch.from_numpy(np.asarray(t)).to(self.like)
        a, b = self.model.limits(k, at)
        return tuple(v.detach().expand(at.shape).cpu().to(torch.float64).numpy() for v in (a, b))  # type: ignore[return-value]

    # ------------------------------------------------------------ values

    def __call__(self, y: Tensor) -> Tensor:
        """K(Y), `[B, m*n]`."""
        values = self.at(self.nodes, y)
        return values.transpose(0, 1).reshape(y.shape)

    def at(self, t: Floats, y: Tensor) -> Tensor:
        """The right-hand side at times `[T]`, `[T, B, n]`: Nyström's interpolation between the nodes."""
        rows = max(1, BLOCK // (self.places * self.count * self.size))
        parts = [self._rows(t[i : i + rows], y) for i in range(0, len(t), rows)]
        return torch.cat(parts)

    def _rows(self, t: Floats, y: Tensor) -> Tensor:
        at = self._column(t)
        values = [self._integral(k, t, y) for k in range(len(self.model.INTEGRALS))]
        return self.model.forcing(at, values).expand(len(t), self.count, self.size)

    def _column(self, t: Floats) -> Tensor:
        return torch.from_numpy(t).to(self.like)[:, None].expand(len(t), self.count)

    def _grid(self, k: int, t: Floats) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights `[T, m]` and times t, s `[T, m, B]`, with s = t where the weight is 0; the used places."""
        weights = self.rule.weights(*self._limits(k, t))
        used = weights != 0
        s = np.where(used, self.nodes, t[:, None])
        shape = (len(t), self.places, self.count)
        T = torch.from_numpy(t).to(self.like)[:, None, None].expand(shape)
        S = torch.from_numpy(s).to(self.like)[:, :, None].expand(shape)
        return torch.from_numpy(weights).to(self.like), T, S, torch.from_numpy(used).to(self.like.device)

    def _integral(self, k: int, t: Floats, y: Tensor) -> Tensor:
        weights, T, S, used = self._grid(k, t)
        Y = self._states(y, len(t))
        value = self.model.kernel(k, T, S, Y)
        rest = [1] * (value.ndim - 3)
        value = torch.where(used.reshape(*used.shape, 1, *rest), value, 0.0)
        return torch.einsum("tm,tm...->t...", weights, value.expand(*T.shape, *value.shape[3:]))

    def _states(self, y: Tensor, rows: int) -> Tensor:
        """The states at the nodes, `[T, m, B, n]`."""
        Y = y.reshape(self.count, self.places, self.size).transpose(0, 1)
        return Y.expand(rows, *Y.shape)

    # ------------------------------------------------------------ derivative

    def jacobian(self, y: Tensor) -> Tensor:
        """dK/dY, `[B, m*n, m*n]`: by each component at all nodes at once."""
        m, b, n = self.places, self.count, self.size
        t = self.nodes
        at = self._column(t)
        values = [self._integral(k, t, y) for k in range(len(self.model.INTEGRALS))]
        wide = at[:, None].expand(m, m, b)
        spread = [v[:, None].expand(m, m, *v.shape[1:]).contiguous() for v in values]
        columns = []
        for c in range(n):
            slopes = [self._slope(k, t, y, c) for k in range(len(values))]

            def forced(*integrals: Tensor) -> Tensor:
                return self.model.forcing(wide, integrals).expand(m, m, b, n)

            columns.append(torch.func.jvp(forced, tuple(spread), tuple(slopes))[1])
        full = torch.stack(columns, -1)  # [i, j, B, n, c]
        return full.permute(2, 0, 3, 1, 4).reshape(b, m * n, m * n)

    def _slope(self, k: int, t: Floats, y: Tensor, c: int) -> Tensor:
        """weight * d kernel / d y_c(s_j), `[T, m, B, ...]`."""
        weights, T, S, used = self._grid(k, t)
        Y = self._states(y, len(t)).contiguous()
        tangent = torch.zeros_like(Y)
        tangent[..., c] = 1.0
        both: Any = torch.func.jvp(lambda z: self.model.kernel(k, T, S, z), (Y,), (tangent,))
        value, slope = both
        rest = [1] * (value.ndim - 3)
        slope = torch.where(used.reshape(*used.shape, 1, *rest), slope, 0.0)
        return (
            (weights.reshape(*weights.shape, 1, *rest) * slope)
            .expand(*T.shape, *value.shape[3:])
            .contiguous()
        )
