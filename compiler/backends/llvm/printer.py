"""Kernels as LLVM IR: one trajectory a SIMD lane.

What differs between trajectories is a vector, what does not a scalar. Regions that some lanes skip run under
a mask; a region that no lane wants is jumped over. Lanes whose trajectory is done take the next one from a
counter that all threads share, so that none waits for the slowest (`even` kernels take whole blocks of lanes
instead).

The function is `void name(ptr buffers, ptr counter, i64 members, i64 last)`: an array of the buffers'
addresses in the kernel's order, the shared counter, the number of columns of `member` buffers, and where to
stop.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ndl.compiler.backends.llvm.arrays import HANDLERS, Arrays
from ndl.compiler.backends.llvm.lanes import WIDTHS
from ndl.compiler.backends.llvm.memory import Memory
from ndl.compiler.backends.llvm.uniform import Analysis
from ndl.compiler.kernels.code import Code, number_of
from ndl.compiler.kernels.ir import Block, Instr, Kernel, KernelError, Value
from ndl.compiler.kernels.math.random import normals

COMPARE = {"lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge", "eq": "oeq", "ne": "une"}
WHOLE = {"lt": "slt", "le": "sle", "gt": "sgt", "ge": "sge", "eq": "eq", "ne": "ne"}
REAL = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
INTEGER = {
    "add": "add", "sub": "sub", "mul": "mul", "bit_and": "and", "bit_or": "or", "bit_xor": "xor",
    "shl": "shl", "shr": "lshr", "and": "and", "or": "or",
}  # fmt: skip
INTRINSIC = {
    "sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "round": "rint", "abs": "fabs",
    "maximum": "maximum", "minimum": "minimum", "fma": "fma",
}  # fmt: skip

NORMALS = ("normal_cos", "normal_sin")
"""Ops that are a function of their own, which gives both."""

FEW = 4
"""Up to so many places where normals are made the code stands there: a call costs a tenth of them."""

TAKEN = ("array", "buffer", "lane", "slot")
"""What printers number themselves."""


def print_llvm(kernel: Kernel, lanes: int | None = None) -> str:
    """The text of a module with the function `kernel.name`. Ops are primitive, or of NORMALS."""
    return Printer(kernel, lanes or WIDTHS[kernel.precision]).module()


class Printer(Memory):
    """Prints one kernel."""

    def __init__(self, kernel: Kernel, lanes: int) -> None:
        super().__init__(kernel, lanes)
        self.arrays = Arrays(self)

    # ------------------------------------------------------------ the module

    def module(self) -> str:
        name = self.kernel.name
        self.put_raw(
            f"define void @{name}(ptr noalias readonly %buffers, ptr %counter, i64 %members, i64 %last) "
            "nounwind alignstack(64) {"  # what is spilled are vectors, which should not cross cache lines
        )
        self.open("start")
        for k, b in enumerate(self.kernel.buffers):
            self.put(f"%slot.{k} = getelementptr ptr, ptr %buffers, i64 {k}")
            self.put(f"%buffer.{b.name} = load ptr, ptr %slot.{k}, !invariant.load !0")
        self.straight(self.kernel.entry)
        if self.kernel.even:
            self.even()
        else:
            self.refilled()
        self.put_raw("}")
        self.lines[2:2] = self.arrays.places()
        way = "alwaysinline" if len(self.pairs) <= FEW else "noinline"
        apart = [text.replace("@inlining", way, 1) for text in self.functions.values()]
        self.lines += [*self.arrays.functions(), *apart]
        head = [f"; {line}" for line in self.kernel.doc.splitlines()]
        tail = [*sorted(self.declared.values()), "!0 = !{}"]
        return "\n".join([*head, *self.lines, "", *tail]) + "\n"

    def apart(self, block: Block, params: Sequence[str]) -> tuple[list[str], list[str]]:
        """The lines and yields of a block of straight-line code, for a function of its own."""
        lines, count, self.lines, self.count = self.lines, self.count, [], 0
        self.bind(block.params, params)
        self.straight(block, quiet=True)
        made = self.lines, [self.lane(y) for y in block.yields]
        self.lines, self.count = lines, count
        return made

    # ------------------------------------------------------------ blocks

    def straight(self, block: Block, quiet: bool = False) -> None:
        """The instructions of a block whose parameters are bound, with the equations unless `quiet`."""
        for instr in block.body:
            if not quiet and instr.origin and instr.origin != self.origin:
                self.put(f"; {instr.origin}")
            self.origin = self.origin if quiet else instr.origin
            self.instr(instr)
            if instr.regions:
                self.arrays.release(instr)

    def bind(self, params: Sequence[Value], texts: Sequence[str]) -> None:
        for p, t in zip(params, texts, strict=True):
            self.define(p, t)

    def instr(self, instr: Instr) -> None:
        if instr.op == "while":
            self.loop(instr)
        elif instr.op == "when":
            self.when(instr)
        elif instr.op == "const":
            (value,) = instr.results
            self.define(value, self.literal(number_of(instr), value.type))
        elif instr.op == "member":
            self.define(instr.results[0], self.lane_of)
        elif instr.op == "load":
            self.define(instr.results[0], self.load(instr, instr.attr("buffer")))
        elif instr.op == "store":
            self.store(instr)
        elif instr.op in HANDLERS:
            self.arrays.instr(instr)
        elif instr.op in NORMALS:
            self.define(instr.results[0], self.normal(instr))
        else:
            value = instr.results[0]
            args = [self.text(a, value) for a in instr.args]
            self.define(value, self.pure(instr, args, value in self.same))

    def normal(self, instr: Instr) -> str:
        """One of a pair of normals; the other one, if it stands in the same block, comes of the same call."""
        key = (self.label, instr.args)
        if key not in self.pairs:
            alone = [a in self.same for a in instr.args]
            name, pair = self.normals(alone), self.pair
            given = (f"i32 {self.scalar(a)}" if s else f"{self.vector('i32')} {self.lane(a)}"
                     for a, s in zip(instr.args, alone))  # fmt: skip
            self.pairs[key] = self.set(f"call {pair} @{name}({', '.join(given)})", "normals")
        return self.set(f"extractvalue {self.pair} {self.pairs[key]}, {NORMALS.index(instr.op)}")

    @property
    def pair(self) -> str:
        return f"{{{self.vector('real')}, {self.vector('real')}}}"

    def normals(self, alone: Sequence[bool]) -> str:
        """The name of the function of normals, written when it is first called; `alone` says which words are
        scalars."""
        name = "normals_" + "".join("s" if s else "v" for s in alone)
        if name in self.functions:
            return name
        code, empty = Code(self.kernel.precision), Block()
        with code.block(["i32"] * len(alone)) as block:
            block.yields = normals(code, *block.params)
        inner = Printer(Kernel(name, self.kernel.precision, (), empty, empty, empty, empty), self.lanes)
        known = Analysis(inner.kernel)
        known.params(block.params, alone)
        known.block(block)
        inner.same = known.same
        words = [f"%word.{k}" for k in range(len(alone))]
        lines, (x, y) = inner.apart(block, words)
        self.declared |= inner.declared
        real = self.vector("real")
        typed = ", ".join(f"{'i32' if s else self.vector('i32')} {w}" for s, w in zip(alone, words))
        self.functions[name] = "\n".join([
            f"define internal {self.pair} @{name}({typed}) @inlining nounwind memory(none) {{",
            *lines,
            f"  %both.1 = insertvalue {self.pair} poison, {real} {x}, 0",
            f"  %both.2 = insertvalue {self.pair} %both.1, {real} {y}, 1",
            f"  ret {self.pair} %both.2",
            "}",
        ])  # fmt: skip
        return name

    def pure(self, instr: Instr, args: Sequence[str], alone: bool) -> str:
        """An operation on scalars (`alone`) or vectors."""
        op, out, first = instr.op, instr.results[0].type, instr.args[0].type

        def form(type: str) -> str:
            return self.types[type] if alone else self.vector(type)

        def number(text: str, type: str) -> str:
            return text if alone else self.splat_text(text, self.types[type])

        kind, real = form(first), form("real")
        suffix = self.short[self.types[first]] if alone else f"v{self.lanes}{self.short[self.types[first]]}"
        if op in REAL and first == "real":
            return self.set(f"{REAL[op]} contract {kind} {args[0]}, {args[1]}")
        if op in INTEGER:
            return self.set(f"{INTEGER[op]} {kind} {args[0]}, {args[1]}")
        if op in COMPARE:
            word = f"fcmp {COMPARE[op]}" if first == "real" else f"icmp {WHOLE[op]}"
            return self.set(f"{word} {kind} {args[0]}, {args[1]}")
        if op in INTRINSIC:
            return self.set(self.intrinsic(f"llvm.{INTRINSIC[op]}.{suffix}", real, [(real, a) for a in args]))
        if op == "neg":
            return self.set(f"fneg {kind} {args[0]}")
        if op == "not":
            return self.set(f"xor {kind} {args[0]}, {number('true', 'bool')}")
        if op == "select":
            form_out = form(out)
            return self.set(f"select {form('bool')} {args[0]}, {form_out} {args[1]}, {form_out} {args[2]}")
        if op == "isfinite":
            size = self.set(self.intrinsic(f"llvm.fabs.{suffix}", real, [(real, args[0])]))
            return self.set(f"fcmp olt {real} {size}, {number('0x7FF0000000000000', 'real')}")
        if op == "to_i32":
            return self.set(f"freeze {form('i32')} {self.set(f'fptosi {kind} {args[0]} to ' + form('i32'))}")
        return self.converted(op, args[0], args[1:], form)

    def converted(self, op: str, a: str, rest: Sequence[str], form: object) -> str:
        """Integers and bit patterns."""
        assert callable(form)
        i32, bits, real = form("i32"), form("bits"), form("real")
        if op == "to_real":
            return self.set(f"sitofp {i32} {a} to {real}")
        if op == "to_bool":
            return self.set(f"icmp ne {i32} {a}, {'0' if i32 == 'i32' else 'zeroinitializer'}")
        if op == "from_bool":
            return self.set(f"zext {form('bool')} {a} to {i32}")
        if op == "bits_of":
            return self.set(f"bitcast {real} {a} to {bits}")
        if op == "real_of":
            return self.set(f"bitcast {bits} {a} to {real}")
        if op in ("narrow", "widen"):
            if bits == i32:
                return a
            source, target, word = (bits, i32, "trunc") if op == "narrow" else (i32, bits, "sext")
            return self.set(f"{word} {source} {a} to {target}")
        if op == "mulhi":
            long = i32.replace("i32", "i64")
            x, y = (self.set(f"zext {i32} {v} to {long}") for v in (a, rest[0]))
            product = self.set(f"mul {long} {x}, {y}")
            by = "32" if long == "i64" else self.splat_text("32", "i64")
            high = self.set(f"lshr {long} {product}, {by}")
            return self.set(f"trunc {long} {high} to {i32}")
        raise KernelError(f"`{op}` is not a primitive of the LLVM printer")

    # ------------------------------------------------------------ regions

    def any(self, mask: str) -> str:
        kind = self.vector("bool")
        return self.set(self.intrinsic(f"llvm.vector.reduce.or.v{self.lanes}i1", "i1", [(kind, mask)]))

    def when(self, instr: Instr) -> None:
        condition, otherwise = instr.args[0], instr.args[1:]
        inside, alone = instr.regions[0], condition in self.same
        then, join = self.labels("then", "join")
        outer = self.mask
        if alone:
            test = self.scalar(condition)
        else:
            self.mask = (
                self.set(f"and {self.vector('bool')} {outer}, {self.lane(condition)}") if outer else ""
            )
            test = self.any(self.mask)
        before = self.label
        given = [(self.text(o, r), self.kind(r)) for o, r in zip(otherwise, instr.results)]
        self.put(f"br i1 {test}, label %{then}, label %{join}")
        self.open(then)
        self.straight(inside)
        made = []
        for y, r, (old, kind) in zip(inside.yields, instr.results, given):
            new = self.text(y, r)
            if not alone:
                new = self.set(f"select {self.vector('bool')} {self.mask}, {kind} {new}, {kind} {old}")
            made.append(new)
        after = self.label
        self.put(f"br label %{join}")
        self.open(join)
        self.mask = outer
        phis = [
            self.set(f"phi {kind} [ {new}, %{after} ], [ {old}, %{before} ]", "when")
            for new, (old, kind) in zip(made, given)
        ]
        self.bind(instr.results, phis)

    def loop(self, instr: Instr) -> None:
        test, turn = instr.regions
        alone = test.yields[0] in self.same
        head, body, leave = self.labels("head", "turn", "leave")
        outer, before = self.mask, self.label
        kinds = [self.kind(p) for p in test.params]
        start = [self.text(a, p) for a, p in zip(instr.args, test.params)]
        phis = [self.fresh("loop") for _ in kinds]
        active = self.fresh("active")
        self.put(f"br label %{head}")
        self.open(head)
        slots = len(self.lines)
        self.bind(test.params, phis)
        if not alone:
            self.mask = active
        self.straight(test)
        if alone:
            go = self.scalar(test.yields[0])
        else:
            mask = self.vector("bool")
            self.mask = self.set(f"and {mask} {active}, {self.lane(test.yields[0])}")
            go = self.any(self.mask)
        self.put(f"br i1 {go}, label %{body}, label %{leave}")
        self.open(body)
        self.bind(turn.params, phis)
        self.straight(turn)
        made = [self.text(y, p) for y, p in zip(turn.yields, test.params)]
        if not alone:
            mask = self.vector("bool")
            made = [
                new if p in self.same else self.set(f"select {mask} {self.mask}, {k} {new}, {k} {old}")
                for p, k, new, old in zip(test.params, kinds, made, phis)
            ]
        after = self.label
        self.put(f"br label %{head}")
        lines = [
            f"  {p} = phi {k} [ {a}, %{before} ], [ {b}, %{after} ]"
            for p, k, a, b in zip(phis, kinds, start, made)
        ]
        if not alone:
            mask = self.vector("bool")
            lines.append(f"  {active} = phi {mask} [ {outer}, %{before} ], [ {self.mask}, %{after} ]")
        self.lines[slots:slots] = lines
        self.open(leave)
        self.mask = outer
        self.bind(instr.results, phis)

    # ------------------------------------------------------------ the trajectories

    def carried(self, suffix: str) -> list[str]:
        """Fresh names for what a trajectory carries, after the user's; those of a line belong together."""
        known = [*self.kernel.carried, *["carried"] * len(self.kernel.step.params)]
        plain = [name.replace("'", "_dot") for name, _ in zip(known, self.kernel.step.params)]
        stems = [re.sub(r"[^A-Za-z0-9_]", "_", name) + suffix for name in plain]
        return [self.fresh(f"{s}_" if s in TAKEN else s) for s in stems]

    def even(self) -> None:
        """Blocks of lanes, each from its first turn to the last of all its lanes."""
        self.put("br label %next")
        self.open("next")
        self.put(f"%base = atomicrmw add ptr %counter, i64 {self.lanes} monotonic")
        self.put("%some = icmp slt i64 %base, %last")
        self.put("br i1 %some, label %block, label %exit")
        self.open("block")
        self.lane_of = self.lanes_from("%base")
        self.mask = self.below_last(self.lane_of)
        self.straight(self.kernel.begin)
        start = [self.text(y, p) for y, p in zip(self.kernel.begin.yields, self.kernel.step.params)]
        kinds = [self.kind(p) for p in self.kernel.step.params]
        before = self.label
        self.put("br label %step")
        self.open("step")
        slots = len(self.lines)
        phis = self.carried("")
        self.bind(self.kernel.step.params, phis)
        live = self.mask
        *carried, done = self.kernel.step.yields
        at_once = done in self.same
        self.mask = live if at_once else "%busy"
        self.straight(self.kernel.step)
        made = [self.text(y, p) for y, p in zip(carried, self.kernel.step.params)]
        after = self.label if at_once else "turn"
        lines = [
            f"  {p} = phi {k} [ {a}, %{before} ], [ {b}, %{after} ]"
            for p, k, a, b in zip(phis, kinds, start, made)
        ]
        if at_once:
            self.put(f"br i1 {self.scalar(done)}, label %finish, label %step")
            self.finish(made, live, "next")
        else:
            still = self.ended(made, done)
            lines.append(f"  %busy = phi {self.vector('bool')} [ {live}, %{before} ], [ {still}, %turn ]")
            self.put(f"br i1 {self.any(still)}, label %step, label %next")
        self.lines[slots:slots] = lines
        self.open("exit")
        self.put("ret void")

    def ended(self, made: Sequence[str], done: Value) -> str:
        """Finish the busy lanes that are done, in the open label `turn` then; those that are still busy."""
        mask = self.vector("bool")
        ended = self.set(f"and {mask} %busy, {self.lane(done)}")
        still = self.set(f"xor {mask} %busy, {ended}")
        self.put(f"br i1 {self.any(ended)}, label %finish, label %turn")
        self.finish(made, ended, "turn")
        self.open("turn")
        return still

    def lanes_from(self, base: str) -> str:
        first = self.set(f"trunc i64 {base} to i32")
        return self.set(f"add {self.vector('i32')} {self.spread(first, 'i32')}, {self.iota()}", "lane")

    def below_last(self, lanes: str) -> str:
        last = self.set("trunc i64 %last to i32")
        return self.set(f"icmp slt {self.vector('i32')} {lanes}, {self.spread(last, 'i32')}", "live")

    def refilled(self) -> None:
        """Each lane takes the next trajectory when its own is done."""
        step, lanes, mask = self.kernel.step, self.vector("i32"), self.vector("bool")
        kinds = [self.kind(p) for p in step.params]
        first = self.label
        self.put("br label %loop")
        self.open("loop")
        slots = len(self.lines)
        carried = self.carried("_old")
        self.put(f"%idle = xor {mask} %live, {self.splat_text('true', 'i1')}")
        wanting = self.any("%idle")
        self.put(f"%refill = and i1 {wanting}, %more")
        self.put("br i1 %refill, label %take, label %check")
        new, begun, left = self.take(kinds, carried)
        self.open("check")
        names = self.carried("")
        for name, kind, old, fresh in zip(names, kinds, carried, begun):
            self.put(f"{name} = phi {kind} [ {old}, %loop ], [ {fresh}, %{left} ]")
        self.put(f"%lane = phi {lanes} [ %lane.0, %loop ], [ {new}, %{left} ]")
        self.put(f"%busy = phi {mask} [ %live, %loop ], [ %taken, %{left} ]")
        self.put(f"%rest = phi i1 [ %more, %loop ], [ %remain, %{left} ]")
        self.put(f"br i1 {self.any('%busy')}, label %step, label %exit")
        self.open("step")
        self.lane_of, self.mask = "%lane", "%busy"
        self.bind(step.params, names)
        self.straight(step)
        *values, done = step.yields
        made = [self.text(y, p) for y, p in zip(values, step.params)]
        still = self.ended(made, done)
        self.put("br label %loop")
        lines = [
            f"  {c} = phi {k} [ zeroinitializer, %{first} ], [ {m}, %turn ]"
            for c, k, m in zip(carried, kinds, made)
        ]
        lines.append(f"  %lane.0 = phi {lanes} [ zeroinitializer, %{first} ], [ %lane, %turn ]")
        lines.append(f"  %live = phi {mask} [ zeroinitializer, %{first} ], [ {still}, %turn ]")
        lines.append(f"  %more = phi i1 [ true, %{first} ], [ %rest, %turn ]")
        self.lines[slots:slots] = lines
        self.open("exit")
        self.put("ret void")

    def take(self, kinds: Sequence[str], carried: Sequence[str]) -> tuple[str, list[str], str]:
        """Idle lanes take the next trajectories and begin them; the lanes' numbers, values and last label."""
        lanes, mask = self.vector("i32"), self.vector("bool")
        self.open("take")
        wants = self.set(f"zext {mask} %idle to {lanes}")
        rank = self.prefix(wants)
        total = self.set(self.intrinsic(f"llvm.vector.reduce.add.v{self.lanes}i32", "i32", [(lanes, wants)]))
        count = self.set(f"zext i32 {total} to i64")
        base = self.set(f"atomicrmw add ptr %counter, i64 {count} monotonic")
        self.put(f"%used = add i64 {base}, {count}")
        self.put("%remain = icmp slt i64 %used, %last")
        least = self.set(f"call i64 @llvm.smin.i64(i64 {base}, i64 %last)")
        self.declared["llvm.smin.i64"] = "declare i64 @llvm.smin.i64(i64, i64)"
        start = self.spread(self.set(f"trunc i64 {least} to i32"), "i32")
        place = self.set(f"add {lanes} {start}, {rank}")
        new = self.set(f"select {mask} %idle, {lanes} {place}, {lanes} %lane.0")
        fresh = self.set(f"and {mask} %idle, {self.below_last(place)}")
        self.put(f"%taken = or {mask} %live, {fresh}")
        self.lane_of, self.mask = new, fresh
        self.straight(self.kernel.begin)
        begun = [
            self.set(f"select {mask} {fresh}, {k} {self.lane(y)}, {k} {old}")
            for y, k, old in zip(self.kernel.begin.yields, kinds, carried)
        ]
        left = self.label
        self.put("br label %check")
        return new, begun, left

    def prefix(self, counts: str) -> str:
        """How many ones stand before each lane."""
        kind, total, shift = self.vector("i32"), counts, 1
        while shift < self.lanes:
            order = ", ".join(
                f"i32 {k - shift}" if k >= shift else f"i32 {self.lanes}" for k in range(self.lanes)
            )
            moved = self.set(
                f"shufflevector {kind} {total}, {kind} zeroinitializer, <{self.lanes} x i32> <{order}>"
            )
            total = self.set(f"add {kind} {total}, {moved}")
            shift *= 2
        return self.set(f"sub {kind} {total}, {counts}")

    def finish(self, made: Sequence[str], ended: str, after: str) -> None:
        self.open("finish")
        self.bind(self.kernel.finish.params, made)
        self.mask = ended
        self.straight(self.kernel.finish)
        self.put(f"br label %{after}")
