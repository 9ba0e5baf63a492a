"""Blocks as statements over a tile of trajectories.

Values that are the same for all trajectories are scalars, and what depends on them alone is ordinary control
flow. Where trajectories differ, a mask says which lanes a statement is for: a `while` goes on until no lane
wants another turn and keeps the values of lanes that do not; a `when` is entered when some lane wants it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from ndl.compiler.backends.triton.arrays import HANDLERS, Arrays
from ndl.compiler.backends.triton.values import Values
from ndl.compiler.kernels.ir import Block, Instr, Kernel, Value

PAD = "    "

DESK = "desk"
"""Where the rows of a lane's workspace begin."""


class Body:
    """The statements of one function. `mask` names the lanes for which the open block is."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.values = Values(kernel)
        self.arrays = Arrays(self)
        self.lines: list[str] = []
        self.depth = 1
        self.mask = "live"
        self._origin = ""
        self._inside: dict[Value, list[str]] = {}
        self._parked = any(b.kind == "scratch" for b in kernel.buffers)
        self._read: set[str] = set()

    def line(self, text: str) -> None:
        self.lines.append(PAD * self.depth + text)

    @contextmanager
    def indented(self, head: str) -> Iterator[None]:
        """The body of a compound statement; empty ones pass."""
        self.line(head)
        self.depth += 1
        before = len(self.lines)
        yield
        if len(self.lines) == before:
            self.line("pass")
        self.depth -= 1

    @contextmanager
    def masked(self, mask: str) -> Iterator[None]:
        before, self.mask = self.mask, mask
        yield
        self.mask = before

    def any(self, mask: str) -> str:
        return f"{self.values.helper('_any')}({mask})"

    # ------------------------------------------------------------ blocks

    def block(self, block: Block) -> None:
        for instr in block.body:
            self.instr(instr)

    def comment(self, instr: Instr) -> None:
        """The equations behind a statement: those of expressions inside it, then its own."""
        for origin in dict.fromkeys((*self.inside(instr), instr.origin)):
            if origin and origin != self._origin:
                self.line(f"# {' '.join(origin.split())}")
                self._origin = origin

    def inside(self, instr: Instr) -> list[str]:
        return [origin for a in instr.args for origin in self._inside.get(a, ())]

    def instr(self, instr: Instr) -> None:
        if instr.op == "const":
            self.values.set(instr.results[0], self.values.number(instr))
        elif instr.op == "member":
            self.values.set(instr.results[0], "m")
        elif instr.op == "while":
            self.loop(instr)
        elif instr.op == "when":
            self.when(instr)
        elif instr.op == "load":
            self.load(instr)
        elif instr.op == "store":
            self.store(instr)
        elif instr.op in HANDLERS:
            self.arrays.instr(instr)
        else:
            self.pure(instr)

    def pure(self, instr: Instr) -> None:
        """A statement, or nothing yet when the expression can stand where its value is used."""
        expr = self.values.pure(instr)
        if self.values.stands_in(instr, expr):
            self.values.set(instr.results[0], expr)
            self._inside[instr.results[0]] = [*self.inside(instr), instr.origin]
        else:
            self.comment(instr)
            self.line(f"{self.values.named(instr.results[0])} = {expr.text}")

    # ------------------------------------------------------------ memory

    def load(self, instr: Instr) -> None:
        result = instr.results[0]
        name, row = instr.attr("buffer"), self.values.expr(instr.args[0])
        known = self.kernel.buffer(name).mode == "in" and row.literal
        made = self.values.named(result, f"{name}_{row.text}" if known else f"{name}_", numbered=not known)
        place = self.place(instr)
        self.comment(instr)
        self.reread(place)
        if self.kernel.buffer(name).kind == "scratch":
            self.line(f"{made} = tl.load({place})")
        elif result in self.values.varying:
            zero = "0.0" if result.type == "real" else "0"
            self.line(f"{made} = tl.load({place}, mask={self.mask}, other={zero})")
        else:
            self.line(f"{made} = tl.load({place})")

    def store(self, instr: Instr) -> None:
        value = self.values.typed(instr.args[1])
        self.comment(instr)
        self.line(f"tl.store({self.place(instr)}, {value}, mask={self.mask})")
        self._read.clear()

    def reread(self, place: str) -> None:
        """Where there is a workspace, what is loaded again shall be: without a store between them, Triton
        takes two loads of a place for one and keeps what it gave. An assumption, which costs nothing, stands
        for a store."""
        if self._parked and place in self._read:
            self.line("tl.assume(count > 0)")
            self._read.clear()
        self._read.add(place)

    def place(self, instr: Instr) -> str:
        """Where a row of a buffer stands: trajectories beside one another. Widths are those of addresses."""
        buffer = self.kernel.buffer(instr.attr("buffer"))
        row, pointer = self.values.expr(instr.args[0]), self.pointer(buffer.name)
        if buffer.kind == "scratch":
            return f"{DESK} + {row.text} * BLOCK"
        if buffer.kind == "member":
            start = {"0": "", "1": " + stride"}.get(row.text, f" + {row.inside(6)} * stride")
            return f"{pointer}{start} + m"
        shared = instr.args[0] not in self.values.varying and (instr.op == "store" or buffer.mode != "in")
        start = "" if row.text == "0" else f" + {row.inside(6)}"
        return f"{pointer}{start}{' + 0 * lanes' if shared else ''}"

    def pointer(self, buffer: str) -> str:
        return self.values.names[f"{buffer}_ptr"]

    # ------------------------------------------------------------ regions

    def loop(self, instr: Instr) -> None:
        self.comment(instr)
        test, turn = instr.regions
        apart = test.yields[0] in self.values.varying
        for start, result, *inside in zip(instr.args, instr.results, test.params, turn.params):
            name = self.values.named(result, "w")
            for v in inside:
                self.values.set(v, name)
            self.line(f"{name} = {self.as_held(start, result)}")
        more = self.values.names.numbered("more")
        self.line(f"{more} = {self.wanted(test, self.mask, apart)}")
        with self.indented(f"while {self.any(more) if apart else more}:"), self.masked_if(apart, more):
            self.block(turn)
            self.carry(instr.results, turn.yields, more if apart else "")
            self.line(f"{more} = {self.wanted(test, more, apart)}")
        self._origin = ""

    def masked_if(self, apart: bool, mask: str) -> AbstractContextManager[None]:
        return self.masked(mask if apart else self.mask)

    def wanted(self, test: Block, mask: str, apart: bool) -> str:
        """The condition of a loop: the lanes that want a turn, or a scalar."""
        self.block(test)
        more = test.yields[0]
        return f"{mask} & {self.values.typed(more, 4)}" if apart else self.values.typed(more)

    def as_held(self, value: Value, holder: Value) -> str:
        """A value in the form of what holds it."""
        return self.values.tile(value) if holder in self.values.varying else self.values.typed(value)

    def carry(self, holders: Sequence[Value], values: Sequence[Value], mask: str = "") -> None:
        """`holders` take new values, all at once; under a mask in its lanes only."""
        names = [self.values.expr(h).text for h in holders]
        given = {v: self.values.expr(v) for v in values}
        for k, v in enumerate(values):
            if given[v].text in names[:k] and self.values.expr(v) == given[v]:
                self.values.set(v, self.values.names.numbered("old"))
                self.line(f"{self.values.expr(v).text} = {given[v].text}")
        for name, v, h in zip(names, values, holders):
            if self.values.expr(v).text != name:
                new = self.values.typed(v) if mask else self.as_held(v, h)
                self.line(f"{name} = tl.where({mask}, {new}, {name})" if mask else f"{name} = {new}")
        for v in values:
            self.values.set(v, given[v])

    def when(self, instr: Instr) -> None:
        self.comment(instr)
        condition, *others = instr.args
        (inside,) = instr.regions
        for other, result in zip(others, instr.results):
            self.line(f"{self.values.named(result)} = {self.as_held(other, result)}")
        if condition not in self.values.varying:
            with self.indented(f"if {self.values.typed(condition)}:"):
                self.block(inside)
                self.carry(instr.results, inside.yields)
        else:
            wanted = self.values.names.numbered("wanted")
            self.line(f"{wanted} = {self.mask} & {self.values.typed(condition, 4)}")
            with self.indented(f"if {self.any(wanted)}:"), self.masked(wanted):
                self.block(inside)
                self.carry(instr.results, inside.yields, wanted)
        self._origin = ""
