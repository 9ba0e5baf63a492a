"""Whole solves of stochastic equations by kernels, the path made inside."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from ndl.runtime.brownian import BrownianPath
from ndl.runtime.chance import draws_by_step
from ndl.runtime.diffusion import check_method
from ndl.runtime.kernels.found import NoKernel
from ndl.runtime.kernels.ode import KernelRun
from ndl.runtime.kernels.path_program import program
from ndl.runtime.kernels.request import Request
from ndl.runtime.lattice import HALVINGS, LEAVES, NEAR, SPACING, Places, Unit
from ndl.runtime.methods import StepSolver
from ndl.runtime.problem import Floats
from ndl.runtime.sde import NoisyInterpolant, places_of, split
from ndl.runtime.solution import Solution
from ndl.runtime.stepping.finish import Between
from ndl.runtime.stepping.noise import NoiseStepper
from torch import Tensor

FEW = 1 << 14
"""Times of which the tables are kept for the runs to come."""


class NoisyRun(KernelRun):
    """One run. `saved [B, S, n + m]` and `last [B, n + m]` hold W - W(t0) after the state."""

    explains = False
    stepper: NoiseStepper

    def solve(self) -> Solution | None:
        """The solution with the noises on record, or None where some trajectory failed: torch then says where
        and why."""
        found = super().solve()
        if found is None:
            return None
        places = places_of(self.p)
        saved = replace(found.saved, values=self._apart(found.saved.values["x"], places))
        inner = found.interpolant
        if isinstance(inner, Between):
            inner = Between(saved, inner.dense)
        if inner is not None:
            inner = NoisyInterpolant(inner, self.path, places)
        return replace(found, saved=saved, last=self._apart(found.last["x"], places), interpolant=inner)

    def _apart(self, values: Tensor, places: dict[str, slice]) -> dict[str, Tensor]:
        n = self.p.size
        return {"x": values[..., :n], **split(values[..., n:].detach(), places)}

    @property
    def path(self) -> BrownianPath:
        return self.stepper.reader.path

    @property
    def components(self) -> int:
        return sum(noise.size for noise in self.p.model.NOISES)

    # ------------------------------------------------------------ what noise asks for

    @property
    def wide(self) -> int:
        return self.p.size + self.components

    def _requested(self, request: Request) -> Request:
        # roots and breaks are looked for inside steps, and delayed states read there
        model = self.p.model
        looks = bool(model.EVENTS or model.DELAYS) or (model.BREAKS > 0 and request.adaptive)
        inside = request.save or self.steps or looks
        if self.known:
            ends = self._ends()
            inside = not bool(np.isin(self._settled(self.saved_times, ends), ends).all())
        if self.p.noise_step is not None:
            self._refuse_inside(inside)
        if request.undone and inside:
            raise NoKernel("it saves values inside steps that are undone")
        return replace(request, noise=True, inside=inside, stepped=self.p.noise_step is not None)

    def _refuse_inside(self, inside: bool) -> None:
        """Raise `NoKernel` where the path is asked inside steps of the noise, or may be."""
        if not self.known:
            raise NoKernel("steps of members' own have no `noise_step`")
        places = self.path.places(self._ends())
        if inside or (places.leaf != 0).any() or (places.theta != 0).any():
            raise NoKernel("the path is asked inside steps of its noise")

    def at_starts(self, tape: Tensor) -> Tensor:
        """The state, and W - W(t0) from the path at the starts."""
        model = self.p.model
        end = tape.shape[-1] - (bool(model.DELAYS) or draws_by_step(model))  # the last is a step's number
        now = tape[..., end - self.components : end]
        scale = self.path.unit.root
        return torch.cat([tape[..., : self.p.size], scale * (now - now[:, :1])], -1)

    def _ends(self) -> Floats:
        """The ends of fixed steps, the start first."""
        assert self.table is not None
        return np.append(self.p.t0, self.table.end[: self.count_of_steps])

    def _settled(self, times: Floats, ends: Floats) -> Floats:
        """Saved times, which are ends of steps where they miss one by rounding alone."""
        place = np.clip(np.searchsorted(ends, times), 1, len(ends) - 1)
        near = np.where(times - ends[place - 1] < ends[place] - times, place - 1, place)
        size = ends[place] - ends[place - 1]
        return np.where(np.abs(times - ends[near]) <= 1e-9 * size, ends[near], times)

    def _more(self, backward: bool = False) -> dict[str, Tensor]:
        tables = cell_tables(self.path, self.like)
        if not self.known:
            return tables
        times = self._ends()
        if backward and self.request.undone:
            times = times[::-1]
        if self.request.stepped:
            return {**tables, "path_root": _whole(self.path.places(times).root, self.like)}
        tables_at = lately if len(times) <= FEW else path_tables
        path, like, ways = self.path, self.like, bool(self.request.trail)
        found, slots = tables_at(path.unit, path.t0, times.tobytes(), ways, like.dtype, like.device)
        cells = self.like.new_empty(slots * 4 * self.components, self.p.count)
        return {**tables, **found, "cells": cells}


def refuse(problem: Any) -> None:
    """Raise `SettingError` for what no run may ask."""
    method, model = problem.method, problem.model
    noise = method.solver.NOISE if isinstance(method.solver, StepSolver) else "general"
    check_method(model, method.name, noise, problem.sign < 0)


# ---------------------------------------------------------------- the path


def cell_tables(path: BrownianPath, like: Tensor) -> dict[str, Tensor]:
    """The tables of `ndl.compiler.kernels.cells` and of `FreePath`."""
    unit, inside = path.unit, SPACING[HALVINGS:]
    keys = torch.cat([torch.stack(path.key, 1).reshape(-1), path.place]).numpy()
    # single precision cannot tell a time that misses a point from one that is beside it
    slack = NEAR * LEAVES if like.dtype == torch.float64 else 0.0
    return {
        "path_scale": _real([unit.root, unit.root * unit.length, unit.count, path.t0, slack], like),
        "path_keys": _whole(keys, like),
        "path_spacing": _real(inside, like),
        "path_share": _real(1 / inside, like),
        "path_levels": _whole([len(inside)], like),
    }


def path_tables(
    unit: Unit, start: float, times: bytes, ways: bool, dtype: torch.dtype, device: torch.device
) -> tuple[dict[str, Tensor], int]:
    """The tables of `GridPath` for the times of a run from `start`, and how many cells there is to be room
    for."""
    like = torch.empty(0, dtype=dtype, device=device)
    found = program(Places.of(np.frombuffer(times), unit, start), ways)
    whole = {f"path_{name}": _whole(v, like) for name, v in found.whole.items()}
    real = {f"path_{name}": _real(v, like) for name, v in found.real.items()}
    return {**whole, **real}, found.slots


lately = lru_cache(maxsize=8)(path_tables)
"""The same for a training, each run of which has the same times."""


def _real(values: Any, like: Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64).to(like.device, like.dtype).contiguous()


def _whole(values: Any, like: Tensor) -> Tensor:
    words = np.asarray(values, dtype=np.int64) & 0xFFFFFFFF
    return torch.from_numpy(words.astype(np.uint32).view(np.int32).copy()).to(like.device)
