"""Shapes by a condition, `x^2 + y^2 < 1 and not (x > 0 and y > 0)`: a tree of `all` and `any` over
comparisons.

Each comparison is a curve; so is each argument of `max`, `min` and `abs` that is compared, so that the
corners of signed distances such as `max(abs(x) - 1, abs(y) - 1) < 0` are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ndl.compiler.diagnostics import fail
from ndl.compiler.syntax import tree

FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
Combination = tuple[str, tuple[Any, ...]]
"""(`all` or `any`, parts); a part is such a pair or the number of a leaf."""


@dataclass(frozen=True, eq=False)
class Implicit:
    """A shape: inside where `level` is negative. `evaluate` gives the leaves at points `[n, d]` as `[m,
    n]`."""

    dimension: int
    structure: Any
    evaluate: Callable[[np.ndarray], np.ndarray]
    closed: tuple[bool, ...] = ()
    """Of each leaf, whether the condition holds where it is 0."""

    def leaves(self, points: np.ndarray) -> np.ndarray:
        return self.evaluate(points)

    def level(self, points: np.ndarray) -> np.ndarray:
        return self._of(self.structure, self.leaves(points))[0]

    def leaf(self, points: np.ndarray) -> np.ndarray:
        return self._of(self.structure, self.leaves(points))[1]

    def holds(self, points: np.ndarray) -> np.ndarray:
        """Whether the condition holds."""
        values = self.leaves(points)
        closed = np.array(self.closed or [False] * len(values))[:, None]
        return self._true(self.structure, (values < 0) | (closed & (values == 0)))

    def _true(self, part: Any, leaves: np.ndarray) -> np.ndarray:
        if isinstance(part, int):
            found: np.ndarray = leaves[part]
            return found
        inner = np.stack([self._true(p, leaves) for p in part[1]])
        both: np.ndarray = np.all(inner, 0) if part[0] == "all" else np.any(inner, 0)
        return both

    def _of(self, part: Any, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The level of a part, and the leaf that it is."""
        if isinstance(part, int):
            return values[part], np.full(values.shape[1], part)
        inner = [self._of(p, values) for p in part[1]]
        levels, leaves = np.stack([v for v, _ in inner]), np.stack([i for _, i in inner])
        chosen = (levels.argmax(0) if part[0] == "all" else levels.argmin(0))[None]
        return np.take_along_axis(levels, chosen, 0)[0], np.take_along_axis(leaves, chosen, 0)[0]


class Reader:
    """Reads a condition: `structure` refers to `leaves`, expressions that are negative inside; of `closed`
    ones the zeros belong to it."""

    def __init__(self) -> None:
        self.leaves: list[tree.Expr] = []
        self.closed: list[bool] = []
        self._closed = False

    def read(self, e: tree.Expr, holds: bool = True) -> Any:
        """A condition, or its contrary. Raises `NDLError` for what compares nothing."""
        if isinstance(e, tree.Logical):
            both = (e.op == "and") == holds
            return ("all" if both else "any", (self.read(e.left, holds), self.read(e.right, holds)))
        if isinstance(e, tree.Unary) and e.op == "not":
            return self.read(e.operand, not holds)
        if isinstance(e, tree.Compare):
            links = list(zip(e.operands, e.ops, e.operands[1:]))
            parts = tuple(p for a, op, b in links for p in self._link(a, op, b, holds, e))
            return parts[0] if len(parts) == 1 else ("all" if holds else "any", parts)
        raise fail(
            "NDL446",
            "a shape is given by comparisons",
            e.span,
            help="write `{ x, y | x^2 + y^2 < 1 }`, joined by `and`, `or`, `not`",
        )

    def _link(self, a: tree.Expr, op: str, b: tree.Expr, holds: bool, e: tree.Expr) -> list[Any]:
        self._closed = (op not in ("<", ">")) == holds
        if op == "in" and isinstance(b, tree.Range):
            found = [self._below(b.lo, a), self._below(a, b.hi)]
            return found if holds else [self._below(a, b.lo), self._below(b.hi, a)]
        if op not in FLIPPED:
            raise fail("NDL446", f"`{op}` does not bound a shape", e.span, help="compare with `<` or `>`")
        if (op in ("<", "<=")) == holds:
            return [self._below(a, b)]
        return [self._below(b, a)]

    def _below(self, a: tree.Expr, b: tree.Expr) -> Any:
        """a < b."""
        for side, expr in (("left", a), ("right", b)):
            name = _kinked(expr)
            if name is not None and isinstance(expr, tree.Call):
                args = [x.value for x in expr.args]
                if name == "abs":
                    args.append(tree.Unary(expr.span, "-", args[0]))
                both = (name != "min") == (side == "left")
                parts = tuple(self._below(x, b) if side == "left" else self._below(a, x) for x in args)
                return ("all" if both else "any", parts)
        if _sum(a):
            return self._moved(a, b, left=True)
        if _sum(b):
            return self._moved(b, a, left=False)
        self.leaves.append(_minus(a, b))
        self.closed.append(self._closed)
        return len(self.leaves) - 1

    def _moved(self, e: Any, other: tree.Expr, left: bool) -> Any:
        """`f + c < other` as `f < other - c`, f with a kink."""
        f, c, sign = (e.left, e.right, e.op) if _has_kink(e.left) else (e.right, e.left, e.op)
        if sign == "+":
            rest = _minus(other, c)
        elif f is e.left:
            rest = tree.Binary(e.span, "+", other, c)
        else:  # c - f against other: f against c - other, the other way round
            rest, left = _minus(c, other), not left
        return self._below(f, rest) if left else self._below(rest, f)


def _minus(a: tree.Expr, b: tree.Expr) -> tree.Expr:
    return tree.Binary(a.span, "-", a, b)


def _kinked(e: tree.Expr) -> str | None:
    """`max`, `min` of several arguments or `abs`."""
    if not isinstance(e, tree.Call) or not isinstance(e.func, tree.Name):
        return None
    if any(a.kind != "positional" for a in e.args):
        return None
    name = e.func.id
    several = len(e.args) > 1 and not any(isinstance(a.value, tree.Compare) for a in e.args)
    return name if (name in ("max", "min") and several) or (name == "abs" and len(e.args) == 1) else None


def _has_kink(e: tree.Expr) -> bool:
    return _kinked(e) is not None or _sum(e)


def _sum(e: tree.Expr) -> bool:
    """A sum or difference, exactly one side of which has a kink."""
    if not isinstance(e, tree.Binary) or e.op not in ("+", "-"):
        return False
    return _has_kink(e.left) != _has_kink(e.right)
