"""What a thread cannot hold: values of long lives go to a workspace in memory, or are computed again.

A thread has 255 registers. Where more values live at once than they hold, those that live longest for their
uses are parked: stored when they are made and loaded where they are used. The workspace is a `scratch`
buffer: a lane of a program has its rows, beside those of the other lanes, so that what it takes hangs on the
lanes that run at once, not on the number of trajectories. Rows are used again when their value is dead. What
a loop carries or a `when` gives can have a row, too, which its region writes.

What is one operation on a parked value and on what is at hand anyway is not stored but computed again from
that value; what was loaded from a table is loaded again. Truths, such as which rows a pivot has swapped, are
parked as 1 and 0: a thread has seven registers for them, and keeps the rest in those of numbers.

How many values live at once is an estimate from the order of the instructions. The text keeps to it: an
expression stands in for its value only near by, and what is loaded again is not taken for the load before
(`Body.reread`). The assembler moves a little still, and keeps addresses: `ROOM` is well below what there is.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from ndl.compiler.backends.triton.lives import CHEAP, NEAR, Life, Lives
from ndl.compiler.backends.triton.rewriting import WORK, Plan, Rewriting
from ndl.compiler.backends.triton.spread import varying
from ndl.compiler.kernels.arrays import has_arrays
from ndl.compiler.kernels.code import number
from ndl.compiler.kernels.ir import Block, Buffer, Instr, Kernel, Value
from ndl.compiler.kernels.verify import verify

LIMIT = 240
"""Registers at an estimate beyond which a kernel is fitted: below, the assembler spills nothing."""

ROOM = {"f32": 120, "f64": 40}
"""Registers that values may take then; the rest is for addresses, masks and what the compiler moves. Doubles
take two that must be neighbours: with 60 or more the assembler spills some."""

DEEPER = 8
"""How often a loop inside a step is taken to go round."""


def fitted(kernel: Kernel, limit: int = LIMIT, room: int | None = None) -> Kernel:
    """The kernel, where it takes more than `limit` registers of a thread with what exceeds `room` (ROOM
    of its precision) in a workspace. Kernels with arrays stay as they are: layouts of those differ."""
    if has_arrays(kernel):
        return kernel
    fitting = _Fitting(kernel, ROOM[kernel.precision] if room is None else room)
    return fitting.kernel() if fitting.most() > limit else kernel


def rows_of(kernel: Kernel) -> int:
    """How many numbers a lane has in the workspace of a kernel that is fitted."""
    names = {v: instr for v, instr in _makers(kernel.entry).items() if instr.op == "const"}
    stores = [i for _, b in kernel.blocks() for i in b.walk() if i.op == "store" and i.attr("buffer") == WORK]
    return 1 + max((names[i.args[0]].attr("value").number for i in stores), default=-1)


def _makers(block: Block) -> dict[Value, Instr]:
    return {v: instr for instr in block.body for v in instr.results}


Held = tuple[Value, Value | None, Value | None]
"""What is carried in a row: its name, and its values at the start and the end of a block."""


class _Fitting:
    def __init__(self, kernel: Kernel, room: int) -> None:
        self.old, self.room = kernel, room
        self.wide = 2 if kernel.precision == "f64" else 1
        self.varying = varying(kernel)
        self.shared = _makers(kernel.entry)
        self.numbers: dict[int, Value] = {}
        self.next = 1 + max(v.id for _, b in kernel.blocks() for v in _values(b))

    def most(self) -> int:
        """The registers that values take where they take most."""
        blocks = (block for name, block in self.old.blocks() if name != "entry")
        return max(int(Lives(b, self.shared, self.wide).pressure(bare=True).max()) for b in blocks)

    def kernel(self) -> Kernel:
        old = self.old
        begin, step, finish = self.blocks()
        if (begin, step, finish) == (old.begin, old.step, old.finish):
            return old
        rows = [number(v, k) for k, v in self.numbers.items()]
        entry = replace(old.entry, body=[*rows, *old.entry.body])
        buffers = (*old.buffers, Buffer(WORK, "scratch", "inout")) if rows else old.buffers
        return verify(replace(old, buffers=buffers, entry=entry, begin=begin, step=step, finish=finish))

    def blocks(self) -> tuple[Block, Block, Block]:
        """The blocks written again. What is carried in rows has those in all of them, under the names of the
        parameters."""
        old, carried = self.old, self.carried()
        mine = [p if k in carried else None for k, p in enumerate(old.step.params)]
        begun = [(p, None, v) for p, v in zip(mine, old.begin.yields) if p is not None]
        moved = [(p, p, v) for p, v in zip(mine, old.step.yields) if p is not None]
        ended = [(p, p, None) for k, p in enumerate(old.finish.params) if k in carried]
        return (
            self.written(old.begin, begun, mine),
            self.written(old.step, moved, [*mine, None]),
            self.written(old.finish, ended),
        )

    def written(self, block: Block, held: Sequence[Held], results: Sequence[Value | None] = ()) -> Block:
        plan = self.plan(block, held)
        return Rewriting(plan, self.value, self.row).block(block, results) if plan else block

    def value(self, type: str) -> Value:
        self.next += 1
        return Value(self.next - 1, type)

    def row(self, k: int) -> Value:
        if k not in self.numbers:
            self.numbers[k] = self.value("i32")
        return self.numbers[k]

    # ------------------------------------------------------------ what leaves

    def carried(self) -> set[int]:
        """Which of the values that are carried from step to step have rows, where not all has room: those
        that are used least, until the rest takes half of it."""
        step = self.old.step
        lives = Lives(step, self.shared, self.wide)
        if lives.pressure().max() <= self.room:
            return set()
        places = [k for k, p in enumerate(step.params) if p.type == "real" and p in self.varying]
        places.sort(key=lambda k: _cost(lives.found[step.params[k]]))
        taken = sum(map(lives.weight, step.params))
        many = max(0, -(-(taken - self.room // 2) // self.wide))
        return set(places[:many])

    def plan(self, block: Block, held: Sequence[Held]) -> Plan:
        """What leaves its register, so that no more than `room` are taken at once where that is possible."""
        lives = Lives(block, self.shared, self.wide, [(start, end) for _, start, end in held])
        gone = self.chosen(lives)
        names: dict[int, list[Value]] = {}
        for value, life in lives.found.items():
            names.setdefault(id(life), []).append(value)
        plan = Plan()
        parked: list[Life] = []
        for life in gone:
            if not life.slot and not life.uses:
                continue  # a slot takes it as soon as it is made
            if life.value in self.shared:
                assert life.source is not None
                plan.again[life.value] = life.source
            elif (origin := self.origin(life, lives, plan, parked)) is not None:
                assert life.source is not None
                plan.again[life.value] = life.source
                origin.held = max(origin.held, life.end)
            else:
                parked.append(life)
        rows = _rows(parked, len(held))
        for row, (name, start, end) in enumerate(held):
            plan.rows.update((v, row) for v in (name, start) if v is not None)
            plan.slots.update(v for v in (name, start) if v is not None)
            if end is not None and lives.early[row]:
                plan.early.setdefault(end, []).append(row)
        for life in parked:
            plan.rows.update((v, rows[id(life)]) for v in names[id(life)])
            if life.slot:
                plan.slots.update(names[id(life)])
        for life in parked:
            if life.slot and life.given is not None and life.early:
                plan.early.setdefault(life.given.value, []).append(rows[id(life)])
        return plan

    def chosen(self, lives: Lives) -> list[Life]:
        """The lives that leave, by their starts: from the fullest place on, the longest for its cost."""
        every = [life for life in lives if self.movable(life)]
        pressure, gone = lives.pressure(), []
        start, end = (np.array([getattr(life, k) for life in every], np.int64) for k in ("start", "end"))
        worth = np.array([life.weight * (life.end - life.start) / _cost(life) for life in every])
        index = {id(life): k for k, life in enumerate(every)}
        while pressure.size and pressure.max() > self.room:
            full = int(pressure.argmax())
            inside = np.flatnonzero((start < full) & (end >= full) & (worth > 0))
            for k in inside[np.argsort(-worth[inside], kind="stable")]:
                life, visits = every[k], every[k].visits()
                near = not life.slot and full <= life.made + NEAR
                if near or any(a <= full <= b for a, b, _ in visits):
                    continue
                pressure[life.start + 1 : end[k] + 1] -= life.weight
                pressure[life.start + 1 : life.start + 2] += life.weight
                for first, last, _ in visits:
                    pressure[first : last + 1] += life.weight
                worth[k] = 0
                gone.append(life)
                if life.slot and life.early and life.given is not None:
                    other, before = life.given, life.given.end
                    other.uses.remove(max(other.uses))
                    if (at := index.get(id(other))) is not None and worth[at] > 0:
                        pressure[other.end + 1 : before + 1] -= other.weight
                        end[at] = other.end
                break
            else:
                pressure[full] = 0  # nothing can leave here
        return sorted(gone, key=lambda life: (life.start, life.value.id))

    def movable(self, life: Life) -> bool:
        """Whether a value may leave its register: a number of each lane's own or one from a table, or a
        truth that no region gives."""
        if life.outer or life.value.type not in (("real",) if life.slot else ("real", "bool")):
            return False
        if life.end <= life.made + NEAR and not life.slot:
            return False
        if life.value in self.shared:
            return life.source is not None and life.source.op == "load"
        return life.value in self.varying

    def origin(self, life: Life, lives: Lives, plan: Plan, parked: list[Life]) -> Life | None:
        """The parked value of which a value is a cheap function, all else being at hand when it is used;
        None where it cannot be made again so."""
        if life.source is None or life.source.op not in CHEAP:
            return None
        known = {id(p) for p in parked}
        lost = []
        for a in dict.fromkeys(life.source.args):
            found = lives.found.get(a)
            if a in plan.again or (found is not None and found.slot):
                return None
            if found is not None and id(found) in known:
                lost.append(found)
            elif found is not None and found.end < life.end:
                return None
        return lost[0] if len(lost) == 1 else None


def _rows(parked: list[Life], first: int) -> dict[int, int]:
    """A row for each life, by its identity, from row `first` on. Others take it after its end; a slot takes
    that of the value with which it starts, if nobody else wants it."""
    rows: dict[int, int] = {}
    free: list[int] = []
    taken: dict[int, int] = {}  # the end of what a row has
    for life in parked:
        for row, end in list(taken.items()):
            if end < life.start or (end == life.start and not life.slot):
                del taken[row]
                heapq.heappush(free, row)
        begun = life.first
        own = rows.get(id(begun)) if begun is not None and begun.end == life.start else None
        if own is not None and taken.get(own) == life.start:
            row = own
        else:
            row = heapq.heappop(free) if free else first + len(taken)
        rows[id(life)] = row
        taken[row] = life.end
    return rows


def _cost(life: Life) -> float:
    return 1.0 + sum(float(DEEPER) ** depth for _, _, depth in life.visits())


def _values(block: Block) -> list[Value]:
    found = list(block.params)
    for instr in block.walk():
        found += instr.results
        found += [p for region in instr.regions for p in region.params]
    return found
