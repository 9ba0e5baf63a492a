"""What the type rules share: kinds, units, fields, and messages in the user's words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from ndl.compiler.ops.table import Attributes, TypeRuleError
from ndl.compiler.types import Dim, Tensor, Type, Units, unit_product, unit_text

KINDS = ("Bool", "Z", "R", "C")


def tensors(types: Sequence[Type], what: str) -> list[Tensor]:
    """The operands as tensors; maps and tuples have no arithmetic."""
    found = []
    for i, t in enumerate(types):
        if not isinstance(t, Tensor):
            raise TypeRuleError(f"{what} needs numbers or tensors, and this is a value of type {t}", [i])
        found.append(t)
    return found


def numeric(types: Sequence[Tensor], what: str) -> None:
    for i, t in enumerate(types):
        if t.kind == "Bool":
            raise TypeRuleError(
                f"a truth value cannot stand in {what}", [i], "write `if c then 1 else 0` for a number"
            )


def real(types: Sequence[Tensor], what: str) -> None:
    numeric(types, what)
    for i, t in enumerate(types):
        if t.kind == "C":
            raise TypeRuleError(f"{what} is not defined for complex numbers", [i])


def truth(types: Sequence[Tensor], what: str) -> None:
    for i, t in enumerate(types):
        if t.kind != "Bool":
            raise TypeRuleError(f"{what} needs truth values, and this is {t}", [i])


def promote(types: Sequence[Tensor], least: str = "Bool") -> str:
    """The widest kind among the operands: Bool, Z, R, C."""
    return KINDS[max([KINDS.index(least), *(KINDS.index(t.kind) for t in types)])]


def same_shape(types: Sequence[Tensor], what: str) -> tuple[Dim, ...]:
    for i, t in enumerate(types[1:], 1):
        if t.shape != types[0].shape:
            raise TypeRuleError(f"shapes differ in {what}", [0, i])
    return types[0].shape


def common_domain(types: Sequence[Tensor], what: str) -> str | None:
    """The domain of the fields among the operands; two different ones do not meet."""
    first: int | None = None
    for i, t in enumerate(types):
        if t.on is None:
            continue
        if first is None:
            first = i
        elif t.on != types[first].on:
            raise TypeRuleError(
                f"{what} joins a field on `{types[first].on}` with one on `{t.on}`", [first, i], code="NDL302"
            )
    return types[first].on if first is not None else None


def same_unit(types: Sequence[Tensor], what: str) -> Units | None:
    """The unit that all operands which have one agree on."""
    first: int | None = None
    for i, t in enumerate(types):
        if t.unit is None:
            continue
        if first is None:
            first = i
        elif t.unit != types[first].unit:
            left, right = unit_text(types[first].unit or ()), unit_text(t.unit)
            raise TypeRuleError(f"units differ in {what}: `{left}` and `{right}`", [first, i], code="NDL303")
    return types[first].unit if first is not None else None


def product_unit(a: Tensor, b: Tensor, power: int = 1) -> Units | None:
    """The unit of a*b or a/b; unknown when either side has none declared."""
    if a.unit is None or b.unit is None:
        return None
    return unit_product(a.unit, b.unit, power)


def root_unit(unit: Units | None, power: Fraction) -> Units | None:
    return None if unit is None else unit_product((), unit, power)


def axis_of(attributes: Attributes, rank: int, what: str, extra: int = 0) -> int:
    """The attribute `axis` counted from the front; it must be one of `rank + extra` axes."""
    axis: int = attributes["axis"]
    if not -(rank + extra) <= axis < rank + extra:
        raise TypeRuleError(f"{what} along axis {axis}, and the operand has {rank} axes", [0])
    return axis % (rank + extra)


def axes_of(attributes: Attributes, rank: int, what: str) -> tuple[int, ...]:
    """The attribute `axes` counted from the front, ascending; absent means all."""
    axes = attributes.get("axes")
    chosen = tuple(range(rank)) if axes is None else tuple(axes)
    for axis in chosen:
        if not -rank <= axis < rank:
            raise TypeRuleError(f"{what} along axis {axis}, and the operand has {rank} axes", [0])
    return tuple(sorted({axis % rank for axis in chosen}))


def dims(shape: Sequence[Any]) -> tuple[Dim, ...]:
    return tuple(Dim.of(n) for n in shape)


def size(shape: Sequence[Dim]) -> Dim:
    total = Dim.of(1)
    for n in shape:
        total = total * n
    return total


Rule = Callable[[Sequence[Type], Attributes], Type]
