"""Events of a run: which fire in a step and when, in what order, and what they change.

`falling(e)` fires as e passes from > 0 to <= 0; `rising` and `crossing` are turned into that by a sign.
Whether e has been > 0 since the last firing is remembered, so that rounding at a root cannot fire an event
again. All arrays are indexed by member ids; `rows` are places in the current batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from ndl.runtime.chance import at_firing
from ndl.runtime.jumps import JumpTimes
from ndl.runtime.lattice import leaf_of
from ndl.runtime.model import Model
from ndl.runtime.problem import Floats, Ints, Problem
from ndl.runtime.roots import first_passage, locate
from ndl.runtime.sampled import data_times
from ndl.runtime.stepping.control import clock, host
from torch import Tensor

Inside = Callable[[Ints, Floats], Tensor]
"""The state `[P, n]` of rows `[P]` at fractions theta `[P]` of the step."""

UNIFORM = np.array([0.25, 0.5, 0.75, 1.0])
"""Where a step is sampled for roots."""
EARLY = np.concatenate([4.0 ** np.arange(-10, -1), UNIFORM])
"""The same in the first step after an event, where the next root may be near."""
MANY = 1000
"""Events in a row without progress in t that are an error."""


@dataclass(frozen=True)
class Firing:
    """One firing, for the record and for replaying: before step number `step` of the member."""

    member: int
    step: int
    t: float
    event: int
    root: bool
    turn: int = 0
    """How often the event had fired for the member."""


class EventWatch:
    """The state of all events of all members."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        events, count = problem.model.EVENTS, problem.count
        self.kinds = [e.kind for e in events]
        self.roots = [k for k, kind in enumerate(self.kinds) if kind in ("falling", "rising", "crossing")]
        self.timed = [k for k, kind in enumerate(self.kinds) if kind in ("every", "sample", "poisson")]
        # under noise, the time in which the path is smooth
        self.leaf = leaf_of(problem)
        self.turn = np.ones((len(events), count))
        self.armed = np.zeros((len(events), count), dtype=bool)
        self.early = np.zeros(count, dtype=bool)
        self.firings: list[Firing] = []
        self.run = np.zeros(count, dtype=np.int64)
        self.since = np.full(count, np.nan)
        self.stopped = np.full(count, -1, dtype=np.int64)
        self._fired = np.zeros((len(events), count), dtype=np.int64)
        self._jumps = {k: self._process(k) for k in self.timed if self.kinds[k] == "poisson"}
        self._leapt = np.zeros((len(events), count), dtype=bool)
        self._times = {k: self._schedule(k) for k in self.timed}

    def __bool__(self) -> bool:
        return bool(self.kinds)

    # ------------------------------------------------------------ times known beforehand

    def _schedule(self, k: int) -> Floats | None:
        """Data times of a `sample` in the run's direction, `[members (or 1), K]` ended by infinities; else
        None."""
        if self.kinds[k] != "sample":
            return None
        p = self.problem
        times = p.sign * np.atleast_2d(data_times(p, p.model.EVENTS[k].column or ""))
        low, high = sorted((p.sign * p.t0, p.sign * p.t1))
        times = np.where((times >= low) & (times <= high), times, np.inf)
        padded = np.append(np.sort(times, axis=1), np.full((len(times), 1), np.inf), axis=1)
        return np.asarray(p.sign * padded, dtype=np.float64)

    def _process(self, k: int) -> JumpTimes:
        return JumpTimes(self.problem, self.problem.model.EVENTS[k].column or "", self._period(k))

    def _next(self, k: int, ids: Ints) -> Floats:
        """The next time `[b]` of a timed event, infinite when there is none."""
        p, done, times = self.problem, self._fired[k, ids], self._times[k]
        if k in self._jumps:
            return self._jumps[k].at(ids, done)
        if times is None:
            return np.asarray(p.t0 + p.sign * (done + 1) * self._period(k)[ids])
        row = ids if len(times) > 1 else np.zeros(len(ids), dtype=np.int64)
        return np.asarray(times[row, np.minimum(done, times.shape[1] - 1)])

    def _period(self, k: int) -> Floats:
        value = host(self.problem.model.period(k).to(torch.float64))
        return np.broadcast_to(np.abs(value), (self.problem.count,))

    def given_times(self, k: int) -> Floats:
        """When a Poisson event or one of data fires, `[B, K]`, the last time beyond the end of the run."""
        times = self._times[k]
        found = self._jumps[k].times() if times is None else times
        return np.broadcast_to(found, (self.problem.count, found.shape[1]))

    def next_time(self, ids: Ints) -> Floats:
        """The next time `[b]` that an `every` or `sample` asks for; infinite (in the direction of the
        run) when there is none."""
        p = self.problem
        nearest = np.full(len(ids), np.inf)
        for k in self.timed:
            nearest = np.minimum(nearest, p.sign * self._next(k, ids))
        return p.sign * nearest

    def _due(self, k: int, ids: Ints, t: Floats) -> np.ndarray:
        """Whether the timed event k is to fire at t."""
        p, at = self.problem, self._next(k, ids)
        come = p.sign * (t - at) >= -1e-12 * np.maximum(np.abs(t), abs(p.t1 - p.t0))
        return np.asarray(come & np.isfinite(at))

    # ------------------------------------------------------------ guards

    def _guards(self, model: Model, t: Tensor, x: Tensor) -> Floats:
        """u of every root event, `[R, ...]`, before the sign that turns it into `falling`."""
        lead = x.shape[:-1]
        return np.stack([host(model.guard(k, t, x).expand(lead)) for k in self.roots])

    def start(self, model: Model, ids: Ints, t: Floats, x: Tensor) -> tuple[Tensor, np.ndarray]:
        """Arms the events and fires those `sample`s that have a datum at the start: x and which rows
        changed."""
        if self.roots:
            g = self._guards(model, clock(t, x), x)
            for place, k in enumerate(self.roots):
                self._arm(k, ids, g[place])
        due = np.zeros((len(self.kinds), len(ids)), dtype=bool)
        for k in self.timed:
            if self.kinds[k] == "sample":
                due[k] = self._due(k, ids, t)
        return self.fire(model, ids, t, x, due, np.zeros(len(ids), dtype=np.int64))

    def _arm(self, k: int, ids: Ints, g: Floats) -> None:
        """Sets the sign of event k from its guard `[b]` and whether it may fire."""
        if self.kinds[k] == "crossing":
            self.turn[k, ids] = np.sign(g)
        else:
            self.turn[k, ids] = 1.0 if self.kinds[k] == "falling" else -1.0
        self.armed[k, ids] = g * self.turn[k, ids] > 0

    def search(
        self, model: Model, ids: Ints, t: Floats, h: Floats, inside: Inside, live: np.ndarray
    ) -> tuple[Floats, np.ndarray]:
        """The fraction theta `[b]` of the step at which the first root event of each row has happened
        (nan: none), and which events `[E, b]` fire there. Rows that are not `live` are passed over."""
        b = len(ids)
        due = np.zeros((len(self.kinds), b), dtype=bool)
        if not self.roots:
            return np.full(b, np.nan), due
        early = self.early[ids]
        grid = EARLY if early.any() else UNIFORM
        extra = len(grid) - len(UNIFORM)
        rows, theta = np.tile(np.arange(b), len(grid)), np.repeat(grid, b)
        x = inside(rows, theta).reshape(len(grid), b, -1)
        g = self._guards(model, clock(t + grid[:, None] * h, x), x)
        best = np.full(b, np.inf)
        found: list[tuple[int, np.ndarray, Floats]] = []
        edges = np.concatenate([[0.0], grid])
        tight = 1e-15 + 1e-15 * np.abs(t) / np.maximum(np.abs(h), 1e-300)
        coarse = self.leaf / np.maximum(np.abs(h), 1e-300) if self.leaf else np.inf
        for place, k in enumerate(self.roots):
            u, armed = g[place] * self.turn[k, ids], self.armed[k, ids]
            if extra:
                # a member that is not in such a step has only the samples that it would have alone
                u = np.where(~early & (np.arange(len(grid)) < extra)[:, None], np.where(armed, 1.0, -1.0), u)
            passed, where = first_passage(u, armed)
            passed &= live
            if not passed.any():
                continue
            low = np.where(~early & (where == extra), 0.0, edges[where])

            def along(point: Floats, k: int = k) -> Floats:
                y = inside(np.arange(b), point)
                guard = host(model.guard(k, clock(t + point * h, y), y).expand(b))
                return np.asarray(guard * self.turn[k, ids])

            start = np.maximum(along(low), 1e-300)
            value = u[where, np.arange(b)]
            before, after = locate(
                along, low, edges[where + 1], start, value, np.where(passed, tight, np.inf), coarse
            )
            found.append((k, passed, before))
            best = np.where(passed, np.minimum(best, after), best)
        for k, passed, before in found:
            due[k] = passed & (before <= best + 10 * tight)
        return np.where(np.isfinite(best), best, np.nan), due

    def settle(self, model: Model, ids: Ints, t: Floats, x: Tensor, rows: np.ndarray) -> None:
        """Remembers the side of every guard at (t, x), for the rows that came to no root event."""
        self.early[ids[rows]] = False
        if self.roots and rows.any():
            g = self._guards(model, clock(t, x), x)
            for place, k in enumerate(self.roots):
                if self.kinds[k] == "crossing":
                    fresh = (self.turn[k, ids] == 0) & (g[place] != 0)
                    self.turn[k, ids] = np.where(rows & fresh, np.sign(g[place]), self.turn[k, ids])
                u = g[place] * self.turn[k, ids]
                # a root at the very end of a step, which rounding hid, is met by the next one
                self.armed[k, ids] |= rows & (u > 0)

    def leapt(
        self, model: Model, ids: Ints, t: Floats, x: Tensor, rows: np.ndarray, due: np.ndarray | None
    ) -> np.ndarray:
        """Root events `[E, b]`, other than those that are `due`, whose guard was on the armed side to the end
        of the step and is past 0 at (t, x), now that the step has shifted earlier values along."""
        found = np.zeros((len(self.kinds), len(ids)), dtype=bool)
        if self.roots:
            g = self._guards(model, clock(t, x), x)
            for place, k in enumerate(self.roots):
                found[k] = rows & self.armed[k, ids] & (g[place] * self.turn[k, ids] <= 0)
            if due is not None:
                found &= ~due
        self._leapt[:, ids] = found
        return found

    # ------------------------------------------------------------ firing

    def timed_due(self, ids: Ints, t: Floats, rows: np.ndarray) -> np.ndarray:
        """Which `every` and `sample` events `[E, b]` fire at t."""
        due = np.zeros((len(self.kinds), len(ids)), dtype=bool)
        for k in self.timed:
            due[k] = self._due(k, ids, t) & rows
        return due

    def fire(
        self, model: Model, ids: Ints, t: Floats, x: Tensor, due: np.ndarray, steps: Ints
    ) -> tuple[Tensor, np.ndarray]:
        """Fires the events `due [E, b]` at (t, x), in file order, each seeing what the last one left; a
        reset that takes a guard across zero fires that event too. Returns x and the rows where some
        event fired."""
        touched = np.asarray(due.any(axis=0))
        if not touched.any():
            return x, touched
        self._mark(ids, t, touched)
        at = clock(t, x)
        g = self._guards(model, at, x) if self.roots else np.empty((0, len(ids)))
        for place, k in enumerate(self.roots):
            self._pass(k, ids, due[k])
            quiet = touched & ~due[k]
            self.armed[k, ids] |= quiet & (g[place] * self.turn[k, ids] > 0)
        pending = due.copy()
        going = touched & (self.stopped[ids] < 0)
        while (pending & going).any():
            for k, event in enumerate(self.problem.model.EVENTS):
                now = pending[k] & going
                pending[k] = False
                if not now.any():
                    continue
                turns = self._fired[k, ids].copy()
                self._log(k, ids, now, t, steps, due[k])
                if event.stop:
                    self.stopped[ids[now]] = k
                    going = going & ~now
                if event.resets:
                    mask = torch.from_numpy(now).to(x.device)[:, None]
                    x = torch.where(mask, at_firing(model, k, ids, turns).reset(k, at, x), x)
                    if self.roots:
                        g = self._after_reset(model, ids, at, x, g, now & going, pending)
            going = going & (self.run[ids] <= MANY)
        self.early[ids[touched]] = True
        return x, touched

    def _pass(self, k: int, ids: Ints, rows: np.ndarray) -> None:
        """Root event k has happened in these rows: it must be armed anew."""
        self.armed[k, ids] &= ~rows
        if self.kinds[k] == "crossing":
            self.turn[k, ids] = np.where(rows, -self.turn[k, ids], self.turn[k, ids])

    def _after_reset(
        self, model: Model, ids: Ints, at: Tensor, x: Tensor, g: Floats, rows: np.ndarray, pending: np.ndarray
    ) -> Floats:
        """Where a reset changed a guard: arms its event, or fires it if the jump crossed zero."""
        new = self._guards(model, at, x)
        for place, k in enumerate(self.roots):
            changed = rows & (new[place] != g[place])
            u = new[place] * self.turn[k, ids]
            jumped = changed & self.armed[k, ids] & (u <= 0)
            pending[k] |= jumped
            self.armed[k, ids] = np.where(changed, u > 0, self.armed[k, ids])
            if self.kinds[k] == "crossing":
                self.turn[k, ids] = np.where(jumped, -self.turn[k, ids], self.turn[k, ids])
                self.armed[k, ids] |= jumped & (u < 0)
        return new

    def _mark(self, ids: Ints, t: Floats, rows: np.ndarray) -> None:
        """Starts the count of events anew where t has moved since the last one."""
        moved = ~(np.abs(t - self.since[ids]) <= 1e-12 * np.maximum(np.abs(t), 1e-3))
        anew = ids[rows & moved]
        self.run[anew] = 0
        self.since[anew] = t[rows & moved]

    def _log(self, k: int, ids: Ints, rows: np.ndarray, t: Floats, steps: Ints, due: np.ndarray) -> None:
        self.run[ids[rows]] += 1
        for i in np.nonzero(rows)[0]:
            turn = int(self._fired[k, ids[i]])
            # an event that a reset set off comes when that did
            root = k in self.roots and bool(due[i]) and not self._leapt[k, ids[i]]
            self.firings.append(Firing(int(ids[i]), int(steps[i]), float(t[i]), k, root, turn))
        self._fired[k, ids[rows]] += 1

    def endless(self, ids: Ints) -> np.ndarray:
        """Rows whose events fire again and again without progress in t."""
        return np.asarray(self.run[ids] > MANY)
