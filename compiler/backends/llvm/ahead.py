"""What a run has kept for its derivative, fetched from memory a step before it is read.

The way back goes from the last step to the first. While the matrices of one step are multiplied, the arrays
of the step before are brought into the caches, a part of them with each product: read unprepared, they took a
quarter of the way back.
"""

from __future__ import annotations

from dataclasses import dataclass

from ndl.compiler.backends.llvm.routines import LINE
from ndl.compiler.kernels.ir import Block, Instr

PRODUCTS = ("dense", "dense_t", "outer")


@dataclass
class Ahead:
    """Fetches the `lines` of the cache that a step has kept for a block of lanes along with products, the
    numbers of whose matrices are `work`; `at` is the next line."""

    lines: int
    work: int
    at: int = 0

    @staticmethod
    def of(step: Block, lanes: int, size: int) -> Ahead | None:
        """For a kernel's step with numbers of `size` bytes; None where it reads nothing that was kept."""
        recalls = [i for i in step.body if i.op == "recall"]
        if not recalls:
            return None
        after = step.body[step.body.index(recalls[0]) :]
        work = sum(_work(i) for i in after if i.op in PRODUCTS)
        lines = -(-recalls[0].attr("width") * lanes * size // LINE)
        return Ahead(lines, work) if work else None

    def share(self, product: Instr) -> tuple[int, int]:
        """Which lines to fetch with a product: the first, and how many. As many for each of one shape."""
        many = -(-self.lines * _work(product) // self.work)
        first, self.at = self.at, self.at + many
        return first, many


def _work(product: Instr) -> int:
    matrix = product.attr("matrix")
    return int(matrix.rows * matrix.columns)
