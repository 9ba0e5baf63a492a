"""The loop: every member at its own time, with its own step, until each has come to its end.

Times, step sizes and decisions are host arrays with an entry for each member still running; states are one
tensor `[b, n]`. Nothing a member decides depends on the others. What was done is written into a trail, from
which gradients are computed; only the plain run of a single member may record its own as it goes (`taped`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from ndl.runtime.breaks import BreakWatch
from ndl.runtime.chance import draws_by_step
from ndl.runtime.events import EventWatch
from ndl.runtime.failures import SolveFailure
from ndl.runtime.methods import VectorField
from ndl.runtime.problem import Floats, Ints, Problem
from ndl.runtime.recorder import Recorder
from ndl.runtime.requirements import Requirements
from ndl.runtime.stepping.consistent import consistent
from ndl.runtime.stepping.control import Controller, Tolerances, first_step, host, proportional
from ndl.runtime.stepping.corners import Corners, Stops
from ndl.runtime.stepping.delays import Delays
from ndl.runtime.stepping.earlier import Earlier
from ndl.runtime.stepping.march import march
from ndl.runtime.stepping.pace import Pace
from ndl.runtime.stepping.stepper import Attempt, Carry, Stepper, pick
from ndl.runtime.stepping.trail import Piece, Trail
from ndl.runtime.stepping.trial import LongRun, attempts_given
from torch import Tensor

if TYPE_CHECKING:
    from ndl.runtime.solution import Solution


SMALLER_STEP = 0.1
"""After a step that the method had proposed, and whose values were no numbers."""


@dataclass
class Outcome:
    """A finished run. `last [B, n]` at `last_t [B]`; counts `[B]`."""

    recorder: Recorder
    trail: Trail
    watch: EventWatch
    last: Tensor
    last_t: Floats
    steps: Ints
    rejected: Ints
    evaluations: Ints
    x0: Tensor
    restarts: list[tuple[int, int]]
    crossings: list[tuple[int, int, int]]


class Loop:
    """One run of an ordinary or differential-algebraic equation."""

    def __init__(self, problem: Problem, stepper: Stepper, keep: bool, taped: bool = False) -> None:
        self.p, self.stepper, self.taped = problem, stepper, taped
        self.tol = Tolerances.of(problem)
        self.pace = Pace.of(problem, stepper)
        if not (stepper.extrapolates or self.pace.fixed):
            self.tol = proportional(self.tol, stepper.order)
        self.control = Controller.of(problem, stepper.error_order, stepper.grow)
        b = problem.count
        self.trail = Trail(b, problem.sign, keep=keep)
        self.recorder = Recorder(problem.save, b, problem.sign)
        self.watch = EventWatch(problem)
        self.drawing = draws_by_step(problem.model)
        self.earlier = Earlier(problem)
        self.delays = Delays(problem, stepper)
        self.corners = Corners(problem)
        self.stops = Stops(problem, not self.pace.fixed)
        # draws move a break at each step: it is not to be located
        self.breaks = BreakWatch(problem, active=not (self.pace.fixed or self.drawing))
        self.requirements = Requirements(problem)
        self.steps = np.zeros(b, dtype=np.int64)
        self.rejected = np.zeros(b, dtype=np.int64)
        self.evaluations = np.zeros(b, dtype=np.int64)
        self.last = torch.empty_like(problem.x0.detach(), memory_format=torch.contiguous_format)
        self.last_t = np.full(b, problem.t0)
        # (member, steps done before) of every fresh start after the first
        self.restarts: list[tuple[int, int]] = []
        # of the members that still run
        self.ids: Ints = np.arange(b)
        self.t = np.full(b, problem.t0)
        self.x: Tensor = (problem.x0 if taped else problem.x0.detach()).contiguous()
        self.h = np.zeros(b)
        self.old = np.ones(b)
        self.again = np.zeros(b, dtype=bool)
        self.model = problem.model
        self.f: VectorField = problem.field()
        self.carry = Carry()
        self.left = attempts_given()

    # ------------------------------------------------------------ the run

    def run(self) -> Outcome:
        p = self.p
        marched = march(self)
        if marched is not None:
            return marched
        if p.algebraic:
            self.x, count = consistent(p, self.f, self.x, self.t)
            self.evaluations += count
        start = self.x
        self.x, touched = self.watch.start(self.model, self.ids, self.t, self.x)
        if p.algebraic and touched.any():
            self._tie(touched)
        self.carry = self.stepper.begin(self.f, self.x, self.t)
        self.breaks.start(self.model, self.ids, self.t, self.x)
        self.requirements.check(self, np.ones(len(self.ids), dtype=bool))
        self._save(self.t, np.ones(len(self.ids), dtype=bool))
        if p.t0 != p.t1 and not self.pace.fixed:
            self.restart(np.ones(len(self.ids), dtype=bool))
        self._leave(self.watch.stopped[self.ids] >= 0 if p.t0 != p.t1 else np.ones(len(self.ids), dtype=bool))
        while len(self.ids):
            self._advance()
        return Outcome(
            self.recorder, self.trail, self.watch, self.last, self.last_t,
            self.steps, self.rejected, self.evaluations, start, self.restarts, self.breaks.crossings,
        )  # fmt: skip

    def _advance(self) -> None:
        """One attempt for every running member, and what follows from it."""
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise LongRun
        p, ids, t, x = self.p, self.ids, self.t, self.x
        target = np.full(len(ids), p.t1)
        if self.watch.timed:
            target = p.sign * np.minimum(p.sign * target, p.sign * self.watch.next_time(ids))
        if self.delays:
            target = self.delays.limit(self, target)
        if self.corners:
            target = self.corners.limit(t, target)
        if self.stepper.proposes and not self.pace.fixed:
            self._propose()
        if self.stops:
            target = self.stops.limit(t, np.minimum(self.h, self.pace.longest), target)
        end = self.pace.end(self, target)
        h = end - t
        if not self.pace.fixed:
            # written so that sizes which are no numbers are caught, too
            tiny = ~(np.abs(h) > 4e-15 * np.maximum(np.abs(t), np.abs(end))) & (end != target)
            if tiny.any():
                self._fail("step", int(np.nonzero(tiny)[0][0]), h)
        if self.drawing:
            self.model = p.members(ids, self.steps[ids])
        self.delays.aim(ids, t, h)
        step = self.stepper.attempt(self.f, x, t, h, self.carry, self.taped)
        self.delays.judge(step, ids)
        self.earlier.hold(step)
        self.evaluations[ids] += step.cost
        error, fine = self._judge(step)
        accept = fine & (error <= 1.0)
        if self.breaks:
            accept = self.breaks.judge(self, step, h, end, error, accept)
        if not accept.all():
            self._reject(accept, fine, error, h, step)
            if not accept.any():
                return
        self._accept(step, accept, error, h, end, target)

    def _propose(self) -> None:
        """The method's own sizes, after a rejection no larger than what that left."""
        size = self.stepper.propose(self.f, self.x, self.t, self.h, self.carry)
        size = np.where(size > 0, size, self.h)
        self.h = np.where(self.again, np.minimum(self.h, size), size)

    def _judge(self, step: Attempt) -> tuple[Floats, np.ndarray]:
        """The scaled error of each row (0 for a fixed step) and whether its values are usable."""
        self._size = step.x1.detach().abs()
        if step.error is None:
            error = np.zeros(len(self.ids))
            fine = np.isfinite(host(self._size.sum(-1)))
        else:
            error = host(self.tol.norm(step.error.detach(), self.x.detach().abs(), self._size))
            fine = np.isfinite(error)
            if self.pace.fixed or self.stepper.proposes:
                fine = np.isfinite(host(self._size.sum(-1)))
        if step.ok is not None:
            fine = fine & step.ok
        self._error = error
        # a method that proposes its steps has seen to their errors
        given = self.pace.fixed or self.stepper.proposes
        return (np.where(fine, 0.0, np.inf) if given else error), fine

    # ------------------------------------------------------------ after an attempt

    def _reject(self, accept: np.ndarray, fine: np.ndarray, error: Floats, h: Floats, step: Attempt) -> None:
        bad = ~accept
        self.rejected[self.ids[bad]] += 1
        if self.pace.fixed:
            i = int(np.nonzero(bad)[0][0])
            self._fail("newton" if step.ok is not None and not step.ok[i] else "finite", i, h, step)
        chosen = self.breaks.chosen
        factor = self.control.rejected(np.where(fine, error, np.inf))
        if self.stepper.proposes:
            factor = np.full(len(fine), SMALLER_STEP)
        if step.ok is not None:
            factor = np.where(step.ok, factor, 0.25)
        self.h = np.where(bad, np.where(np.isnan(chosen), np.abs(h) * factor, chosen), self.h)
        self.again |= bad
        self._limit(bad, h)

    def _accept(
        self, step: Attempt, accept: np.ndarray, error: Floats, h: Floats, end: Floats, target: Floats
    ) -> None:
        p, ids = self.p, self.ids
        whole = bool(accept.all())
        rooted = np.full(len(ids), np.nan)
        due = None
        wants = (self.trail.keep and not self.taped) or bool(self.watch.roots) or bool(self.delays)
        if wants or self._grid_due(end, accept):
            self.stepper.complete(self.f, step, self.t, h)
        if self.watch.roots:
            inside = lambda rows, theta: self.stepper.interpolate(step, rows, theta)  # noqa: E731
            rooted, due = self.watch.search(self.model, ids, self.t, h, inside, accept)
        hit = np.isfinite(rooted)
        stop = np.where(hit, self.t + rooted * h, end) if hit.any() else end
        self._save_inside(step, stop, h, accept)
        rows = np.nonzero(accept)[0]
        if self.delays.past is not None:
            self.delays.past.add(ids[rows], rows, self.t[rows], step, self.t, h)
        self.trail.add(
            Piece(
                rows, ids[rows], self.t[rows], stop[rows], h[rows], self._error[rows],
                step if self.trail.keep else None,
            )
        )  # fmt: skip
        self.steps[ids[rows]] += 1
        self._next_size(accept, error, h, end == target)
        x1 = step.x1
        if hit.any():
            all_rows = np.arange(len(ids))
            found = self.stepper.interpolate(step, all_rows, np.where(hit, rooted, 1.0))
            x1 = torch.where(torch.from_numpy(hit).to(x1.device)[:, None], found, x1)
        x1 = self.earlier.shift(step.x0, x1)
        if whole:
            self.x, self.carry, self.t = x1, self.carry.merge(step.carry, accept), stop
        else:
            mask = torch.from_numpy(accept).to(x1.device)[:, None]
            self.x = torch.where(mask, x1, self.x)
            self.t = np.where(accept, stop, self.t)
            self.carry = self.carry.merge(step.carry, accept)
        if self.earlier.changes:
            self.carry = self.stepper.refresh(self.f, self.x, self.t, self.carry, accept)
        self.breaks.after(self, accept & ~hit)
        if self.delays and self.breaks:
            over = self.breaks.crossed & accept & ~hit
            self.delays.jumped(ids[over], self.t[over])
        if self.corners:
            passed, onward = self.corners.passed(self.t)
            if (passed & accept).any():
                self.t = np.where(accept, onward, self.t)
                self.restart(passed & accept, self.h)
        if self.delays:
            reached = accept & self.delays.reached(ids, self.t)
            if reached.any():
                self.restart(reached, self.h)
        if self.watch:
            self._fire(accept, hit, due)
        elif hit.any():
            self.restart(hit)
        self._save(self.t, accept)
        if self.requirements:
            self.requirements.check(self, accept)
        if self.delays and self.breaks:
            # of two pieces of the past that meet here, the next step reads the later one
            self.delays.aim(self.ids, self.t, h)
            self.breaks.start(self.model, self.ids, self.t, self.x)
        self._limit(accept, h)
        done = accept & ((p.sign * (p.t1 - self.t) <= 0) | (self.watch.stopped[self.ids] >= 0))
        if done.any():
            self._leave(done)

    def _fire(self, accept: np.ndarray, hit: np.ndarray, due: np.ndarray | None) -> None:
        """Fires the events at the new times."""
        leapt = self.watch.leapt(self.model, self.ids, self.t, self.x, accept, due) if self.earlier else None
        self.watch.settle(self.model, self.ids, self.t, self.x, accept & ~hit)
        all_due = self.watch.timed_due(self.ids, self.t, accept)
        if due is not None:
            all_due |= due & hit
        if leapt is not None:
            all_due |= leapt
        self.x, touched = self.watch.fire(self.model, self.ids, self.t, self.x, all_due, self.steps[self.ids])
        endless = self.watch.endless(self.ids)
        if endless.any():
            self._fail("events", int(np.nonzero(endless)[0][0]), None)
        touched |= hit
        if touched.any():
            if self.p.algebraic:
                self._tie(touched)
            if self.delays:
                self.delays.jumped(self.ids[touched], self.t[touched])
            self.restart(touched & (self.watch.stopped[self.ids] < 0))

    def _tie(self, rows: np.ndarray) -> None:
        """Moves the algebraic states of some rows to where their equations hold."""
        self.x, count = consistent(self.p, self.f, self.x, self.t, self.ids, rows)
        self.evaluations[self.ids] += count

    def _next_size(self, accept: np.ndarray, error: Floats, h: Floats, ended: np.ndarray) -> None:
        if self.pace.fixed:
            return
        factor = self.control.accepted(np.where(accept, error, 1.0), self.old, self.again)
        size = np.abs(h) * (1.0 if self.stepper.proposes else factor)
        # a step cut short by the end of a stretch says little against the one proposed before it
        size = np.where(ended & ~self.again, np.maximum(size, self.h), size)
        self.h = np.where(accept, size, self.h)
        self.old = np.where(accept, np.maximum(error, 1e-4), self.old)
        self.again &= ~accept

    def restart(self, rows: np.ndarray, size: Floats | None = None) -> None:
        """A fresh slope for these rows, and a first step: `size`, or one chosen anew."""
        again = self.ids[rows]
        self.restarts += [(int(i), int(self.steps[i])) for i in again if self.steps[i]]
        self.carry = self.stepper.refresh(self.f, self.x, self.t, self.carry, rows)
        self.breaks.start(self.model, self.ids, self.t, self.x)
        if self.pace.fixed:
            return
        room = np.maximum(np.abs(self.p.t1 - self.t), 1e-300)
        given = self.pace.first if size is None else size
        if given is not None:
            size = np.minimum(given, room)
        else:
            size, f0 = first_step(
                self.f, self.x, self.t, self.p.sign, room, self.stepper.error_order, self.tol
            )
            self.stepper.know(self.carry, f0, rows)
            self.evaluations[self.ids] += 2 * rows.astype(np.int64)
        self.h = np.where(rows, size, self.h)
        self.old = np.where(rows, 1.0, self.old)
        self.again &= ~rows

    # ------------------------------------------------------------ saving

    def _grid_due(self, end: Floats, accept: np.ndarray) -> bool:
        plan = self.p.save
        if plan.kind != "grid":
            return False
        slots = self.recorder.slots[self.ids]
        times = plan.times[np.minimum(slots, len(plan.times) - 1)]
        waiting = accept & (slots < len(plan.times)) & (self.p.sign * (end - times) > 0)
        return bool(waiting.any())

    def _save_inside(self, step: Attempt, stop: Floats, h: Floats, accept: np.ndarray) -> None:
        """Grid times strictly inside the accepted steps, by continuous output."""
        if self.p.save.kind != "grid":
            return
        live = np.nonzero(accept)[0]
        due = self.recorder.due(self.ids[live], stop[live], inclusive=False)
        if due is not None:
            rows, slots, times = due
            rows = live[rows]
            theta = (times - self.t[rows]) / h[rows]
            x = self.stepper.interpolate(step, rows, theta)
            self.recorder.put(self.ids[rows], slots, times, {"x": x})

    def _save(self, t: Floats, accept: np.ndarray) -> None:
        """The values now, where the plan asks for them."""
        kind = self.p.save.kind
        if kind == "end":
            return
        live = np.nonzero(accept)[0]
        x = self.x if len(live) == len(self.ids) else pick(self.x, live)
        if kind == "steps":
            self.recorder.append(self.ids[live], t[live], {"x": x})
            return
        due = self.recorder.due(self.ids[live], t[live])
        if due is not None:
            rows, slots, times = due
            self.recorder.put(self.ids[live[rows]], slots, times, {"x": pick(x, rows)})

    def _leave(self, done: np.ndarray) -> None:
        """Members that have come to their end are recorded and taken out of the batch."""
        if not done.any():
            return
        out, stay = np.nonzero(done)[0], np.nonzero(~done)[0]
        ids = self.ids[out]
        x = self.x if len(out) == len(self.ids) else self.x[torch.from_numpy(out).to(self.x.device)]
        self.last[torch.from_numpy(ids).to(x.device)] = x
        self.last_t[ids] = self.t[out]
        self.recorder.finish(ids, self.t[out], {"x": x})
        self.ids = self.ids[stay]
        if not len(stay):
            return
        self.t, self.h, self.old, self.again = self.t[stay], self.h[stay], self.old[stay], self.again[stay]
        self.x = pick(self.x, stay)
        self.carry = self.carry.rows(stay)
        self.breaks.rows(stay)
        self.model = self.p.members(self.ids)
        self.f = self.p.field(self.ids)

    # ------------------------------------------------------------ trouble

    def _limit(self, rows: np.ndarray, h: Floats) -> None:
        spent = self.steps[self.ids] + self.rejected[self.ids]
        over = rows & (spent >= self.p.max_steps) & (self.p.sign * (self.p.t1 - self.t) > 0)
        if over.any():
            self._fail("max_steps", int(np.nonzero(over)[0][0]), h)

    def fail_delay(self, row: int) -> None:
        """A delay is not above 0."""
        self._fail("delay", row, None)

    def partial(self) -> Solution:
        """The solution up to here, of all members."""
        from ndl.runtime.stepping.postmortem import partial

        return partial(self)

    def _fail(self, status: str, row: int, h: Floats | None, step: Attempt | None = None) -> None:
        from ndl.runtime.stepping.postmortem import failure

        failed: SolveFailure = failure(self, status, row, h, step)
        raise failed
