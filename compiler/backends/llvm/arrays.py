"""Arrays in LLVM kernels: where they stand in memory, and calls of the routines that work on them.

Each array has a place on the stack for the block of lanes, which others take after its last use. What works
on arrays are functions of their own, one for each shape or region however often it is called: the code stays
small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from ndl.compiler.backends.llvm import routines, single, views
from ndl.compiler.backends.llvm.ahead import Ahead
from ndl.compiler.backends.llvm.routines import Writer, padded
from ndl.compiler.kernels.arrays import Product
from ndl.compiler.kernels.ir import Block, Instr, Kernel, Unsupported, Value, extent_of

if TYPE_CHECKING:
    from ndl.compiler.backends.llvm.printer import Printer

Lines = Callable[["Writer", str], str]

MOST = 4 << 20
"""Bytes of the stack that arrays may take."""


class Arrays:
    """The arrays of one kernel that is being printed."""

    def __init__(self, printer: Printer) -> None:
        self.p = printer
        self.sizes: list[int] = []
        self.free: list[int] = []
        self.slot: dict[Value, int] = {}
        self.rows: dict[Value, str] = {}
        self.elsewhere: dict[Value, str] = {}
        self.keeps = {i.args[1]: i for i in printer.kernel.step.walk() if i.op == "keep"}
        self.copies: list[int] = []
        self.turned = 0
        self.texts: dict[str, str] = {}
        self.names: dict[str, str] = {}
        self.deaths = deaths(printer.kernel)
        self.next = ""

    # ------------------------------------------------------------ the module

    @property
    def element(self) -> str:
        return self.p.types["real"]

    @cached_property
    def ahead(self) -> Ahead | None:
        return Ahead.of(self.p.kernel.step, self.p.lanes, self.writer().bytes)

    def writer(self) -> Writer:
        return Writer(self.p.lanes, self.element, declared=self.p.declared, keeps=bool(self.keeps))

    def places(self) -> list[str]:
        """The lines that make room for arrays."""
        kind = self.p.vector("real")
        count = sum(self.sizes) + self.turned
        if count * self.p.lanes * self.writer().bytes > MOST:
            raise Unsupported(f"its arrays take more than {MOST >> 20} MiB")
        lines = [f"  %array.{k} = alloca {kind}, i64 {n}, align 64" for k, n in enumerate(self.sizes)]
        if self.turned:
            lines.append(f"  %turned = alloca {kind}, i64 {self.turned}, align 64")
        return lines

    def functions(self) -> list[str]:
        return list(self.texts.values())

    def routine(self, name: str, write: Lines) -> str:
        """The name of a function, written when it is first called."""
        if name not in self.texts:
            self.texts[name] = write(self.writer(), name)
        return name

    def call(self, name: str, write: Lines, *args: str) -> None:
        self.p.put(f"call void @{self.routine(name, write)}({', '.join(args)})")

    @property
    def used(self) -> bool:
        """Whether there are arrays at all."""
        return bool(self.deaths)

    def gather(self, kind: str, suffix: str, at: str) -> str:
        """Loads from an address for each lane, as a call: written out they are a branch for each lane."""
        pointers, mask = f"<{self.p.lanes} x ptr>", self.p.vector("bool")
        name = self.routine(f"gather_{suffix}", lambda w, name: single.gather(w, name, kind, suffix))
        return self.p.set(f"call {kind} @{name}({pointers} {at}, {mask} {self.p.mask})")

    def scatter(self, kind: str, suffix: str, value: str, at: str) -> None:
        pointers, mask = f"<{self.p.lanes} x ptr>", self.p.vector("bool")
        self.call(
            f"scatter_{suffix}", lambda w, name: single.scatter(w, name, kind, suffix),
            f"{kind} {value}", f"{pointers} {at}", f"{mask} {self.p.mask}",
        )  # fmt: skip

    # ------------------------------------------------------------ places

    def make(self, value: Value) -> str:
        """A place for an array: one that is kept is made where it is to stay."""
        if value in self.keeps:
            self.elsewhere[value] = self.kept(self.keeps[value])
            self.look_ahead(self.keeps[value])
            return self.elsewhere[value]
        self.slot[value] = self.reserve(extent_of(value.type) or 0)
        return self.address(value)

    def reserve(self, extent: int) -> int:
        wanted = padded(self.writer(), extent)
        fitting = [k for k in self.free if self.sizes[k] >= wanted]
        if fitting:
            best = min(fitting, key=lambda k: (self.sizes[k], k))
            self.free.remove(best)
            return best
        self.sizes.append(wanted)
        return len(self.sizes) - 1

    def address(self, value: Value) -> str:
        """Where an array stands; a row of a table is copied into every lane."""
        if value in self.rows:
            n = extent_of(value.type) or 0
            self.copies.append(self.reserve(n))
            to, given = f"%array.{self.copies[-1]}", self.rows[value]
            self.call(f"spread_{n}", lambda w, name: single.copied(w, name, n), f"ptr {to}", f"ptr {given}")
            return to
        return self.elsewhere.get(value) or f"%array.{self.slot[value]}"

    def release(self, instr: Instr) -> None:
        """Free the places of what is used here for the last time."""
        for v in self.deaths.get(id(instr), ()):
            if v in self.slot:
                self.free.append(self.slot.pop(v))

    # ------------------------------------------------------------ instructions

    def instr(self, instr: Instr) -> None:
        HANDLERS[instr.op](self, instr)
        self.release(instr)
        self.free += self.copies
        self.copies.clear()

    def pack(self, instr: Instr) -> None:
        kind, to = self.p.vector("real"), self.make(instr.results[0])
        for i, a in enumerate(instr.args):
            at = self.p.set(f"getelementptr inbounds {kind}, ptr {to}, i64 {i}")
            self.p.put(f"store {kind} {self.p.lane(a)}, ptr {at}")

    def element_of(self, instr: Instr) -> None:
        (x,), kind, k = instr.args, self.p.vector("real"), instr.attr("at")
        if x in self.rows:
            at = self.p.set(f"getelementptr inbounds {self.element}, ptr {self.rows[x]}, i64 {k}")
            found = self.p.spread(self.p.set(f"load {self.element}, ptr {at}"), self.element)
        else:
            at = self.p.set(f"getelementptr inbounds {kind}, ptr {self.address(x)}, i64 {k}")
            found = self.p.set(f"load {kind}, ptr {at}")
        self.p.define(instr.results[0], found)

    def row(self, instr: Instr) -> None:
        self.rows[instr.results[0]] = self.part(instr.attr("buffer"), instr.attr("at"))

    def part(self, buffer: str, at: int | str) -> str:
        return self.p.set(f"getelementptr inbounds {self.element}, ptr %buffer.{buffer}, i64 {at}")

    def kept(self, instr: Instr) -> str:
        """Where a kept array of the block of lanes stands."""
        first = self.first(instr, self.p.set(f"sext i32 {self.p.scalar(instr.args[0])} to i64"))
        at = self.p.set(f"add i64 {first}, {instr.attr('at') * self.p.lanes}")
        return self.part(instr.attr("buffer"), at)

    def first(self, instr: Instr, step: str) -> str:
        """Where what a step keeps of the block of lanes begins: step by step, block by block."""
        lanes = self.p.lanes
        last = self.p.set(f"add i64 %members, {lanes - 1}")
        blocks = self.p.set(f"udiv i64 {last}, {lanes}")
        before = self.p.set(f"mul i64 {step}, {blocks}")
        block = self.p.set(f"add i64 {before}, {self.p.set(f'udiv i64 %base, {lanes}')}")
        return self.p.set(f"mul i64 {block}, {instr.attr('width') * lanes}")

    def keep(self, instr: Instr) -> None:
        """Nothing is left to do: see `make`."""

    def recall(self, instr: Instr) -> None:
        self.elsewhere[instr.results[0]] = self.kept(instr)
        self.look_ahead(instr)

    def look_ahead(self, instr: Instr) -> None:
        """Note where the next step keeps what this one keeps or reads."""
        if self.ahead and not self.next:
            step = self.p.set(f"sext i32 {self.p.scalar(instr.args[0])} to i64")
            first = self.first(instr, self.p.set(f"add i64 {step}, {self.ahead.turns}"))
            # beyond the ends there is nothing: what is fetched may lie outside of the buffer
            self.next = self.p.set(
                f"getelementptr {self.element}, ptr %buffer.{instr.attr('buffer')}, i64 {first}"
            )

    def fetched(self, product: Instr) -> tuple[int, list[str]]:
        """How many lines a product fetches for the next step, and the argument that says which."""
        if not self.ahead or not self.next:
            return 0, []
        first, many = self.ahead.share(product)
        at = self.p.set(f"getelementptr i8, ptr {self.next}, i64 {first * routines.LINE}")
        return many, [f"ptr {at}"]

    def dense(self, instr: Instr) -> None:
        p, x = Product.of(instr), self.address(instr.args[0])
        y = self.make(instr.results[0])
        lines, ahead = self.fetched(instr)

        def write(w: Writer, name: str) -> str:
            return routines.product(w, name, p.outer, p.inner, p.across, p.along, lines)

        args = (f"ptr {y}", f"ptr {x}", f"ptr {self.part(p.matrix.buffer, p.matrix.at)}", *ahead)
        self.call(f"{instr.op}_{p.matrix.rows}_{p.matrix.columns}{suffix(lines)}", write, *args)

    def outer(self, instr: Instr) -> None:
        m = instr.attr("matrix")
        g, x = (self.address(a) for a in instr.args)
        self.turned = max(self.turned, padded(self.writer(), m.columns))
        for array, n in ((g, m.rows), (x, m.columns)):
            self.blank(array, n)
        self.call(
            f"turn_{m.columns}", lambda w, name: routines.turn(w, name, m.columns), "ptr %turned", f"ptr {x}"
        )
        lines, ahead = self.fetched(instr)
        self.call(
            f"outer_{m.rows}_{m.columns}{suffix(lines)}",
            lambda w, name: routines.outer(w, name, m.rows, m.columns, lines),
            f"ptr {self.part(m.buffer, m.at)}", f"ptr {g}", "ptr %turned", *ahead,
        )  # fmt: skip

    def accumulate(self, instr: Instr) -> None:
        (g,) = instr.args
        n, address = extent_of(g.type) or 0, self.address(g)
        self.blank(address, n)
        to = self.part(instr.attr("buffer"), instr.attr("at"))
        self.call(f"accumulate_{n}", lambda w, name: single.summed(w, name, n), f"ptr {to}", f"ptr {address}")

    def blank(self, address: str, extent: int) -> None:
        """Zeros in the lanes of an array that take no part: nobody reads these for anything else."""
        mask = self.p.vector("bool")
        self.call(
            f"blank_{extent}", lambda w, name: single.blanked(w, name, extent),
            f"ptr {address}", f"{mask} {self.p.mask}",
        )  # fmt: skip

    def total(self, instr: Instr) -> None:
        (x,), kind = instr.args, self.p.vector("real")
        n, address = extent_of(x.type) or 0, self.address(x)
        name = self.routine(f"total_{n}", lambda w, name: single.total(w, name, n))
        self.p.define(instr.results[0], self.p.set(f"call {kind} @{name}(ptr {address})"))

    def view(self, instr: Instr) -> None:
        seen, x = instr.attr("view"), self.address(instr.args[0])
        y = self.make(instr.results[0])
        self.call(
            self.named("view", seen), lambda w, name: views.viewed(w, name, seen), f"ptr {y}", f"ptr {x}"
        )

    def collect(self, instr: Instr) -> None:
        seen, parts = instr.attr("views"), [f"ptr {self.address(a)}" for a in instr.args]
        y, n = self.make(instr.results[0]), extent_of(instr.results[0].type) or 0
        name = self.named("collect", (n, seen))
        self.call(name, lambda w, name: views.collected(w, name, seen, n), f"ptr {y}", *parts)

    def named(self, stem: str, what: object) -> str:
        """The name of a function, the same for the same of its kind."""
        return self.names.setdefault(f"{stem} {what}", f"{stem}_{len(self.names)}")

    def map(self, instr: Instr) -> None:
        """A function over the places, its name found by its text."""
        kind, n = self.p.vector("real"), extent_of(instr.results[0].type) or 0
        kinds = [
            "row" if a in self.rows else "real" if extent_of(a.type) is None else "array" for a in instr.args
        ]
        text = self.region(instr, kinds, n)
        name = self.names.setdefault(text, f"map_{len(self.names)}")
        self.texts[name] = text.replace("@map", f"@{name}", 1)
        inputs = [
            f"{kind} {self.p.lane(a)}" if k == "real"
            else f"ptr {self.rows[a] if k == 'row' else self.address(a)}"
            for a, k in zip(instr.args, kinds)
        ]  # fmt: skip
        self.release(instr)  # a result may stand where an argument stood: each place is read before
        outputs = [f"ptr {self.make(r)}" for r in instr.results]
        self.p.put(f"call void @{name}({', '.join([*outputs, *inputs])})")

    def region(self, instr: Instr, kinds: Sequence[str], count: int) -> str:
        """The text of a map's function."""
        w, block, kind = self.writer(), instr.regions[0], self.p.vector("real")

        def turn(at: str, _: list[str]) -> list[str]:
            given = []
            for i, k in enumerate(kinds):
                if k == "row":
                    given.append(w.entry(w.at(f"%x{i}", at), w.lanes))
                else:
                    given.append(f"%x{i}" if k == "real" else w.load(w.at(f"%x{i}", at, kind)))
            lines, made = self.p.apart(block, given)
            w.lines += lines
            for j, y in enumerate(made):
                w.store(y, w.at(f"%y{j}", at, kind))
            return []

        w.counted(count, "", [], turn)
        inputs = [f"{kind if k == 'real' else 'ptr'} %x{i}" for i, k in enumerate(kinds)]
        outputs = [f"ptr %y{j}" for j in range(len(block.yields))]
        return w.function(f"define internal void @map({', '.join([*outputs, *inputs])})")


