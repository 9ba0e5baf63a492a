"""The functions of a stage of fields: its rows in SIMD lanes, their ends point by point, and their pads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ndl.compiler.backends.llvm.printer import Printer
from ndl.compiler.backends.llvm.sweep_layout import Layout
from ndl.compiler.backends.llvm.uniform import Analysis
from ndl.compiler.kernels.ir import Block, Kernel, Value
from ndl.compiler.kernels.sweeps import TIME, Body, Read, Slot, Stage, Sweeps

UNROLLED = 2
"""Vectors of a row in one turn of its loop."""


@dataclass
class Sheet:
    """What the functions of a module share: the step, its layout, how many slabs a stage takes at once, and
    the functions that they call."""

    sweeps: Sweeps
    layout: Layout
    block: int
    declared: dict[str, str] = field(default_factory=dict)

    @property
    def real(self) -> str:
        return "double" if self.sweeps.precision == "f64" else "float"


def label_of(number: int | None) -> str:
    """How a kind of slab is called in names."""
    return "in" if number is None else f"lo{number}" if number >= 0 else f"hi{-1 - number}"


Rows = dict[tuple[str, int, int], str]
"""Addresses of rows, by array and offsets along the first two axes."""

Held = dict[tuple[tuple[str, int, int], int], str]
"""Vectors of rows, by their place from a loop's own."""


