"""Events of one trajectory as scalar code: which fire in a step and when, in what order, and what they
change.

The counterpart of `ndl.runtime.events`, whose rules it must reproduce. What a trajectory carries: whether
each root event may fire (`armed`) and which way it is to pass next (`turn`, for `crossing`), whether the step
is the first after an event (`early`), how many events there were without progress in t, since when, the
firings of each timed event and of each other one that draws, and all firings. Firing number r stands in row
r of `event_t`, `event_step` (accepted steps before it) and `event_kind`, with a tape also the state before it
in `event_x`, and in `event_turn` how often that event had fired, where some draw; those beyond the room for
them are counted, not kept. `moments_k` has the times of event k, of data or a
Poisson process, then one that never comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from ndl.compiler.ir.model import ModelIR
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.consistent import consistent
from ndl.compiler.kernels.control import Control
from ndl.compiler.kernels.field import Field
from ndl.compiler.kernels.ir import Unsupported, Value
from ndl.compiler.kernels.outputs import Dense
from ndl.compiler.kernels.roots import locate
from ndl.compiler.kernels.rows import store_rows
from ndl.compiler.kernels.stepper import Attempt

GIVEN = ("poisson", "sample")
"""Events at times that are given for each trajectory."""
ROOTS = ("falling", "rising", "crossing")
"""Events that happen where a guard passes 0."""
FIRST = 4.0**-10
"""Where the first sample of an early step stands: 4^-10, …, 4^-2, then the quarters."""
MANY = 1000
"""Events in a row without progress in t that are an error."""
TIGHT = {"f64": 1e-15, "f32": 5e-7}
"""How closely a root is located, as a fraction of the step."""
NEAR = {"f64": 1e-12, "f32": 1e-6}
"""How near a timed event must be, as a part of the times."""
SMALL = {"f64": 1e-300, "f32": 1e-30}


@dataclass(frozen=True)
class Sides:
    """What is carried. `armed` has a flag for each root event, `turn` a sign for each `crossing`, `done` a
    count for each timed event and each other one that draws."""

    armed: list[Value]
    turn: list[Value]
    done: list[Value]
    early: Value
    run: Value
    since: Value
    fired: Value

    def flat(self) -> list[Value]:
        return [*self.armed, *self.turn, *self.done, self.early, self.run, self.since, self.fired]


@dataclass(frozen=True)
class Fired:
    """What firing leaves: the state, whether the run stops, goes round in circles, or has lost its algebraic
    equations, and evaluations."""

    x: list[Value]
    sides: Sides
    stopped: Value
    endless: Value
    untied: Value
    cost: Value


def unwatched(model: ModelIR) -> str:
    """Why kernels do not have the events of a model; empty when they do."""
    ends = any(e.kind == "sample" and e.stop for e in model.events)
    return "it has data that end a run" if ends else ""


class Watch:
    """The events of a model. Raises `Unsupported` for those that kernels do not have."""

    def __init__(self, field: Field, control: Control, taped: bool = False) -> None:
        """`taped`: the state before each firing is kept, in `event_x`."""
        self.code: Code = field.code
        self.field, self.control, self.taped = field, control, taped
        self.events = field.model.events
        kinds = [e.kind for e in self.events]
        reason = unwatched(field.model)
        if reason:
            raise Unsupported(reason)
        self.roots = [k for k, kind in enumerate(kinds) if kind in ROOTS]
        self.crossings = [k for k, kind in enumerate(kinds) if kind == "crossing"]
        self.timed = [k for k, kind in enumerate(kinds) if kind not in ROOTS]
        drawn = {d.event for d in field.model.draws if d.per == "firing"}
        self.drawn = [k for k in range(len(kinds)) if k in drawn]
        self.counted = [*self.timed, *(k for k in self.drawn if k in self.roots)]
        """Events whose firings are counted."""
        for k, kind in enumerate(kinds):
            if kind in GIVEN:
                self.code.buffer(f"moments_{k}", "member", "in")
        if self.events:
            # the times of events come back after the delays
            self.code.buffer("event_t", "member", "inout" if field.past else "out")
            for name in ("event_step", "event_kind", *(["event_turn"] if taped and self.drawn else [])):
                self.code.buffer(name, "member", "out", "i32")
            if taped:
                self.code.buffer("event_x", "member", "out")

    def __bool__(self) -> bool:
        return bool(self.events)

    @property
    def carried(self) -> tuple[str, ...]:
        if not self:
            return ()
        return (
            *(f"armed.{k}" for k in self.roots), *(f"turn.{k}" for k in self.crossings),
            *(f"done.{k}" for k in self.counted), "early", "run", "since", "fired",
        )  # fmt: skip

    def sides(self, values: Sequence[Value]) -> Sides:
        """The carried values by name."""
        a, b, c = len(self.roots), len(self.crossings), len(self.counted)
        rest = values[a + b + c :]
        return Sides(list(values[:a]), list(values[a : a + b]), list(values[a + b : a + b + c]), *rest)

    def known(self, sides: Sides) -> Value:
        """How many firings have a row."""
        code = self.code
        return code.op("select", code.op("lt", sides.fired, self.room), sides.fired, self.room)

    def prepare(self, room: Value) -> None:
        """In the entry block: how many firings of a trajectory are kept."""
        self.room = room

    # ------------------------------------------------------------ guards

    def guards(self, t: Value, x: Sequence[Value]) -> list[Value]:
        """u of every root event, before the sign that turns it into `falling`."""
        return [self.field.guard(k, t, x) for k in self.roots]

    def turned(self, g: Sequence[Value], sides: Sides) -> list[Value]:
        """The guards with that sign."""
        return [self.signed(place, u, sides) for place, u in enumerate(g)]

    def signed(self, place: int, u: Value, sides: Sides) -> Value:
        k = self.roots[place]
        if k in self.crossings:
            return self.code.op("mul", u, sides.turn[self.crossings.index(k)])
        return u if self.events[k].kind == "falling" else self.code.op("neg", u)

    def start(self, t: Value, x: Sequence[Value]) -> Sides:
        """Arms the events."""
        code, zero = self.code, self.code.const(0, "i32")
        g = self.guards(t, x)
        turn = [self.sign(g[self.roots.index(k)]) for k in self.crossings]
        sides = Sides(
            [], turn, [zero] * len(self.counted), code.const(False, "bool"), zero,
            code.const(float("nan")), zero,
        )  # fmt: skip
        return replace(sides, armed=[code.op("gt", u, 0.0) for u in self.turned(g, sides)])

    @property
    def sampled(self) -> list[int]:
        """Events at data."""
        return [k for k, e in enumerate(self.events) if e.kind == "sample"]

    def sample_start(self, t: Value, x: list[Value], sides: Sides) -> tuple[list[Value], Sides, Value, Value]:
        """Fires the events of data at the start; whether algebraic equations are lost, and evaluations."""
        code, no = self.code, self.code.const(False, "bool")
        timed = dict(zip(self.timed, self.timed_due(t, sides)))
        due = [timed[k] if k in self.sampled else no for k in range(len(self.events))]
        some: Value = no
        for d in due:
            some = code.op("or", some, d)

        def fires() -> list[Value]:
            fired = self.fire(t, x, due, sides, self._whole(0))
            return [*fired.x, *fired.sides.flat(), fired.untied, fired.cost]

        *found, untied, cost = code.when(some, fires, [*x, *sides.flat(), no, self._whole(0)])
        return found[: len(x)], self.sides(found[len(x) :]), untied, cost

    def sign(self, u: Value) -> Value:
        """The sign of a number, 0 for 0."""
        code = self.code
        below = code.op("select", code.op("lt", u, 0.0), -1.0, 0.0)
        return code.op("select", code.op("gt", u, 0.0), 1.0, below)

    # ------------------------------------------------------------ where roots are

    def search(
        self, made: Attempt, dense: Dense, sides: Sides, leaf: Value | None = None
    ) -> tuple[Value, Value, list[Value]]:
        """Whether some root event happens in the step, the fraction of the step at which the first one has
        happened, and which events of `roots` fire there. `leaf` is the time in which a path under noise is
        smooth."""
        code, t, h = self.code, made.t, made.h
        found = self.samples(made, dense, sides)
        tight, coarse = self.tight(t, h), None
        if leaf is not None:
            size = code.op("maximum", code.op("abs", h), SMALL[code.precision])
            coarse = code.op("div", leaf, size)
        hit, best, before = code.const(False, "bool"), code.const(2.0), []
        for place, (passed, low, high, value, start) in enumerate(found):

            def along(theta: Value, place: int = place) -> Value:
                x, at = dense.at(theta), code.op("fma", theta, h, t)
                return self.signed(place, self.field.guard(self.roots[place], at, x), sides)

            start = code.op("maximum", start, SMALL[code.precision])
            narrow = partial(locate, code, along, low, high, start, value, tight, coarse)
            first, after = code.when(passed, narrow, [high, high])
            before.append(first)
            sooner = code.op("and", passed, code.op("lt", after, best))
            best, hit = code.op("select", sooner, after, best), code.op("or", hit, passed)
        last = code.op("fma", tight, 10.0, best)
        due = [code.op("and", p, code.op("le", b, last)) for (p, *_), b in zip(found, before)]
        return hit, best, due

    def tight(self, t: Value, h: Value) -> Value:
        """How closely roots are located in a step."""
        code, unit = self.code, TIGHT[self.code.precision]
        size = code.op("maximum", code.op("abs", h), SMALL[code.precision])
        return code.op("fma", code.op("div", code.op("abs", t), size), unit, unit)

    def samples(self, made: Attempt, dense: Dense, sides: Sides) -> list[list[Value]]:
        """Of each root event: whether its guard passes from > 0 to <= 0, between which samples, and its
        values at the later one and at the earlier one."""
        code, many = self.code, len(self.roots)
        no, one = code.const(False, "bool"), code.const(1.0)
        t, h, x0 = made.t, made.h, made.x0
        at_start = self.turned(self.guards(t, x0), sides)

        def turn(carried: tuple[Value, ...]) -> list[Value]:
            theta, before, *rest = carried
            x, at = dense.at(theta), code.op("fma", theta, h, t)
            out = []
            for place, u in enumerate(self.turned(self.guards(at, x), sides)):
                positive, passed, low, high, value, start, old = rest[7 * place : 7 * place + 7]
                now = code.op("gt", u, 0.0)
                here = code.op("and", positive, code.op("le", u, 0.0))
                here = code.op("and", here, code.op("not", passed))
                out += [
                    now, code.op("or", passed, here), code.op("select", here, before, low),
                    code.op("select", here, theta, high), code.op("select", here, u, value),
                    code.op("select", here, old, start), u,
                ]  # fmt: skip
            near = code.op("lt", theta, 0.25)
            after = code.op("select", near, code.op("mul", theta, 4.0), code.op("add", theta, 0.25))
            return [after, theta, *out]

        first = code.op("select", sides.early, FIRST, 0.25)
        start = [first, code.const(0.0)]
        for armed, u in zip(sides.armed, at_start):
            start += [armed, no, one, one, one, one, u]
        found = code.loop(start, lambda c: code.op("le", c[0], 1.0), turn)[2:]
        return [list(found[7 * place + 1 : 7 * place + 6]) for place in range(many)]

    # ------------------------------------------------------------ timed events

    def next_time(self, place: int, sides: Sides) -> Value:
        """When a timed event fires next."""
        code, control = self.code, self.control
        k = self.timed[place]
        if self.events[k].kind in GIVEN:
            return code.load(f"moments_{k}", sides.done[place])
        turns = code.op("to_real", code.op("add", sides.done[place], code.const(1, "i32")))
        # the sign is taken off last, so that nobody fuses product and sum: saved times are rounded twice, too
        ahead = code.op("abs", code.op("mul", turns, self.field.period(k)))
        return code.op("add" if control.sign > 0 else "sub", control.t0, ahead)

    def target(self, sides: Sides) -> Value:
        """Where a step must end at the latest."""
        control, target = self.control, self.control.t1
        for place in range(len(self.timed)):
            time = self.next_time(place, sides)
            target = control.smaller(time, target) if control.sign > 0 else control.larger(time, target)
        return target

    def timed_due(self, t: Value, sides: Sides) -> list[Value]:
        """Which timed events fire at t."""
        code, control = self.code, self.control
        span = code.op("abs", code.op("sub", control.t1, control.t0))
        slack = code.op("mul", control.larger(code.op("abs", t), span), -NEAR[code.precision])
        out = []
        for place in range(len(self.timed)):
            at = self.next_time(place, sides)
            come = code.op("ge", control.forward(code.op("sub", t, at)), slack)
            out.append(code.op("and", come, code.op("isfinite", at)))
        return out

    # ------------------------------------------------------------ after a step

    def settle(self, t: Value, x: Sequence[Value], sides: Sides, rows: Value) -> Sides:
        """Remembers the side of every guard at (t, x), where the step came to no root event (`rows`)."""
        code = self.code
        early = code.op("and", sides.early, code.op("not", rows))
        g = self.guards(t, x)
        turn = []
        for k, old in zip(self.crossings, sides.turn):
            fresh = code.op("and", rows, code.op("eq", old, 0.0))
            turn.append(code.op("select", fresh, self.sign(g[self.roots.index(k)]), old))
        sides = replace(sides, early=early, turn=turn)
        # a root at the very end of a step, which rounding hid, is met by the next one
        armed = [
            code.op("or", a, code.op("and", rows, code.op("gt", u, 0.0)))
            for u, a in zip(self.turned(g, sides), sides.armed)
        ]
        return replace(sides, armed=armed)

    def fire(self, t: Value, x: Sequence[Value], due: Sequence[Value], sides: Sides, steps: Value) -> Fired:
        """Fires the events `due` (a flag for each, of which one at least is set) at (t, x), in file order,
        each seeing what the last one left; a reset that takes a guard across zero fires that event too."""
        code = self.code
        sides = self._marked(t, sides)
        g = self.guards(t, x)
        for place, k in enumerate(self.roots):
            sides = self._passed(place, due[k], sides)
        armed = [
            code.op("or", a, code.op("and", code.op("not", due[k]), code.op("gt", u, 0.0)))
            for k, a, u in zip(self.roots, sides.armed, self.turned(g, sides))
        ]
        sides = replace(sides, armed=armed, early=code.const(True, "bool"))
        n, many, roots = len(x), len(self.events), len(self.roots)
        no, yes = code.const(False, "bool"), code.const(True, "bool")

        def more(c: tuple[Value, ...]) -> Value:
            pending, going = c[n + roots : n + roots + many], c[n + roots + many]
            some: Value = pending[0]
            for p in pending[1:]:
                some = code.op("or", some, p)
            return code.op("and", some, going)

        def turn(c: tuple[Value, ...]) -> list[Value]:
            x, g = list(c[:n]), list(c[n : n + roots])
            pending, (going, stopped, *rest) = list(c[n + roots : n + roots + many]), c[n + roots + many :]
            sides = self.sides(rest)
            for k in range(many):
                now = code.op("and", pending[k], going)
                pending[k] = no
                x, g, pending, sides = self._fire_one(k, now, t, x, g, pending, sides, steps)
                if self.events[k].stop:
                    stopped = code.op("or", stopped, now)
                    going = code.op("and", going, code.op("not", now))
            going = code.op("and", going, code.op("le", sides.run, self._whole(MANY)))
            return [*x, *g, *pending, going, stopped, *sides.flat()]

        found = code.loop([*x, *g, *due, yes, no, *sides.flat()], more, turn)
        sides = self.sides(found[n + roots + many + 2 :])
        endless = code.op("gt", sides.run, self._whole(MANY))
        x, stopped = list(found[:n]), found[n + roots + many + 1]
        if not self.field.algebraic:
            return Fired(x, sides, stopped, endless, no, self._whole(0))
        tied = consistent(self.field, t, x)
        return Fired(tied.x, sides, stopped, endless, code.op("not", tied.ok), tied.count)

    def _fire_one(
        self, k: int, now: Value, t: Value, x: list[Value], g: list[Value], pending: list[Value],
        sides: Sides, steps: Value,
    ) -> tuple[list[Value], list[Value], list[Value], Sides]:  # fmt: skip
        """Event k, where it is its turn."""
        code, n, roots, many = self.code, len(x), len(self.roots), len(self.events)
        event = self.events[k]

        def happens() -> list[Value]:
            after = self._logged(k, t, x, sides, steps)
            if not event.resets:
                return [*x, *g, *pending, *after.flat()]
            new = self.field.reset(k, t, x, self._turn(k, sides))
            if event.stop:
                return [*new, *g, *pending, *after.flat()]
            guards, waiting = self.guards(t, new), list(pending)
            for place in range(roots):
                jumped, after = self._jumped(place, g[place], guards[place], after)
                at = self.roots[place]
                waiting[at] = code.op("or", waiting[at], jumped)
            return [*new, *guards, *waiting, *after.flat()]

        found = code.when(now, happens, [*x, *g, *pending, *sides.flat()])
        parts = found[:n], found[n : n + roots], found[n + roots : n + roots + many]
        return list(parts[0]), list(parts[1]), list(parts[2]), self.sides(found[n + roots + many :])

    def _turn(self, k: int, sides: Sides) -> Value | None:
        """How often an event has fired, where that is counted."""
        return sides.done[self.counted.index(k)] if k in self.counted else None

    def _logged(self, k: int, t: Value, x: Sequence[Value], sides: Sides, steps: Value) -> Sides:
        """A row of the record."""
        code, one = self.code, self._whole(1)

        def write() -> list[Value]:
            code.store("event_t", sides.fired, t)
            code.store("event_step", sides.fired, steps)
            code.store("event_kind", sides.fired, self._whole(k))
            if self.taped:
                store_rows(code, "event_x", sides.fired, x)
            if self.taped and self.drawn:
                code.store("event_turn", sides.fired, self._turn(k, sides) or self._whole(0))
            return []

        code.when(code.op("lt", sides.fired, self.room), write)
        done = list(sides.done)
        if k in self.counted:
            place = self.counted.index(k)
            done[place] = code.op("add", done[place], one)
        run, fired = code.op("add", sides.run, one), code.op("add", sides.fired, one)
        return replace(sides, done=done, run=run, fired=fired)

    def _jumped(self, place: int, old: Value, new: Value, sides: Sides) -> tuple[Value, Sides]:
        """Where a reset changed a guard: arms its event, or says that the jump crossed zero."""
        code = self.code
        changed = code.op("ne", new, old)
        u = self.signed(place, new, sides)
        jumped = code.op("and", code.op("and", changed, sides.armed[place]), code.op("le", u, 0.0))
        armed, turn = list(sides.armed), list(sides.turn)
        armed[place] = code.op("select", changed, code.op("gt", u, 0.0), armed[place])
        k = self.roots[place]
        if k in self.crossings:
            at = self.crossings.index(k)
            turn[at] = code.op("select", jumped, code.op("neg", turn[at]), turn[at])
            armed[place] = code.op("or", armed[place], code.op("and", jumped, code.op("lt", u, 0.0)))
        return jumped, replace(sides, armed=armed, turn=turn)

    def _passed(self, place: int, rows: Value, sides: Sides) -> Sides:
        """A root event has happened: it must be armed anew."""
        code, armed, turn = self.code, list(sides.armed), list(sides.turn)
        armed[place] = code.op("and", armed[place], code.op("not", rows))
        k = self.roots[place]
        if k in self.crossings:
            at = self.crossings.index(k)
            turn[at] = code.op("select", rows, code.op("neg", turn[at]), turn[at])
        return replace(sides, armed=armed, turn=turn)

    def _marked(self, t: Value, sides: Sides) -> Sides:
        """Starts the count of events anew where t has moved since the last one."""
        code = self.code
        size = self.control.larger(code.op("abs", t), 1e-3)
        apart = code.op("abs", code.op("sub", t, sides.since))
        moved = code.op("not", code.op("le", apart, code.op("mul", size, 1e-12)))
        run = code.op("select", moved, self._whole(0), sides.run)
        return replace(sides, run=run, since=code.op("select", moved, t, sides.since))

    def _whole(self, number: int) -> Value:
        return self.code.const(number, "i32")
