"""The function of a step of fields: loops over slabs, steps and stages."""

from __future__ import annotations

import struct

from ndl.compiler.backends.llvm.printer import Printer
from ndl.compiler.backends.llvm.sweep_layout import lag_of, ring_slots, rings_of
from ndl.compiler.backends.llvm.sweep_stages import Sheet, label_of
from ndl.compiler.kernels.sweeps import STEP

FAR = 1 << 20
"""Turns of a ring or an axis that are added before a remainder, which then is never of a negative number."""


class Driver:
    """The loops over rows, steps and stages."""

    def __init__(self, module: Sheet) -> None:
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
        rings = rings_of(sweeps)
        shared = rings.shift is not None
        self.put(f"%each = mul i64 {'%levels' if shared else 1}, {rings.each}")
        self.put(f"%ring = add i64 %each, {rings.more}")
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
        cases = " ".join(f"i64 {p % extent}, label %{label_of(p)}.{n}" for p in ends)
        self.put(f"switch i64 {row}, label %in.{n} [ {cases} ]")
        for place in [None, *ends]:
            self.lines.append(f"{label_of(place)}.{n}:")
            self.put(f"call void @stage.{k}.{label_of(place)}(i64 {row}, {rest})")
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
        places = [f"ptr {base}, i64 {mod}, i64 {far}" for base, mod, far in arrays]
        return ", ".join([f"{self.real} {at}, ptr %slots", *places])

    def number(self, value: float) -> str:
        held = struct.unpack("f", struct.pack("f", value))[0] if self.real == "float" else value
        return Printer.literal(self, held, "real")  # type: ignore[arg-type]

    def array(self, name: str, k: int, level: str) -> tuple[str, str, str]:
        """Where an array starts, how many slabs it has before it starts anew, and what is added to a slab's
        number first, so that it is never negative."""
        extent = str(self.layout.shape[0])
        whole = str(self.layout.shape[0] * FAR)
        if name.startswith("c."):
            index = self.sweeps.coefficients().index(name)
            at = self.set(f"getelementptr ptr, ptr %coefficients, i64 {index}")
            return self.set(f"load ptr, ptr {at}"), extent, whole
        kind, number = name.split(".")
        stages, stage = len(self.sweeps.stages), int(kind[1:])
        maker = stage if kind[0] == "k" else stage - 1
        slot_name = name
        if maker < 0:
            maker, slot_name = stages - 1, f"y{stages}.{number}"
        slot = self.sweeps.stages[maker].writes.index(slot_name)
        behind = k - maker if not name.startswith("y0.") else k + 1
        made = self.set(f"sub i64 {level}, {behind}")
        ring, far = self.ring(made, slot)
        if name.startswith("y0."):
            outside, base = self.set("icmp eq i64 %s, 0"), "%from"
        elif kind == f"y{stages}":
            outside, base = self.set(f"icmp eq i64 {level}, %later"), "%to"
        else:
            return ring, "%ring", far
        field = self.layout.shape[0] * self.layout.slab * int(number)
        start = self.set(f"getelementptr {self.real}, ptr {base}, i64 {field}")
        return (
            self.set(f"select i1 {outside}, ptr {start}, ptr {ring}"),
            self.set(f"select i1 {outside}, i64 {extent}, i64 %ring"),
            self.set(f"select i1 {outside}, i64 {whole}, i64 {far}"),
        )

    def ring(self, made: str, slot: int) -> tuple[str, str]:
        """The ring of what a level has made, and what is added to a slab's number in it."""
        rings, far = rings_of(self.sweeps), self.set(f"mul i64 %ring, {FAR}")
        if rings.shift is None:
            at = self.set(f"mul i64 {made}, {ring_slots(self.sweeps)}")
            at = self.set(f"add i64 {at}, {slot}")
        else:
            at = str(slot)
            far = self.set(f"sub i64 {far}, {self.set(f'mul i64 {made}, {rings.shift}')}")
        at = self.set(f"mul i64 {at}, %ring")
        at = self.set(f"mul i64 {at}, {self.layout.slab}")
        return self.set(f"getelementptr {self.real}, ptr %rings, i64 {at}"), far