class StagePrinter:
    """One stage for one kind of slab, or for a block of so many slabs inside."""

    def __init__(self, module: Sheet, number: int, stage: Stage, first: int | None, block: int) -> None:
        self.module, self.stage, self.first, self.block = module, stage, first, block
        self.sweeps, self.layout = module.sweeps, module.layout
        self.real = module.real
        self.name = f"stage.{number}.{label_of(first)}" if block == 1 else f"block.{number}"
        self.arrays = stage.arrays()
        empty = Block()
        kernel = Kernel("point", self.sweeps.precision, (), empty, empty, empty, empty)
        self.vectors, self.single = Printer(kernel, self.layout.lanes), Printer(kernel, 1)
        self.lines: list[str] = []
        self.vectors.lines = self.single.lines = self.lines
        self.label = "start"
        self.slots: dict[int, str] = {}
        self.firsts: dict[int, str] = {}

    # ------------------------------------------------------------ lines

    @property
    def kind(self) -> str:
        return f"<{self.layout.lanes} x {self.real}>"

    def set(self, right: str, stem: str = "p") -> str:
        self.vectors.count += 1
        name = f"%{stem}.{self.vectors.count}"
        self.lines.append(f"  {name} = {right}")
        return name

    def put(self, line: str) -> None:
        self.lines.append(f"  {line}")

    def open(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self.label = label

    def fresh(self, stem: str) -> str:
        self.vectors.count += 1
        return f"{stem}.{self.vectors.count}"

    # ------------------------------------------------------------ the function

    def function(self) -> str:
        for slot in sorted(
            {r.index for b in self.stage.bodies.values() for r in b.reads if isinstance(r, Slot)}
        ):
            if slot == TIME.index:
                self.slots[slot] = "%t"
                continue
            at = self.set(f"getelementptr {self.real}, ptr %slots, i64 {slot}")
            self.slots[slot] = self.set(f"load {self.real}, ptr {at}, !invariant.load !0", "slot")
        lo, hi = self.sweeps.edges[1]
        extent = self.layout.shape[1]
        for k in range(lo):
            self.row(k, str(k))
        if extent - lo - hi == 1:
            self.row(None, str(lo))
        elif extent > lo + hi:
            self.counted(lo, extent - hi, lambda at: self.row(None, at))
        for k in range(hi):
            self.row(-1 - k, str(extent - 1 - k))
        self.middle_pads()
        self.module.declared |= self.vectors.declared | self.single.declared
        places = ", ".join(f"ptr %base.{k}, i64 %mod.{k}, i64 %far.{k}" for k in range(len(self.arrays)))
        given = f"i64 %r, {self.real} %t, ptr %slots, {places}"
        head = f"define internal void @{self.name}({given}) noinline nounwind {{"
        return "\n".join([head, "start:", *self.lines, "  ret void", "}"])

    def counted(self, first: int, last: int, body: Callable[[str], None]) -> None:
        k, before = self.fresh(""), self.label
        self.put(f"br label %rows{k}")
        self.open(f"rows{k}")
        place = len(self.lines)
        body(f"%at{k}")
        self.put(f"%on{k} = add nuw nsw i64 %at{k}, 1")
        self.put(f"%go{k} = icmp ult i64 %on{k}, {last}")
        self.lines.insert(place, f"  %at{k} = phi i64 [ {first}, %{before} ], [ %on{k}, %{self.label} ]")
        self.put(f"br i1 %go{k}, label %rows{k}, label %rowsdone{k}")
        self.open(f"rowsdone{k}")

    # ------------------------------------------------------------ addresses

    def slab(self, array: str, offset: int) -> str:
        """The address of an array's slab at an offset from the stage's."""
        k = self.arrays.index(array)
        at = self.turned_once(k, offset + self.sweeps.reach(0)[0])
        at = self.set(f"mul i64 {at}, {self.layout.slab}")
        return self.set(f"getelementptr {self.real}, ptr %base.{k}, i64 {at}")

    def turned_once(self, k: int, ahead: int) -> str:
        """The slab so many places after the first that is read. A ring holds all that are read: a remainder
        is taken of the first alone, and of all only on an axis that is shorter."""
        if ahead and ahead < self.layout.shape[0]:
            at = self.set(f"add i64 {self.first_slab(k)}, {ahead}")
            less = self.set(f"sub i64 {at}, %mod.{k}")
            beyond = self.set(f"icmp sge i64 {less}, 0")
            return self.set(f"select i1 {beyond}, i64 {less}, i64 {at}")
        if not ahead:
            return self.first_slab(k)
        return self.remainder(k, ahead - self.sweeps.reach(0)[0])

    def first_slab(self, k: int) -> str:
        if k not in self.firsts:
            self.firsts[k] = self.remainder(k, -self.sweeps.reach(0)[0])
        return self.firsts[k]

    def remainder(self, k: int, offset: int) -> str:
        at = self.set(f"add i64 %r, {offset}")
        at = self.set(f"add i64 {at}, %far.{k}")
        return self.set(f"urem i64 {at}, %mod.{k}")

    def row_at(self, slab: str, middle: str, offset: int) -> str:
        """The address of the first vector after the pad of a row."""
        at = self.set(f"add i64 {middle}, {self.layout.pads[0] + offset}")
        at = self.set(f"mul i64 {at}, {self.layout.row}")
        at = self.set(f"add i64 {at}, {self.layout.pads[1] * self.layout.lanes}")
        return self.set(f"getelementptr {self.real}, ptr {slab}, i64 {at}", "row")

    def element(self, row: str, column: int) -> str:
        at = self.layout.place(column) - self.layout.pads[1] * self.layout.lanes
        return self.set(f"getelementptr {self.real}, ptr {row}, i64 {at}")

    # ------------------------------------------------------------ rows

    def row(self, middle: int | None, at: str) -> None:
        """A row of each slab of the block."""
        bodies = {p[2]: b for p, b in self.stage.bodies.items() if p[:2] == (self.first, middle)}
        reads = [r for b in bodies.values() for r in b.reads if isinstance(r, Read)]
        blocks = range(self.block)
        needed = [(r.array, r.offset[0] + b, r.offset[1]) for b in blocks for r in reads]
        written = [(w, b, 0) for b in blocks for w in self.stage.writes]
        slabs = {k: self.slab(*k) for k in dict.fromkeys(k[:2] for k in [*needed, *written])}
        rows = {k: self.row_at(slabs[k[:2]], at, k[2]) for k in dict.fromkeys([*needed, *written])}
        # what is written may stand on rows that are read: at their ends before, else place by place
        ends = [(p % self.layout.shape[2], bodies[p]) for p in bodies if p is not None]
        found = [(column, b, self.edge(body, column, rows, b)) for b in blocks for column, body in ends]
        self.inside(bodies[None], rows)
        for column, b, values in found:
            self.ended(values, column, rows, b)
        for key in written:
            if key[0].startswith("y") and self.layout.pads[1]:
                self.row_pads(rows[key])

    def inside(self, body: Body, rows: Rows) -> None:
        whole, rest = divmod(self.layout.length, UNROLLED)
        held = self.held(body, rows)
        if whole:
            held = self.vector_loop(body, rows, held, 0, whole, UNROLLED)
        if rest:
            self.vector_loop(body, rows, held, whole * UNROLLED, rest, 1)

    def spans(self, body: Body) -> dict[tuple[str, int, int], tuple[int, int]]:
        """How far a body reads along each row, at least up to where it stands: what is written there may
        stand on what is read."""
        found: dict[tuple[str, int, int], tuple[int, int]] = {}
        for r in (r for r in body.reads if isinstance(r, Read)):
            for b in range(self.block):
                key = (r.array, r.offset[0] + b, r.offset[1])
                low, high = found.get(key, (r.offset[2], max(r.offset[2], 0)))
                found[key] = min(low, r.offset[2]), max(high, r.offset[2])
        return found

    def held(self, body: Body, rows: Rows) -> Held:
        """The neighbours that a loop has in registers before its first vector."""
        return {
            (key, o): self.vector(rows[key], "0", o)
            for key, (a, b) in self.spans(body).items()
            for o in range(a, b)
        }

    def vector_loop(
        self, body: Body, rows: Rows, held: Held, first: int, turns: int, unrolled: int
    ) -> Held:  # fmt: skip
        """`turns` times so many vectors of a row, from vector `first` on; neighbours stay in registers, and
        the last of them are given back."""
        spans = self.spans(body)
        k, before = self.fresh(""), self.label
        self.put(f"br label %vectors{k}")
        self.open(f"vectors{k}")
        place = len(self.lines)
        carried = {key: f"%held{k}.{i}" for i, key in enumerate(held)}
        window = dict(carried)
        at = f"%at{k}"
        for u in range(unrolled):
            for key, (_, high) in spans.items():
                window[key, high + u] = self.vector(rows[key], at, high + u)
            for b in range(self.block):
                texts = [
                    self.slots[r.index] if isinstance(r, Slot)
                    else window[(r.array, r.offset[0] + b, r.offset[1]), r.offset[2] + u]
                    for r in body.reads
                ]  # fmt: skip
                for value, array in zip(self.point(self.vectors, body, texts), self.stage.writes):
                    self.store(value, rows[array, b, 0], at, u)
        self.put(f"%on{k} = add nuw nsw i64 {at}, {unrolled}")
        self.put(f"%go{k} = icmp ult i64 %on{k}, {first + turns * unrolled}")
        phis = [f"  {at} = phi i64 [ {first}, %{before} ], [ %on{k}, %{self.label} ]"]
        last = {(key, o): window[key, o + unrolled] for key, o in carried}
        for place_held, name in carried.items():
            both = f"[ {held[place_held]}, %{before} ], [ {last[place_held]}, %{self.label} ]"
            phis.append(f"  {name} = phi {self.kind} {both}")
        self.lines[place:place] = phis
        self.put(f"br i1 %go{k}, label %vectors{k}, label %vectorsdone{k}")
        self.open(f"vectorsdone{k}")
        return last

    def vector(self, row: str, at: str, offset: int) -> str:
        where = self.set(f"getelementptr {self.kind}, ptr {row}, i64 {at}")
        if offset:
            where = self.set(f"getelementptr {self.kind}, ptr {where}, i64 {offset}")
        return self.set(f"load {self.kind}, ptr {where}, align {self.bytes * self.layout.lanes}", "v")

    @property
    def bytes(self) -> int:
        return 8 if self.real == "double" else 4

    def store(self, value: str, row: str, at: str, offset: int) -> None:
        where = self.set(f"getelementptr {self.kind}, ptr {row}, i64 {at}")
        where = self.set(f"getelementptr {self.kind}, ptr {where}, i64 {offset}")
        self.put(f"store {self.kind} {value}, ptr {where}, align {self.bytes * self.layout.lanes}")

    def edge(self, body: Body, column: int, rows: Rows, block: int) -> list[str]:
        """What the point of a column yields, alone."""
        one = f"<1 x {self.real}>"
        texts = []
        for r in body.reads:
            if isinstance(r, Slot):
                texts.append(self.slots[r.index])
                continue
            at = self.element(rows[r.array, r.offset[0] + block, r.offset[1]], column + r.offset[2])
            texts.append(self.set(f"load {one}, ptr {at}, align {self.bytes}", "e"))
        return self.point(self.single, body, texts)

    def ended(self, values: Sequence[str], column: int, rows: Rows, block: int) -> None:
        for value, array in zip(values, self.stage.writes):
            target = self.element(rows[array, block, 0], column)
            self.put(f"store <1 x {self.real}> {value}, ptr {target}, align {self.bytes}")

    def point(self, printer: Printer, body: Body, texts: Sequence[str]) -> list[str]:
        """The yields of a body, in the lanes of a printer."""
        printer.count = self.vectors.count
        printer.same = uniform(body)
        printer.bind(body.block.params, texts)
        printer.straight(body.block, quiet=True)
        self.vectors.count = printer.count
        return [printer.lane(y) for y in body.block.yields]

    # ------------------------------------------------------------ pads

    def row_pads(self, row: str) -> None:
        """What stands beyond the ends of a row's pieces: the ends of the next pieces."""
        layout, n = self.layout, self.layout.shape[2]
        pad, lanes, length = layout.pads[1], layout.lanes, layout.length
        wrapped = self.sweeps.periodic[2]
        for q in range(pad if wrapped else 0):
            if n + q < lanes * length:
                self.copy(row, q, n + q)
        for q in range(1, pad + 1):
            self.turned(row, length - q, -q, [lanes, *range(lanes - 1)])
            self.turned(row, q - 1, length + q - 1, [*range(1, lanes), lanes])
        for q in range(pad if wrapped else 0):
            self.copy(row, n - 1 - q, -1 - q)
            if n + q >= lanes * length:
                self.copy(row, q, n + q)

    def copy(self, row: str, source: int, target: int) -> None:
        value = self.set(f"load {self.real}, ptr {self.element(row, source)}", "e")
        self.put(f"store {self.real} {value}, ptr {self.element(row, target)}")

    def turned(self, row: str, source: int, target: int, order: Sequence[int]) -> None:
        """Vector `target` is vector `source` with its lanes in another order, zero where there is none."""
        value = self.vector(row, "0", source)
        places = ", ".join(f"i32 {k}" for k in order)
        mask = f"<{self.layout.lanes} x i32> <{places}>"
        value = self.set(f"shufflevector {self.kind} {value}, {self.kind} zeroinitializer, {mask}")
        self.store(value, row, "0", target)

    def middle_pads(self) -> None:
        """Rows beyond the ends of the middle axis."""
        pad, extent = self.layout.pads[0], self.layout.shape[1]
        if not pad or not self.sweeps.periodic[1]:
            return
        written = [w for w in self.stage.writes if w.startswith("y")]
        for slab in [self.slab(w, b) for b in range(self.block) for w in written]:
            for q in range(pad):
                self.copy_row(slab, extent - 1 - q, -1 - q)
                self.copy_row(slab, q, extent + q)

    def copy_row(self, slab: str, source: int, target: int) -> None:
        start = -self.layout.pads[1] * self.layout.lanes
        a, b = (
            self.set(f"getelementptr {self.real}, ptr {self.row_at(slab, str(r), 0)}, i64 {start}")
            for r in (source, target)
        )
        name = "llvm.memcpy.p0.p0.i64"
        self.module.declared[name] = f"declare void @{name}(ptr, ptr, i64, i1)"
        self.put(f"call void @{name}(ptr {b}, ptr {a}, i64 {self.layout.row * self.bytes}, i1 false)")


def uniform(body: Body) -> set[Value]:
    """Values of a body that are the same at all points."""
    empty = Block()
    found = Analysis(Kernel("point", "f64", (), empty, empty, empty, empty))
    found.params(body.block.params, [isinstance(r, Slot) for r in body.reads])
    found.block(body.block)
    return found.same
