"""The op table: one entry an op, in a file per family; everything else looks ops up here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ndl.compiler.types import Type

if TYPE_CHECKING:
    from ndl.compiler.ir.graph import Graph, Node

Attributes = Mapping[str, Any]


class TypeRuleError(Exception):
    """The operands of an op do not fit. `message` speaks of shapes, `operands` are the indices of
    those to underline, `help` what to write instead."""

    def __init__(
        self, message: str, operands: Sequence[int] = (), help: str | None = None, code: str = "NDL301"
    ) -> None:
        super().__init__(message)
        self.message, self.operands, self.help, self.code = message, tuple(operands), help, code


@dataclass(frozen=True)
class Op:
    """One operation.

    rule       (operand types, attributes) -> result type; raises TypeRuleError.
    reference  (*tensors of one sample, **attributes) -> tensor: float64 torch, obvious and slow.
               It imports torch inside, so that the table costs nothing to the checker.
    torch      (operand texts, operand types, attributes) -> Python expression that works with any
               leading batch axes, over `torch` and `ops` (ndl.runtime.ops).
    vjp        (graph, node, operands, cotangent) -> cotangents of the operands (None: no
               dependence), built as nodes of the same graph; None when not differentiable.
    sympy      (*sympy expressions, **attributes) -> sympy expression, for scalar ops only.
    scalar     name of the kernel printers' scalar operation, None when the op is not elementwise.
    linear     the operands in which the op is linear (jointly).
    multilinear  True when it is linear in each operand while the others stay (products).
    breaks     True when the op or its derivative jumps (abs, max, floor, select, comparisons).
    """

    name: str
    rule: Callable[[Sequence[Type], Attributes], Type]
    reference: Callable[..., Any]
    torch: Callable[[Sequence[str], Sequence[Type], Attributes], str]
    vjp: Callable[[Graph, Node, Sequence[Node], Node], Sequence[Node | None]] | None = None
    sympy: Callable[..., Any] | None = None
    scalar: str | None = None
    linear: tuple[int, ...] = ()
    breaks: bool = False
    multilinear: bool = False


TABLE: dict[str, Op] = {}


def register(op: Op) -> Op:
    """Add an entry; a name is taken once."""
    if op.name in TABLE:
        raise ValueError(f"op `{op.name}` is registered twice")
    TABLE[op.name] = op
    return op


def lookup(name: str) -> Op:
    """The entry of an op, its family's file imported at the first look."""
    import ndl.compiler.ops.families  # noqa: F401  fills the table

    return TABLE[name]


def infer(name: str, types: Sequence[Type], attributes: Attributes) -> Type:
    """The type of an op's result."""
    return lookup(name).rule(types, attributes)
