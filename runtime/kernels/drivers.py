"""Paths in time as a kernel's buffers: see `ndl.compiler.kernels.drivers` for their layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from ndl.runtime.kernels.request import PathUse
from ndl.runtime.kernels.tables import FEW, few_wholes
from ndl.runtime.paths_in_time import PiecewiseCubic
from ndl.runtime.problem import Problem
from ndl.runtime.sampled import Held
from torch import Tensor

MOST_ROWS = 2**31 - 1


@dataclass
class Drivers:
    """The paths of one run. `values [rows, B]` are coefficients of paths of which each trajectory has its
    own (`own` names them), with their history; `wanted` says that their cotangents are asked for."""

    own: frozenset[str]
    wanted: bool
    values: Tensor
    shared: Tensor
    knots: Tensor
    pieces: Tensor

    def buffers(self) -> dict[str, Tensor]:
        return {
            "drivers": self.values.detach(),
            "shared_drivers": self.shared,
            "knots": self.knots,
            "pieces": self.pieces,
        }


def drivers_of(problem: Problem, paths: Sequence[PathUse]) -> Drivers | str:
    """The paths of a run, or why a kernel cannot follow one."""
    p = problem
    own: set[str] = set()
    each: list[Tensor] = []
    shared: list[Tensor] = []
    knots: list[Tensor] = []
    pieces: list[int] = []
    wanted = False
    none = torch.empty(0, dtype=p.dtype, device=p.device)
    for use in paths:
        if not use.read:
            pieces += [0, 0, 0]
            continue
        name = use.name
        path = _piecewise(p, name)
        if isinstance(path, str):
            return path
        c = path.coefficients.to(p.device, p.dtype)
        learns = p.taped and c.requires_grad
        numbers = knots_of(path, none)
        pieces += [sum(len(k) for k in knots), len(path.ts) - 1]
        knots.append(numbers)
        if path.family or learns or use.each:
            own.add(name)
            wanted |= learns
            many = c if path.family else c.expand(p.count, *c.shape)
            if many.shape[0] != p.count:
                return f"its path `{name}` is of {many.shape[0]} members, not {p.count}"
            pieces.append(sum(len(e) for e in each))
            each.append(many.reshape(p.count, -1).t())
        else:
            pieces.append(sum(len(s) for s in shared))
            shared.append(c.detach().reshape(-1))
    if sum(len(e) for e in each) > MOST_ROWS or sum(len(s) for s in shared) > MOST_ROWS:
        return "its paths have too many pieces"
    return Drivers(
        frozenset(own), wanted, _joined(each, none), _joined(shared, none),
        _joined(knots, none), few_wholes(tuple(pieces), p.device),
    )  # fmt: skip


def _joined(parts: Sequence[Tensor], none: Tensor) -> Tensor:
    if len(parts) == 1:
        return parts[0].contiguous()
    return torch.cat(list(parts)) if parts else none


def _piecewise(p: Problem, name: str) -> PiecewiseCubic | str:
    given = p.model.path_given(name)
    if isinstance(given, Tensor):
        return _constant(p, name, given)
    if isinstance(given, Held):
        if p.sign < 0:
            return f"the data of `{name}` are met backwards"
        return _held(given)
    if not isinstance(given, PiecewiseCubic):
        return f"its path `{name}` is a function, not pieces of polynomials (`spline`, `linear`, `hermite`)"
    return given


def _constant(p: Problem, name: str, value: Tensor) -> PiecewiseCubic:
    """A number that does not change, as a path of one piece."""
    shape = next(i.shape for i in p.model.INPUTS if i.name == name)
    family = value.ndim > len(shape)
    zero = torch.zeros_like(value)
    stacked = torch.stack([value, zero, zero, zero], 1 if family else 0)
    ts = torch.tensor(sorted([p.t0, p.t1]), dtype=torch.float64)
    return PiecewiseCubic(ts, stacked.unsqueeze(1 if family else 0), None, family)


def _held(given: Held) -> PiecewiseCubic:
    """The last datum at a time, as a path: one piece more than there are knots between."""
    v = given.coefficients
    values = v[torch.arange(len(v))[:, None], given.last] if given.family else v[given.last]
    zero = torch.zeros_like(values)
    ts = torch.cat([given.ts, given.ts[-1:] + 1])
    axis = 2 if given.family else 1
    return PiecewiseCubic(ts, torch.stack([values, zero, zero, zero], axis), None, given.family)


def knots_of(path: PiecewiseCubic, like: Tensor) -> Tensor:
    """A path's part of the table `knots`, which nobody may write into."""
    ts = path.ts.detach().cpu().contiguous()
    return (_knots if len(ts) <= FEW else _knots.__wrapped__)(
        ts.view(torch.uint8).numpy().tobytes(), ts.dtype, like.dtype, like.device
    )


@lru_cache(maxsize=64)
def _knots(times: bytes, of: torch.dtype, dtype: torch.dtype, device: torch.device) -> Tensor:
    ts = torch.frombuffer(bytearray(times), dtype=of)
    path = PiecewiseCubic(ts, ts, None, False)
    edges = path.edges(dtype).to(torch.float64).numpy().copy()
    edges[0], edges[-1] = -np.inf, np.inf
    t = ts.to(torch.float64).numpy()
    pace = (len(t) - 1) / (t[-1] - t[0])
    return torch.from_numpy(np.concatenate([t[:1], [pace], edges, t])).to(device, dtype)
