"""Loads and stores of a kernel's buffers, in LLVM IR."""

from __future__ import annotations

from functools import cached_property

from ndl.compiler.backends.llvm.host import registers
from ndl.compiler.backends.llvm.lines import Lines
from ndl.compiler.kernels.ir import Instr, Value

FEW = 16
"""Up to so many loads and stores with an address for each lane stand where they are made."""


class Memory(Lines):
    """Prints what goes to buffers and comes from them."""

    @cached_property
    def spread_apart(self) -> bool:
        """Whether loads and stores with an address for each lane are calls. Where the machine has no such
        moves, LLVM writes a branch for each lane, and compiles many of them for seconds."""
        return self.arrays.used or (registers().bytes < 64 and self._far() > FEW)

    def _far(self) -> int:
        """The places where each lane has an address of its own."""
        return sum(1 for _, block in self.kernel.blocks() for i in block.walk() if self._apart(i))

    def _apart(self, instr: Instr) -> bool:
        if instr.op not in ("load", "store"):
            return False
        kind, row = self.kernel.buffer(instr.attr("buffer")).kind, instr.args[0]
        return row not in self.same or not (self.kernel.even if kind == "member" else instr.op == "load")

    def load(self, instr: Instr, stem: str) -> str:
        buffer, row, value = self.kernel.buffer(instr.attr("buffer")), instr.args[0], instr.results[0]
        element = self.types[value.type]
        fixed = ", !invariant.load !0" if buffer.mode == "in" else ""
        if buffer.kind == "table" and row in self.same:
            at = self.place(buffer.name, self.set(f"sext i32 {self.scalar(row)} to i64"), element)
            found = self.set(f"load {element}, ptr {at}{fixed}", stem)
            return found if value in self.same else self.spread(found, element)
        kind, suffix = f"<{self.lanes} x {element}>", f"v{self.lanes}{self.short[element]}"
        zero = f"{kind} zeroinitializer"
        if self.kernel.even and row in self.same:
            at = self.row_at(buffer.name, row, element)
            call = self.intrinsic(
                f"llvm.masked.load.{suffix}.p0",
                kind,
                [("ptr", at), ("i32", "4"), (self.vector("bool"), self.mask), (kind, "zeroinitializer")],
            )
            return self.set(call, stem)
        at = self.places(buffer.name, buffer.kind, row, element)
        if self.spread_apart:
            return self.arrays.gather(kind, suffix, at)
        pointers = f"<{self.lanes} x ptr>"
        call = self.intrinsic(
            f"llvm.masked.gather.{suffix}.v{self.lanes}p0",
            kind,
            [(pointers, at), ("i32", "4"), (self.vector("bool"), self.mask), tuple(zero.rsplit(" ", 1))],  # type: ignore[list-item]
        )
        return self.set(call, stem)

    def store(self, instr: Instr) -> None:
        buffer, (row, value) = self.kernel.buffer(instr.attr("buffer")), instr.args
        element = self.types[value.type]
        kind, suffix = f"<{self.lanes} x {element}>", f"v{self.lanes}{self.short[element]}"
        if self.kernel.even and row in self.same and buffer.kind == "member":
            at = self.row_at(buffer.name, row, element)
            self.put(
                f"call void @{self.row_store(kind, suffix)}"
                f"({kind} {self.lane(value)}, ptr {at}, {self.vector('bool')} {self.mask})"
            )
            return
        at = self.places(buffer.name, buffer.kind, row, element)
        if self.spread_apart:
            self.arrays.scatter(kind, suffix, self.lane(value), at)
            return
        where = [(f"<{self.lanes} x ptr>", at), ("i32", "4"), (self.vector("bool"), self.mask)]
        name = f"llvm.masked.scatter.{suffix}.v{self.lanes}p0"
        self.put(self.intrinsic(name, "void", [(kind, self.lane(value)), *where]))

    def row_store(self, kind: str, suffix: str) -> str:
        """The name of a function that stores the lanes of a mask side by side, written when it is first
        called. Where the machine has no masked moves that are as quick as others, it is asked first whether
        all lanes are meant: on AMD's processors with AVX2 a masked store takes 18 cycles. Products of
        matrices take so much longer that compiling the question does not pay."""
        name, mask = f"row_{suffix}", self.vector("bool")
        if name not in self.functions:
            some = self.intrinsic(
                f"llvm.masked.store.{suffix}.p0",
                "void",
                [(kind, "%x"), ("ptr", "%at"), ("i32", "4"), (mask, "%mask")],
            )
            word = f"i{self.lanes}"
            ask = [
                f"  %word = bitcast {mask} %mask to {word}",
                f"  %all = icmp eq {word} %word, -1",
                "  br i1 %all, label %whole, label %some",
                "whole:",
                f"  store {kind} %x, ptr %at, align 4",
                "  ret void",
                "some:",
            ]
            self.functions[name] = "\n".join([
                f"define internal void @{name}({kind} %x, ptr %at, {mask} %mask) alwaysinline nounwind {{",
                *(ask if registers().bytes < 64 and not self.arrays.used else []),
                f"  {some}",
                "  ret void",
                "}",
            ])  # fmt: skip
        return name

    def place(self, buffer: str, index: str, element: str) -> str:
        return self.set(f"getelementptr {element}, ptr %buffer.{buffer}, i64 {index}")

    def row_at(self, buffer: str, row: Value, element: str) -> str:
        """Where the block of lanes stands in a row."""
        long = self.set(f"sext i32 {self.scalar(row)} to i64")
        start = self.set(f"mul i64 {long}, %members")
        return self.place(buffer, self.set(f"add i64 {start}, %base"), element)

    def places(self, buffer: str, kind: str, row: Value, element: str) -> str:
        """The address of each lane's element."""
        wide = f"<{self.lanes} x i64>"
        at = self.set(f"sext {self.vector('i32')} {self.lane(row)} to {wide}")
        if kind == "member":
            product = self.set(f"mul {wide} {at}, {self.spread('%members', 'i64')}")
            column = self.set(f"sext {self.vector('i32')} {self.lane_of} to {wide}")
            at = self.set(f"add {wide} {product}, {column}")
        return self.set(f"getelementptr {element}, ptr %buffer.{buffer}, {wide} {at}")
