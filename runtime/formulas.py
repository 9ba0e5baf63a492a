"""Formulas as expression trees: values, derivatives by their constants, canonical form, text.

A tree is a nested tuple: `("x", i)` the i-th variable, `("c",)` a constant, or `(name, operands…)`. The
constants of a tree are a vector, in the order in which they stand in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Tree = tuple[Any, ...]
Array = npt.NDArray[np.float64]
Slope = Callable[..., tuple[Any, ...]]


@dataclass(frozen=True)
class Primitive:
    """An elementwise function: its value, its derivative by each operand (given the operands and the value),
    and its text, an infix sign with a level of binding or a function's name."""

    name: str
    arity: int
    value: Callable[..., Any]
    slopes: Slope
    sign: str = ""
    level: int = 5
    commutes: bool = False


def _unary(name: str, value: Callable[..., Any], slope: Callable[..., Any]) -> Primitive:
    return Primitive(name, 1, value, lambda x, f: (slope(x, f),))


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


PRIMITIVES = {
    p.name: p
    for p in (
        Primitive("add", 2, np.add, lambda a, b, f: (1.0, 1.0), "+", 1, True),
        Primitive("sub", 2, np.subtract, lambda a, b, f: (1.0, -1.0), "-", 1),
        Primitive("mul", 2, np.multiply, lambda a, b, f: (b, a), "*", 2, True),
        Primitive("div", 2, np.divide, lambda a, b, f: (1 / b, -f / b), "/", 2),
        Primitive("max", 2, np.maximum, lambda a, b, f: (a >= b, a < b), commutes=True),
        Primitive("min", 2, np.minimum, lambda a, b, f: (a <= b, a > b), commutes=True),
        Primitive("neg", 1, np.negative, lambda x, f: (-1.0,), "-", 1),
        _unary("square", lambda x: x * x, lambda x, f: 2 * x),
        _unary("exp", np.exp, lambda x, f: f),
        _unary("log", np.log, lambda x, f: 1 / x),
        _unary("sqrt", np.sqrt, lambda x, f: 0.5 / f),
        _unary("sin", np.sin, lambda x, f: np.cos(x)),
        _unary("cos", np.cos, lambda x, f: -np.sin(x)),
        _unary("tanh", np.tanh, lambda x, f: 1 - f * f),
        _unary("sigmoid", _sigmoid, lambda x, f: f * (1 - f)),
        _unary("abs", np.abs, lambda x, f: np.sign(x)),
    )
}
NUMPY = {name: p.value for name, p in PRIMITIVES.items()}
C: Tree = ("c",)


def size(tree: Tree) -> int:
    """The number of operations, variables and constants."""
    return 1 if tree[0] in ("x", "c") else 1 + sum(map(size, tree[1:]))


def constants(tree: Tree) -> int:
    if tree[0] in ("x", "c"):
        return int(tree[0] == "c")
    return sum(map(constants, tree[1:]))


