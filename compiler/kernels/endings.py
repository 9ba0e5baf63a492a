"""How steps end, as their derivative wants to know it: on the tape, in the rows `tape_kind` and `tape_fresh`
of each accepted step.

`tape_kind` is the number of the root event that ended a step (of several, the first in the file), `GIVEN`
where it came to a time that does not depend on the state, `ECHO` where a jump came back after delays, `FREE`
elsewhere. Of which jump, `tape_origin` says: the row of a firing, -1 for the start, or a step over a break
(see `echoes.over`); `tape_lag` after which of the times at which one comes back. `tape_fresh` has a bit for
each break that the step crosses.
"""

from __future__ import annotations

from collections.abc import Sequence

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value

ECHO, FREE, GIVEN = -3, -2, -1
MOST_BREAKS = 30
"""Breaks that a row of `tape_fresh` has bits for."""


def kind_of(code: Code, given: Value, roots: Sequence[tuple[int, Value]], echo: Value | None = None) -> Value:
    """The row of `tape_kind` of a step to a given time, to an `echo`, or to one of the events `roots` with
    their flags."""
    kind = code.op("select", given, code.const(GIVEN, "i32"), code.const(FREE, "i32"))
    if echo is not None:
        kind = code.op("select", echo, code.const(ECHO, "i32"), kind)
    for k, flag in reversed(roots):
        kind = code.op("select", flag, code.const(k, "i32"), kind)
    return kind


def bits_of(code: Code, flags: Sequence[Value]) -> Value:
    """Flags as the bits of a number."""
    total = code.const(0, "i32")
    for k, flag in enumerate(flags[:MOST_BREAKS]):
        bit = code.op("select", flag, code.const(1 << k, "i32"), code.const(0, "i32"))
        total = code.op("add", total, bit)
    return total


def has_bit(code: Code, number: Value, k: int) -> Value:
    """Whether a break is among those that a step crosses."""
    return code.op("to_bool", code.op("bit_and", number, code.const(1 << k, "i32")))
