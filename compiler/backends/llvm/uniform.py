"""Which values of a kernel are the same for all trajectories that run side by side: they are computed
once."""

from __future__ import annotations

from collections.abc import Sequence

from ndl.compiler.kernels.ir import Block, Instr, Kernel, Value
from ndl.compiler.kernels.verify import ARRAYS


def uniform_values(kernel: Kernel) -> set[Value]:
    """Values that do not depend on the trajectory. What is carried counts only where all trajectories take
    the same turns (`even`)."""
    found = Analysis(kernel)
    found.block(kernel.entry)
    found.block(kernel.begin)
    carried = [kernel.even and v in found.same for v in kernel.begin.yields]
    while True:
        before = list(carried)
        attempt = Analysis(kernel, set(found.same))
        attempt.params(kernel.step.params, carried)
        attempt.block(kernel.step)
        carried = [c and v in attempt.same for c, v in zip(carried, kernel.step.yields)]
        if carried == before:
            attempt.params(kernel.finish.params, carried)
            attempt.block(kernel.finish)
            return attempt.same


class Analysis:
    def __init__(self, kernel: Kernel, same: set[Value] | None = None) -> None:
        self.kernel = kernel
        self.same: set[Value] = set() if same is None else same

    def params(self, values: Sequence[Value], are: Sequence[bool]) -> None:
        self.same |= {v for v, yes in zip(values, are) if yes}
        self.same -= {v for v, yes in zip(values, are) if not yes}

    def block(self, block: Block) -> None:
        for instr in block.body:
            if instr.op == "while":
                self.loop(instr)
            elif instr.op == "when":
                self.when(instr)
            elif instr.op == "map":
                self.params(instr.regions[0].params, [False] * len(instr.args))
                self.block(instr.regions[0])
                self.same -= set(instr.results)
            elif self.pure(instr):
                self.same |= set(instr.results)
            else:
                self.same -= set(instr.results)

    def pure(self, instr: Instr) -> bool:
        if instr.op == "member" or instr.op in ARRAYS:
            return False
        if instr.op == "load":
            buffer = self.kernel.buffer(instr.attr("buffer"))
            return buffer.kind == "table" and buffer.mode == "in" and instr.args[0] in self.same
        return all(a in self.same for a in instr.args)

    def when(self, instr: Instr) -> None:
        inside = instr.regions[0]
        self.block(inside)
        if instr.args[0] not in self.same:
            self.same -= set(instr.results)
            return
        pairs = zip(inside.yields, instr.args[1:])
        self.params(instr.results, [a in self.same and b in self.same for a, b in pairs])

    def loop(self, instr: Instr) -> None:
        test, turn = instr.regions
        carried = [a in self.same for a in instr.args]
        while True:
            before = list(carried)
            self.params(test.params, carried)
            self.block(test)
            if test.yields[0] not in self.same:
                # trajectories leave the loop at different turns: only what never changes is the same
                carried = [c and y == p for c, y, p in zip(carried, turn.yields, turn.params)]
            self.params(turn.params, carried)
            self.block(turn)
            carried = [c and y in self.same for c, y in zip(carried, turn.yields)]
            if carried == before:
                self.params(instr.results, carried)
                return
