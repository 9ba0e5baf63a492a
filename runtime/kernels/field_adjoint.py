"""Gradients of fields through sweeps: steps are taken back from the last to the first, from checkpoints.

What a step back reads is the state before it. Of a run of N steps with room for n states these are made again
in the order of the binomial schedule, by passes of many steps; with room for all, none is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from ndl.runtime.kernels.sweeping import Back, FieldMade, Plan, Sweeper, alike
from ndl.runtime.memory import refuse_tape
from ndl.runtime.problem import Floats, Problem
from ndl.runtime.recompute import Stretch, checkpoints_of, schedule
from ndl.runtime.second_order import BY_TORCH, once
from torch import Tensor


@dataclass(frozen=True)
class Steps:
    """Steps by their times and sizes; after how many of them values are wanted (of the last in any case);
    and how many states there is room for."""

    t: Floats
    h: Floats
    stops: list[int]
    states: int


def states_of(problem: Problem, count: int) -> int:
    """For how many states a run of `count` steps has room. Raises `SettingError` where that of all steps is
    wanted and is not there."""
    size = problem.x0.numel() * problem.x0.element_size()
    found = checkpoints_of(problem.gradient)
    if found is None:
        refuse_tape(count * size, problem.device)
        return count
    if found.states is not None:
        return min(found.states, count)
    assert found.memory is not None
    return max(1, min(int(found.memory / size), count))


def adjoint(
    made: FieldMade, back: Back, steps: Steps, fields: Tensor, slots: Tensor, tables: Mapping[str, Tensor]
) -> Tensor:
    """The fields at the stops, `[B, stops, fields, points]`, with a gradient by `fields` and by the slots and
    tables of which `back` gives one."""
    names = tuple(tables)
    run = _Run(made, back, steps, names)
    found: Tensor = _Adjoint.apply(run, fields, slots, *tables.values())  # type: ignore[no-untyped-call]
    return found


class _Run:
    """A run, and what it has kept for its way back."""

    def __init__(self, made: FieldMade, back: Back, steps: Steps, names: tuple[str, ...]) -> None:
        assert isinstance(made.plan, Plan)
        self.plan, self.back, self.steps, self.names = made.plan, back, steps, names
        self.reserved = made.reserved
        self.kept: dict[int, Tensor] = {}
        self.ready = False

    @property
    def count(self) -> int:
        return len(self.steps.h)

    def stretches(self) -> list[Stretch]:
        return list(schedule(self.count, self.steps.states - 1))

    def sweeper(self, fields: Tensor, tables: Mapping[str, Tensor]) -> Sweeper:
        shape = self.plan.shape
        wide = fields.reshape(*fields.shape[:2], *shape)
        return Sweeper(self.plan, wide, {k: t.reshape(-1, *shape) for k, t in tables.items()})

    def advance(self, sweeper: Sweeper, slots: Tensor, first: int, last: int) -> None:
        for k, many in alike(self.steps.h, first, last):
            slots[:, 0], slots[:, 1] = self.steps.t[k], self.steps.h[k]
            sweeper.advance(slots, many)

    def forward(self, fields: Tensor, slots: Tensor, tables: Mapping[str, Tensor]) -> Tensor:
        """The fields at the stops; the checkpoints of the first stretch are kept on the way."""
        sweeper, found, done = self.sweeper(fields, tables), [], 0
        marks = dict(self.stretches()[0].marks)
        for stop in sorted({*self.steps.stops, *marks}):
            self.advance(sweeper, slots, done, stop)
            done = stop
            if stop in marks:
                self.kept[marks[stop]] = sweeper.now.clone()
            if stop in self.steps.stops:
                found.append(sweeper.fields().reshape(fields.shape))
        self.ready = True
        return torch.stack(found, 1)

    def backward(
        self, fields: Tensor, slots: Tensor, tables: Mapping[str, Tensor], grads: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """From the cotangents of what `forward` gives: those of the fields, of the slots that have one
        `[B, numbers]`, and of the arrays `[B, points]`."""
        b, many, points = fields.shape
        shape = self.plan.shape
        sweeper = self.sweeper(fields, tables)
        start = sweeper.now.clone()
        shares = self.back.numbers + len(self.back.tables)
        none = fields.new_zeros(b, many + shares, *shape)
        reverse = Sweeper(self.back.plan, none, {k: t.reshape(-1, *shape) for k, t in tables.items()})
        stops = {k: i for i, k in enumerate(self.steps.stops)}

        def add(stop: int) -> None:
            if stop in stops:
                given = grads[:, stops[stop]].reshape(b, many, *shape)
                reverse.now[:, :many] += reverse.laid(given)

        for stretch in self.stretches():
            n = stretch.last
            add(n + 1)
            self._reach(stretch, sweeper, start, slots)
            for f in range(many):
                reverse.given[f"c.x{f}"] = sweeper.now[:, f]
            slots[:, 0], slots[:, 1] = self.steps.t[n], self.steps.h[n]
            reverse.advance(slots, 1)
        add(0)
        found = reverse.fields().reshape(b, many + shares, points)
        numbers = found[:, many : many + self.back.numbers].sum(-1)
        arrays = {k: found[:, many + self.back.numbers + i] for i, k in enumerate(self.back.tables)}
        return found[:, :many], numbers, arrays

    def _reach(self, stretch: Stretch, sweeper: Sweeper, start: Tensor, slots: Tensor) -> None:
        """The sweeper at the start of a stretch's last step."""
        done, source, marks = stretch.first, stretch.source, stretch.marks
        if self.ready and marks:  # they have been made on the way there
            (done, source), marks = marks[-1], ()
        self.ready = False
        sweeper.now.copy_(start if source < 0 else self.kept[source])
        for stop, place in marks:
            self.advance(sweeper, slots, done, stop)
            done = stop
            self.kept[place] = sweeper.now.clone()
        self.advance(sweeper, slots, done, stretch.last)


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, run: _Run, fields: Tensor, slots: Tensor, *tables: Tensor) -> Tensor:
        ctx.run = run
        ctx.save_for_backward(fields, slots, *tables)
        return run.forward(fields.detach(), slots.detach().clone(), dict(zip(run.names, tables)))

    @staticmethod
    def backward(ctx: Any, grads: Tensor) -> tuple[Tensor | None, ...]:
        run: _Run = ctx.run
        fields, slots, *tables = ctx.saved_tensors
        with torch.no_grad():
            of_fields, numbers, arrays = run.backward(
                fields, slots.detach().clone(), dict(zip(run.names, tables)), grads
            )
        of_slots = torch.zeros_like(slots)
        free = slice(2 + run.reserved, 2 + run.reserved + run.back.numbers)
        of_slots[:, free] = numbers if slots.shape[0] > 1 else numbers.sum(0, keepdim=True)
        of_tables = [
            None if k not in arrays else arrays[k] if t.shape[0] > 1 else arrays[k].sum(0, keepdim=True)
            for k, t in zip(run.names, tables)
        ]
        made = (of_fields, of_slots, *of_tables)
        return None, *once("a run by a kernel", BY_TORCH, made, (grads, fields, slots, *tables))


__all__ = ["Steps", "adjoint", "states_of"]