def suffix(lines: int) -> str:
    """What the name of a function that fetches lines has besides."""
    return f"_ahead_{lines}" if lines else ""


HANDLERS: dict[str, Callable[[Arrays, Instr], None]] = {
    "pack": Arrays.pack,
    "element": Arrays.element_of,
    "row": Arrays.row,
    "map": Arrays.map,
    "total": Arrays.total,
    "view": Arrays.view,
    "collect": Arrays.collect,
    "dense": Arrays.dense,
    "dense_t": Arrays.dense,
    "outer": Arrays.outer,
    "accumulate": Arrays.accumulate,
    "keep": Arrays.keep,
    "recall": Arrays.recall,
}


def deaths(kernel: Kernel) -> dict[int, list[Value]]:
    """The arrays that each instruction, by identity, is the last to use in the block that defines them."""
    found: dict[int, list[Value]] = {}

    def visit(block: Block) -> None:
        last: dict[Value, Instr] = {}
        for instr in block.body:
            last.update((r, instr) for r in instr.results if extent_of(r.type) is not None)
            inner = [i for region in instr.regions for i in region.walk()]
            last.update((a, instr) for i in (instr, *inner) for a in i.args if a in last)
            for region in instr.regions:
                visit(region)
        for value, instr in last.items():
            found.setdefault(id(instr), []).append(value)

    for _, block in kernel.blocks():
        visit(block)
    return found
