"""Values as text: names, numbers, and expressions that stand where they are used once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from ndl.compiler.backends.triton.forms import INFIX, PATTERNS, PRECISIONS, PREFIX, Expr
from ndl.compiler.backends.triton.names import Names
from ndl.compiler.backends.triton.spread import varying
from ndl.compiler.kernels.code import number_of
from ndl.compiler.kernels.ir import Block, Instr, Kernel, KernelError, Value

LONGEST = 48
"""Expressions longer than this get a name."""


class Values:
    """What stands for each value of a kernel, as far as it has been written; which helpers that needs."""

    def __init__(self, kernel: Kernel) -> None:
        self.precision = PRECISIONS[kernel.precision]
        self.varying = varying(kernel)
        self.once = _used_once(kernel)
        self.names = Names()
        self.helpers: set[str] = set()
        self.constants: dict[str, str] = {}
        self.hints: dict[Value, str] = {}
        self._text: dict[Value, Expr] = {}
        self._type = np.float64 if kernel.precision == "f64" else np.float32

    # ------------------------------------------------------------ reading

    def expr(self, value: Value) -> Expr:
        return self._text[value]

    def typed(self, value: Value, level: int = 0) -> str:
        """The text of a value that carries its type: a bare number becomes a constant of the kernel."""
        expr = self._text[value]
        return self.constant(expr.text, value.type) if expr.literal else expr.inside(level)

    def tile(self, value: Value) -> str:
        """The text of a value as a tile, one number for each lane."""
        if value in self.varying:
            return self.typed(value)
        return f"tl.full([BLOCK], {self._text[value].text}, {self.precision.type(value.type)})"

    def constant(self, text: str, type: str) -> str:
        """The name of a number of that type, which stands before everything else."""
        made = f"tl.full([], {text}, {self.precision.type(type)})"
        if made not in self.constants:
            self.constants[made] = self.names.numbered("c")
        return self.constants[made]

    # ------------------------------------------------------------ writing

    def set(self, value: Value, text: str | Expr) -> None:
        self._text[value] = Expr(text) if isinstance(text, str) else text

    def named(self, value: Value, base: str = "v", numbered: bool = True) -> str:
        """Give a value a name, the one that it has if it has one."""
        if value not in self._text and value in self.hints:
            self.set(value, self.names.kept(self.hints[value]))
        if value not in self._text:
            self.set(value, self.names.numbered(base) if numbered else self.names.kept(base))
        return self._text[value].text

    def number(self, instr: Instr) -> Expr:
        """A `const` as text."""
        number = number_of(instr)
        if instr.results[0].type != "real":
            return Expr(repr(number), 9 if number >= 0 else 7, literal=True)
        text = self._real(number)
        return Expr(text, 7 if text.startswith("-") else 9, literal=True)

    def _real(self, number: float) -> str:
        if not math.isfinite(number):
            return f'float("{number}")'
        if self._type is np.float64:
            return repr(number)
        short = str(np.float32(number))
        short = short if any(c in short for c in ".en") else short + ".0"
        return short if self._type(float(short)) == self._type(number) else repr(number)

    def helper(self, name: str) -> str:
        self.helpers.add(name)
        return name

    def pure(self, instr: Instr) -> Expr:
        """The expression of a pure operation."""
        args = instr.args
        if instr.op in INFIX:
            return self._infix(instr)
        if instr.op in PREFIX:
            sign, level = PREFIX[instr.op]
            return Expr(f"{sign}{self.typed(args[0], level)}", level)
        if instr.op not in PATTERNS:
            raise KernelError(f"`{instr.op}` has no form in Triton: expand it first")
        pattern = PATTERNS[instr.op].replace("{width}", str(32 if args[0].type == "i32" else self.width))
        if pattern.startswith("_"):
            self.helper(pattern.partition("(")[0])
        level = 9 if pattern.startswith("{0}.") else 0
        texts = [self.typed(a, level) for a in args]
        return Expr(pattern.format(*texts, real=self.precision.real, bits=self.precision.bits))

    @property
    def width(self) -> int:
        return self.precision.width

    def _infix(self, instr: Instr) -> Expr:
        """Bare numbers take their type from the other operand; comparisons are never chained."""
        sign, level = INFIX[instr.op]
        strict = max(level, 1)
        texts = [
            self.expr(a).inside(at) if self._bare(a, b, level) else self.typed(a, at)
            for a, b, at in zip(instr.args, instr.args[::-1], (strict, level + 1))
        ]
        return Expr(f"{texts[0]} {sign} {texts[1]}", level)

    def _bare(self, value: Value, other: Value, level: int) -> bool:
        """Whether a number may stand as it is. Triton 3.6 rounds those of comparisons to single precision."""
        if not self.expr(value).literal:
            return True
        if self.expr(other).literal or value.type == "bool":
            return False
        return level > 0 or value.type != "real" or _is_single(self.expr(value).text)

    def stands_in(self, instr: Instr, expr: Expr) -> bool:
        """Whether the expression may stand where its value is used."""
        return instr.results[0] in self.once and len(expr.text) <= LONGEST


def _is_single(text: str) -> bool:
    return text[-1] != ")" and float(np.float32(text)) == float(text)


def _used_once(kernel: Kernel) -> set[Value]:
    """Values that are used once, by an instruction of the block in which they are made or as its condition.

    Between there and the use nothing that they are made of changes: what is carried does so at a block's end.
    What they are made of lives on until then, too: where there is a workspace, an instruction must be near.
    """
    uses: Counter[Value] = Counter()
    near: set[Value] = set()
    reach = 1 if any(b.kind == "scratch" for b in kernel.buffers) else None
    for name, block in kernel.blocks():
        _count(block, uses, near, block.yields[-1:] if name == "step" else (), reach)
    return {v for v in near if uses[v] == 1}


def _count(
    block: Block, uses: Counter[Value], near: set[Value], conditions: Sequence[Value], reach: int | None
) -> None:
    made: dict[Value, int] = {}
    for at, instr in enumerate(block.body):
        uses.update(instr.args)
        near.update(a for a in instr.args if a in made and (reach is None or at - made[a] <= reach))
        made.update(dict.fromkeys(instr.results, at))
        for k, region in enumerate(instr.regions):
            conditional = instr.op == "while" and k == 0
            _count(region, uses, near, region.yields if conditional else (), reach)
    uses.update(block.yields)
    near.update(v for v in conditions if v in made)
