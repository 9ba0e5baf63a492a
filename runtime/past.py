"""The past of a run, which delayed states read: every accepted step with its continuous output.

Before the start it is the initial value. A step reads each delayed state on one smooth piece of the past: at
a time where two old steps meet, its start reads the later one, and its end the earlier one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from ndl.runtime.errors import SettingError
from ndl.runtime.info import DelayInfo
from ndl.runtime.problem import Floats, Ints, Problem
from ndl.runtime.second_order import guarded
from ndl.runtime.stepping.control import clock, host
from ndl.runtime.stepping.stepper import Attempt, Stepper, Time
from torch import Tensor

NO_SECOND = "hold the delays constant: `model.bind(tau=tau.detach())`"

NEAR = 1e-8
"""The part of a step within which two times are the same."""


@dataclass
class Past:
    """The past of all members. `pieces[k]` is an attempt with its times; `starts[m]` and `places[m]` are the
    starts of the steps of member m, and the piece and row in which each stands. `now`, `size [B]` are the
    start and size of the step under way, `lag [D, B]` the lags that are the same all through a run (or
    nan), `ahead [B]` says who has asked for what is not known yet, and
    `asked` counts reads."""

    x0: Tensor
    t0: float
    stepper: Stepper
    lag: Floats
    pieces: list[tuple[Attempt, Time, Time]] = field(default_factory=list)
    starts: list[list[float]] = field(default_factory=list)
    places: list[list[tuple[int, int]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        count = self.x0.shape[0]
        self.now, self.size = np.full(count, self.t0), np.ones(count)
        self.ahead = np.zeros(count, dtype=bool)
        self.asked = 0
        self.rewind(0)

    def copy(self) -> Past:
        """A past that further steps do not change."""
        twin = Past(self.x0, self.t0, self.stepper, self.lag)
        twin.pieces = list(self.pieces)
        twin.starts, twin.places = [list(s) for s in self.starts], [list(p) for p in self.places]
        return twin

    def rewind(self, count: int) -> None:
        """Forgets all pieces but the first `count`."""
        if count == 0:
            self.starts, self.places = [[] for _ in self.now], [[] for _ in self.now]
        del self.pieces[count:]
        for starts, places in zip(self.starts, self.places, strict=True):
            keep = bisect_left(places, (count, 0))
            del starts[keep:], places[keep:]

    def aim(self, ids: Ints, t: Floats, h: Floats) -> None:
        """Notes the steps that are tried next."""
        self.now[ids], self.size[ids] = t, h
        self.ahead[ids] = False

    def add(self, ids: Ints, rows: Ints, t: Floats, step: Attempt, T: Time, H: Time) -> None:
        """Accepted steps: the rows `rows [r]` of a completed attempt, of the members `ids [r]` from `t [r]`
        on; `T`, `H [b]` are the times of the whole attempt."""
        number = len(self.pieces)
        self.pieces.append((step, T, H))
        for member, row, start in zip(ids.tolist(), rows.tolist(), t.tolist(), strict=True):
            self.starts[member].append(start)
            self.places[member].append((number, row))

    def read(self, delay: int, places: slice, ids: Ints, s: Tensor) -> Tensor:
        """The places of the state at the times `s [..., b]` of the members `ids [b]`, `[..., b, size]`."""
        if torch._C._functorch.peek_interpreter_stack() is not None:
            raise SettingError(
                "the method differentiates what reads delayed states, whose times are not known there",
                help="use a method without derivatives, such as `euler_maruyama`, `heun` or `tsit5`",
            )
        self.asked += 1
        s = s.expand(*s.shape[:-1], len(ids)) if s.ndim else s.expand(len(ids))
        flat = guarded("a run by its delays", NO_SECOND, s).reshape(-1)
        members = np.tile(ids, flat.numel() // max(len(ids), 1))
        at = host(flat)
        found = self._found(members, at + self._nudge(delay, members, at))
        values, order = [], []
        for number in np.unique(found[:, 0]).tolist():
            where = np.nonzero(found[:, 0] == number)[0]
            order.append(where)
            if number < 0:
                pick = torch.from_numpy(members[where]).to(self.x0.device)
                values.append(self.x0.index_select(0, pick))
            else:
                values.append(self._inside(number, found[where, 1], flat, where))
        back = torch.from_numpy(np.argsort(np.concatenate(order), kind="stable")).to(self.x0.device)
        whole = torch.cat(values).index_select(0, back)[:, places]
        return whole.reshape(*s.shape, -1)

    def _inside(self, number: int, rows: Ints, s: Tensor, where: Ints) -> Tensor:
        """The state `[P, n]` in a piece, of its rows `[P]`."""
        step, T, H = self.pieces[number]
        t, h = (v[rows] if isinstance(v, np.ndarray) else v[torch.from_numpy(rows)] for v in (T, H))
        asked = s.index_select(0, torch.from_numpy(where).to(s.device))
        t, h = (v if isinstance(v, Tensor) else clock(v, step.x0) for v in (t, h))
        return self.stepper.interpolate(step, rows, (asked - t) / h)

    def _found(self, members: Ints, at: Floats) -> Ints:
        """The piece and row `[P, 2]` of each time; -1 before the start."""
        out = np.full((len(at), 2), -1, dtype=np.int64)
        for i, (member, time) in enumerate(zip(members.tolist(), at.tolist(), strict=True)):
            place = bisect_right(self.starts[member], time) - 1
            if place >= 0:
                out[i] = self.places[member][place]
        late = at > self.now[members] + NEAR * self.size[members]
        self.ahead[members[late]] = True
        return out

    def _nudge(self, delay: int, members: Ints, at: Floats) -> Floats:
        """A shift into the piece that the step under way reads, for its two ends."""
        size = self.size[members]
        share = (at + self.lag[delay, members] - self.now[members]) / size
        first, last = np.abs(share) < NEAR, np.abs(share - 1) < NEAR
        return np.where(first, NEAR * size, np.where(last, -NEAR * size, 0.0))


class Delayed:
    """One delayed read of the members `ids`, as a path of time."""

    def __init__(self, past: Past, delay: int, shape: tuple[int, ...], places: slice, ids: Ints) -> None:
        self.past, self.delay, self.shape, self.places, self.ids = past, delay, shape, places, ids

    def __call__(self, t: Tensor, order: int = 0) -> Tensor:
        assert not order, "refused when compiled"
        value = self.past.read(self.delay, self.places, self.ids, t)
        return value.reshape(*value.shape[:-1], *self.shape)

    def select(self, rows: Tensor) -> Delayed:
        ids = self.ids[rows.cpu().numpy()]
        return Delayed(self.past, self.delay, self.shape, self.places, ids)


def bound(problem: Problem, past: Past) -> Problem:
    """The problem whose delayed reads are of this past."""
    model = problem.model.bind()
    ids = np.arange(problem.count)
    for k, info in enumerate(model.DELAYS):
        state = model.state(info.name)
        model._given[f"past {k}"] = Delayed(past, k, state.shape, state.places, ids)
    return problem.on(model=model)


def past_of(problem: Problem) -> Past | None:
    """The past that a problem's delayed reads are of."""
    found: Any = problem.model._given.get("past 0")
    return None if found is None else found.past


def constant_lags(problem: Problem, infos: tuple[DelayInfo, ...]) -> Floats:
    """`[D, B]`: the lags that are the same all through a run, nan for others."""
    x = problem.x0.detach()
    with torch.no_grad():
        lags = host(problem.model.lags(x.new_tensor(problem.t0), x).expand(x.shape[0], -1))
    out = np.full((len(infos), x.shape[0]), np.nan)
    for k, info in enumerate(infos):
        if info.constant and info.place is not None:
            out[k] = lags[:, info.place]
    return out
