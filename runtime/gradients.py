"""Gradients of a run: what each route records, and how.

`discrete` differentiates what was computed: the accepted steps are found without a tape and taken again with
one. `checkpoint(n)` keeps the states at the ends of n stretches and takes each stretch again on the way back
(`checkpoint(memory=…)`: as few stretches as fit; kernels keep n states, see `kernels.stretches`).
`adjoint` solves the continuous adjoint equation. `reversible` belongs to reversible methods.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from ndl.runtime import at_once
from ndl.runtime.errors import SettingError
from ndl.runtime.events import EventWatch
from ndl.runtime.finite import all_finite
from ndl.runtime.problem import Problem
from ndl.runtime.recompute import Checkpoints, checkpoints_of, stretches_for
from ndl.runtime.requirements import Requirements
from ndl.runtime.second_order import repeated
from ndl.runtime.solution import Interpolant, Solution
from ndl.runtime.stepping.delays import settled
from ndl.runtime.stepping.explicit import ExplicitRK
from ndl.runtime.stepping.finish import (
    SavedInterpolant,
    errors_of,
    events_of,
    solution_of,
    stats_of,
    steps_of,
    stiffness_of,
)
from ndl.runtime.stepping.loop import Loop, Outcome
from ndl.runtime.stepping.pace import Pace
from ndl.runtime.stepping.replay import Replay, Script, State, Taken, gather
from ndl.runtime.stepping.stepper import Stepper
from ndl.runtime.stepping.trail import Piece, TrailInterpolant, fixed_table
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def solve_with_gradient(problem: Problem, stepper: Stepper) -> Solution:
    """Solve by the route that `problem.gradient` names. Raises `SettingError` where it cannot."""
    route, asked = route_of(problem.gradient)
    if route == "adjoint":
        from ndl.runtime.adjoint import solve_adjoint

        return solve_adjoint(problem, stepper)
    if route == "reversible":
        from ndl.runtime.reversible import solve_reversible

        return solve_reversible(problem, stepper)
    if route == "discrete" and at_once.applies(problem, stepper):
        found = at_once.solve_at_once(problem, stepper)
        if found is not None:
            return found
    if route == "discrete" and alone(problem, stepper):
        loop = Loop(problem, stepper, keep=True, taped=True)

        def complete(piece: Piece) -> None:
            assert piece.attempt is not None
            stepper.complete(loop.f, piece.attempt, piece.t, piece.h)

        loop.trail.complete = complete
        return solution_of(problem, stepper, loop.run())
    script, outcome = script_of(problem, stepper)
    return replayed(problem, stepper, script, outcome, asked)


def alone(problem: Problem, stepper: Stepper) -> bool:
    """Whether the loop itself can record the gradient: one member, whose rejected steps leave no trace, and
    no time that follows the state."""
    model = problem.model
    return problem.count == 1 and isinstance(stepper, ExplicitRK) and not model.EVENTS and not model.BREAKS


def route_of(gradient: Any) -> tuple[str, Checkpoints | None]:
    """The route and, for checkpoints, how many."""
    if gradient in ("discrete", "adjoint", "reversible"):
        return gradient, None
    found = checkpoints_of(gradient)
    if found is None:
        raise SettingError(
            f"`gradient` is discrete, checkpoint(n), checkpoint(memory=bytes), adjoint, reversible or none, "
            f"not `{gradient}`"
        )
    return "checkpoint", found


def script_of(problem: Problem, stepper: Stepper) -> tuple[Script, Outcome | None]:
    """The accepted steps: known beforehand for fixed steps with nothing to watch for, else found."""
    pace = Pace.of(problem, stepper)
    plain = not EventWatch(problem) and not Requirements(problem) and not problem.model.DELAYS
    if pace.step is not None and plain:
        return Script(fixed_table(problem, pace.step), given=True), None
    with torch.no_grad():
        outcome = Loop(problem, stepper, keep=False).run()
    watch = outcome.watch
    table = outcome.trail.table()
    return Script(table, watch.firings, outcome.restarts, outcome.crossings, pace.fixed), outcome


def replayed(
    problem: Problem, stepper: Stepper, script: Script, outcome: Outcome | None, asked: Checkpoints | None
) -> Solution:
    """The solution whose values carry their gradients."""
    keep = asked is None
    replay = Replay(problem, stepper, script, keep)
    steps = int(script.table.many.max(initial=0))
    state, first = replay.begin()
    parts = [first]
    if asked is None:
        state, taken = replay.stretch(state, 0, steps)
        parts.append(taken)
    elif steps:
        bounds = np.linspace(0, steps, min(_stretches(asked, replay, state, steps), steps) + 1)
        bounds = bounds.round().astype(int)
        for a, b in pairwise(bounds):
            state, taken = _checkpointed(replay, state, int(a), int(b))
            parts.append(taken)
    recorder, last, trail, fired = gather(problem, parts, keep)
    problem = settled(problem)
    last_t = np.full(problem.count, problem.t1) if outcome is None else outcome.last_t
    if outcome is None:
        if not all_finite(last):
            # the loop without a tape says what went wrong, and where
            with torch.no_grad():
                Loop(problem, stepper, keep=False).run()
        many = script.table.many
        stats = stats_of(problem, many, np.zeros_like(many), replay.evaluations.copy())
    else:
        stats = stats_of(problem, outcome.steps, outcome.rejected, outcome.evaluations)
    recorder.finish(np.arange(problem.count), last_t, {"x": last})
    saved = recorder.result()
    watch = EventWatch(problem)
    watch.firings = script.firings
    times = torch.stack([fired[i] for i in range(len(script.firings))]) if script.firings else None
    interpolant: Interpolant | None = SavedInterpolant(problem, saved) if problem.save.kind != "end" else None
    table = script.table
    if keep and trail.keep and trail.pieces:
        interpolant = TrailInterpolant(trail, stepper, saved.t[:, 0], problem.x0)
        table = trail.table()
    return Solution(
        problem, saved, {"x": last}, last_t, stats,
        steps_of(
            problem, table, lambda: stiffness_of(trail, stepper, table),
            lambda: errors_of(problem, trail, table),
        ),
        events_of(problem, watch, times), interpolant,
    )  # fmt: skip


def _stretches(asked: Checkpoints, replay: Replay, state: State, steps: int) -> int:
    """How many stretches, of about equal lengths."""
    if asked.memory is None:
        assert asked.states is not None
        return asked.states
    kept: dict[int, int] = {}

    def count(x: Tensor) -> Tensor:
        if not x.is_leaf:  # weights are there anyway
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
        replay.stretch(state, 0, 1)
    replay.evaluations[:] = 0
    end = (state.x, *(v for v in state.carry.values() if isinstance(v, Tensor)))
    size = sum(v.numel() * v.element_size() for v in end)
    return stretches_for(steps, asked.memory, size, sum(kept.values()))


def _checkpointed(replay: Replay, state: State, first: int, last: int) -> tuple[State, Taken]:
    """A stretch whose tape is made again on the way back."""

    def stretch() -> tuple[State, Taken]:
        with repeated():
            return replay.stretch(state, first, last)

    made: tuple[State, Taken] = checkpoint(stretch, use_reentrant=False)
    return made
