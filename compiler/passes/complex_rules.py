"""What ops do to real and imaginary parts; a part that is 0 is None."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from ndl.compiler.ir.graph import Node
from ndl.compiler.ops.families.elementwise import constant_of
from ndl.compiler.ops.table import lookup
from ndl.compiler.passes.rewrite import Rewriter
from ndl.compiler.types import Tensor

Parts = tuple[Node | None, Node | None]
Rule = Callable[["Arithmetic", Node, Sequence[Parts], Sequence[Node]], Parts | None]
WRITTEN_OUT = 8
"""Whole powers up to here are products."""


class Arithmetic:
    """Reals in a graph that grows, and complex numbers by them."""

    def __init__(self, target: Rewriter) -> None:
        self.target = target

    # ------------------------------------------------------------ reals

    def op(self, name: str, *operands: Node) -> Node:
        return self.target.add(name, list(operands))

    def filled(self, value: float, like: Node) -> Node:
        """A number in the shape of another value."""
        assert isinstance(like.type, Tensor)
        number = self.target.add("const", value=value)
        return (
            self.target.add("expand", [number], shape=like.type.extents, axes=())
            if like.type.rank
            else number
        )

    def zero(self, shape: Sequence[int]) -> Node:
        number = self.target.add("const", value=0.0)
        return self.target.add("expand", [number], shape=tuple(shape), axes=()) if shape else number

    def sum(self, a: Node | None, b: Node | None) -> Node | None:
        return b if a is None else a if b is None else self.op("add", a, b)

    def difference(self, a: Node | None, b: Node | None) -> Node | None:
        return a if b is None else self.op("neg", b) if a is None else self.op("sub", a, b)

    def product(self, a: Node | None, b: Node | None) -> Node | None:
        return None if a is None or b is None else self.op("mul", a, b)

    # ------------------------------------------------------------ complex numbers

    def number(self, value: complex) -> Parts:
        """A constant; parts that are 0 are left out."""
        re = self.target.add("const", value=value.real) if value.real else None
        im = self.target.add("const", value=value.imag) if value.imag else None
        return re, im

    def both(self, z: Parts, type_: Tensor) -> list[Node]:
        return [part if part is not None else self.zero(type_.extents) for part in z]

    def joined(self, z: Parts) -> Node:
        """One complex value; two zeros are told apart by nobody, so that one is a number."""
        like = z[0] if z[0] is not None else z[1]
        if like is None:
            return self.target.add("const", value=0j)
        assert isinstance(like.type, Tensor)
        return self.op("pair", self.target.add("stack", self.both(z, like.type), axis=like.type.rank))

    def mul(self, a: Parts, b: Parts) -> Parts:
        re = self.difference(self.product(a[0], b[0]), self.product(a[1], b[1]))
        return re, self.sum(self.product(a[0], b[1]), self.product(a[1], b[0]))

    def div(self, a: Parts, b: Parts) -> Parts:
        """a conj(b)/|b|^2, for a b that is real or imaginary without the square."""
        if b[1] is None or b[0] is None:
            only = b[0] if b[1] is None else b[1]
            assert only is not None
            re, im = (None if p is None else self.op("div", p, only) for p in a)
            return (re, im) if b[1] is None else (im, None if re is None else self.op("neg", re))
        size = self.square(b)
        re, im = self.mul(a, (b[0], self.op("neg", b[1])))
        return tuple(None if p is None else self.op("div", p, size) for p in (re, im))  # type: ignore[return-value]

    def square(self, z: Parts) -> Node:
        """|z|^2; not of two zeros."""
        found = self.sum(self.product(z[0], z[0]), self.product(z[1], z[1]))
        assert found is not None
        return found

    def size(self, z: Parts) -> Node:
        """|z|, whose slope at 0 is 0."""
        if z[0] is None or z[1] is None:
            only = z[0] if z[1] is None else z[1]
            assert only is not None
            return self.op("abs", only)
        square = self.square(z)
        none = self.op("eq", square, self.filled(0.0, square))
        root = self.op("sqrt", self.op("select", none, self.filled(1.0, square), square))
        return self.op("select", none, self.filled(0.0, square), root)

    def angle(self, z: Parts) -> Node:
        known = z[0] if z[0] is not None else z[1]
        assert known is not None
        re, im = (p if p is not None else self.filled(0.0, known) for p in z)
        return self.op("atan2", im, re)

    def exp(self, z: Parts) -> Parts:
        re, im = z
        scale = None if re is None else self.op("exp", re)
        if im is None:
            return scale, None
        c, s = self.op("cos", im), self.op("sin", im)
        return (c, s) if scale is None else (self.op("mul", scale, c), self.op("mul", scale, s))

    def log(self, z: Parts) -> Parts:
        square = self.square(z)
        return self.op("mul", self.filled(0.5, square), self.op("log", square)), self.angle(z)


def by_linearity(a: Arithmetic, node: Node, parts: Sequence[Parts], old: Sequence[Node]) -> Parts | None:
    """Linear and multilinear ops with real coefficients, part by part; None for any other op."""
    entry = lookup(node.op)
    if node.op in ("modal", "symbol"):
        return None
    if entry.multilinear:
        return _products(a, node, parts)
    if not entry.linear:
        return None
    if any(p[1] is not None for k, p in enumerate(parts) if k not in entry.linear):
        return None
    found: list[Node | None] = []
    for which in (0, 1):
        chosen = [p[which] if k in entry.linear else p[0] for k, p in enumerate(parts)]
        if all(v is None for k, v in enumerate(chosen) if k in entry.linear):
            found.append(None)
            continue
        whole = [v if v is not None else a.zero(_extents(old[k])) for k, v in enumerate(chosen)]
        found.append(a.target.add(node.op, whole, span=node.span, **dict(node.attrs)))
    return found[0], found[1]


def _extents(node: Node) -> tuple[int, ...]:
    assert isinstance(node.type, Tensor)
    return node.type.extents


def _products(a: Arithmetic, node: Node, parts: Sequence[Parts]) -> Parts:
    """A product of sums is the sum of the products; i^k turns each of them."""
    total: list[Node | None] = [None, None]
    for choice in itertools.product((0, 1), repeat=len(parts)):
        factors = [p[c] for p, c in zip(parts, choice)]
        if any(f is None for f in factors):
            continue
        made = a.target.add(
            node.op, [f for f in factors if f is not None], span=node.span, **dict(node.attrs)
        )
        turns = sum(choice) % 4
        at = turns % 2
        total[at] = a.sum(total[at], made) if turns < 2 else a.difference(total[at], made)
    return total[0], total[1]


def even_power(a: Arithmetic, exponent: float | None, z: Parts) -> Node | None:
    """|z|^(2 m), which has derivatives where z is 0; None for other powers."""
    if exponent is None or exponent <= 0 or exponent % 2:
        return None
    square = a.square(z)
    return square if exponent == 2 else a.op("pow", square, a.filled(exponent / 2, square))


def _pow(a: Arithmetic, node: Node, parts: Sequence[Parts], old: Sequence[Node]) -> Parts | None:
    """Whole powers as products, others as exp(w log z)."""
    z, w = parts
    exponent = constant_of(a.target.source, old[1])
    if exponent is None or exponent != int(exponent) or not 0 < abs(exponent) <= WRITTEN_OUT:
        return a.exp(a.mul(w, a.log(z)))
    found = z
    for _ in range(int(abs(exponent)) - 1):
        found = a.mul(found, z)
    if exponent > 0:
        return found
    known = z[0] if z[0] is not None else z[1]
    assert known is not None
    return a.div((a.filled(1.0, known), None), found)


def _sqrt(a: Arithmetic, z: Parts) -> Parts:
    """The root in the right half of the plane."""
    size = a.op("sqrt", a.size(z))
    half = a.op("mul", a.filled(0.5, size), a.angle(z))
    return a.op("mul", size, a.op("cos", half)), a.op("mul", size, a.op("sin", half))


def _sine(name: str) -> Callable[[Arithmetic, Parts], Parts]:
    """sin, cos, sinh, cosh of x + i y by those of x and y."""
    first, second = {
        "sin": (("sin", "cosh"), ("cos", "sinh")),
        "cos": (("cos", "cosh"), ("sin", "sinh")),
        "sinh": (("sinh", "cos"), ("cosh", "sin")),
        "cosh": (("cosh", "cos"), ("sinh", "sin")),
    }[name]

    def make(a: Arithmetic, z: Parts) -> Parts:
        known = z[0] if z[0] is not None else z[1]
        assert known is not None
        x, y = (p if p is not None else a.filled(0.0, known) for p in z)
        re, im = (a.op("mul", a.op(f, x), a.op(g, y)) for f, g in (first, second))
        return re, a.op("neg", im) if name == "cos" else im

    return make


def _tangent(above: str, below: str) -> Callable[[Arithmetic, Parts], Parts]:
    return lambda a, z: a.div(_sine(above)(a, z), _sine(below)(a, z))


def _unary(make: Callable[[Arithmetic, Parts], Parts]) -> Rule:
    return lambda a, node, parts, old: make(a, parts[0])


def _equal(a: Arithmetic, node: Node, parts: Sequence[Parts], old: Sequence[Node]) -> Parts | None:
    """Both parts are the same; for `ne`, one differs."""
    sides = [a.both(p, n.type) for p, n in zip(parts, old) if isinstance(n.type, Tensor)]
    each = [a.op(node.op, left, right) for left, right in zip(*sides)]
    return a.op("and" if node.op == "eq" else "or", *each), None


RULES: dict[str, Rule] = {
    "mul": lambda a, node, parts, old: a.mul(*parts),
    "div": lambda a, node, parts, old: a.div(*parts),
    "pow": _pow,
    "abs": lambda a, node, parts, old: (a.size(parts[0]), None),
    "real": lambda a, node, parts, old: (parts[0][0], None),
    "imag": lambda a, node, parts, old: (parts[0][1], None),
    "conj": _unary(lambda a, z: (z[0], None if z[1] is None else a.op("neg", z[1]))),
    "stop_gradient": _unary(lambda a, z: (_flat(a, z[0]), _flat(a, z[1]))),
    "exp": _unary(Arithmetic.exp),
    "log": _unary(Arithmetic.log),
    "sqrt": _unary(_sqrt),
    "tan": _unary(_tangent("sin", "cos")),
    "tanh": _unary(_tangent("sinh", "cosh")),
    "eq": _equal,
    "ne": _equal,
    **{name: _unary(_sine(name)) for name in ("sin", "cos", "sinh", "cosh")},
}


def _flat(a: Arithmetic, part: Node | None) -> Node | None:
    return None if part is None else a.op("stop_gradient", part)
