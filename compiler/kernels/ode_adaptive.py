"""Steps of ordinary equations, every trajectory at its own time, with its own step: by their error, or on a
grid of times that events may cut.

Tables: `settings` (see `control`; for a grid `first` is its step), `times` (saved times), `ends` (see
`pace`), `counts` (most steps, saved times, rows of the tape, of the record of events). Row r of `saved` is
component r % n of saved time r // n, n counting what the method notes. With a tape, `tape_t`, `tape_h` and
`tape_error` have a row for each accepted step and `tape` the state at its start and what the method keeps
(how it ended, see `endings`); steps beyond the tape are counted, not kept. A run with checkpoints (`trail`)
leaves times and sizes alone, and `tape_new`: see `stretches`. Of a run that keeps arrays (see `turns`) the
next row of `counts` says for how many turns there is room; what comes later is written into one row more.
Rows of `report`: accepted steps, rejected ones, evaluations, how it ended, saved times, events. Rows of
`ended`: the time, and the size of the last attempt where the run could not go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ndl.compiler.ir.model import ModelIR
from ndl.compiler.kernels.breaks import Breaks, Crossing, Edge
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.control import AHEAD, ENDLESS, OK, REFUSED, SPENT, UNMET, UNTIED, Control
from ndl.compiler.kernels.echoes import SMALLEST, Echo, Echoes
from ndl.compiler.kernels.endings import bits_of, kind_of
from ndl.compiler.kernels.events import Sides, Watch
from ndl.compiler.kernels.field import Field
from ndl.compiler.kernels.ir import Kernel, Value
from ndl.compiler.kernels.kept import keep
from ndl.compiler.kernels.outputs import Dense
from ndl.compiler.kernels.pace import ErrorPace, GridPace, Judged, Pace, ProposedPace
from ndl.compiler.kernels.rows import state_names, store_rows, title
from ndl.compiler.kernels.stepper import Attempt, Stepper, Variant
from ndl.compiler.kernels.stops import Stops


def forward(model: ModelIR, stepper: Stepper, variant: Variant) -> Kernel:
    """The run itself."""
    return _Forward(model, stepper, variant).kernel()


@dataclass
class Place:
    """Where a trajectory stands: what it carries besides its counts. `carry` is the method's, `pace` that of
    the size of steps, `sides` and `edge` what events and breaks remember, `slot` the next saved time,
    `echo` the number of the next one at which the past has an edge, `coming` the next one of all; `stop`
    is the number of the next known time to end at, `turn` counts attempts where arrays of them are kept."""

    x: list[Value]
    carry: list[Value]
    t: Value
    pace: list[Value]
    slot: Value
    sides: Sides | None
    edge: Edge | None = None
    echo: Value | None = None
    coming: Echo | None = None
    stop: Value | None = None
    turn: Value | None = None


class _Forward:
    def __init__(self, model: ModelIR, stepper: Stepper, variant: Variant) -> None:
        self.model, self.stepper, self.v = model, stepper, variant
        self.code: Code = stepper.code
        self.field: Field = stepper.field
        self.n = self.field.size
        order = stepper.error_order
        code = self.code
        self.control = Control(
            code, self.n, order + 1, variant.grow, variant.sign, variant.vector, stepper.dyadic, variant.beta
        )
        paces = ProposedPace if stepper.proposes else ErrorPace
        pace = paces if variant.adaptive else GridPace
        self.pace: Pace = pace(code, stepper.slope, self.control, order)
        self.watch = Watch(self.field, self.control, variant.tape)
        self.breaks = Breaks(stepper, self.control)
        self.locates = variant.adaptive and bool(self.breaks)
        self.echoes = Echoes(self.field, self.control, self.locates)
        self.stops = Stops(self.field, self.control, variant.adaptive)
        self.follows = variant.tape and (self.locates or bool(self.watch))
        """Whether the derivative wants to know how steps ended."""
        code.buffer("counts", "table", "in", "i32")
        code.buffer("x0", "member", "in")
        code.buffer("last", "member", "out")
        code.buffer("ended", "member", "out")
        code.buffer("report", "member", "out", "i32")
        if variant.save:
            code.buffer("times", "table", "in")
            code.buffer("saved", "member", "out")
        if variant.tape:
            for name in ("tape", "tape_t", "tape_h", "tape_error"):
                code.buffer(name, "member", "out")
            ends = [*(["tape_kind"] if self.follows else []),
                    *(["tape_origin", "tape_lag"] if self.follows and self.echoes else [])]  # fmt: skip
            for name in ends:
                code.buffer(name, "member", "out", "i32")
            if self.locates:
                code.buffer("tape_fresh", "member", "out", "i32")
        if variant.trail:
            for name in ("tape_t", "tape_h"):
                code.buffer(name, "member", "out")
            if stepper.renews:
                code.buffer("tape_new", "member", "out", "i32")
        self.keeps = variant.kept if variant.kept and variant.kept.width else None
        if self.keeps:
            code.buffer("kept", "kept", "out")
            code.buffer("tape_turn", "member", "out", "i32")
        names = state_names(model)
        self.own = stepper.carried(names)
        self.carried = (
            *names, *self.own, "t", *self.pace.carried, "steps", "rejected", "evaluations", "status", "slot",
            *self.watch.carried, *(self.breaks.carried if self.locates else ()), *self.echoes.carried,
            *self.stops.carried, *(("turn",) if self.keeps else ()), *self.field.carried,
        )  # fmt: skip

    def whole(self, number: int) -> Value:
        return self.code.const(number, "i32")

    def kernel(self) -> Kernel:
        code = self.code
        with code.block(shared=True) as entry:
            self.field.load_shared()
            self.control.load()
            self.most, self.slots, self.room = (code.load("counts", i) for i in range(3))
            self.turns = code.load("counts", 4) if self.keeps else None
            self.stepper.prepare(self.control if self.v.adaptive else None)
            if self.watch:
                self.watch.prepare(code.load("counts", 3))
        with code.block() as begin:
            begin.yields = tuple(self.start())
        with code.block([v.type for v in begin.yields]) as step:
            step.yields = tuple(self.turn(list(step.params)))
        with code.block([v.type for v in begin.yields]) as finish:
            self.finish(list(finish.params))
        pace = "adaptive" if self.v.adaptive else "fixed"
        doc = title(self.model, self.stepper.name, f"{pace} steps")
        name = f"{self.model.name}_{self.stepper.name}_{pace if self.v.adaptive else 'watched'}"
        even = self.keeps is not None
        return code.kernel(name, entry, begin, step, finish, carried=self.carried, even=even, doc=doc)

    def start(self) -> list[Value]:
        code, n, t0 = self.code, self.n, self.control.t0
        mine = self.field.load_own()
        self.field.carry_own(mine)
        x = [code.load("x0", i) for i in range(n)]
        echo = self.echoes.start(x)
        zero, sides = self.whole(0), list[Value]()
        untied, cost = code.const(False, "bool"), zero
        if self.watch:
            begun = self.watch.start(t0, x)
            if self.watch.sampled:
                x, begun, untied, cost = self.watch.sample_start(t0, x, begun)
            sides = begun.flat()
        pace, f0 = self.pace.begin(t0, x)
        carry = self.stepper.begin(t0, x, f0)
        noted = self.stepper.noted(carry)
        slot = self.save_now(self.whole(0), t0, [*x, *noted]) if self.v.save else self.whole(0)
        edge = self.breaks.start(t0, x).flat() if self.locates else []
        status = self.checked(t0, x, code.const(True, "bool"), zero)
        status = code.op("select", untied, self.whole(UNTIED), status)
        first = code.op("add", cost, self.whole(0 if f0 is None else 2))
        stop = [zero] if self.stops else []
        turn = [zero] if self.keeps else []
        more = [*sides, *edge, *echo, *stop, *turn, *mine]
        return [*x, *carry, t0, *pace, zero, zero, first, status, slot, *more]

    def finish(self, carried: list[Value]) -> None:
        """What the trajectory leaves."""
        code = self.code
        at = self.n + len(self.own)
        noted = self.stepper.noted(carried[self.n : at])
        store_rows(code, "last", self.whole(0), [*carried[: self.n], *noted])
        size, rest = carried[at + 1], carried[at + 1 + len(self.pace.carried) :]
        store_rows(code, "ended", self.whole(0), [carried[at], size])
        fired = [carried[self.carried.index("fired", at)]] if self.watch else []
        store_rows(code, "report", self.whole(0), [*rest[:5], *fired])

    def turn(self, carried: list[Value]) -> list[Value]:
        """One attempt, and what follows from it."""
        code, control = self.code, self.control
        place, (steps, rejected, evaluations, before), mine = self.placed(carried)
        self.field.carry_own(mine)
        x, t, pace = place.x, place.t, place.pace
        target = self.watch.target(place.sides) if place.sides is not None else control.t1
        if place.echo is not None:
            fired = None if place.sides is None else self.watch.known(place.sides)
            over = None if place.edge is None else control.smaller(place.edge.count, self.room)
            found = self.echoes.limit(t, x, target, place.echo, fired, over)
            place.echo, place.coming, target, back = found
        if self.v.adaptive and self.stepper.proposes:
            pace = [self.proposed(t, x, place.carry, pace), *pace[1:]]
        if place.stop is not None:
            target = self.stops.limit(t, pace[0], target, place.stop)
        end, still = self.pace.end(t, pace, target)
        if self.field.checked:
            # what does not hold at the start ends the run there
            still = code.op("or", still, code.op("eq", before, self.whole(UNMET)))
        if self.field.algebraic and self.watch.sampled:
            still = code.op("or", still, code.op("eq", before, self.whole(UNTIED)))
        h = code.op("sub", end, t)
        aim = self.pace.aim(t, h, end, pace)
        if aim is not None:
            self.stepper.aim(aim)
        made = self.attempt(place, h)
        judged = self.pace.judge(made, pace, still, code.op("eq", end, target))
        evaluations = code.op("add", evaluations, made.cost)
        crossing: Crossing | None = None
        if place.edge is not None:
            with self.stepper.seen(steps, t, h):
                crossing = self.breaks.judge(made, end, judged, steps, place.edge)
            judged = self.taken_back(judged, crossing, pace)
            evaluations = code.op("add", evaluations, crossing.cost)
        accept = judged.accept
        if self.v.tape or self.v.trail:
            self.keep(accept, steps, made, judged.square, place.turn)
        if self.echoes:
            rows = code.op("and", accept, code.op("le", steps, self.room))
            self.echoes.keep(rows, steps, made, self.stepper)
        row, roots, timed = steps, list[tuple[int, Value]](), list[Value]()
        yes, no = code.op("from_bool", accept), code.op("from_bool", code.op("not", accept))
        steps, rejected = code.op("add", steps, yes), code.op("add", rejected, no)
        stopped = endless = untied = code.const(False, "bool")
        if place.sides is None:
            slot = self.save_inside(accept, end, made, place.slot) if self.v.save else place.slot
            place = self.moved(place, made, judged, made.x1, end, slot)
            if crossing is not None:
                place = self.crossed(place, crossing, made, accept, row)
            if place.echo is not None:
                place = self.onward(place, made, accept)
        else:
            with self.stepper.seen(row, t, h):
                fires = self.watched(place, made, judged, end, steps, crossing, row)
            place, stopped, endless, untied, cost, roots, timed = fires
            evaluations = code.op("add", evaluations, cost)
        if place.edge is not None:
            # of two pieces of the past that meet here, the next step reads the later one
            with self.stepper.seen(steps, place.t, h):
                here = self.breaks.field.breaks(place.t, place.x)
            place.edge = replace(place.edge, g=here)
        if place.stop is not None:
            place.stop = self.stops.after(place.t, place.stop)
        ended = code.op("eq", place.t, control.t1)
        if place.sides is not None:
            ended = code.op("le", control.forward(code.op("sub", control.t1, place.t)), 0.0)
        if self.follows:
            known = self.is_known(place.t, timed)
            self.keep_end(accept, row, known, roots, crossing, place)
        ended = code.op("and", accept, ended)
        status, done = self.verdict(judged, ended, steps, rejected)
        done = code.op("or", done, stopped)
        if self.echoes:
            done = code.op("or", done, code.op("gt", steps, self.room))
        if self.field.checked:
            with self.stepper.seen(row, t, h):
                status = self.checked(place.t, place.x, accept, status, before)
        if self.field.algebraic and self.watch.sampled:
            lost = code.op("eq", before, self.whole(UNTIED))
            status = code.op("select", lost, before, status)
        status = code.op("select", untied, self.whole(UNTIED), status)
        status = code.op("select", endless, self.whole(ENDLESS), status)
        if self.echoes and self.field.past.moving:
            status = code.op("select", back, status, self.whole(AHEAD))
        failed = code.op("ne", status, self.whole(OK))
        size, *rest = place.pace
        size = code.op("select", failed, made.h, size)
        sides = [] if place.sides is None else place.sides.flat()
        edge = [] if place.edge is None else place.edge.flat()
        edge += [] if place.echo is None else [place.echo]
        edge += [] if place.stop is None else [place.stop]
        edge += [] if place.turn is None else [code.op("add", place.turn, self.whole(1))]
        return [
            *place.x, *place.carry, place.t, size, *rest, steps, rejected, evaluations, status, place.slot,
            *sides, *edge, *mine, code.op("or", done, failed),
        ]  # fmt: skip

    def attempt(self, place: Place, h: Value) -> Attempt:
        """Try a step; what it has made of arrays is kept, also for one that is rejected."""
        code = self.code
        row = place.turn
        if row is not None and self.turns is not None:
            row = code.op("select", code.op("lt", row, self.turns), row, self.turns)
        made = self.stepper.attempt(place.t, h, place.x, place.carry)
        if row is not None and self.keeps:
            keep(code, self.keeps, made.since, row)
        return made

    def proposed(self, t: Value, x: list[Value], carry: list[Value], pace: Sequence[Value]) -> Value:
        """The method's own step, after a rejection no larger than what that left."""
        code, (h, _, again) = self.code, pace
        size = self.stepper.proposal(t, h, x, carry)
        size = code.op("select", code.op("gt", size, 0.0), size, h)
        return code.op("select", again, self.control.smaller(h, size), size)

    def placed(self, carried: list[Value]) -> tuple[Place, list[Value], list[Value]]:
        """What is carried, by name: the place, the counts, the trajectory's own weights."""
        left = list(carried)

        def take(many: int) -> list[Value]:
            found, left[:] = left[:many], left[many:]
            return found

        x, carry, (t,), pace = take(self.n), take(len(self.own)), take(1), take(len(self.pace.carried))
        counts, (slot,) = take(4), take(1)
        sides = self.watch.sides(take(len(self.watch.carried))) if self.watch else None
        edge = self.breaks.edge(take(len(self.breaks.carried))) if self.locates else None
        echo = take(1)[0] if self.echoes else None
        stop = take(1)[0] if self.stops else None
        turn = take(1)[0] if self.keeps else None
        return Place(x, carry, t, pace, slot, sides, edge, echo, stop=stop, turn=turn), counts, left

    def moved(
        self, old: Place, made: Attempt, judged: Judged, x1: list[Value], t1: Value, slot: Value
    ) -> Place:
        """After an attempt that came to x1 at t1 if it is accepted."""
        code, accept = self.code, judged.accept

        def chosen(new: Sequence[Value], other: Sequence[Value]) -> list[Value]:
            return [code.op("select", accept, a, b) for a, b in zip(new, other, strict=True)]

        landed = self.pace.landed(t1, judged.after)
        pace = [a if a == b else code.op("select", accept, a, b) for a, b in zip(landed, judged.after)]
        (t,) = chosen([t1], [old.t])
        carry = chosen(made.taken, made.left)
        return replace(old, x=chosen(x1, old.x), carry=carry, t=t, pace=pace, slot=slot)

    def taken_back(self, judged: Judged, crossing: Crossing, pace: Sequence[Value]) -> Judged:
        """The verdict with steps over a break taken back."""
        code, far = self.code, crossing.far
        again = [crossing.chosen, pace[1], code.const(True, "bool")]
        after = [code.op("select", far, a, b) for a, b in zip(again, judged.after, strict=True)]
        # a step shortly before a break is followed by one of a given size
        near = code.op("and", crossing.near, code.op("not", crossing.crossed))
        after[0] = code.op("select", near, crossing.gap, after[0])
        return replace(judged, accept=code.op("and", judged.accept, code.op("not", far)), after=after)

    def crossed(self, place: Place, crossing: Crossing, made: Attempt, rows: Value, step: Value) -> Place:
        """After the step number `step` over a break, in the `rows` that came to no event: a fresh start."""
        code, control = self.code, self.control
        rows = code.op("and", rows, crossing.crossed)
        edge = crossing.edge
        room = control.forward(code.op("sub", control.t1, place.t))
        room = control.larger(room, 1e-300 if control.double else 1e-30)
        size = control.smaller(edge.normal, room)
        fresh = [size, code.const(0.0), code.const(False, "bool")]
        again = lambda: self.stepper.restart(place.t, place.x, None, made, self.stepper.flag(False))  # noqa: E731
        carry = code.when(rows, again, place.carry)
        pace = [code.op("select", rows, a, b) for a, b in zip(fresh, place.pace, strict=True)]
        close = code.op("and", edge.close, code.op("not", rows))
        if self.echoes:
            kept = code.op("and", rows, code.op("lt", step, self.room))
            self.echoes.crossed(kept, edge.count, place.t, step)
        count = code.op("add", edge.count, code.op("from_bool", rows))
        return replace(place, carry=list(carry), pace=pace, edge=replace(edge, close=close, count=count))

    def onward(self, place: Place, made: Attempt, accept: Value) -> Place:
        """After a step to a time at which the past has an edge: a fresh start, with the size at hand."""
        code, control = self.code, self.control
        assert place.coming is not None
        rows = code.op("and", accept, self.echoes.reached(place.t, place.coming.time))
        again = lambda: self.stepper.restart(place.t, place.x, None, made, self.stepper.flag(False))  # noqa: E731
        carry = list(code.when(rows, again, place.carry))
        pace = place.pace
        if self.v.adaptive:
            left = control.forward(code.op("sub", control.t1, place.t))
            room = control.larger(left, SMALLEST[code.precision])
            fresh = [control.smaller(pace[0], room), code.const(0.0), code.const(False, "bool")]
            pace = [code.op("select", rows, a, b) for a, b in zip(fresh, pace, strict=True)]
        return replace(place, carry=carry, pace=pace)

    def watched(
        self, old: Place, made: Attempt, judged: Judged, end: Value, steps: Value, crossing: Crossing | None,
        row: Value,
    ) -> tuple[Place, Value, Value, Value, Value, list[tuple[int, Value]], list[Value]]:  # fmt: skip
        """After an attempt at step `row`, with the events of the step fired: the place, whether the
        run stops, goes round in circles, or has lost its algebraic equations, what evaluations that took, the
        root events at which the step ended with their flags, and the flags of timed ones."""
        code, watch, accept = self.code, self.watch, judged.accept
        assert old.sides is not None
        before: Sides = old.sides
        no, n = code.const(False, "bool"), self.n

        def inside() -> list[Value]:
            dense = self.stepper.dense(made)
            if not watch.roots:
                slot = self.save_dense(dense, made, end, old.slot)
                return [no, end, slot, *made.x1]
            hit, theta, due = watch.search(made, dense, before, self.stepper.leaf())
            # rounded twice, as the times are at which a path is asked
            there = code.op("add", made.t, code.op("mul", theta, made.h))
            stop = code.op("select", hit, there, end)
            at = dense.at(code.op("select", hit, theta, 1.0))
            x1 = [code.op("select", hit, a, b) for a, b in zip(at, made.x1)]
            return [hit, stop, self.save_dense(dense, made, stop, old.slot), *x1, *due]

        nothing = [no, end, old.slot, *made.x1, *[no] * len(watch.roots)]
        hit, stop, slot, *rest = code.when(accept, inside, nothing)
        x1, rooted = rest[:n], dict(zip(watch.roots, rest[n:]))
        place = self.moved(old, made, judged, x1, stop, slot)
        if crossing is not None:
            free = code.op("and", accept, code.op("not", hit))
            place = self.crossed(place, crossing, made, free, row)
        if place.echo is not None:
            place = self.onward(place, made, accept)
        sides = watch.settle(place.t, place.x, before, code.op("and", accept, code.op("not", hit)))
        timed = dict(zip(watch.timed, watch.timed_due(place.t, sides)))
        due = [
            rooted[k] if k in rooted else code.op("and", accept, timed[k]) for k in range(len(watch.events))
        ]
        touched: Value = hit
        for d in due:
            touched = code.op("or", touched, d)

        def fires() -> list[Value]:
            fired = watch.fire(place.t, place.x, due, sides, steps)
            pace, f0 = self.pace.jumped(place.t, fired.x, place.pace)
            carry = self.stepper.restart(place.t, fired.x, f0, made, hit)
            # a run that stops has no first step to choose
            cost = code.op("select", fired.stopped, self.whole(0), self.whole(0 if f0 is None else 2))
            cost = code.op("add", cost, fired.cost)
            ends = [fired.stopped, fired.endless, fired.untied, cost]
            return [*fired.x, *carry, *pace, *fired.sides.flat(), *ends]

        kept = [*place.x, *place.carry, *place.pace, *sides.flat(), no, no, no, self.whole(0)]
        found = list(code.when(touched, fires, kept))
        *found, stopped, endless, untied, cost = found
        a, b = n + len(place.carry), n + len(place.carry) + len(place.pace)
        sides = watch.sides(found[b:])
        after = replace(place, x=found[:n], carry=found[n:a], pace=found[a:b], slot=slot, sides=sides)
        if self.v.save:
            due_now = code.op("and", accept, self.due(slot, place.t))
            values = [*after.x, *self.stepper.noted(after.carry)]
            after.slot = code.when(due_now, lambda: [self.save_now(slot, place.t, values)], [slot])[0]
        roots = [(k, due[k]) for k in watch.roots]
        return after, stopped, endless, untied, cost, roots, [due[k] for k in watch.timed]

    def verdict(self, judged: Judged, ended: Value, steps: Value, rejected: Value) -> tuple[Value, Value]:
        """How it stands after an attempt, and whether that is the end."""
        code = self.code
        spent = code.op("ge", code.op("add", steps, rejected), self.most)
        reason = code.op("select", judged.accept, self.whole(SPENT), self.whole(REFUSED))
        status = code.op("select", spent, reason, self.whole(OK))
        status = code.op("select", judged.broken, judged.status, status)
        status = code.op("select", ended, self.whole(OK), status)
        return status, code.op("or", ended, code.op("or", judged.broken, spent))

    def checked(
        self, t: Value, x: Sequence[Value], rows: Value, status: Value, before: Value | None = None
    ) -> Value:
        """The status, or `UNMET` where at (t, x) something does not hold that must, or did not (`before`)."""
        code, holds = self.code, self.field.holds(t, x)
        if holds is None:
            return status
        unmet = code.op("and", rows, code.op("not", holds))
        if before is not None:
            unmet = code.op("or", unmet, code.op("eq", before, self.whole(UNMET)))
        return code.op("select", unmet, self.whole(UNMET), status)

    # ------------------------------------------------------------ what is kept

    def keep(self, accept: Value, steps: Value, made: Attempt, square: Value, turn: Value | None) -> None:
        """A row of the tape."""
        code = self.code

        def write() -> list[Value]:
            code.store("tape_t", steps, made.t)
            code.store("tape_h", steps, made.h)
            if self.v.trail:
                if self.stepper.renews:
                    code.store("tape_new", steps, code.op("from_bool", self.stepper.freshened(made)))
                return []
            code.store("tape_error", steps, code.op("sqrt", square))
            if turn is not None:
                code.store("tape_turn", steps, turn)
            store_rows(code, "tape", steps, [*made.x0, *self.stepper.kept(made)])
            return []

        code.when(code.op("and", accept, code.op("lt", steps, self.room)), write)

    def is_known(self, t: Value, timed: Sequence[Value]) -> Value:
        """Whether a step that no root event ended came to the end of the run or to a timed event."""
        code = self.code
        found = code.op("eq", t, self.control.t1)
        for flag in timed:
            found = code.op("or", found, flag)
        return found

    def returned(self, place: Place, known: Value) -> Value | None:
        """Whether an accepted step came to an echo, at a time not `known` otherwise."""
        if place.coming is None:
            return None
        reached = self.echoes.reached(place.t, place.coming.time)
        return self.code.op("and", reached, self.code.op("not", known))

    def keep_end(
        self, accept: Value, row: Value, known: Value, roots: Sequence[tuple[int, Value]],
        crossing: Crossing | None, place: Place,
    ) -> None:  # fmt: skip
        """How an accepted step ended: see `endings`."""
        code, coming = self.code, place.coming
        echo = self.returned(place, known)
        given = known if self.v.adaptive else code.const(True, "bool")
        kind = kind_of(code, given, roots, echo)
        some = code.const(0, "i32")
        if crossing is not None:
            clear = crossing.crossed
            for _, flag in roots:
                clear = code.op("and", clear, code.op("not", flag))
            some = bits_of(code, [code.op("and", clear, flag) for flag in crossing.across])

        def write() -> list[Value]:
            code.store("tape_kind", row, kind)
            if crossing is not None:
                code.store("tape_fresh", row, some)
            if coming is not None:
                code.store("tape_origin", row, coming.origin)
                code.store("tape_lag", row, coming.lag)
            return []

        code.when(code.op("and", accept, code.op("lt", row, self.room)), write)

    def save_now(self, slot: Value, t: Value, x: Sequence[Value]) -> Value:
        """Saves x at the saved times up to t; the first slot after them."""
        code = self.code

        def turn(carried: tuple[Value, ...]) -> list[Value]:
            store_rows(code, "saved", carried[0], x)
            return [code.op("add", carried[0], self.whole(1))]

        return code.loop([slot], lambda c: self.due(c[0], t), turn)[0]

    def due(self, slot: Value, t: Value) -> Value:
        """Whether the saved time of a slot has come at t; the table ends with a time that never comes."""
        time = self.code.load("times", slot)
        return self.code.op("le", time, t) if self.v.sign > 0 else self.code.op("ge", time, t)

    def save_dense(self, dense: Dense, made: Attempt, stop: Value, slot: Value) -> Value:
        """The saved times of a step that lie before `stop`; the next slot."""
        if not self.v.save:
            return slot
        code, word = self.code, "lt" if self.v.sign > 0 else "gt"

        def turn(carried: tuple[Value, ...]) -> list[Value]:
            time = code.load("times", carried[0])
            theta = code.op("div", code.op("sub", time, made.t), made.h)
            store_rows(code, "saved", carried[0], dense.at(theta))
            return [code.op("add", carried[0], self.whole(1))]

        return code.loop([slot], lambda c: code.op(word, code.load("times", c[0]), stop), turn)[0]

    def save_inside(self, accept: Value, end: Value, made: Attempt, slot: Value) -> Value:
        """The saved times of an accepted step, up to its end; the next slot."""
        code = self.code

        def turns() -> list[Value]:
            dense, last = self.stepper.dense(made), [*made.x1, *self.stepper.noted(made.taken)]

            def turn(carried: tuple[Value, ...]) -> list[Value]:
                time = code.load("times", carried[0])
                theta = code.op("div", code.op("sub", time, made.t), made.h)
                between = dense.at(theta)
                ended = code.op("eq", time, end)
                values = [code.op("select", ended, a, b) for a, b in zip(last, between)]
                store_rows(code, "saved", carried[0], values)
                return [code.op("add", carried[0], self.whole(1))]

            return list(code.loop([slot], lambda c: self.due(c[0], end), turn))

        return code.when(code.op("and", accept, self.due(slot, end)), turns, [slot])[0]
