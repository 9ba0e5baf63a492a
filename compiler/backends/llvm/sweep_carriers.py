"""Functions that bring fields into the layout of sweeps and out of it."""

from __future__ import annotations

from ndl.compiler.backends.llvm.sweep_layout import Layout

CARRIERS = (("enter", True), ("leave", False))
"""Their names, and whether they bring fields in."""


def carried(layout: Layout, real: str, name: str, into: bool) -> str:
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
