"""The accepted steps of a run once more, recording the gradient.

Step k of all members is taken at once; members that took fewer leave. Step sizes are constants, but the time
of a root event is not: it follows the state by the implicit function theorem, and all later times shift with
it, up to the next time that is given (the end of the span, an `every`, a fixed grid). A break shifts time
likewise. Under noise, where a step would take its increments along, a break shifts no time: the state moves
along the old field to where the break has come, and behind it back along the new one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from ndl.runtime.chance import at_firing, draws_by_step
from ndl.runtime.events import Firing
from ndl.runtime.methods import VectorField
from ndl.runtime.model import Model
from ndl.runtime.problem import Floats, Ints, Problem
from ndl.runtime.recorder import Recorder
from ndl.runtime.second_order import inner_derivative, rooted
from ndl.runtime.stepping.consistent import tied
from ndl.runtime.stepping.control import clock
from ndl.runtime.stepping.delays import Delays
from ndl.runtime.stepping.earlier import Earlier
from ndl.runtime.stepping.stepper import Attempt, Carry, Stepper, Time
from ndl.runtime.stepping.trail import Piece, StepTable, Trail
from torch import Tensor


@dataclass(frozen=True)
class Script:
    """What is to be replayed: the steps, the firings, fresh starts and crossings, in the run's order.
    `given` says that every step which no root ends comes to a given time."""

    table: StepTable
    firings: list[Firing] = field(default_factory=list)
    restarts: list[tuple[int, int]] = field(default_factory=list)
    crossings: list[tuple[int, int, int]] = field(default_factory=list)
    given: bool = False


@dataclass
class State:
    """Where a replay stands: rows are `ids`. `shift [m]` is 0 and carries the gradient of time."""

    ids: Ints
    x: Tensor
    carry: Carry
    slots: Ints
    shift: Tensor | None = None


@dataclass
class Taken:
    """What a stretch of a replay hands over: arguments of the recorder, of the trail, and ends."""

    saved: list[tuple[Ints, Ints, Floats, Tensor]] = field(default_factory=list)
    ends: list[tuple[Ints, Tensor]] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    fired: list[tuple[int, Tensor]] = field(default_factory=list)


@dataclass(frozen=True)
class Echo:
    """A step of a member ends where a jump comes back: that of firing number `number` (-1: of the start; from
    the number of firings on: of the break that a step crosses), after as many of each delay as `counts [D]`
    says."""

    member: int
    number: int
    counts: Ints


class Replay:
    """Replays a script from the differentiable start of a problem."""

    def __init__(self, problem: Problem, stepper: Stepper, script: Script, keep: bool) -> None:
        self.p, self.stepper, self.script, self.keep = problem, stepper, script, keep
        self.evaluations = np.zeros(problem.count, dtype=np.int64)
        self.drawing = draws_by_step(problem.model)
        self.earlier = Earlier(problem)
        self.delays = Delays(problem, stepper)
        self.order = np.argsort(-script.table.many, kind="stable")
        self.firings: dict[int, list[tuple[int, Firing]]] = defaultdict(list)
        for number, firing in enumerate(script.firings):
            self.firings[firing.step].append((number, firing))
        self.restarts = _grouped(script.restarts)
        self.crossings: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for member, step, k in script.crossings:
            self.crossings[step].append((member, k))
        self.echoes: dict[int, list[Echo]] = defaultdict(list)
        self.across: dict[tuple[int, int], int] = {}
        self.times: dict[int, Tensor] = {}
        located = problem.model.BREAKS > 0 and not (script.given or self.drawing)
        if self.delays and (problem.model.EVENTS or located):
            self._find_echoes()
        self._field: tuple[int, VectorField, Model] | None = None

    # ------------------------------------------------------------ stretches

    def begin(self) -> tuple[State, Taken]:
        """The start: consistent, after the events at the start, saved."""
        p, taken = self.p, Taken()
        ids = np.arange(p.count)
        x = p.x0
        t = np.full(p.count, p.t0)
        if p.algebraic:
            x = tied(p, p.model, x, clock(t, x))[0]
        state = State(ids, x, Carry(), np.zeros(p.count, dtype=np.int64))
        self._fire(state, 0, t, clock(t, x), p.model, taken)
        state.carry = self.stepper.begin(p.field(), state.x, t)
        self._save(state, t, taken)
        state.ids = self.order
        state.x = state.x.index_select(0, torch.from_numpy(self.order).to(x.device))
        state.carry = state.carry.rows(self.order)
        self._leave(state, 0, taken)
        return state, taken

    def stretch(self, state: State, first: int, last: int) -> tuple[State, Taken]:
        """Steps first, …, last - 1. What is given is left as it is, so that a stretch can be repeated."""
        state = State(state.ids, state.x, Carry(state.carry), state.slots.copy(), state.shift)
        self._field = None  # made in each stretch, so that it is made again on the way back
        taken = Taken()
        if self.delays.past is not None:
            self.delays.past.rewind(first)
        for k in range(first, last):
            self._step(state, k, taken)
            self._leave(state, k + 1, taken)
        return state, taken

    def _of(self, ids: Ints) -> tuple[VectorField, Model]:
        if self._field is None or self._field[0] != len(ids):
            self._field = (len(ids), self.p.field(ids), self.p.members(ids))
        return self._field[1], self._field[2]

    def _step(self, state: State, k: int, taken: Taken) -> None:
        p, table, ids = self.p, self.script.table, state.ids
        f, model = self._of(ids)
        if self.drawing:
            model = p.members(ids, np.full(len(ids), k))
        entry = table.starts[ids] + k
        t, h, end = table.t[entry], table.h[entry], table.end[entry]
        behind = self._cross(state, k, t, f, model) if k in self.crossings else None
        rooted = self._rows(ids, k + 1, root=True)
        known = ~rooted & ((end == p.t1) | self._rows(ids, k + 1, root=False))
        back, later = self._echo(state, k + 1, ~rooted & ~known)
        given = known | back | (~rooted & self.script.given)
        T: Time = t
        H: Time = h
        if state.shift is not None:
            T = clock(t, state.x) + state.shift
            H = clock(h, state.x) + torch.where(_mask(given, state.x), later - state.shift, 0.0)
        self.delays.aim(ids, t, h)
        step = self.stepper.attempt(f, state.x, T, H, state.carry, taped=True)
        self.evaluations[ids] += step.cost
        self.earlier.hold(step)
        if self.keep or self.delays or rooted.any() or self._inside(state, end):
            self.stepper.complete(f, step, T, H)
        if self.delays.past is not None:
            self.delays.past.add(ids, np.arange(len(ids)), t, step, T, H)
        self._save_inside(state, step, t, end, h, T, H, taken)
        at: Any = None
        x1 = step.x1
        if rooted.any():
            theta = self._root_fraction(step, k + 1, ids, rooted, (end - t) / h, T, H, model, state.x)
            found = self.stepper.interpolate(step, np.arange(len(ids)), theta)
            x1 = torch.where(_mask(rooted, x1)[:, None], found, x1)
            at = _tensor(T, x1) + theta * _tensor(H, x1)
        if at is not None or state.shift is not None:
            moved = _tensor(T, x1) if at is None else torch.where(_mask(rooted, x1), at, _tensor(T, x1))
            shift = torch.where(_mask(given, x1), later, moved - moved.detach())
            state.shift = shift
        if self.keep:
            rows = np.arange(len(ids))
            taken.pieces.append(Piece(rows, ids, t, end, h, table.error[entry], step, (T, H)))
        passed = None
        if p.save.kind == "grid" and np.isin(end[back], p.save.times).any():
            # a value saved where the step ends is not of the end that moves
            passed = x1 - _along(f, x1, clock(end, x1), torch.where(_mask(back, x1), later, 0.0), back=True)
        if behind is not None:
            x1 = _along(f, x1, clock(end, x1), behind, back=True)
        state.carry = state.carry.merge(step.carry, np.ones(len(ids), dtype=bool))
        state.x = self.earlier.shift(step.x0, x1)
        now = clock(end, x1)
        if state.shift is not None:
            now = now + state.shift
        if self.earlier.changes:
            everyone = np.ones(len(ids), dtype=bool)
            state.carry = self.stepper.refresh(f, state.x, end, state.carry, everyone)
        if self.across and k in self.crossings:
            for row, member in enumerate(ids.tolist()):
                if (k, member) in self.across:
                    self.times[self.across[k, member]] = now[row]
        self._fire(state, k + 1, end, now, model, taken)
        again = np.isin(ids, self.restarts.get(k + 1, ()))
        if again.any():
            state.carry = self.stepper.refresh(f, state.x, end, state.carry, again)
        self._save(state, end, taken, passed)

    def _leave(self, state: State, k: int, taken: Taken) -> None:
        """Members that took k steps come to their end; they are the last rows."""
        stay = int((self.script.table.many[state.ids] > k).sum())
        if stay == len(state.ids):
            return
        out, keep = np.arange(stay, len(state.ids)), np.arange(stay)
        taken.ends.append((state.ids[out], state.x[stay:]))
        state.ids, state.x, state.carry = state.ids[:stay], state.x[:stay], state.carry.rows(keep)
        state.shift = None if state.shift is None else state.shift[:stay]

    # ------------------------------------------------------------ saving

    def _inside(self, state: State, end: Floats) -> bool:
        plan = self.p.save
        if plan.kind != "grid":
            return False
        until = np.searchsorted(self.p.sign * plan.times, self.p.sign * end)
        return bool((until > state.slots[state.ids]).any())

    def _save_inside(
        self, state: State, step: Attempt, t: Floats, end: Floats, h: Floats, T: Time, H: Time, taken: Taken
    ) -> None:
        due = _due(self.p, state.slots, state.ids, end, inclusive=False)
        if due is None:
            return
        rows, slots, times = due
        theta: Any = (times - t[rows]) / h[rows]
        if isinstance(T, Tensor) or isinstance(H, Tensor):
            pick = torch.from_numpy(rows)
            theta = (clock(times, state.x) - _tensor(T, state.x)[pick]) / _tensor(H, state.x)[pick]
        x = self.stepper.interpolate(step, rows, theta)
        taken.saved.append((state.ids[rows], slots, times, x))

    def _save(self, state: State, t: Floats, taken: Taken, passed: Tensor | None = None) -> None:
        """Saves what is due at t; `passed [b, n]` is how far the states have gone since then."""
        if self.p.save.kind == "steps":
            taken.saved.append((state.ids, state.slots[state.ids].copy(), t, state.x))
            state.slots[state.ids] += 1
            return
        due = _due(self.p, state.slots, state.ids, t, inclusive=True)
        if due is not None:
            rows, slots, times = due
            x = (state.x if passed is None else state.x - passed)[torch.from_numpy(rows).to(state.x.device)]
            taken.saved.append((state.ids[rows], slots, times, x))

    # ------------------------------------------------------------ events and breaks

    def _find_echoes(self) -> None:
        """Where steps end as jumps come back after the delays."""
        table, firings = self.script.table, self.script.firings
        self.lags = self.delays.lags()
        # a step over several breaks at a time is one origin
        over = sorted({(step, member) for member, step, _ in self.script.crossings})
        self.across = {pair: number for number, pair in enumerate(over, len(firings))}
        for member in range(self.p.count):
            mine = [(i, f.t) for i, f in enumerate(firings) if f.member == member]
            first = table.starts[member]
            ends = table.end[first : first + table.many[member]]
            if not len(ends):
                continue
            mine += [(number, ends[step]) for (step, m), number in self.across.items() if m == member]
            times = np.array([t for _, t in mine])
            for step, place, counts in self.delays.sources(member, ends, times):
                number = mine[place][0] if place >= 0 else -1
                self.echoes[step + 1].append(Echo(member, number, counts))

    def _echo(self, state: State, k: int, rows: np.ndarray) -> tuple[np.ndarray, Tensor]:
        """Which `rows` end their step k (counted from 1) as a jump comes back, and how far that moves with
        the time of the jump and with the delays; 0 for others."""
        later, back = torch.zeros_like(state.x[:, 0]), np.zeros(len(rows), dtype=bool)
        mine = {e.member: e for e in self.echoes.get(k, ())}
        for row in np.nonzero(rows & np.isin(state.ids, list(mine)))[0].tolist():
            echo = mine[int(state.ids[row])]
            time = self.lags[echo.member] @ torch.from_numpy(echo.counts).to(state.x)
            if echo.number >= 0:
                time = time + self.times[echo.number]
            back[row] = True
            later = torch.cat([later[:row], (time - time.detach())[None], later[row + 1 :]])
        if back.any() and state.shift is None:
            state.shift = torch.zeros_like(later)
        return back, later

    def _rows(self, ids: Ints, k: int, root: bool) -> np.ndarray:
        """Rows whose step k (counted from 1) ends with a root event, or else with a timed one."""
        rooted = {f.member for _, f in self.firings.get(k, ()) if f.root}
        timed = {f.member for _, f in self.firings.get(k, ()) if self._timed(f)}
        members = rooted if root else timed - rooted
        return np.isin(ids, list(members)) if members else np.zeros(len(ids), dtype=bool)

    def _timed(self, firing: Firing) -> bool:
        return self.p.model.EVENTS[firing.event].kind in ("every", "sample", "poisson")

    def _root_fraction(
        self, step: Attempt, k: int, ids: Ints, rooted: np.ndarray, theta: Floats, T: Time, H: Time,
        model: Model, like: Tensor,
    ) -> Tensor:  # fmt: skip
        """theta with the derivative that keeps the guard of the first event that fired at 0."""
        first = {f.member: f.event for _, f in reversed(self.firings[k]) if f.root}
        theta = np.where(rooted, theta, 1.0)
        if not torch.is_grad_enabled():
            return clock(theta, like)
        base = clock(theta, like).clone().requires_grad_(True)
        out = base.detach()
        for event in sorted(set(first.values())):
            mine = _mask(np.array([first.get(int(i), -1) == event for i in ids]) & rooted, like)

            def guard(theta: Tensor, event: int = event) -> Tensor:
                x = self.stepper.interpolate(step, np.arange(len(ids)), theta)
                return model.guard(event, _tensor(T, like) + theta * _tensor(H, like), x).expand(len(ids))

            with inner_derivative():
                slope = torch.autograd.grad(guard(base).sum(), base, retain_graph=True)[0].detach()
            out = torch.where(mine, _root_at(guard, base, torch.where(mine, slope, 1.0)), out)
        return out

    def _fire(self, state: State, k: int, t: Floats, at: Tensor, model: Model, taken: Taken) -> None:
        """The recorded events before step k, one after the other for each member."""
        queues: dict[int, list[tuple[int, Firing]]] = defaultdict(list)
        for number, firing in self.firings.get(k, ()):
            queues[firing.member].append((number, firing))
        if not queues:
            return
        while any(queues.values()):
            heads = {m: q.pop(0) for m, q in queues.items() if q}
            for event in sorted({f.event for _, f in heads.values()}):
                mine = np.array([int(i) in heads and heads[int(i)][1].event == event for i in state.ids])
                if self.p.model.EVENTS[event].resets:
                    turns = [heads[int(i)][1].turn if int(i) in heads else 0 for i in state.ids]
                    x = at_firing(model, event, state.ids, turns).reset(event, at, state.x)
                    state.x = torch.where(_mask(mine, state.x)[:, None], x, state.x)
                for row in np.nonzero(mine)[0]:
                    number = heads[int(state.ids[row])][0]
                    self.times[number] = at[int(row)]
                    taken.fired.append((number, at[int(row)]))
        if self.p.algebraic:
            touched = _mask(np.isin(state.ids, list(queues)), state.x)[:, None]
            state.x = torch.where(touched, tied(self.p, model, state.x, at)[0], state.x)

    def _cross(self, state: State, k: int, t: Floats, f: VectorField, model: Model) -> Tensor | None:
        """Before the tiny step over a break: x moves along the old field, and time with it, so that the
        break stays where the state takes it. Under noise no time moves: how far it would is handed over."""
        shift = torch.zeros_like(state.x[:, 0]) if state.shift is None else state.shift
        T = clock(t, state.x) + shift
        for number in sorted({c for _, c in self.crossings[k]}):
            mine = np.isin(state.ids, [m for m, c in self.crossings[k] if c == number])
            with torch.enable_grad(), inner_derivative():
                x, s = state.x.detach().requires_grad_(True), T.detach().requires_grad_(True)
                value = model.breaks(s, x)[..., number].sum()
                dx, dt = torch.autograd.grad(value, (x, s), allow_unused=True)
            slope = torch.zeros_like(T) if dt is None else dt
            slope = slope if dx is None else slope + (dx * f(state.x, T).detach()).sum(-1)

            def value_after(s: Tensor, x: Tensor = state.x, T: Tensor = T, number: int = number) -> Tensor:
                return model.breaks(T + s, _along(f, x, T, s))[..., number]

            move = _root_at(value_after, torch.zeros_like(T), torch.where(slope == 0, 1.0, slope))
            move = torch.where(_mask(mine, T), move, 0.0)
            state.x = _along(f, state.x, T, move)
            T = T + move
            shift = shift + move
        before = state.shift
        state.shift = before if model.NOISES else shift
        over = np.isin(state.ids, [m for m, _ in self.crossings[k]])
        state.carry = self.stepper.moved(f, state.x, t, state.carry, over)
        if not model.NOISES:
            return None
        return shift if before is None else shift - before


def _due(p: Problem, slots: Ints, ids: Ints, t: Floats, inclusive: bool) -> tuple[Ints, Ints, Floats] | None:
    """As `Recorder.due`, with the counts in `slots [B]`."""
    recorder = Recorder(p.save, 0, p.sign)
    recorder.slots = slots
    return recorder.due(ids, t, inclusive)


def _grouped(pairs: list[tuple[int, int]]) -> dict[int, list[int]]:
    out: dict[int, list[int]] = defaultdict(list)
    for member, step in pairs:
        out[step].append(member)
    return dict(out)


def _along(f: VectorField, x: Tensor, t: Tensor, s: Tensor, back: bool = False) -> Tensor:
    """x `[b, n]` after a time s `[b]` that is 0 and carries a gradient, with the first and second derivatives
    of the flow; `back`: from t + s, where x is, to t."""
    start, s = (t + s, -s) if back else (t, s)
    middle = x + 0.5 * s[:, None] * f(x, start)
    return x + s[:, None] * f(middle, start + 0.5 * s)


def _root_at(F: Callable[[Tensor], Tensor], z: Tensor, slope: Tensor) -> Tensor:
    """z `[b]`, where each F is at its root, as a function of all that F captures; `slope` is dF/dz."""
    return rooted(F, z, lambda r: (r - r.detach()) / slope)


def _mask(rows: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(rows).to(like.device)


def _tensor(t: Time, like: Tensor) -> Tensor:
    return t if isinstance(t, Tensor) else clock(t, like)


def gather(
    problem: Problem, parts: list[Taken], keep: bool
) -> tuple[Recorder, Tensor, Trail, dict[int, Tensor]]:
    """What stretches handed over, put together: recorder, ends `[B, n]`, trail, times of firings."""
    recorder = Recorder(problem.save, problem.count, problem.sign)
    trail = Trail(problem.count, problem.sign, keep=keep)
    rows, ends = [], []
    fired: dict[int, Tensor] = {}
    for part in parts:
        for ids, slots, times, x in part.saved:
            recorder.put(ids, slots, times, {"x": x})
            np.maximum.at(recorder.slots, ids, slots + 1)
        for ids, x in part.ends:
            rows.append(ids)
            ends.append(x)
        for piece in part.pieces:
            trail.add(piece)
        fired.update(part.fired)
    order = np.argsort(np.concatenate(rows), kind="stable")
    last = torch.cat(ends).index_select(0, torch.from_numpy(order).to(ends[0].device))
    return recorder, last, trail, fired
