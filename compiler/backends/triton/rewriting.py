"""Writing a block again with some of its values in a workspace: see `workspace`, which says which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ndl.compiler.backends.triton.lives import NEAR
from ndl.compiler.kernels.code import number
from ndl.compiler.kernels.ir import Block, Instr, Value

WORK = "work"
"""The buffer's name."""


@dataclass
class Plan:
    """What becomes of the values that leave their registers: rows of the workspace, or the instructions that
    make them again. `slots` are those that regions write; `early` the rows that are written as soon as a
    value is made, since it is what a region gives."""

    rows: dict[Value, int] = field(default_factory=dict)
    again: dict[Value, Instr] = field(default_factory=dict)
    slots: set[Value] = field(default_factory=set)
    early: dict[Value, list[int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.rows or self.again)


Hand = dict[Value, tuple[Value, int]]
"""What was fetched in a block, and where it was used last."""


class Rewriting:
    """Goes through a block in the order of its places (`lives`). `value` makes new values, `row` gives the
    number of a row."""

    def __init__(self, plan: Plan, value: Callable[[str], Value], row: Callable[[int], Value]) -> None:
        self.plan, self.value, self.row = plan, value, row
        self.place = 0

    def block(self, block: Block, results: Sequence[Value | None] = ()) -> Block:
        """The block; where it is a region, `results` are those of its instruction, some of which have rows
        that the block's end must have written."""
        hand: Hand = {}
        body: list[Instr] = []
        self.place += 1
        params = tuple(p for p in block.params if p not in self.plan.slots)
        self.park(params, hand, body)
        for instr in block.body:
            if instr.op == "const":
                body.append(instr)
            elif instr.op in ("while", "when"):
                self.regions(instr, hand, body)
            else:
                args = self.fetched(instr.args, hand, body)
                body.append(replace(instr, args=args))
                self.place += 1
                self.park(instr.results, hand, body)
        yields = self.end(block, results, hand, body)
        self.place += 1
        return Block(params, body, yields)

    def end(
        self, block: Block, results: Sequence[Value | None], hand: Hand, body: list[Instr]
    ) -> tuple[Value, ...]:
        """What a block yields. Rows are written when all that goes there has been read."""
        yields: list[Value] = []
        late: list[tuple[int, Value]] = []
        for k, v in enumerate(block.yields):
            result = results[k] if results else None
            if result is None or result not in self.plan.slots:
                yields.append(self.fetched([v], hand, body)[0])
                continue
            row = self.plan.rows[result]
            same = self.plan.rows.get(v) == row
            if not same and row not in self.plan.early.get(v, ()):
                late.append((row, self.fetched([v], hand, body)[0]))
        for row, v in late:
            self.store(row, v, body)
        return tuple(yields)

    def regions(self, instr: Instr, hand: Hand, body: list[Instr]) -> None:
        """A loop or a `when`, without what has rows: those are written before, and when its region ends."""
        skip = len(instr.args) - len(instr.results)  # the condition of a `when`
        args = list(self.fetched(instr.args[:skip], hand, body))
        kept: list[Value] = []
        for a, result in zip(instr.args[skip:], instr.results):
            if result not in self.plan.slots:
                kept.append(result)
                args += self.fetched([a], hand, body)
            elif self.plan.rows.get(a) != self.plan.rows[result]:
                self.store(self.plan.rows[result], self.fetched([a], hand, body)[0], body)
        *before, last = instr.regions
        regions = (*(self.block(region) for region in before), self.block(last, instr.results))
        body.append(replace(instr, args=tuple(args), results=tuple(kept), regions=regions))
        self.place += 1
        self.park(instr.results, hand, body)

    # ------------------------------------------------------------ memory

    def store(self, row: int, value: Value, body: list[Instr]) -> None:
        """Write a row: a number as it is, of truths 1 and 0."""
        for op, type in (("from_bool", "i32"), ("to_real", "real")) if value.type == "bool" else ():
            made = self.value(type)
            body.append(Instr(op, (value,), (made,)))
            value = made
        body.append(Instr("store", (self.row(row), value), (), (("buffer", WORK),)))

    def load(self, row: int, type: str, body: list[Instr]) -> Value:
        """What `store` wrote."""
        made = self.value("real")
        body.append(Instr("load", (self.row(row),), (made,), (("buffer", WORK),)))
        if type != "bool":
            return made
        zero, truth = self.value("real"), self.value("bool")
        body += [number(zero, 0.0), Instr("gt", (made, zero), (truth,))]
        return truth

    def park(self, values: Sequence[Value], hand: Hand, body: list[Instr]) -> None:
        """Store what was just made where it belongs."""
        for v in values:
            rows = list(self.plan.early.get(v, ()))
            if v not in self.plan.slots and (v in self.plan.rows or v in self.plan.again):
                hand[v] = v, self.place - 1
                rows = [self.plan.rows[v], *rows] if v in self.plan.rows else rows
            for row in dict.fromkeys(rows):
                if v not in self.plan.slots or self.plan.rows[v] != row:
                    self.store(row, self.fetched([v], hand, body)[0], body)

    def fetched(self, values: Sequence[Value], hand: Hand, body: list[Instr]) -> tuple[Value, ...]:
        return tuple(
            self.fetch(v, hand, body) if v in self.plan.rows or v in self.plan.again else v for v in values
        )

    def fetch(self, value: Value, hand: Hand, body: list[Instr]) -> Value:
        """A value that has left: at hand still, or loaded or made again."""
        if value in hand and self.place - hand[value][1] <= NEAR:
            made = hand[value][0]
        elif value in self.plan.rows:
            made = self.load(self.plan.rows[value], value.type, body)
        else:
            again = self.plan.again[value]
            args = self.fetched(again.args, hand, body)
            made = self.value(value.type)
            body.append(replace(again, args=args, results=(made,)))
        hand[value] = made, self.place
        return made
