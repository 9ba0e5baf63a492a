"""Sweeps over a grid as LLVM IR: rows in SIMD lanes, several steps in one pass over memory.

Steps follow each other row by row: as soon as a stage has the rows of its predecessor that it reads, it
writes its next one, into a ring of the few rows that are still needed. A pass of T steps so reads and writes
memory once. Near the ends of an axis stand other bodies, chosen per row, or done lane by lane after
the row's inside: no branch is taken inside.

The function is `void name(ptr from, ptr to, ptr rings, ptr slots, ptr coefficients, i64 first, i64 last,
i64 steps)`: rows [first, last) of one member by so many steps. `sweep_layout` says how rows stand in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ndl.compiler.backends.llvm.printer import Printer
from ndl.compiler.backends.llvm.sweep_layout import (
    Layout,
    block_of,
    lag_of,
    layout_of,
    ring_rows,
    ring_slots,
    three,
)
from ndl.compiler.backends.llvm.uniform import Analysis
from ndl.compiler.kernels.ir import Block, Kernel, Value
from ndl.compiler.kernels.sweeps import STEP, TIME, Body, Read, Slot, Stage, Sweeps, expanded

FAR = 1 << 20
"""Turns of a ring or an axis that are added before a remainder, which then is never of a negative number."""

UNROLLED = 2
"""Vectors of a row in one turn of its loop."""


def print_sweeps(sweeps: Sweeps, lanes: int) -> str:
    """The text of a module with the function `sweeps.name`."""
    layout = layout_of(sweeps, lanes)
    whole = three(sweeps)
    stages = tuple(
        replace(s, bodies={p: expanded(b, sweeps.precision) for p, b in s.bodies.items()})
        for s in whole.stages
    )
    return _Module(replace(whole, stages=stages), layout).text()


class _Module:
    def __init__(self, sweeps: Sweeps, layout: Layout) -> None:
        self.sweeps, self.layout = sweeps, layout
        self.real = "double" if sweeps.precision == "f64" else "float"
        self.declared: dict[str, str] = {}
        self.block = block_of(sweeps)

    def text(self) -> str:
        functions: list[str] = []
        for k, stage in enumerate(self.sweeps.stages):
            for first in dict.fromkeys(p[0] for p in stage.bodies):
                functions.append(_StagePrinter(self, k, stage, first, 1).function())
            if self.block > 1:
                functions.append(_StagePrinter(self, k, stage, None, self.block).function())
        functions += [_carried(self.layout, self.real, name, into) for name, into in CARRIERS]
        driver = _Driver(self).function()
        return (
            "\n\n".join([*functions, driver, "\n".join([*sorted(self.declared.values()), "!0 = !{}"])]) + "\n"
        )


CARRIERS = (("enter", True), ("leave", False))
"""Functions that bring fields into the layout and out of it."""


def _carried(layout: Layout, real: str, name: str, into: bool) -> str:
    """`void name(ptr plain, ptr laid, i64 first, i64 last)`: rows of a field without pads, to or from rows
    with them (whose pads stay as they are), piece by piece."""
    rows, columns = layout.shape[1:]
    lines = [f"define void @{name}(ptr %plain, ptr %laid, i64 %first, i64 %last) nounwind {{", "start:"]
    lines += ["  br label %slab", "slab:", "  %k = phi i64 [ %first, %start ], [ %k.next, %slabbed ]"]
    lines += [f"  %k.plain = mul i64 %k, {rows * columns}", f"  %k.laid = mul i64 %k, {layout.slab}"]
    lines += ["  br label %row", "row:", "  %r = phi i64 [ 0, %slab ], [ %r.next, %rowed ]"]
    lines += [f"  %r.plain = mul i64 %r, {columns}", "  %from = add i64 %k.plain, %r.plain"]
    lines += [f"  %r.padded = add i64 %r, {layout.pads[0]}", f"  %r.laid = mul i64 %r.padded, {layout.row}"]
    lines += ["  %to = add i64 %k.laid, %r.laid", f"  %to.in = add i64 %to, {layout.pads[1] * layout.lanes}"]
    lines += ["  br label %piece.0"]
    for lane in range(layout.lanes):
        first = lane * layout.length
        count = max(0, min(layout.length, columns - first))
        lines.append(f"piece.{lane}:")
        if not count:
            lines.append(f"  br label %piece.{lane + 1}")
            continue
        j = f"%j.{lane}"
        lines += [
            f"  br label %go.{lane}",
            f"go.{lane}:",
            f"  {j} = phi i64 [ 0, %piece.{lane} ], [ {j}.next, %go.{lane} ]",
            f"  {j}.a = add i64 %from, {first}",
            f"  {j}.b = add i64 {j}.a, {j}",
            f"  {j}.plain = getelementptr {real}, ptr %plain, i64 {j}.b",
            f"  {j}.c = mul i64 {j}, {layout.lanes}",
            f"  {j}.d = add i64 {j}.c, {lane}",
            f"  {j}.e = add i64 {j}.d, %to.in",
            f"  {j}.laid = getelementptr {real}, ptr %laid, i64 {j}.e",
            f"  {j}.value = load {real}, ptr {j}.{'plain' if into else 'laid'}",
            f"  store {real} {j}.value, ptr {j}.{'laid' if into else 'plain'}",
            f"  {j}.next = add nuw i64 {j}, 1",
            f"  {j}.more = icmp ult i64 {j}.next, {count}",
            f"  br i1 {j}.more, label %go.{lane}, label %piece.{lane + 1}",
        ]
    lines += [f"piece.{layout.lanes}:", "  br label %rowed", "rowed:", "  %r.next = add i64 %r, 1"]
    lines += [f"  %r.more = icmp ult i64 %r.next, {rows}", "  br i1 %r.more, label %row, label %slabbed"]
    lines += ["slabbed:", "  %k.next = add i64 %k, 1", "  %k.more = icmp slt i64 %k.next, %last"]
    lines += ["  br i1 %k.more, label %slab, label %exit", "exit:", "  ret void", "}"]
    return "\n".join(lines)


def _label(number: int | None) -> str:
    return "in" if number is None else f"lo{number}" if number >= 0 else f"hi{-1 - number}"


Rows = dict[tuple[str, int, int], str]
"""Addresses of rows, by array and offsets along the first two axes."""


class _StagePrinter:
    """One stage for one kind of slab, or for a block of so many slabs inside."""

    def __init__(self, module: _Module, number: int, stage: Stage, first: int | None, block: int) -> None:
        self.module, self.stage, self.first, self.block = module, stage, first, block
        self.sweeps, self.layout = module.sweeps, module.layout
        self.real = module.real
        self.name = f"stage.{number}.{_label(first)}" if block == 1 else f"block.{number}"
        self.arrays = stage.arrays()
        empty = Block()
        kernel = Kernel("point", self.sweeps.precision, (), empty, empty, empty, empty)
        self.vectors, self.single = Printer(kernel, self.layout.lanes), Printer(kernel, 1)
        self.lines: list[str] = []
        self.vectors.lines = self.single.lines = self.lines
        self.label = "start"
        self.slots: dict[int, str] = {}

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
        places = ", ".join(f"ptr %base.{k}, i64 %mod.{k}" for k in range(len(self.arrays)))
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
        at = self.set(f"add i64 %r, {offset}") if offset else "%r"
        far = self.set(f"mul i64 %mod.{k}, {FAR}")
        at = self.set(f"add i64 {at}, {far}")
        at = self.set(f"urem i64 {at}, %mod.{k}")
        at = self.set(f"mul i64 {at}, {self.layout.slab}")
        return self.set(f"getelementptr {self.real}, ptr %base.{k}, i64 {at}")

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
        self.inside(bodies[None], rows)
        n = self.layout.shape[2]
        for b in blocks:
            for place in (p for p in bodies if p is not None):
                self.edge(bodies[place], place % n, rows, b)
        for key in written:
            if key[0].startswith("y") and self.layout.pads[1]:
                self.row_pads(rows[key])

    def inside(self, body: Body, rows: Rows) -> None:
        whole, rest = divmod(self.layout.length, UNROLLED)
        if whole:
            self.vector_loop(body, rows, 0, whole, UNROLLED)
        if rest:
            self.vector_loop(body, rows, whole * UNROLLED, rest, 1)

    def vector_loop(self, body: Body, rows: Rows, first: int, turns: int, unrolled: int) -> None:
        """`turns` times so many vectors of a row, from vector `first` on; neighbours stay in registers."""
        spans: dict[tuple[str, int, int], tuple[int, int]] = {}
        for r in (r for r in body.reads if isinstance(r, Read)):
            for b in range(self.block):
                key = (r.array, r.offset[0] + b, r.offset[1])
                low, high = spans.get(key, (r.offset[2], r.offset[2]))
                spans[key] = min(low, r.offset[2]), max(high, r.offset[2])
        held = {
            (key, o): self.vector(rows[key], str(first), o)
            for key, (a, b) in spans.items()
            for o in range(a, b)
        }
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
        for (key, o), name in carried.items():
            last = window[key, o + unrolled]
            phis.append(
                f"  {name} = phi {self.kind} [ {held[key, o]}, %{before} ], [ {last}, %{self.label} ]"
            )
        self.lines[place:place] = phis
        self.put(f"br i1 %go{k}, label %vectors{k}, label %vectorsdone{k}")
        self.open(f"vectorsdone{k}")

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

    def edge(self, body: Body, column: int, rows: Rows, block: int) -> None:
        """The point of a column, alone."""
        one = f"<1 x {self.real}>"
        texts = []
        for r in body.reads:
            if isinstance(r, Slot):
                texts.append(self.slots[r.index])
                continue
            at = self.element(rows[r.array, r.offset[0] + block, r.offset[1]], column + r.offset[2])
            texts.append(self.set(f"load {one}, ptr {at}, align {self.bytes}", "e"))
        for value, array in zip(self.point(self.single, body, texts), self.stage.writes):
            target = self.element(rows[array, block, 0], column)
            self.put(f"store {one} {value}, ptr {target}, align {self.bytes}")

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


class _Driver:
    """The loops over rows, steps and stages."""

    def __init__(self, module: _Module) -> None:
        self.module, self.sweeps, self.layout = module, module.sweeps, module.layout
        self.real = module.real
        self.lines: list[str] = []
        self.count = 0

    def set(self, right: str) -> str:
        self.count += 1
        self.lines.append(f"  %d.{self.count} = {right}")
        return f"%d.{self.count}"

    def put(self, line: str) -> None:
        self.lines.append(f"  {line}")

    def function(self) -> str:
        sweeps = self.sweeps
        back, ahead = sweeps.reach(0)[0], lag_of(sweeps)
        stages = len(sweeps.stages)
        self.put(f"%levels = mul i64 %steps, {stages}")
        self.put("%later = sub i64 %levels, 1")
        before = self.set(f"mul i64 %later, {back}")
        self.put(f"%base = sub i64 %first, {before}")
        both = self.set(f"mul i64 %later, {back + ahead}")
        rows = self.set("sub i64 %last, %first")
        all = self.set(f"add i64 {rows}, {both}")
        more = self.set(f"add i64 {all}, {self.module.block - 1}")
        self.put(f"%turns = sdiv i64 {more}, {self.module.block}")
        self.put(f"%t0 = load {self.real}, ptr %slots")
        at = self.set(f"getelementptr {self.real}, ptr %slots, i64 {STEP.index}")
        self.put(f"%h = load {self.real}, ptr {at}")
        self.put("br label %turn")
        self.lines.append("turn:")
        self.put("%i = phi i64 [ 0, %start ], [ %i.next, %turned ]")
        self.put("br label %step")
        self.lines.append("step:")
        self.put("%s = phi i64 [ 0, %turn ], [ %s.next, %stepped ]")
        self.put(f"%level = mul i64 %s, {stages}")
        for k in range(stages):
            self.stage(k, back, ahead)
        self.put("br label %stepped")
        self.lines.append("stepped:")
        self.put("%s.next = add i64 %s, 1")
        self.put("%s.more = icmp slt i64 %s.next, %steps")
        self.put("br i1 %s.more, label %step, label %turned")
        self.lines.append("turned:")
        self.put("%i.next = add i64 %i, 1")
        self.put("%i.more = icmp slt i64 %i.next, %turns")
        self.put("br i1 %i.more, label %turn, label %exit")
        self.lines += ["exit:", "  ret void"]
        head = (
            f"define void @{sweeps.name}(ptr %from, ptr %to, ptr %rings, ptr %slots, ptr %coefficients, "
            "i64 %first, i64 %last, i64 %steps) nounwind {"
        )
        return "\n".join([head, "start:", *self.lines, "}"])

    def stage(self, k: int, back: int, ahead: int) -> None:
        """A block of slabs of a stage, where it is wanted at this turn."""
        level = self.set(f"add i64 %level, {k}")
        behind = self.set(f"mul i64 {level}, {ahead}")
        start = self.set(f"mul i64 %i, {self.module.block}")
        row = self.set(f"add i64 %base, {start}")
        row = self.set(f"sub i64 {row}, {behind}")
        left = self.set(f"sub i64 %later, {level}")
        low = self.set(f"sub i64 %first, {self.set(f'mul i64 {left}, {back}')}")
        high = self.set(f"add i64 %last, {self.set(f'mul i64 {left}, {self.sweeps.reach(0)[1]}')}")
        inner, outer = low, high
        if not self.sweeps.periodic[0]:
            (lo, hi), extent = self.sweeps.edges[0], self.layout.shape[0]
            inner, outer = self.bounded("smax", low, lo), self.bounded("smin", high, extent - hi)
            low, high = self.bounded("smax", low, 0), self.bounded("smin", high, extent)
        rest = self.call(k, level)
        if self.module.block == 1:
            self.one(k, row, low, high, rest)
            return
        end = self.set(f"add i64 {row}, {self.module.block}")
        wanted = self.both(f"icmp sge i64 {row}, {inner}", f"icmp sle i64 {end}, {outer}")
        n = self.count
        self.put(f"br i1 {wanted}, label %block.{n}, label %each.{n}")
        self.lines.append(f"block.{n}:")
        self.put(f"call void @block.{k}(i64 {row}, {rest})")
        self.put(f"br label %after.{n}")
        self.lines.append(f"each.{n}:")
        for b in range(self.module.block):
            self.one(k, self.set(f"add i64 {row}, {b}"), low, high, rest)
        self.put(f"br label %after.{n}")
        self.lines.append(f"after.{n}:")

    def both(self, *tests: str) -> str:
        a, b = (self.set(t) for t in tests)
        return self.set(f"and i1 {a}, {b}")

    def one(self, k: int, row: str, low: str, high: str, rest: str) -> None:
        """A slab, by the bodies of where it stands."""
        wanted = self.both(f"icmp sge i64 {row}, {low}", f"icmp slt i64 {row}, {high}")
        n, extent = self.count, self.layout.shape[0]
        self.put(f"br i1 {wanted}, label %do.{n}, label %done.{n}")
        self.lines.append(f"do.{n}:")
        places = dict.fromkeys(p[0] for p in self.sweeps.stages[k].bodies)
        ends = [p for p in places if p is not None]
        cases = " ".join(f"i64 {p % extent}, label %{_label(p)}.{n}" for p in ends)
        self.put(f"switch i64 {row}, label %in.{n} [ {cases} ]")
        for place in [None, *ends]:
            self.lines.append(f"{_label(place)}.{n}:")
            self.put(f"call void @stage.{k}.{_label(place)}(i64 {row}, {rest})")
            self.put(f"br label %done.{n}")
        self.lines.append(f"done.{n}:")

    def bounded(self, name: str, value: str, limit: int) -> str:
        self.module.declared[f"llvm.{name}.i64"] = f"declare i64 @llvm.{name}.i64(i64, i64)"
        return self.set(f"call i64 @llvm.{name}.i64(i64 {value}, i64 {limit})")

    def call(self, k: int, level: str) -> str:
        """What a stage's functions are given besides the slab."""
        stage = self.sweeps.stages[k]
        time = self.set(f"sitofp i64 %s to {self.real}")
        at = self.set(f"fadd {self.real} {time}, {self.number(stage.node)}")
        at = self.set(f"fmul {self.real} {at}, %h")
        at = self.set(f"fadd {self.real} {at}, %t0")
        arrays = [self.array(a, k, level) for a in stage.arrays()]
        return ", ".join(
            [f"{self.real} {at}, ptr %slots", *(f"ptr {base}, i64 {mod}" for base, mod in arrays)]
        )

    def number(self, value: float) -> str:
        return Printer.literal(self, value, "real")  # type: ignore[arg-type]

    def array(self, name: str, k: int, level: str) -> tuple[str, str]:
        """Where an array starts, and how many slabs it has before it starts anew."""
        extent = str(self.layout.shape[0])
        if name.startswith("c."):
            index = self.sweeps.coefficients().index(name)
            at = self.set(f"getelementptr ptr, ptr %coefficients, i64 {index}")
            return self.set(f"load ptr, ptr {at}"), extent
        kind, number = name.split(".")
        stages, stage = len(self.sweeps.stages), int(kind[1:])
        maker = stage if kind[0] == "k" else stage - 1
        slot_name = name
        if maker < 0:
            maker, slot_name = stages - 1, f"y{stages}.{number}"
        slot = self.sweeps.stages[maker].writes.index(slot_name)
        behind = k - maker if not name.startswith("y0.") else k + 1
        made = self.set(f"sub i64 {level}, {behind}")
        rows = ring_rows(self.sweeps)
        at = self.set(f"mul i64 {made}, {ring_slots(self.sweeps)}")
        at = self.set(f"add i64 {at}, {slot}")
        at = self.set(f"mul i64 {at}, {rows * self.layout.slab}")
        ring = self.set(f"getelementptr {self.real}, ptr %rings, i64 {at}")
        field = self.layout.shape[0] * self.layout.slab * int(number)
        if name.startswith("y0."):
            outside, base = self.set("icmp eq i64 %s, 0"), "%from"
        elif kind == f"y{stages}":
            outside, base = self.set(f"icmp eq i64 {level}, %later"), "%to"
        else:
            return ring, str(rows)
        whole = self.set(f"getelementptr {self.real}, ptr {base}, i64 {field}")
        return (
            self.set(f"select i1 {outside}, ptr {whole}, ptr {ring}"),
            self.set(f"select i1 {outside}, i64 {extent}, i64 {rows}"),
        )
