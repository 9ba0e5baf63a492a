"""What a kernel has loaded from a buffer, for its derivative."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value

Rows = Mapping[Value, Value]
"""Numbers that were loaded, and the rows where they stand."""


class Loaded:
    """Numbers that were loaded from a buffer; their cotangents stand in the same rows of `gradient`."""

    def __init__(self, code: Code, gradient: str) -> None:
        self.code, self.gradient = code, gradient
        self.rows: dict[Value, Value] = {}

    def load(self, buffer: str, row: Value) -> Value:
        """A number, which is noted."""
        found = self.code.load(buffer, row)
        self.rows[found] = row
        return found

    @contextmanager
    def apart(self) -> Iterator[Rows]:
        """With what is loaded inside a region noted by itself."""
        before, self.rows = self.rows, {}
        try:
            yield self.rows
        finally:
            self.rows = before

    def give_back(self, rows: Rows, cotangents: Sequence[Value]) -> None:
        """Add the cotangents of what was loaded to those that its rows have."""
        code = self.code
        for row, g in zip(rows.values(), cotangents, strict=True):
            if code.number(g) != 0:
                code.buffer(self.gradient, "member", "inout")
                code.store(self.gradient, row, code.op("add", code.load(self.gradient, row), g))
