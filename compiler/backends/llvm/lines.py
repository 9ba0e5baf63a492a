"""Lines of LLVM IR, and a kernel's values in them: scalars, and vectors with an element for each lane."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ndl.compiler.backends.llvm.uniform import uniform_values
from ndl.compiler.kernels.ir import Kernel, Value

if TYPE_CHECKING:
    from ndl.compiler.backends.llvm.arrays import Arrays


class Lines:
    """The text of a kernel, as it grows."""

    arrays: Arrays

    def __init__(self, kernel: Kernel, lanes: int) -> None:
        self.kernel, self.lanes = kernel, lanes
        self.same = uniform_values(kernel)
        self.lines: list[str] = []
        self.declared: dict[str, str] = {}
        self.names: dict[Value, str] = {}
        self.wide: dict[Value, str] = {}
        self.count = 0
        self.label = "start"
        self.mask = ""
        self.lane_of = ""
        self.origin = ""
        self.pairs: dict[tuple[str, tuple[Value, ...]], str] = {}
        self.functions: dict[str, str] = {}
        double = kernel.precision == "f64"
        self.types = {
            "real": "double" if double else "float",
            "bits": "i64" if double else "i32",
            "i32": "i32",
            "bool": "i1",
        }
        self.short = {"double": "f64", "float": "f32", "i64": "i64", "i32": "i32", "i1": "i1"}

    def put_raw(self, line: str) -> None:
        self.lines.append(line)

    def put(self, line: str) -> None:
        self.lines.append(f"  {line}")

    def fresh(self, stem: str = "t") -> str:
        self.count += 1
        return f"%{stem}.{self.count}"

    def open(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self.label = label

    def labels(self, *stems: str) -> list[str]:
        self.count += 1
        return [f"{s}.{self.count}" for s in stems]

    def set(self, right: str, stem: str = "t") -> str:
        name = self.fresh(stem)
        self.put(f"{name} = {right}")
        return name

    def intrinsic(self, name: str, result: str, args: Sequence[tuple[str, str]]) -> str:
        """A call of an LLVM intrinsic, declared at the end of the module."""
        types = ", ".join(t for t, _ in args)
        self.declared[name] = f"declare {result} @{name}({types})"
        return f"call {result} @{name}({', '.join(f'{t} {v}' for t, v in args)})"

    # ------------------------------------------------------------ values

    def vector(self, type: str) -> str:
        return f"<{self.lanes} x {self.types[type]}>"

    def literal(self, number: object, type: str) -> str:
        if type == "real":
            value = float(number)  # type: ignore[arg-type]
            return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
        return str(int(number)) if type != "bool" else ("true" if number else "false")  # type: ignore[call-overload]

    def splat_text(self, text: str, scalar: str) -> str:
        return f"<{', '.join([f'{scalar} {text}'] * self.lanes)}>"

    def spread(self, text: str, scalar: str) -> str:
        """A scalar in every lane."""
        if not text.startswith("%"):
            return self.splat_text(text, scalar)
        one = self.set(f"insertelement <{self.lanes} x {scalar}> poison, {scalar} {text}, i64 0")
        zero = f"<{self.lanes} x i32> zeroinitializer"
        kind = f"<{self.lanes} x {scalar}>"
        return self.set(f"shufflevector {kind} {one}, {kind} poison, {zero}", "wide")

    def define(self, value: Value, text: str) -> None:
        """Bind a value; a scalar is spread at once where it stands, so that every later use is dominated."""
        self.names[value] = text
        self.wide[value] = self.spread(text, self.types[value.type]) if value in self.same else text

    def scalar(self, value: Value) -> str:
        return self.names[value]

    def lane(self, value: Value) -> str:
        return self.wide[value]

    def kind(self, value: Value) -> str:
        return self.types[value.type] if value in self.same else self.vector(value.type)

    def text(self, value: Value, like: Value) -> str:
        """A value in the form, scalar or vector, in which another is kept."""
        return self.scalar(value) if like in self.same else self.lane(value)

    def iota(self) -> str:
        return f"<{', '.join(f'i32 {k}' for k in range(self.lanes))}>"
