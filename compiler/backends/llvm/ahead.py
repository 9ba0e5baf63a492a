"""What a run keeps for its derivative, brought into the caches a step before it is written or read.

The run goes from the first step to the last, the way back from the last to the first. While the matrices of
one step are multiplied, the memory for the arrays of the next is fetched, a part of it with each product: met
unprepared, memory takes a quarter of the way back, and up to a tenth of the run.
"""

from __future__ import annotations

from dataclasses import dataclass

from ndl.compiler.backends.llvm.routines import LINE
from ndl.compiler.kernels.ir import Block, Instr

PRODUCTS = ("dense", "dense_t", "outer")


@dataclass
class Ahead:
    """Fetches the `lines` of the cache that a step keeps for a block of lanes along with products, whose
    matrices have `work` numbers; the next step is `turns` on, `at` the next line."""

    lines: int
    work: int
    turns: int
    at: int = 0

    @staticmethod
    def of(step: Block, lanes: int, size: int) -> Ahead | None:
        """For a kernel's step with numbers of `size` bytes; None where it neither keeps anything nor reads
        what was kept."""
        marks = [i for i in step.body if i.op in ("keep", "recall")]
        if not marks:
            return None
        kept = {v for i in marks for v in (i.results or i.args[1:])}
        first = next(k for k, i in enumerate(step.body) if not kept.isdisjoint(i.results))
        work = sum(_work(i) for i in step.body[first:] if i.op in PRODUCTS)
        lines = -(-marks[0].attr("width") * lanes * size // LINE)
        return Ahead(lines, work, 1 if marks[0].op == "keep" else -1) if work else None

    def share(self, product: Instr) -> tuple[int, int]:
        """Which lines to fetch with a product: the first, and how many. As many for each of one shape."""
        many = -(-self.lines * _work(product) // self.work)
        first, self.at = self.at, self.at + many
        return first, many


def _work(product: Instr) -> int:
    matrix = product.attr("matrix")
    return int(matrix.rows * matrix.columns)
