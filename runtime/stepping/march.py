"""Fixed steps with nothing to watch for: all members step together, and only their states are kept.

What continuous output and estimates need of a step besides its two ends is made again when it is asked for,
for all steps at once. A run in which something goes wrong is left to the loop, which says what and where.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from ndl.runtime.finite import all_finite
from ndl.runtime.problem import Floats, Ints, Problem
from ndl.runtime.stepping.control import host
from ndl.runtime.stepping.stepper import Attempt, Stepper
from ndl.runtime.stepping.trail import BUDGET, Piece, StepTable, Trail, shared_table
from torch import Tensor

if TYPE_CHECKING:
    from ndl.runtime.stepping.loop import Loop, Outcome

CHECK = 64
"""Steps between two looks whether all values are finite."""


@dataclass
class StateTrail(Trail):
    """The trail of a march: `states [K + 1, B, n]`, None when they are not kept; errors `[K, B]`."""

    problem: Problem | None = None
    stepper: Stepper | None = None
    states: Tensor | None = None
    errors: Floats = field(default_factory=lambda: np.empty((0, 0)))
    times: Floats = field(default_factory=lambda: np.empty(0))
    _made: list[Piece] = field(default_factory=list)

    @property  # type: ignore[misc]  # made on demand, where the base class has a list
    def pieces(self) -> list[Piece]:  # type: ignore[override]
        """All steps as the rows of one attempt, members together."""
        if not self._made and self.states is not None and len(self.times) > 1:
            table = self.table()
            step = self.steps(table.ids, np.tile(np.arange(len(self.times) - 1), self.count))
            rows = np.arange(len(table.ids))
            self._made.append(Piece(rows, table.ids, table.t, table.end, table.h, table.error, step))
        return self._made

    @pieces.setter
    def pieces(self, value: list[Piece]) -> None:
        self._made = list(value)

    def steps(self, ids: Ints, k: Ints) -> Attempt:
        """The steps number `k [r]` of the members `ids [r]`, ready for continuous output."""
        assert self.problem is not None and self.stepper is not None and self.states is not None
        place, member = torch.from_numpy(k), torch.from_numpy(ids)
        x0, x1 = self.states[place, member], self.states[place + 1, member]
        t, h = self.times[k], (self.times[1:] - self.times[:-1])[k]
        f = self.problem.field(ids)
        step = self.stepper.revisit(f, x0, x1, t, h, ids)
        assert step is not None
        self.stepper.complete(f, step, t, h)
        return step

    def table(self) -> StepTable:
        many, b = len(self.times) - 1, self.count
        t, entries = np.tile(self.times[:-1], b), np.arange(b * many)
        end = np.tile(self.times[1:], b)
        none = np.zeros(b * many, dtype=np.int64)
        error = np.ascontiguousarray(self.errors.T).reshape(-1) if self.errors.size else np.zeros(b * many)
        ids = np.repeat(np.arange(b), many)
        return StepTable(ids, t, end, end - t, error, none, entries, np.arange(b + 1) * many)


def march(loop: Loop) -> Outcome | None:
    """The whole run of a loop with fixed steps, or None when the loop itself is needed."""
    from ndl.runtime.stepping.loop import Outcome

    p, stepper, step = loop.p, loop.stepper, loop.pace.step
    if (
        step is None
        or loop.corners
        or loop.watch
        or loop.earlier
        or loop.delays
        or loop.requirements
        or p.algebraic
        or p.t0 == p.t1
    ):
        return None
    if abs(p.t1 - p.t0) / step > p.max_steps:
        return None
    table = shared_table(p, step)
    times = np.append(table.t, p.t1)
    places, slots, inside = placed(p, times)
    whole = loop.trail.keep or len(inside) > 0
    size = len(times) * p.x0.numel() * p.x0.element_size() * (2 + stepper.width)
    if whole and (size > BUDGET or not stepper.revisits):
        return None
    found = _walk(loop, times, whole, set(places.tolist()))
    if found is None:
        return None
    states, last, errors = found
    trail = StateTrail(
        p.count, p.sign, keep=whole and loop.trail.keep, problem=p, stepper=stepper,
        states=torch.stack(states) if whole else None, errors=errors, times=times,
    )  # fmt: skip
    _record(loop, trail, dict(zip(sorted(set(places.tolist())), states, strict=False)) if not whole else {},
            last, times, places, slots, inside)  # fmt: skip
    loop.steps += len(times) - 1
    return Outcome(
        loop.recorder, trail, loop.watch, last, np.full(p.count, p.t1),
        loop.steps, loop.rejected, loop.evaluations, p.x0.detach(), [], [],
    )  # fmt: skip


def placed(p: Problem, times: Floats) -> tuple[Ints, Ints, Ints]:
    """Of a save plan: which of `times` are saved and in which slots, and the slots of times inside steps."""
    none = np.empty(0, dtype=np.int64)
    if p.save.kind == "steps":
        return np.arange(len(times)), np.arange(len(times)), none
    if p.save.kind == "end":
        return none, none, none
    k = np.searchsorted(p.sign * times, p.sign * p.save.times)
    exact = times[np.minimum(k, len(times) - 1)] == p.save.times
    slots = np.arange(len(k))
    return k[exact], slots[exact], slots[~exact]


def _walk(
    loop: Loop, times: Floats, whole: bool, wanted: set[int]
) -> tuple[list[Tensor], Tensor, Floats] | None:
    """The states at all times or the wanted ones, the last one and the scaled errors `[K, B]`."""
    p, stepper, f, x, carry = loop.p, loop.stepper, loop.f, loop.x, loop.stepper.begin(
        loop.f, loop.x, loop.t
    )  # fmt: skip
    b = p.count
    kept = [x] if whole or 0 in wanted else []
    errors: list[Floats] = []
    cost = np.zeros(b, dtype=np.int64)
    ends, every = np.repeat(times[:, None], b, 1), np.ones(b, dtype=bool)
    sizes = np.diff(ends, axis=0)
    for k in range(len(times) - 1):
        step = stepper.attempt(f, x, ends[k], sizes[k], carry)
        cost += step.cost
        if step.ok is not None and not step.ok.all():
            return None
        if step.error is not None:
            errors.append(host(loop.tol.norm(step.error, x.abs(), step.x1.abs())))
        x, carry = step.x1, carry.merge(step.carry, every)
        if whole or k + 1 in wanted:
            kept.append(x)
        if k % CHECK == 0 and not all_finite(x):
            return None
    if not all_finite(x):
        return None
    loop.evaluations += cost
    return kept, x, np.stack(errors) if errors else np.empty((0, 0))


def _record(
    loop: Loop, trail: StateTrail, kept: dict[int, Tensor], last: Tensor, times: Floats, places: Ints,
    slots: Ints, inside: Ints,
) -> None:  # fmt: skip
    """What the plan asks for, handed to the recorder."""
    p, recorder = loop.p, loop.recorder
    b, n = p.count, p.size
    members = np.arange(b)
    if len(places):
        if trail.states is not None:
            values = trail.states[torch.from_numpy(places)]
        else:
            values = torch.stack([kept[int(k)] for k in places])
        ids, where = np.tile(members, len(places)), np.repeat(slots, b)
        recorder.put(ids, where, np.repeat(times[places], b), {"x": values.reshape(-1, n)})
    if len(inside):
        at = p.save.times[inside]
        k = np.clip(np.searchsorted(p.sign * times, p.sign * at) - 1, 0, len(times) - 2)
        ids, k, at = np.tile(members, len(k)), np.repeat(k, b), np.repeat(at, b)
        step = trail.steps(ids, k)
        theta = (at - times[k]) / (times[k + 1] - times[k])
        x = loop.stepper.interpolate(step, np.arange(len(ids)), theta)
        recorder.put(ids, np.repeat(inside, b), at, {"x": x})
    recorder.slots += len(places) + len(inside)
    recorder.finish(members, np.full(b, p.t1), {"x": last})
