"""Routines of one array as LLVM functions, and memory of which each lane has its own address."""

from __future__ import annotations

from ndl.compiler.backends.llvm.routines import Writer


def copied(w: Writer, name: str, extent: int) -> str:
    """Numbers of a table in every lane."""

    def turn(at: str, _: list[str]) -> list[str]:
        w.store(w.entry(w.at("%x", at), w.lanes), w.at("%y", at, w.kind))
        return []

    w.counted(extent, "", [], turn)
    return w.function(f"define internal void @{name}(ptr noalias %y, ptr noalias %x)")


def blanked(w: Writer, name: str, extent: int) -> str:
    mask = f"<{w.lanes} x i1>"
    reduce = w.intrinsic(f"llvm.vector.reduce.and.v{w.lanes}i1", "i1", mask)
    w.put(f"%all = call i1 @{reduce}({mask} %mask)")
    w.put("br i1 %all, label %done, label %some")
    w.open("some")

    def turn(at: str, _: list[str]) -> list[str]:
        place = w.at("%x", at, w.kind)
        w.store(w.set(f"select {mask} %mask, {w.kind} {w.load(place)}, {w.kind} zeroinitializer"), place)
        return []

    w.counted(extent, "", [], turn)
    w.put("br label %done")
    w.open("done")
    return w.function(f"define internal void @{name}(ptr %x, {mask} %mask)")


def total(w: Writer, name: str, extent: int) -> str:
    """The sum of an array's elements in each lane."""

    def turn(at: str, sums: list[str]) -> list[str]:
        return [w.set(f"fadd {w.kind} {sums[0]}, {w.load(w.at('%x', at, w.kind))}")]

    (found,) = w.counted(extent, w.kind, ["zeroinitializer"], turn)
    w.put(f"ret {w.kind} {found}")
    return w.function(f"define internal {w.kind} @{name}(ptr %x)", returns=True)


def summed(w: Writer, name: str, extent: int) -> str:
    """c[i] += the sum of x[i] over the lanes; a register's worth of elements at a time."""
    side = w.native

    def part(at: str, width: int) -> None:
        x = w.at("%x", at, w.kind)
        rows = [halves(w, w.at(x, r, w.kind)) for r in range(side)]
        while len(rows) > 1:
            rows = [neighbours(w, side, *pair) for pair in zip(rows[::2], rows[1::2])]
        found, kind, place = rows[0], w.vector(width), w.at("%c", at)
        if width < side:
            order = ", ".join(f"i32 {k}" for k in range(width))
            wide = w.vector(side)
            found = w.set(f"shufflevector {wide} {found}, {wide} poison, <{width} x i32> <{order}>")
        w.store(w.set(f"fadd {kind} {w.load(place, width)}, {found}"), place, width)

    def turn(k: str, _: list[str]) -> list[str]:
        part(w.times(k, side), side)
        return []

    whole, rest = divmod(extent, side)
    w.counted(whole, "", [], turn)
    if rest:
        part(str(whole * side), rest)
    return w.function(f"define internal void @{name}(ptr noalias %c, ptr noalias %x)")


def halves(w: Writer, address: str) -> str:
    """The sum of the registers that make up one element of an array."""
    side, kind = w.native, w.vector(w.native)
    parts = [w.load(w.at(address, k), side) for k in range(0, w.lanes, side)]
    found = parts[0]
    for p in parts[1:]:
        found = w.set(f"fadd {kind} {found}, {p}")
    return found


def neighbours(w: Writer, side: int, a: str, b: str) -> str:
    """Sums of neighbours, of a and then of b."""
    kind = w.vector(side)

    def every_other(first: int) -> str:
        order = ", ".join(f"i32 {k}" for k in range(first, 2 * side, 2))
        return w.set(f"shufflevector {kind} {a}, {kind} {b}, <{side} x i32> <{order}>")

    return w.set(f"fadd {kind} {every_other(0)}, {every_other(1)}")


def gather(w: Writer, name: str, kind: str, suffix: str) -> str:
    mask, pointers = f"<{w.lanes} x i1>", f"<{w.lanes} x ptr>"
    called = w.intrinsic(f"llvm.masked.gather.{suffix}.v{w.lanes}p0", kind, pointers, "i32", mask, kind)
    found = w.set(f"call {kind} @{called}({pointers} %at, i32 4, {mask} %mask, {kind} zeroinitializer)")
    w.put(f"ret {kind} {found}")
    return w.function(f"define internal {kind} @{name}({pointers} %at, {mask} %mask)", returns=True)


def scatter(w: Writer, name: str, kind: str, suffix: str) -> str:
    mask, pointers = f"<{w.lanes} x i1>", f"<{w.lanes} x ptr>"
    called = w.intrinsic(f"llvm.masked.scatter.{suffix}.v{w.lanes}p0", "void", kind, pointers, "i32", mask)
    w.put(f"call void @{called}({kind} %value, {pointers} %at, i32 4, {mask} %mask)")
    return w.function(f"define internal void @{name}({kind} %value, {pointers} %at, {mask} %mask)")
