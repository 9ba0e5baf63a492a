"""The discrete adjoint of a run past events and located breaks.

The counterpart of `ndl.runtime.stepping.replay`, whose rules it must reproduce. The size of a step is a
constant, but the time of a root event is not: it follows the state by the implicit function theorem, and all
later times shift with it, up to the next time that is given. A break shifts time likewise. Carried besides
the cotangents of the state is that of this shift, and how many firings are still to be taken back; among
those of what the method remembers are those of earlier times and sizes.

Of a step that starts at time t with the shift s (whose value is 0), in the order of the run:

    over a break g   move = -g/(g_t + g_x rate), a function of (t + s, x); x <- x + move rate, s <- s + move
    the step         from x at t + s by h, less s where it ends at a given time
                     under noise s stays as it was at a break, and x <- x - move rate behind it
    at an echo       s <- the shift of the firing that comes back, and that of the delays between
    at a root u      theta = -u/u_theta, a function of all but theta; x = dense(theta), s <- s + theta h
    firings          at the time of the step's end and s, each from the state that `event_x` has
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ndl.compiler.ir.model import ModelIR
from ndl.compiler.kernels.consistent import tied_again
from ndl.compiler.kernels.echoes import over
from ndl.compiler.kernels.endings import ECHO, GIVEN, MOST_BREAKS, has_bit
from ndl.compiler.kernels.events import ROOTS
from ndl.compiler.kernels.ir import Kernel, Unsupported, Value
from ndl.compiler.kernels.loaded import Rows
from ndl.compiler.kernels.ode_adjoint import Backward, Times
from ndl.compiler.kernels.outputs import Dense
from ndl.compiler.kernels.reverse import pullback
from ndl.compiler.kernels.rows import gather, load_rows, seeded
from ndl.compiler.kernels.stepper import Attempt, Stepper, Variant


def backward(model: ModelIR, stepper: Stepper, variant: Variant) -> Kernel:
    """The adjoint kernel."""
    return EventBackward(model, stepper, variant).kernel()


@dataclass(frozen=True)
class Reads:
    """Numbers that were loaded, of the past and of paths, and their rows."""

    past: Rows
    paths: Rows

    @property
    def values(self) -> list[Value]:
        return [*self.past, *self.paths]


class EventBackward(Backward):
    """Writes the kernel. `gx`, `gs`, `gm` and `gw` are the cotangents of the state, of the shift of time, of
    what the method remembers, and of weights."""

    APART = True

    def __init__(self, model: ModelIR, stepper: Stepper, variant: Variant) -> None:
        super().__init__(model, stepper, variant)
        code = self.code
        self.events = model.events
        self.roots = [k for k, e in enumerate(self.events) if e.kind in ROOTS]
        self.drawn = any(d.per == "firing" for d in model.draws)
        self.breaks = self.field.break_count if variant.adaptive else 0
        self.shifts = bool(self.roots or (self.breaks and not model.noises))
        if self.breaks > MOST_BREAKS:
            raise Unsupported(f"its rates have more than {MOST_BREAKS} discontinuities")
        self.past.shifting = self.shifts = self.shifts or bool(self.past)
        self.memory += stepper.looks
        code.buffer("ended", "member", "in")
        for name in ("tape_kind", *(["tape_fresh"] if self.breaks else [])):
            code.buffer(name, "member", "in", "i32")
        if self.events:
            for name in ("event_step", "event_kind", *(["event_turn"] if self.drawn else [])):
                code.buffer(name, "member", "in", "i32")
            code.buffer("event_x", "member", "in")
            code.buffer("grad_event_t", "member", "inout" if self.past else "in")
        if self.past:
            for name in ("tape_origin", "tape_lag"):
                code.buffer(name, "member", "in", "i32")
            code.buffer("echo_counts", "member", "in")
            if self.breaks:
                code.buffer("grad_break_t", "member", "inout")

    def more(self) -> list[Value]:
        """The cotangent of the shift, and the firings."""
        return [self.code.const(0.0), self.code.load("report", 5) if self.events else self.whole(0)]

    def slots(self, all: Value) -> Value:
        return self.code.load("report", 4)

    def whole(self, number: int) -> Value:
        return self.code.const(number, "i32")

    # ------------------------------------------------------------ one step

    def turn(self, carried: list[Value]) -> list[Value]:
        code, n, memory = self.code, self.n, self.memory
        gx, gm, gw = carried[:n], carried[n : n + memory], carried[n + memory : self.count]
        k, slot, gs, fired, *mine = carried[self.count :]
        self.field.carry_own(mine)
        weights = [*self.shared, *mine]
        last = k
        k = code.op("sub", k, self.whole(1))
        t, h = self.start_of(k)
        end = self._end(last)
        with self.stepper.seen(k, t, h):
            slot, gsaved = self._saved_at(end, slot) if self.v.save else (slot, [])
            gx = [code.op("add", a, b) for a, b in zip(gx, gsaved)] if gsaved else gx
            if self.events:
                gx, gs, gw, fired = self._fired(last, end, gx, gs, gw, fired, weights)
        if self.past and self.breaks:
            gs = code.op("add", gs, code.load("grad_break_t", k))
        row = load_rows(code, "tape", k, n + self.stepper.width)
        x, kept = row[:n], row[n:]
        made = self.stepper.again(t, h, x, kept)
        behind = self._behind(k, end, made.x1, gx) if self.breaks and self.model.noises else None
        kind = code.load("tape_kind", k)
        back = code.op("eq", kind, self.whole(ECHO)) if self.past else None
        given = code.op("eq", kind, self.whole(GIVEN))
        given = given if back is None else code.op("or", given, back)
        later, gs = gs, code.op("select", given, 0.0, gs)
        seeds = seeded(code, [*zip(made.x1, gx, strict=True), *([(t, gs)] if self.shifts else [])])
        times = [t, h] if self.shifts else []
        dense = self.stepper.dense(made) if self.roots or self.v.save or self.past else None
        if self.roots:
            assert dense is not None
            with self.stepper.seen(k, t, h):
                seeds = self._rooted(made, dense, end, kind, gx, gs, seeds, weights)
        seeds = seeded(code, [*seeds.items(), *zip(self._memory(made), gm, strict=True)])
        if self.v.save:
            assert dense is not None
            slot, saved = gather(code, dense, made.x1, slot, Times(code, self.v.sign, t, h), times)
            seeds = seeded(code, [*seeds.items(), *saved.items()])
        if self.past:
            assert dense is not None
            targets = [(0, t), (1, h), *self.past.targets(dense)]
            read = [(v, code.load("grad_history", self.past.row(k, i))) for i, v in targets]
            seeds = seeded(code, [*seeds.items(), *read])
        *found, dt, dh = self._pulled(
            seeds, [*x, *kept[:memory], *weights, *(times or [t, h])], self._reads()
        )
        gx, gm, more = found[:n], found[n : n + memory], found[n + memory :]
        gw = [code.op("add", a, b) for a, b in zip(gw, more, strict=True)]
        gs = code.op("sub", dt, code.op("select", given, dh, 0.0)) if self.shifts else code.const(0.0)
        if back is not None:
            with self.stepper.seen(k, t, h):
                later = self._before_end(back, end, made.x1, gsaved, later)
            gw = self._echoed(k, back, code.op("add", later, dh), gw, weights)
        if memory:
            gx, gm, gw, gs = self._afresh(k, fired, t, x, gx, gm, gw, gs, weights)
        if self.breaks:
            with self.stepper.seen(k, t, h):
                gx, gw, moved = self._crossed(k, t, x, gx, gw, behind or gs, weights)
            gs = gs if behind is not None else moved
        done = code.op("le", k, self.whole(0))
        return [*gx, *gm, *gw, k, slot, gs, fired, *mine, done]

    def begun(self, t: Value, x: list[Value]) -> list[Value]:
        return [*self.stepper.start(t, x), *self.stepper.known_times(t)]

    def _memory(self, made: Attempt) -> list[Value]:
        """What the method remembers after a step; times of earlier steps, which shift, are of it."""
        many = len(made.memory)
        return [*made.memory, *made.taken[many : self.memory]]

    def _end(self, last: Value) -> Value:
        """Where a step ended, the number of the next one being `last`."""
        code = self.code
        final = code.op("ge", last, code.load("report", 0))
        row = code.op("select", final, code.op("sub", last, self.whole(1)), last)
        return code.op("select", final, code.load("ended", 0), code.load("tape_t", row))

    def _reads(self) -> Reads:
        """What has been loaded of the past, and of paths whose cotangents are asked for."""
        return Reads(self.past.loaded.rows, self.field.drivers.loaded.rows if self.v.drivers else {})

    @contextmanager
    def _apart(self) -> Iterator[Reads]:
        """The same with what a region loads noted by itself."""
        with self.past.loaded.apart(), self.field.drivers.loaded.apart():
            yield self._reads()

    def _pulled(self, seeds: Mapping[Value, Value], wrt: Sequence[Value], reads: Reads) -> list[Value]:
        """The cotangents of `wrt`; those of what was loaded are given back to it."""
        code = self.code
        found = pullback(code, code.visible(), seeds, [*wrt, *reads.values], self.field.sums())
        self._give_back(reads, found[len(wrt) :])
        return found[: len(wrt)]

    def _give_back(self, reads: Reads, cotangents: Sequence[Value]) -> None:
        many = len(reads.past)
        self.past.loaded.give_back(reads.past, cotangents[:many])
        self.field.drivers.loaded.give_back(reads.paths, cotangents[many:])

    def _saved_at(self, end: Value, slot: Value) -> tuple[Value, list[Value]]:
        """The cotangents of what was saved at the end of a step, after its firings."""
        code, zero = self.code, self.whole(0)

        def more(carried: tuple[Value, ...]) -> Value:
            some = code.op("gt", carried[0], zero)
            at = code.op("select", some, code.op("sub", carried[0], self.whole(1)), carried[0])
            come = code.op("ge" if self.v.sign > 0 else "le", code.load("times", at), end)
            return code.op("and", some, come)

        def turn(carried: tuple[Value, ...]) -> list[Value]:
            before = code.op("sub", carried[0], self.whole(1))
            g = load_rows(code, "grad_saved", before, self.n)
            return [before, *(code.op("add", a, b) for a, b in zip(carried[1:], g))]

        slot, *found = code.loop([slot, *[code.const(0.0)] * self.n], more, turn)
        return slot, found

    # ------------------------------------------------------------ firings

    def _fired(
        self, number: Value, end: Value, gx: list[Value], gs: Value, gw: list[Value], fired: Value,
        weights: list[Value],
    ) -> tuple[list[Value], Value, list[Value], Value]:  # fmt: skip
        """Before the firings that stand before step `number`, from the last of them on."""
        code, n = self.code, self.n

        def more(carried: tuple[Value, ...]) -> Value:
            some, at = self._before(carried[-1])
            return code.op("and", some, code.op("eq", code.load("event_step", at), number))

        def turn(carried: tuple[Value, ...]) -> list[Value]:
            r = code.op("sub", carried[-1], self.whole(1))
            gs = code.op("add", carried[n], code.load("grad_event_t", r))
            found = [*carried[:n], gs, *carried[n + 1 : -1]]
            kind = code.load("event_kind", r)
            before = load_rows(code, "event_x", r, n)
            turn = code.load("event_turn", r) if self.drawn else None
            for k, event in enumerate(self.events):
                if event.resets:
                    here, old = code.op("eq", kind, self.whole(k)), found
                    reset = lambda k=k, old=old: self._reset(k, end, before, old, weights, turn)  # noqa: E731
                    found = list(code.when(here, reset, old))
            return [*found, r]

        if self.field.algebraic:
            some = more((fired,))
            keep = [*gx, gs, *gw]
            keep = list(code.when(some, lambda: self._tied(end, keep, fired, weights), keep))
            gx, gs, gw = keep[:n], keep[n], keep[n + 1 :]
        *found, fired = code.loop([*gx, gs, *gw, fired], more, turn)
        return found[:n], found[n], found[n + 1 :], fired

    def _before(self, fired: Value) -> tuple[Value, Value]:
        """Whether there are firings left, and the row of the last one."""
        code = self.code
        some = code.op("gt", fired, self.whole(0))
        return some, code.op("select", some, code.op("sub", fired, self.whole(1)), fired)

    def _tied(self, end: Value, carried: list[Value], fired: Value, weights: list[Value]) -> list[Value]:
        """The cotangents before algebraic states followed the last firing of a step."""
        code, n = self.code, self.n
        r = code.op("sub", fired, self.whole(1))
        kind, x = code.load("event_kind", r), load_rows(code, "event_x", r, n)
        turn = code.load("event_turn", r) if self.drawn else None
        for k, event in enumerate(self.events):
            if event.resets:
                here, old = code.op("eq", kind, self.whole(k)), x
                reset = lambda k=k, old=old: self.field.reset(k, end, old, turn)  # noqa: E731
                x = list(code.when(here, reset, old))
        after = tied_again(self.field, end, x)
        seeds = seeded(code, zip(after, carried[:n], strict=True))
        found = self._pulled(seeds, [*x, end, *weights], Reads({}, {}))
        return [*found[:n], *(code.op("add", a, b) for a, b in zip(carried[n:], found[n:], strict=True))]

    def _reset(
        self, k: int, end: Value, before: list[Value], carried: list[Value], weights: list[Value],
        turn: Value | None,
    ) -> list[Value]:  # fmt: skip
        """The cotangents before event k set the state, which was `before`."""
        code, n = self.code, self.n
        with self._apart() as reads:
            after = self.field.reset(k, end, before, turn)
            seeds = seeded(code, zip(after, carried[:n], strict=True))
            found = self._pulled(seeds, [*before, end, *weights], reads)
        return [*found[:n], *(code.op("add", a, b) for a, b in zip(carried[n:], found[n:], strict=True))]

    def opened(
        self, behind: list[Value], gx: list[Value], gw: list[Value], mine: list[Value]
    ) -> tuple[list[Value], list[Value]]:
        """Before the data at the start."""
        if not any(e.kind == "sample" for e in self.events):
            return gx, gw
        gs, fired = behind
        self.field.carry_own(mine)
        zero = self.whole(0)
        t = self.start_of(zero)[0]
        gx, _, gw, _ = self._fired(zero, t, gx, gs, gw, fired, [*self.shared, *mine])
        return gx, gw

    # ------------------------------------------------------------ roots

    def _rooted(
        self, made: Attempt, dense: Dense, end: Value, kind: Value, gx: list[Value], gs: Value,
        seeds: dict[Value, Value], weights: list[Value],
    ) -> dict[Value, Value]:  # fmt: skip
        """The cotangents `seeds` of what a step gives, where a root event ended it."""
        code, zero = self.code, self.code.const(0.0)
        targets = list(dict.fromkeys([*made.x1, *dense.targets, made.t, made.h, *weights]))
        found = [seeds.get(v, zero) for v in targets]
        for k in self.roots:
            here, old = code.op("eq", kind, self.whole(k)), found
            at = lambda k=k: self._at_root(k, made, dense, end, gx, gs, targets)  # noqa: E731
            found = list(code.when(here, at, old))
        return dict(zip(targets, found))

    def _at_root(
        self, k: int, made: Attempt, dense: Dense, end: Value, gx: list[Value], gs: Value,
        targets: list[Value],
    ) -> list[Value]:  # fmt: skip
        """The same for event k, whose guard is 0 at the end of the step."""
        code = self.code
        theta = code.op("div", code.op("sub", end, made.t), made.h)
        x, at = dense.at(theta)[: self.n], code.op("fma", theta, made.h, made.t)
        with self._apart() as reads:
            guard = self.field.guard(k, at, x)
            body = code.visible()
            (slope,) = pullback(code, body, {guard: code.const(1.0)}, [theta])
            ends = [*zip(x, gx, strict=True), (at, gs)]
            (along,) = pullback(code, body, seeded(code, ends), [theta])
            share = code.op("neg", code.op("div", along, slope))
            return self._pulled(seeded(code, [*ends, (guard, share)]), [theta, *targets], reads)[1:]

    # ------------------------------------------------------------ fresh starts

    def _afresh(
        self, k: Value, fired: Value, t: Value, x: list[Value], gx: list[Value], gm: list[Value],
        gw: list[Value], gs: Value, weights: list[Value],
    ) -> tuple[list[Value], list[Value], list[Value], Value]:  # fmt: skip
        """Where step k is the first after an event or a break: what the method remembers is made of x."""
        code, n = self.code, self.n
        fresh = code.const(False, "bool")
        if self.events:
            some, at = self._before(fired)
            fresh = code.op("and", some, code.op("eq", code.load("event_step", at), k))
        if self.breaks:
            first = code.op("le", k, self.whole(0))
            row = code.op("select", first, k, code.op("sub", k, self.whole(1)))
            over = code.op("ne", code.load("tape_fresh", row), self.whole(0))
            fresh = code.op("or", fresh, code.op("and", over, code.op("not", first)))
            # time is shifted before a break is crossed, and with it what the method remembers
            fresh = code.op("or", fresh, code.op("ne", code.load("tape_fresh", k), self.whole(0)))

        def anew() -> list[Value]:
            with self._apart() as reads:
                start = self.begun(t, x)
                seeds = seeded(code, zip(start, gm, strict=True))
                found = self._pulled(seeds, [*x, *weights, t], reads)
            sums = [code.op("add", a, b) for a, b in zip([*gx, *gw, gs], found, strict=True)]
            return [*sums, *[code.const(0.0)] * len(gm)]

        found = list(code.when(fresh, anew, [*gx, *gw, gs, *gm]))
        many = n + len(gw)
        return found[:n], found[many + 1 :], found[n:many], found[many]

    def _before_end(self, back: Value, end: Value, x1: list[Value], gsaved: list[Value], gs: Value) -> Value:
        """The cotangent `gs` of how far an echo moves, less that by values saved at the end that does not."""
        code = self.code
        if not gsaved:
            return gs

        def less() -> list[Value]:
            with self._apart():
                rate, total = self.field.rate(end, x1), gs
            for g, r in zip(gsaved, rate, strict=True):
                total = code.op("sub", total, code.op("mul", g, r))
            return [total]

        return code.when(back, less, [gs])[0]

    def _echoed(self, k: Value, back: Value, g: Value, gw: list[Value], weights: list[Value]) -> list[Value]:
        """Those of weights, when that of a step's end, `g`, has gone to the firing or break that comes
        `back` there and to the delays between."""
        code, many = self.code, len(self.model.delays)

        def one() -> list[Value]:
            origin, lag = code.load("tape_origin", k), code.load("tape_lag", k)
            none = self.whole(-1)
            if self.events:
                self._gave("grad_event_t", code.op("gt", origin, none), origin, g)
            if self.breaks:
                self._gave("grad_break_t", code.op("lt", origin, none), over(code, origin), g)
            seeds = []
            for d in range(many):
                value = self.field.lag(d) if self.model.delays[d].constant else None
                if value is not None:
                    i = code.op("add", code.op("mul", lag, self.whole(many)), self.whole(d))
                    seeds.append((value, code.op("mul", g, code.load("echo_counts", i))))
            found = pullback(code, code.visible(), seeded(code, seeds), weights, self.field.sums())
            return [code.op("add", a, b) for a, b in zip(gw, found, strict=True)]

        return list(code.when(back, one, gw))

    def _gave(self, name: str, some: Value, row: Value, g: Value) -> None:
        """Where `some`, the cotangent g goes to a row of those of times."""
        code = self.code
        row = code.op("select", some, row, self.whole(0))
        share = code.op("select", some, g, 0.0)
        code.store(name, row, code.op("add", code.load(name, row), share))

    def _behind(self, k: Value, end: Value, x1: list[Value], gx: list[Value]) -> Value:
        """The cotangent of how far the time of a break moves, from the move along the new field behind it."""
        code = self.code

        def along() -> list[Value]:
            total = code.const(0.0)
            for g, r in zip(gx, self.stepper.slope(end, x1)):
                total = code.op("sub", total, code.op("mul", g, r))
            return [total]

        some = code.op("ne", code.load("tape_fresh", k), self.whole(0))
        return code.when(some, along, [code.const(0.0)])[0]

    def _crossed(
        self, k: Value, t: Value, x: list[Value], gx: list[Value], gw: list[Value], gs: Value,
        weights: list[Value],
    ) -> tuple[list[Value], list[Value], Value]:  # fmt: skip
        """Before x and time moved with the breaks that step k crosses."""
        code, n = self.code, self.n
        across = code.load("tape_fresh", k)

        def moved() -> list[Value]:
            with self._apart() as reads:
                rate, sides = self.stepper.slope(t, x), self.field.breaks(t, x)
            read = list(reads.values)
            wrt, many = [*x, t, *weights, *read], n + 1 + len(gw)
            body, found = code.visible(), [*gx, gs, *gw, *[code.const(0.0)] * len(read)]
            for j in reversed(range(self.breaks)):
                old = found

                def one(j: int = j, old: list[Value] = old) -> list[Value]:
                    g = pullback(code, body, {sides[j]: code.const(1.0)}, wrt)
                    slope, along = g[n], old[n]
                    for a, b, r in zip(g, old, rate, strict=False):
                        slope, along = code.op("fma", a, r, slope), code.op("fma", b, r, along)
                    slope = code.op("select", code.op("eq", slope, 0.0), 1.0, slope)
                    share = code.op("neg", code.op("div", along, slope))
                    return [code.op("fma", share, a, b) for a, b in zip(g, old, strict=True)]

                found = list(code.when(has_bit(code, across, j), one, old))
            self._give_back(reads, found[many:])
            return found[:many]

        some = code.op("ne", across, self.whole(0))
        found = list(code.when(some, moved, [*gx, gs, *gw]))
        return found[:n], found[n + 1 :], found[n]
