"""Whole solves of stochastic equations with fixed steps by kernels, the path made inside."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from ndl.runtime.brownian import DEPTH, ROOT, BrownianPath
from ndl.runtime.diffusion import check_method
from ndl.runtime.events import EventWatch
from ndl.runtime.kernels.ode import Found, KernelRun, NoKernel, _Solve
from ndl.runtime.kernels.weights import packed
from ndl.runtime.methods import StepSolver
from ndl.runtime.problem import Floats, Ints
from ndl.runtime.recorder import Saved
from ndl.runtime.sde import NoisyInterpolant, path_of, places_of, split
from ndl.runtime.solution import Interpolant, Solution
from ndl.runtime.stepping.finish import SavedInterpolant, events_of, stats_of, steps_of
from ndl.runtime.stepping.trail import fixed_table
from torch import Tensor

LEVELS = DEPTH + 1


class NoisyRun(KernelRun):
    """One run. `saved [B, S, n + m]` and `last [B, n + m]` hold W - W(t0) after the state."""

    def solve(self) -> Solution | None:
        """The solution, or None where some trajectory failed: torch then says where and why."""
        p, n = self.p, self.p.size
        if p.taped:
            last, saved = _Solve.apply(self, p.x0, self.drivers.values, *self.values)  # type: ignore[no-untyped-call]
        else:
            with torch.no_grad():
                self.found = self.forward(p.x0, self.values)
            last, saved = self.found.last, self.found.saved
        if not bool(torch.isfinite(last.detach()).all()):
            return None
        places = places_of(p)
        many = np.full(p.count, self.count_of_steps)
        times = self.saved_times if p.save.kind == "grid" else np.array([p.t1])
        table = np.broadcast_to(times, (p.count, len(times))).copy()
        values = saved if p.save.kind == "grid" else last[:, None]
        noise = split(values[..., n:].detach(), places)
        record = Saved(table, np.ones(table.shape, dtype=bool), {"x": values[..., :n], **noise})
        inner: Interpolant | None = None
        if p.save.kind == "grid":
            inner = NoisyInterpolant(SavedInterpolant(p, record), path_of(p), places)
        step = self.pace.step
        assert step is not None
        final = {"x": last[:, :n], **split(last[:, n:].detach(), places)}
        return Solution(
            p, record, final, np.full(p.count, p.t1),
            stats_of(p, many, np.zeros_like(many), self._cost(many)),
            steps_of(p, lambda: fixed_table(p, step), self._no_stiffness), events_of(p, EventWatch(p)), inner,
        )  # fmt: skip

    def _cost(self, many: Ints) -> Ints:
        """Evaluations are those of the step as written: of f and of g, once each at the least."""
        return 2 * many

    def _no_stiffness(self) -> Tensor:
        return torch.full((self.p.count, self.count_of_steps), math.nan, dtype=self.p.dtype)

    # ------------------------------------------------------------ buffers

    def forward(self, x0: Tensor, values: list[Tensor]) -> Found:
        p, n, b, m = self.p, self.p.size, self.p.count, self.components
        slots, wide = len(self.saved_times), n + m
        new = self.like.new_empty
        tape = new(self.count_of_steps * self.made.width if self.request.tape else 1, b)
        buffers = {
            **self.tables,
            **path_tables(path_of(p), self._times(), self.like),
            **packed(values, self.made.weights, b, self.like),
            **self.drivers.buffers(),
            "x0": x0.t().contiguous(),
            "last": new(wide, b),
            "saved": new(max(slots, 1) * wide, b),
            "tape": tape,
            "cells": self.like.new_zeros(LEVELS * 4 * m, b),
        }
        self._run(self.made, buffers)
        saved = buffers["saved"][: slots * wide].reshape(slots, wide, b).permute(2, 0, 1)
        report = torch.zeros(4, b, dtype=torch.int32)
        return Found(buffers["last"].t(), saved, report, {"tape": tape})

    def backward(
        self, found: Found, values: list[Tensor], grad_last: Tensor, grad_saved: Tensor, wanted: list[bool]
    ) -> tuple[Tensor, Tensor | None, list[Tensor | None]]:
        n = self.p.size
        return super().backward(found, values, grad_last[:, :n], grad_saved[..., :n], wanted)

    @property
    def components(self) -> int:
        return sum(noise.size for noise in self.p.model.NOISES)

    def _times(self) -> Floats:
        """The ends of the steps, the start first."""
        assert self.table is not None
        return np.append(self.p.t0, self.table.end[: self.count_of_steps])

    def _fixed_tables(self) -> dict[str, Tensor]:
        assert self.table is not None
        steps, times, ends = self.count_of_steps, self.saved_times, self._times()
        place = np.clip(np.searchsorted(ends, times), 0, steps)
        before = np.clip(place - 1, 0, steps)
        place = np.where(np.abs(ends[before] - times) < np.abs(ends[place] - times), before, place)
        near = 1e-9 * np.append(self.table.h[:steps], self.table.h[steps - 1])[place]
        if (np.abs(ends[place] - times) > near).any():
            raise NoKernel("it saves times inside steps")
        if len(np.unique(place)) < len(place):
            raise NoKernel("it saves a time twice")
        until = np.searchsorted(place, np.arange(steps + 1), side="right")
        return {
            "times": self._real(self.table.t[:steps]),
            "sizes": self._real(self.table.h[:steps]),
            "until": self._whole(until),
            "counts": self._whole([steps, len(times)]),
        }


def refuse(problem: Any) -> None:
    """Raise `NoKernel` for noise that kernels do not have, `SettingError` for what no run may ask."""
    method, model = problem.method, problem.model
    if not isinstance(method.solver, StepSolver):
        raise NoKernel(f"`{method.name}` is not yet a kernel for noise")
    check_method(model, method.name, method.solver.NOISE, problem.sign < 0)
    if problem.save.kind == "steps":
        raise NoKernel("continuous output of every step is torch's")


# ---------------------------------------------------------------- the path


def path_tables(path: BrownianPath, times: Floats, like: Tensor) -> dict[str, Tensor]:
    """The tables of `ndl.compiler.kernels.path` for sorted times."""
    root, leaf, theta = path._cell_of(times)
    if (np.diff(root) > 1).any():
        raise NoKernel("its steps are longer than a root cell of the path")
    low = _zeros_below(leaf)
    depth = np.where(theta > 0, DEPTH, DEPTH - np.minimum(low, DEPTH))
    shared = np.full(len(times), -1)
    same = root[1:] == root[:-1]
    differ = leaf[1:] ^ leaf[:-1]
    common = DEPTH - np.array([int(d).bit_length() for d in differ], dtype=np.int64)
    shared[1:] = np.where(same, np.minimum(common, depth[:-1]), -1)
    lengths = np.ldexp(1.0, ROOT - np.arange(LEVELS))
    scale = 2.0 ** (path.exponent // 2)
    keys = torch.cat([torch.stack(path.key, 1).reshape(-1), path.place]).numpy()

    def real(values: Any) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float64).to(like.device, like.dtype).contiguous()

    def whole(values: Any) -> Tensor:
        words = np.asarray(values, dtype=np.int64) & 0xFFFFFFFF
        return torch.from_numpy(words.astype(np.uint32).view(np.int32).copy()).to(like.device)

    return {
        "path_root": whole(root),
        "path_high": whole(leaf >> 32),
        "path_low": whole(leaf),
        "path_from": whole(shared),
        "path_depth": whole(depth),
        "path_theta": real(theta),
        "path_z": real(np.sqrt(lengths / 16)),
        "path_n": real(np.sqrt(lengths / 12) / 2),
        "path_half": real(lengths / 2),
        "path_scale": real([scale, scale * 2.0**path.exponent]),
        "path_keys": whole(keys),
    }


def _zeros_below(leaf: Ints) -> Ints:
    """How many zero bits a leaf's number ends with (all of them for 0)."""
    lowest = leaf & -leaf
    return np.array([int(v).bit_length() - 1 if v else DEPTH for v in lowest], dtype=np.int64)
