"""Inputs whose data set off events, `when sample(X)`: between its data such an input keeps its last value."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ndl.runtime.errors import SettingError
from ndl.runtime.model import Model
from ndl.runtime.paths_in_time import PiecewiseCubic
from ndl.runtime.weights import view
from torch import Tensor


class Held:
    """The last of the values `coefficients [members, k, *shape]` (`[k, *shape]` of one path) at the times
    `ts [k]`, in the direction of a run. `seen` says which there are, for each member; before the first, the
    first one."""

    def __init__(self, ts: Tensor, values: Tensor, seen: Tensor, family: bool, sign: float) -> None:
        self.ts, self.coefficients, self.seen = ts, values, seen
        self.family, self.sign = family, sign
        self.last = _last(seen if sign > 0 else seen.flip(-1))
        if sign < 0:
            self.last = (len(ts) - 1 - self.last).flip(-1)

    @staticmethod
    def of(path: PiecewiseCubic, sign: float) -> Held:
        """From an interpolant through the data."""
        values = path(path.ts)
        values = values.movedim(0, 1) if path.family else values
        every = torch.ones(values.shape[: 1 + path.family], dtype=torch.bool)
        return Held(path.ts, values, every if path.seen is None else path.seen, path.family, sign)

    def __call__(self, t: Tensor, order: int = 0) -> Tensor:
        v = self.coefficients
        coarse = max(torch.finfo(t.dtype).eps, torch.finfo(self.ts.dtype).eps)
        slack = 4 * coarse * self.ts.abs().max()
        at = t.detach().to(self.ts).contiguous()
        if self.sign > 0:
            k = torch.searchsorted(self.ts - slack, at, right=True) - 1
        else:
            k = torch.searchsorted(self.ts + slack, at)
        k = k.clamp(0, len(self.ts) - 1)
        if not self.family:
            found = v[self.last[k]]
        else:
            count = v.shape[0]
            if t.ndim == 0 or t.shape[-1] != count:
                k = k.unsqueeze(-1).expand(*t.shape, count)
            member = torch.arange(count, device=v.device)
            found = v[member, self.last[member, k]]
        return torch.zeros_like(found) if order else found

    def select(self, rows: Tensor) -> Held:
        if not self.family:
            return self
        values, seen = (x.index_select(0, rows.to(x.device)) for x in (self.coefficients, self.seen))
        return Held(self.ts, values, seen, True, self.sign)

    def times(self) -> np.ndarray:
        """When there are data, `[K]`, or `[members, K]` ended by nan, in increasing order."""
        ts = self.ts.detach().cpu().to(torch.float64)
        if not self.family:
            return np.asarray(ts[self.seen.cpu()].numpy())
        there = torch.where(self.seen.cpu(), ts, torch.nan)
        return np.sort(there.numpy(), axis=1)  # nan is the largest


def _last(seen: Tensor) -> Tensor:
    """For each place the last before or at it that is seen; before the first, the first."""
    k = torch.arange(seen.shape[-1])
    before = torch.where(seen, k, -1).cummax(-1).values
    first = torch.where(seen, k, seen.shape[-1] - 1).amin(-1, keepdim=True)
    return torch.where(before >= 0, before, first)


def held_inputs(model: Model, sign: float) -> Model:
    """A view of the model whose sampled inputs keep their last value between their data."""
    columns = {e.column for e in model.EVENTS if e.kind == "sample"}
    names = {i.name for i in model.INPUTS if i.on_time and i.name in columns}
    given = {n: model._given[n] for n in names if isinstance(model._given.get(n), PiecewiseCubic)}
    if not given:
        return model
    twin = view(model)
    twin._given = {**model._given, **{n: Held.of(p, sign) for n, p in given.items()}}
    return twin


def data_times(problem: Any, column: str) -> np.ndarray:
    """When there are data of a column, `[K]` or `[members, K]` ended by nan. Raises `SettingError`."""
    path = problem.model._given.get(column)
    if isinstance(path, Held):
        return path.times()
    known = problem.data_times
    if column in known or "" in known:
        return np.asarray(known.get(column, known.get("")))
    raise SettingError(
        f"`sample({column})` fires at the times of the data `{column}`, and there are none",
        help=f"give the input values at times: `{problem.model.NAME}({column}=linear(ts, xs))`",
    )
