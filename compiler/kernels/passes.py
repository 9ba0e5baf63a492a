"""Passes over kernels: what nobody needs goes, what does not change leaves the loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ndl.compiler.kernels.ir import Block, Instr, Kernel, Value
from ndl.compiler.kernels.verify import verify


def simplify(kernel: Kernel) -> Kernel:
    """Both passes, in the order in which the second cleans up after the first."""
    return remove_dead(hoist(kernel))


# ---------------------------------------------------------------- dead code


def remove_dead(kernel: Kernel) -> Kernel:
    """Without the instructions, loops and regions that store nothing and whose results are not used.

    Everything carried counts as used.
    """
    used: set[Value] = set()
    blocks = {name: _live(block, used) for name, block in reversed(kernel.blocks())}
    return _with_blocks(kernel, blocks)


def _live(block: Block, used: set[Value]) -> Block:
    """The block's live part, given what is used after it; adds what it uses itself."""
    used.update(block.yields)
    body: list[Instr] = []
    for instr in reversed(block.body):
        if _stores(instr) or not used.isdisjoint(instr.results):
            regions = tuple(_live(region, used) for region in instr.regions)
            used.update(instr.args)
            body.append(replace(instr, regions=regions))
    return Block(block.params, body[::-1], block.yields)


def _stores(instr: Instr) -> bool:
    return instr.op == "store" or any(i.op == "store" for region in instr.regions for i in region.walk())


# ---------------------------------------------------------------- loop invariants


def hoist(kernel: Kernel) -> Kernel:
    """With the pure instructions of `while` loops and of `step` outside them, where their operands are.

    What leaves `step` goes into `entry`, where equal instructions become one; what is a single trajectory's
    stays. What stands in a `when` leaves the loop round it or nothing. A load leaves a region only if its row
    is a constant: the region might have been skipped for want of the row.
    """
    return _Hoist(kernel).kernel()


class _Hoist:
    def __init__(self, kernel: Kernel) -> None:
        self.old = kernel
        self.constants: set[Value] = set()
        self.shared: dict[Any, Value] = {}
        self.renamed: dict[Value, Value] = {}

    def kernel(self) -> Kernel:
        old = self.old
        entry = self.outer(old.entry)
        self.shared = {_key(i): i.results[0] for i in entry.body if self.pure(i)}
        begin = self.outer(old.begin)
        risen: list[Instr] = []
        step = self.split(old.step, set(old.step.params), risen, top=True)
        entry.body += risen
        return _with_blocks(
            old, {"entry": entry, "begin": begin, "step": step, "finish": self.outer(old.finish)}
        )

    def outer(self, block: Block) -> Block:
        """A block that is no loop: only its loops lose instructions, to it."""
        body: list[Instr] = []
        for instr in block.body:
            self.loops(instr, body)
        return Block(block.params, body, self.values(block.yields))

    def loops(self, instr: Instr, body: list[Instr]) -> None:
        """Appends an instruction of a block that is no loop, what its loops lose before it."""
        instr = self.rename(instr)
        self.note(instr)
        if instr.op == "while":
            lost, instr = self.loop(instr)
            body += lost
        elif instr.regions:
            instr = replace(instr, regions=tuple(self.outer(region) for region in instr.regions))
        body.append(instr)

    def loop(self, instr: Instr) -> tuple[list[Instr], Instr]:
        """What leaves a loop, and the rest of it."""
        risen: list[Instr] = []
        regions = tuple(self.split(r, set(r.params), risen, guarded=True) for r in instr.regions)
        return risen, replace(instr, regions=regions)

    def split(
        self, block: Block, local: set[Value], risen: list[Instr], top: bool = False, guarded: bool = False
    ) -> Block:
        """The part of a loop's block that stays; the rest is appended to `risen`. `local` are the values that
        the loop defines, `top` says that the loop is `step`, `guarded` that the block may be skipped."""
        body: list[Instr] = []

        def place(instr: Instr, guarded: bool) -> None:
            self.note(instr)
            if self.leaves(instr, local, top, guarded):
                self.rise(instr, risen, top)
            else:
                body.append(instr)
                local.update(instr.results)

        for old in block.body:
            instr = self.rename(old)
            if instr.op == "while":
                lost, instr = self.loop(instr)
                for i in lost:
                    place(self.rename(i), True)
                instr = self.rename_regions(instr)
            elif instr.regions:
                regions = tuple(self.split(r, local, risen, top, guarded=True) for r in instr.regions)
                instr = replace(instr, regions=regions)
            place(instr, guarded)
        return Block(block.params, body, self.values(block.yields))

    def rise(self, instr: Instr, risen: list[Instr], top: bool) -> None:
        if top and (known := self.shared.get(_key(instr))) is not None:
            self.renamed[instr.results[0]] = known
            return
        if top:
            self.shared[_key(instr)] = instr.results[0]
        risen.append(instr)

    def leaves(self, instr: Instr, local: set[Value], top: bool, guarded: bool) -> bool:
        if not self.pure(instr) or not local.isdisjoint(instr.args):
            return False
        if instr.op == "load":
            kind = self.old.buffer(instr.attr("buffer")).kind
            return not (top and kind == "member") and (not guarded or instr.args[0] in self.constants)
        return not (top and instr.op == "member")

    def pure(self, instr: Instr) -> bool:
        if instr.op == "load":
            return self.old.buffer(instr.attr("buffer")).mode == "in"
        return not instr.regions and instr.op != "store"

    def note(self, instr: Instr) -> None:
        if instr.op == "const":
            self.constants.update(instr.results)

    def values(self, old: Sequence[Value]) -> tuple[Value, ...]:
        return tuple(self.renamed.get(v, v) for v in old)

    def rename(self, instr: Instr) -> Instr:
        return replace(instr, args=self.values(instr.args))

    def rename_regions(self, instr: Instr) -> Instr:
        """An instruction whose regions' values have been renamed since they were written."""
        regions = tuple(
            Block(r.params, [self.rename_regions(self.rename(i)) for i in r.body], self.values(r.yields))
            for r in instr.regions
        )
        return replace(instr, regions=regions)


def _key(instr: Instr) -> Any:
    return instr.op, instr.args, instr.attrs


def _with_blocks(kernel: Kernel, blocks: dict[str, Block]) -> Kernel:
    return verify(
        replace(
            kernel,
            entry=blocks["entry"],
            begin=blocks["begin"],
            step=blocks["step"],
            finish=blocks["finish"],
        )
    )
