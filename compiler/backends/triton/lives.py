"""When values of a block live: where they are made, where they are used, and how many registers that takes.

Places number the instructions in the order in which they are written, those of regions after the one that
holds them. A value that a loop uses without making it lives to the loop's end. What a loop carries is one
life under several names, and so is what a `when` gives, which is there before its region is entered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from ndl.compiler.kernels.ir import Block, Instr, Value
from numpy.typing import NDArray

NEAR = 6
"""Places for which a value that is used stays at hand for the next use in the same block."""

CHEAP = frozenset({"add", "sub", "mul", "neg", "fma", "maximum", "minimum", "abs"})
"""Operations that cost no more than a load."""

Outer = tuple[Value | None, Value | None]

Use = tuple[int, int, int]
"""The place, the block by number, and the depth of loops there."""


@dataclass
class Life:
    """A value that takes a register from the place after `start`; it is there from `made` on, in the block
    `home`. `slot`: what a loop carries or a `when` gives, at `first` another value, later `given` by one."""

    value: Value
    weight: int
    start: int
    made: int
    home: int
    source: Instr | None = None
    slot: bool = False
    first: Life | None = None
    given: Life | None = None
    early: bool = False
    """Whether nobody wants the old value of a slot any more when `given` is made."""
    outer: bool = False
    """Whether a slot has a row already."""
    uses: list[Use] = field(default_factory=list)
    held: int = 0

    @property
    def end(self) -> int:
        """The last place that wants it."""
        return max(self.held, self.start, max((at for at, _, _ in self.uses), default=0))

    def visits(self) -> list[Use]:
        """First and last place, and depth, of uses that one load serves; near its making none is needed."""
        last = {} if self.slot else {self.home: self.made}
        open: dict[int, int] = {}
        found: list[Use] = []
        for at, home, depth in self.uses:
            if home in last and at - last[home] <= NEAR:
                if home in open:
                    found[open[home]] = found[open[home]][0], at, depth
            else:
                open[home] = len(found)
                found.append((at, at, depth))
            last[home] = at
        return found


class Lives:
    """The lives in one block.

    `shared` are values that are there all the time, with what makes them; `wide` is the number of registers
    of a real. `rows` are slots that outlive the block: each a parameter of it, or none, and the value that it
    has at the block's end, or none.
    """

    def __init__(
        self, block: Block, shared: Mapping[Value, Instr], wide: int, rows: Sequence[Outer] = ()
    ) -> None:
        self.shared, self.wide = shared, wide
        self.found: dict[Value, Life] = {}
        self.place = self.homes = 0
        self.block(block, 0)
        self.length = self.place
        self.early = [self._outer(*row) for row in rows]
        for life in self:
            if life.value in shared:
                life.held = self.length - 1

    def _outer(self, param: Value | None, given: Value | None) -> bool:
        """Makes a parameter a slot that outlives the block; whether it is given its value early."""
        uses: list[Use] = []
        if param is not None:
            slot = self.found[param]
            slot.slot = slot.outer = True
            slot.held, uses = self.length - 1, slot.uses
        if given is None or given == param or not self._given(given, uses, 1):
            return False
        self.found[given].uses.remove(max(self.found[given].uses))
        return True

    def __iter__(self) -> Iterator[Life]:
        """Each life once."""
        return iter({id(life): life for life in self.found.values()}.values())

    def pressure(self, bare: bool = False) -> NDArray[np.int64]:
        """How many registers values take at each place; `bare`: without those that the assembler computes
        again, cheap functions of what is there anyway."""
        change = np.zeros(self.length + 1, np.int64)
        for life in self:
            if bare and self.cheap(life):
                continue
            spans = life.visits() if life.outer else [(life.start + 1, life.end, 0)]
            for first, last, _ in spans:
                change[first] += life.weight
                change[last + 1] -= life.weight
        return np.cumsum(change)[: self.length]

    def cheap(self, life: Life) -> bool:
        if life.slot or life.source is None or life.source.op not in CHEAP:
            return False
        found = (self.found.get(a) for a in life.source.args)
        return all(a is None or a.end >= life.end for a in found)

    # ------------------------------------------------------------ the walk

    def weight(self, value: Value) -> int:
        return self.wide if value.type in ("real", "bits") else 1

    def define(self, values: Sequence[Value], home: int, source: Instr | None = None) -> None:
        at = self.place - 1
        for v in values:
            self.found[v] = Life(v, self.weight(v), at, at, home, source)

    def use(self, values: Sequence[Value], home: int, depth: int) -> None:
        for v in values:
            if v in self.shared and v not in self.found and self.shared[v].op != "const":
                self.found[v] = Life(v, self.weight(v), -1, -1, -1, self.shared[v])
            if v in self.found:
                self.found[v].uses.append((self.place, home, depth))

    def block(self, block: Block, depth: int, given: bool = False) -> int:
        """Goes through a block and gives its number; `given`: its parameters are slots."""
        home = self.homes = self.homes + 1
        self.place += 1
        if not given:
            self.define(block.params, home)
        for instr in block.body:
            if instr.op == "const":
                continue
            self.use(instr.args, home, depth)
            if instr.op in ("while", "when"):
                self.regions(instr, home, depth)
                self.place += 1
            else:
                self.place += 1
                self.define(instr.results, home, instr)
        self.use(block.yields, home, depth)
        self.place += 1
        return home

    def regions(self, instr: Instr, home: int, depth: int) -> None:
        first, looped = self.place, instr.op == "while"
        slots = [Life(r, self.weight(r), first, first, home, slot=True) for r in instr.results]
        for slot, a in zip(slots, instr.args[len(instr.args) - len(slots) :]):
            slot.first = self.found.get(a)
        if looped:
            for params in (region.params for region in instr.regions):
                self.found.update(zip(params, slots))
        for region in instr.regions:
            inner = self.block(region, depth + looped, looped)
        for slot, given in zip(slots, instr.regions[-1].yields):
            life = self.found.get(given)
            if life is not None and life is not slot:
                slot.given, slot.early = life, self._given(given, slot.uses, inner)
        for life in self:
            if looped and life.start < first < life.end:
                life.held = self.place
        for slot, result in zip(slots, instr.results):
            slot.held, slot.made = self.place, self.place
            self.found[result] = slot

    def _given(self, value: Value, uses: Sequence[Use], home: int) -> bool:
        """Whether what a slot is given at the end of the block `home` is made there, when nobody wants the
        old value any more."""
        life = self.found.get(value)
        return (
            life is not None and life.home == home and life.made >= max((at for at, _, _ in uses), default=0)
        )