def places(tree: Tree, at: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """The way to every node, the root first."""
    yield at
    if tree[0] not in ("x", "c"):
        for k, child in enumerate(tree[1:], 1):
            yield from places(child, (*at, k))


def subtree(tree: Tree, at: tuple[int, ...]) -> Tree:
    for k in at:
        tree = tree[k]
    return tree


def replaced(tree: Tree, at: tuple[int, ...], by: Tree) -> Tree:
    """The tree with another subtree at a place."""
    if not at:
        return by
    k = at[0]
    return (*tree[:k], replaced(tree[k], at[1:], by), *tree[k + 1 :])


def values(tree: Tree, X: Any, c: Iterable[Any], functions: Mapping[str, Callable[..., Any]] = NUMPY) -> Any:
    """The values of a tree at points X [variables, N]; `functions` by the names of primitives."""
    rest = iter(c)

    def value(t: Tree) -> Any:
        if t[0] == "x":
            return X[t[1]]
        if t[0] == "c":
            return next(rest)
        return functions[t[0]](*map(value, t[1:]))

    return value(tree)


def with_slopes(tree: Tree, X: Array, c: Array) -> tuple[Any, list[Any]]:
    """The values [N] and their derivatives by each constant, forwards through the tree."""
    count, numbers = len(c), iter(range(len(c)))

    def dual(t: Tree) -> tuple[Any, dict[int, Any]]:
        if t[0] == "x":
            return X[t[1]], {}
        if t[0] == "c":
            k = next(numbers)
            return c[k], {k: 1.0}
        p = PRIMITIVES[t[0]]
        operands = [dual(o) for o in t[1:]]
        f = p.value(*(v for v, _ in operands))
        found: dict[int, Any] = {}
        if any(d for _, d in operands):
            for slope, (_, tangents) in zip(p.slopes(*(v for v, _ in operands), f), operands):
                for k, d in tangents.items():
                    found[k] = found[k] + slope * d if k in found else slope * d
        return f, found

    f, tangents = dual(tree)
    return f, [tangents.get(k, 0.0) for k in range(count)]


def canonical(tree: Tree) -> Tree:
    """A form that many equal trees share: operands of sums and products in order, constants joined, `a - a`
    and `a/a` constants. Constants are free numbers, so that `c + c` is one constant."""
    if tree[0] in ("x", "c"):
        return tree
    name, *rest = tree
    operands = [canonical(o) for o in rest]
    if all(o == C for o in operands):
        return C
    if name == "neg":
        inner = operands[0]
        return inner[1] if inner[0] == "neg" else (name, inner)
    if name in ("sub", "div") and operands[0] == operands[1]:
        return C
    if name == "div" and operands[1] == C:  # dividing by a constant is multiplying by one
        return _chain("mul", [C, *_members("mul", operands[0])])
    if name == "div" and operands[1][0] == "mul" and C in (more := list(_members("mul", operands[1]))):
        more.remove(C)
        above = _chain("mul", [C, *_members("mul", operands[0])])
        return ("div", above, _chain("mul", more)) if more else above
    if name in ("add", "mul"):
        return _chain(name, [o for child in operands for o in _members(name, child)])
    if PRIMITIVES[name].commutes:
        operands.sort(key=repr)
    return (name, *operands)


def _members(name: str, tree: Tree) -> Iterator[Tree]:
    if tree[0] == name:
        for child in tree[1:]:
            yield from _members(name, child)
    else:
        yield tree


def _chain(name: str, members: list[Tree]) -> Tree:
    """A sum or product: one constant first, then the others in order."""
    others = sorted((m for m in members if m != C), key=repr)
    every = [C, *others] if len(others) < len(members) else others
    found = every[0]
    for m in every[1:]:
        found = (name, found, m)
    return found


# ---------------------------------------------------------------- text


def text(tree: Tree, names: Sequence[str], c: Sequence[float]) -> str:
    """The formula in the language."""
    rest = iter(c)

    def shown(t: Tree) -> tuple[str, int]:
        if t[0] == "x":
            return names[t[1]], 5
        if t[0] == "c":
            found = number(next(rest))
            return found, 1 if found.startswith("-") else 5
        p = PRIMITIVES[t[0]]
        operands = [shown(o) for o in t[1:]]
        if t[0] == "square":
            return f"{_within(operands[0], 5)}^2", 4
        if not p.sign:
            return f"{p.name}({', '.join(o for o, _ in operands)})", 5
        if p.arity == 1:
            return f"{p.sign}{_within(operands[0], 2)}", p.level
        left = operands[0]
        right = _within(operands[1], p.level + 1)
        if p.name == "mul" and left[0] in ("1", "-1"):
            return (right, 3) if left[0] == "1" else (f"-{right}", 1)
        first = (
            left[0] if left[0].startswith("-") and p.level == 2 and left[1] == 1 and _plain(left[0]) else None
        )
        shown_left = first or _within(left, p.level)
        if p.name == "add" and right.startswith("(-") and _plain(right[1:-1]):
            return f"{shown_left} - {right[2:-1]}", 1
        return (f"{shown_left} {p.sign} {right}" if p.level == 1 else f"{shown_left}{p.sign}{right}"), p.level

    return shown(tree)[0]


def _plain(t: str) -> bool:
    """A number, perhaps negative."""
    try:
        float(t)
    except ValueError:
        return False
    return True


def _within(operand: tuple[str, int], level: int) -> str:
    return operand[0] if operand[1] >= level else f"({operand[0]})"


def number(x: float) -> str:
    return str(int(x)) if float(x).is_integer() and abs(x) < 1e15 else repr(float(x))
