"""Products of matrices and arrays as LLVM functions, one for each shape, for blocks of lanes.

An array is `extent` vectors of lanes in memory. A product keeps a few rows of its result in registers and
multiplies them out: an entry of the matrix in every lane, times a vector, added in one rounding. The weights'
derivative is the same product, of the array turned so that its elements stand side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ndl.compiler.backends.llvm.host import Registers, registers

OTHERS = 4
"""Registers that are not for sums: an entry, and the vectors that it is multiplied with."""

MOST_SUMS = 16
"""Registers for sums: twice as many as two units for products have on the way, and no more code."""

UNROLLED = 4
"""Products of each sum in a turn of the innermost loop."""

LINE = 64
"""Bytes that memory gives at once."""


@dataclass
class Writer:
    """Writes the text of one function; `element` is its real type, `declared` collects intrinsics; with
    `keeps`, what is fetched is to be written."""

    lanes: int
    element: str
    registers: Registers = field(default_factory=registers)
    declared: dict[str, str] = field(default_factory=dict)
    keeps: bool = False
    lines: list[str] = field(default_factory=list)
    count: int = 0
    label: str = "start"

    @property
    def kind(self) -> str:
        return self.vector(self.lanes)

    @property
    def bytes(self) -> int:
        return 8 if self.element == "double" else 4

    @property
    def native(self) -> int:
        """Elements of a register, or all lanes where they are fewer."""
        return min(self.registers.bytes // self.bytes, self.lanes)

    def vector(self, width: int) -> str:
        return f"<{width} x {self.element}>"

    def short(self, width: int) -> str:
        return f"v{width}f{8 * self.bytes}"

    def put(self, line: str) -> None:
        self.lines.append(f"  {line}")

    def set(self, right: str) -> str:
        self.count += 1
        self.put(f"%r.{self.count} = {right}")
        return f"%r.{self.count}"

    def open(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self.label = label

    def at(self, base: str, index: str | int, kind: str | None = None) -> str:
        """The address of an element."""
        if index in (0, "0"):
            return base
        return self.set(f"getelementptr inbounds {kind or self.element}, ptr {base}, i64 {index}")

    def times(self, index: str, factor: int, more: int = 0) -> str:
        """index * factor + more."""
        if not index.startswith("%"):
            return str(int(index) * factor + more)
        found = self.set(f"mul i64 {index}, {factor}")
        return self.set(f"add i64 {found}, {more}") if more else found

    def fetch(self, base: str, first: str, lines: int) -> None:
        """Bring lines of memory into the first cache; they may lie outside of what there is."""
        name = self.intrinsic("llvm.prefetch.p0", "void", "ptr", "i32", "i32", "i32")
        for line in range(lines):
            at = self.set(f"getelementptr i8, ptr {base}, i64 {self.times(first, LINE, line * LINE)}")
            self.put(f"call void @{name}(ptr {at}, i32 {int(self.keeps)}, i32 3, i32 1)")

    def sum(self, a: str, b: str) -> str:
        """The sum of two indices."""
        return b if a == "0" else a if b == "0" else self.set(f"add i64 {a}, {b}")

    def load(self, base: str, width: int | None = None) -> str:
        """A vector that stands anywhere; by default all lanes, of an array."""
        kind = self.vector(width or self.lanes)
        return self.set(f"load {kind}, ptr {base}, align {self.bytes if width else self.bytes * self.lanes}")

    def store(self, value: str, base: str, width: int | None = None) -> None:
        align = self.bytes if width else self.bytes * self.lanes
        self.put(f"store {self.vector(width or self.lanes)} {value}, ptr {base}, align {align}")

    def spread(self, scalar: str, width: int) -> str:
        """A scalar in every place of a vector."""
        kind = self.vector(width)
        one = self.set(f"insertelement {kind} poison, {self.element} {scalar}, i64 0")
        return self.set(f"shufflevector {kind} {one}, {kind} poison, <{width} x i32> zeroinitializer")

    def entry(self, address: str, width: int) -> str:
        """A number in memory in every place of a vector."""
        return self.spread(self.set(f"load {self.element}, ptr {address}"), width)

    def fma(self, a: str, b: str, c: str, width: int) -> str:
        kind = self.vector(width)
        name = self.intrinsic(f"llvm.fma.{self.short(width)}", kind, kind, kind, kind)
        return self.set(f"call {kind} @{name}({kind} {a}, {kind} {b}, {kind} {c})")

    def intrinsic(self, name: str, result: str, *types: str) -> str:
        """The name of an LLVM intrinsic, declared in the module."""
        self.declared[name] = f"declare {result} @{name}({', '.join(types)})"
        return name

    def counted(
        self, turns: int, kind: str, start: Sequence[str], body: Callable[[str, list[str]], Sequence[str]]
    ) -> list[str]:
        """`turns` times `carried = body(turn, carried)`, the carried values all of one kind."""
        if turns == 0:
            return list(start)
        if turns == 1:
            return list(body("0", list(start)))
        self.count += 1
        k, before = self.count, self.label
        self.put(f"br label %head.{k}")
        self.open(f"head.{k}")
        place = len(self.lines)
        carried = [f"%sum.{k}.{i}" for i in range(len(start))]
        made = body(f"%turn.{k}", carried)
        self.put(f"%next.{k} = add nuw nsw i64 %turn.{k}, 1")
        self.put(f"%more.{k} = icmp ult i64 %next.{k}, {turns}")
        after = self.label
        self.put(f"br i1 %more.{k}, label %head.{k}, label %leave.{k}")
        phis = [f"  %turn.{k} = phi i64 [ 0, %{before} ], [ %next.{k}, %{after} ]"]
        for name, first, last in zip(carried, start, made):
            phis.append(f"  {name} = phi {kind} [ {first}, %{before} ], [ {last}, %{after} ]")
        self.lines[place:place] = phis
        self.open(f"leave.{k}")
        return list(made)

    def function(self, head: str, returns: bool = False) -> str:
        last = [] if returns else ["  ret void"]
        return "\n".join([f"{head} noinline nounwind {{", "start:", *self.lines, *last, "}"])


def groups(count: int, most: int) -> list[tuple[int, int, int]]:
    """(first row, rows of a block, blocks): blocks of nearly equal sizes, at most `most`."""
    blocks = -(-count // most)
    small, large = divmod(count, blocks)
    found = [(0, small + 1, large)] if large else []
    return [*found, (large * (small + 1), small, blocks - large)]


def rows_at_once(w: Writer, width: int) -> int:
    """How many rows of sums of so many elements stay in registers."""
    sums = min(MOST_SUMS, w.registers.count - OTHERS)
    return max(1, sums // max(1, width * w.bytes // w.registers.bytes))


def multiply_out(
    w: Writer, width: int, inner: int, sums: list[str],
    left: tuple[str, int, int], right: tuple[str, int], aligned: bool,
) -> list[str]:  # fmt: skip
    """sums[j] += sum over k of left[j, k] right[k], k below `inner`.

    `left` is an address and the steps of j and k, `right` an address and the step of k.
    """
    (a, by_row, by_inner), (b, by_vector) = left, right

    def products(k: str, first: int, many: int, sums: list[str]) -> list[str]:
        at_a = w.at(a, w.times(k, UNROLLED * by_inner, first * by_inner))
        at_b = w.at(b, w.times(k, UNROLLED * by_vector, first * by_vector))
        for u in range(many):
            vector = w.load(w.at(at_b, u * by_vector), None if aligned else width)
            for j, s in enumerate(sums):
                factor = w.entry(w.at(at_a, j * by_row + u * by_inner), width)
                sums = [*sums[:j], w.fma(factor, vector, s, width), *sums[j + 1 :]]
        return sums

    whole, rest = divmod(inner, UNROLLED)
    sums = w.counted(whole, w.vector(width), sums, lambda k, s: products(k, 0, UNROLLED, s))
    return products("0", whole * UNROLLED, rest, sums) if rest else sums


def product(w: Writer, name: str, out: int, inner: int, by_row: int, by_inner: int, lines: int = 0) -> str:
    """y[o] = sum over i of w[o by_row + i by_inner] x[i], and `lines` fetched meanwhile."""
    parts, done = groups(out, rows_at_once(w, w.lanes)), 0
    each = -(-lines // sum(blocks for *_, blocks in parts))
    for first, size, blocks in parts:

        def block(b: str, _: list[str], first: int = first, size: int = size, done: int = done) -> list[str]:
            w.fetch("%ahead", w.times(b, each, done * each), each)
            start = w.times(b, size, first)
            left = w.at("%w", w.times(start, by_row)), by_row, by_inner
            zeros = ["zeroinitializer"] * size
            sums = multiply_out(w, w.lanes, inner, zeros, left, ("%x", w.lanes), True)
            to = w.at("%y", start, w.kind)
            for j, s in enumerate(sums):
                w.store(s, w.at(to, j, w.kind))
            return []

        w.counted(blocks, "", [], block)
        done += blocks
    return w.function(
        f"define internal void @{name}(ptr noalias %y, ptr noalias %x, ptr noalias %w{ahead(lines)})"
    )


def ahead(lines: int) -> str:
    """The parameter of a function that fetches lines."""
    return ", ptr %ahead" if lines else ""


def outer(w: Writer, name: str, rows: int, columns: int, lines: int = 0) -> str:
    """c[o, i] += sum over lanes of g[o] x[i], with `turned` the lanes of x one after the other, and `lines`
    fetched meanwhile."""
    step, done = padded(w, columns), 0
    whole = [(c, p) for c in groups_of(columns, w.lanes) for p in groups(rows, rows_at_once(w, c[1]))]
    each = -(-lines // sum(chunks * blocks for (*_, chunks), (*_, blocks) in whole))
    for left, width, chunks in groups_of(columns, w.lanes):
        for first, size, blocks in groups(rows, rows_at_once(w, width)):

            def block(b: str, given: list[str], first: int = first, size: int = size, width: int = width,
                      column: str = "", before: str = "") -> list[str]:  # fmt: skip
                w.fetch("%ahead", w.sum(before, w.times(b, each)), each)
                start = w.times(b, size, first)
                to = w.at(w.at("%c", w.times(start, columns)), column)
                sums = [w.load(w.at(to, j * columns), width) for j in range(size)]
                a = w.at("%g", w.times(start, w.lanes)), w.lanes, 1
                sums = multiply_out(w, width, w.lanes, sums, a, (w.at("%turned", column), step), False)
                for j, s in enumerate(sums):
                    w.store(s, w.at(to, j * columns), width)
                return []

            def chunk(k: str, _: list[str], left: int = left, width: int = width, blocks: int = blocks,
                      block: Callable[..., list[str]] = block, done: int = done) -> list[str]:  # fmt: skip
                column, before = w.times(k, width, left), w.times(k, blocks * each, done * each)
                return w.counted(blocks, "", [], lambda b, s: block(b, s, column=column, before=before))

            w.counted(chunks, "", [], chunk)
            done += chunks * blocks
    return w.function(
        f"define internal void @{name}(ptr noalias %c, ptr noalias %g, ptr noalias %turned{ahead(lines)})"
    )


def groups_of(count: int, width: int) -> list[tuple[int, int, int]]:
    """(first, width, how many) chunks of `count` places."""
    whole, rest = divmod(count, width)
    found = [(0, width, whole)] if whole else []
    return [*found, (whole * width, rest, 1)] if rest else found


def padded(w: Writer, extent: int) -> int:
    """An extent rounded up to whole registers."""
    return -(-extent // w.native) * w.native


def turn(w: Writer, name: str, extent: int) -> str:
    """turned[lane, i] = x[i][lane], by squares that fit in registers."""
    side, step = w.native, padded(w, extent)

    def square(b: str, _: list[str]) -> list[str]:
        for half in range(0, w.lanes, side):
            of = w.at("%x", w.times(b, side * w.lanes, half))
            to = w.at("%turned", w.times(b, side, half * step))
            rows = transposed(w, [w.load(w.at(of, r * w.lanes), side) for r in range(side)])
            for r, v in enumerate(rows):
                w.store(v, w.at(to, r * step), side)
        return []

    w.counted(step // side, "", [], square)
    return w.function(f"define internal void @{name}(ptr noalias %turned, ptr noalias %x)")


def transposed(w: Writer, rows: list[str]) -> list[str]:
    """A square of vectors, its rows as columns: halves, quarters, … are exchanged."""
    side = len(rows)
    kind, distance = w.vector(side), side // 2
    while distance:
        new = list(rows)
        for r in (r for r in range(side) if not r & distance):
            low, high = rows[r], rows[r + distance]
            for target, base in ((r, 0), (r + distance, distance)):
                order = [base + c if not c & distance else side + base + c - distance for c in range(side)]
                mask = ", ".join(f"i32 {k}" for k in order)
                new[target] = w.set(f"shufflevector {kind} {low}, {kind} {high}, <{side} x i32> <{mask}>")
        rows, distance = new, distance // 2
    return rows
