"""Which values differ between the trajectories of a tile: the rest are scalars of the whole program."""

from __future__ import annotations

from ndl.compiler.kernels.ir import Block, Instr, Kernel, Value
from ndl.compiler.kernels.verify import ARRAYS


def varying(kernel: Kernel) -> set[Value]:
    """The values that may differ between trajectories, by a fixed point over what they are made of.

    In an `even` kernel all trajectories take their turns together, so that what they carry may be the same
    for all; otherwise each is at a turn of its own.
    """
    finder = _Finder(kernel)
    while finder.sweep():
        pass
    return finder.found


class _Finder:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.found: set[Value] = set()

    def sweep(self) -> bool:
        """One pass over the kernel: whether it found something new."""
        before = len(self.found)
        for _, block in self.kernel.blocks():
            self.block(block)
        self.carried()
        return len(self.found) > before

    def carried(self) -> None:
        k = self.kernel
        for given, *held in zip(k.begin.yields, k.step.yields, k.step.params, k.finish.params):
            if not k.even or given in self.found or held[0] in self.found:
                self.found.update(held[1:])

    def block(self, block: Block) -> None:
        for instr in block.body:
            if instr.op == "map":
                self.found.update(instr.regions[0].params)
            for region in instr.regions:
                self.block(region)
            if instr.op == "while":
                self.loop(instr)
            elif instr.op == "when":
                self.when(instr)
            elif instr.op in ARRAYS or instr.op == "map" or self.differs(instr):
                self.found.update(instr.results)

    def loop(self, instr: Instr) -> None:
        test, turn = instr.regions
        if test.yields[0] in self.found:
            self.found.update(instr.results)
        for start, *rest in zip(instr.args, instr.results, test.params, turn.params, turn.yields):
            if start in self.found or any(v in self.found for v in rest):
                self.found.update(rest[:-1])

    def when(self, instr: Instr) -> None:
        sources = zip(instr.results, instr.args[1:], instr.regions[0].yields)
        for result, otherwise, then in sources:
            if self.found & {instr.args[0], otherwise, then}:
                self.found.add(result)

    def differs(self, instr: Instr) -> bool:
        if instr.op == "member" or any(a in self.found for a in instr.args):
            return True
        if instr.op != "load":
            return False
        buffer = self.kernel.buffer(instr.attr("buffer"))
        return buffer.kind == "member" or buffer.mode != "in"
