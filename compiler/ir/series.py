"""Taylor coefficients of graphs: y(t0 + s) = y_0 + y_1 s + y_2 s^2 + …, coefficient by coefficient.

The coefficients of a node follow from those of its operands: an op's recurrence. Linear ops act on each
coefficient, products are convolutions, and any other elementwise op f goes by its derivative in the op table,
which is a graph like any other: from y' = f_x x' follows k y_k = sum_j j x_j d_(k-j) with d the series of f_x
(y itself may stand in it). So an op has its recurrence with its entry in the table; `RECURRENCES` has those
for which less work is known. Pieces (`select`, `abs`, `maximum`) are chosen by the coefficients of order 0.

A. Jorba, M. Zou, "A software package for the numerical integration of ODEs by means of high-order Taylor
methods", Experimental Mathematics 14 (2005); A. Griewank, A. Walther, "Evaluating Derivatives", 2nd ed.,
chapter 13.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ndl.compiler.ir.graph import Graph, Node
from ndl.compiler.ops.adjoint import extents, kind, number, op, zeros
from ndl.compiler.ops.families.contraction import matmul_equation
from ndl.compiler.ops.families.elementwise import constant_of
from ndl.compiler.ops.table import lookup
from ndl.compiler.passes.rewrite import Rewriter

Coefficient = Node | None
"""A node of the target graph; None is 0."""

STEPS = frozenset({"stop_gradient", "conj", "real", "imag"})
"""Linear ops whose entries in the table do not say so, since no derivative passes them."""

LONGEST_POWER = 16
"""Whole exponents up to which a power is written as products, so that its base may be 0."""


class NoSeries(Exception):
    """Why there is no series. The message completes “because …”."""


class Sharing(Rewriter):
    """Makes nodes in a graph, each once; the rules of the op table may use it in the graph's place."""

    def operands(self, node: Node) -> list[Node]:
        return self.graph.operands(node)


class Series:
    """The coefficients of one node, each made when it is first asked for."""

    def __init__(self, make: Callable[[int], Coefficient]) -> None:
        self._make = make
        self._known: list[Coefficient] = []

    def __getitem__(self, k: int) -> Coefficient:
        while len(self._known) <= k:
            self._known.append(self._make(len(self._known)))
        return self._known[k]


class Expansion:
    """Series of the nodes of `source`, as nodes of `target`. `leaves` are the series of the nodes that move
    with time; what depends on none of them is constant."""

    def __init__(self, source: Graph, target: Sharing) -> None:
        self.source, self.target = Sharing(source, source), target
        self.leaves: dict[int, Series] = {}
        self._series: dict[int, Series] = {}
        self._moving: dict[int, bool] = {}
        self._fixed: dict[int, bool] = {}
        self._pairs: dict[int, list[tuple[Node, Node]]] = {}

    def of(self, node: Node) -> Series:
        """The series of a node."""
        if node.id in self.leaves:
            return self.leaves[node.id]
        if node.id not in self._series:
            self._series[node.id] = Series(self._maker(node))
        return self._series[node.id]

    def moves(self, node: Node) -> bool:
        """Whether a node depends on time or state."""
        if node.id not in self._moving:
            found = node.id in self.leaves or any(self.moves(o) for o in self.source.operands(node))
            self._moving[node.id] = found
        return self._moving[node.id]

    def _maker(self, node: Node) -> Callable[[int], Coefficient]:
        operands = self.source.operands(node)
        later: Callable[[int], Coefficient] | None = None

        def make(k: int) -> Coefficient:
            nonlocal later
            if k == 0:
                return self._first(node, operands)
            if later is None:
                later = self._rule(node, operands)
            return later(k)

        return make

    def _first(self, node: Node, operands: Sequence[Node]) -> Node:
        """The value itself, by the op itself."""
        firsts = [self.whole(self.of(o)[0], o) for o in operands]
        return self.target.add(
            node.op, firsts, type=node.type, span=node.span, hint=node.hint, **dict(node.attrs)
        )

    def _rule(self, node: Node, operands: Sequence[Node]) -> Callable[[int], Coefficient]:
        """The recurrence of a node for k >= 1."""
        moving = [i for i, o in enumerate(operands) if self.moves(o)]
        if not moving or kind(node) in ("Bool", "Z"):
            return lambda k: None
        entry = lookup(node.op)
        if node.op in STEPS or (entry.linear and set(moving) <= set(entry.linear)):
            return lambda k: self._linear(node, operands, k)
        if entry.multilinear and len(moving) == 1:
            return lambda k: self._linear(node, operands, k)
        if node.op in RECURRENCES:
            return RECURRENCES[node.op](self, node, operands)
        if entry.scalar is not None and entry.vjp is not None:
            return self.by_derivative(node, operands)
        raise NoSeries(f"`{node.op}` has no recurrence for Taylor coefficients")

    def _linear(self, node: Node, operands: Sequence[Node], k: int) -> Coefficient:
        """The same op on coefficients k, constants as they are."""
        parts = [self.of(o)[k] if self.moves(o) else self.of(o)[0] for o in operands]
        if all(p is None for p, o in zip(parts, operands) if self.moves(o)):
            return None
        if node.op in ("add", "sub"):
            return self._sum(
                node.op, operands, [p if self.moves(o) else None for p, o in zip(parts, operands)]
            )
        if node.op == "div":
            return self.times(parts[0], self.over(1.0, parts[1], node))
        joined = lookup(node.op).linear and node.op in ("stack", "concat")
        given = [None if joined and not self.moves(o) else p for p, o in zip(parts, operands)]
        whole = [self.whole(p, o) for p, o in zip(given, operands)]
        return self.target.add(node.op, whole, type=node.type, **dict(node.attrs))

    def _sum(self, name: str, operands: Sequence[Node], parts: Sequence[Coefficient]) -> Coefficient:
        """A sum or difference. What is a sum of products already, and read here alone, takes the other side
        in as one more product: a fused multiply–add instead of an addition."""
        pairs = [
            self._pairs.get(p.id) if p is not None and len(self.source.graph.users(o)) == 1 else None
            for p, o in zip(parts, operands)
        ]
        a, b = parts
        if a is None or b is None or pairs == [None, None]:
            return self.plus(a, b) if name == "add" else self.minus(a, b)
        sign = 1.0 if name == "add" else -1.0
        left = pairs[0] or [self._factors(a, 1.0)]
        right = [self._factors(b, sign)] if pairs[1] is None else [self._signed(p, sign) for p in pairs[1]]
        # the newest coefficients last
        return self.dot([*left, *right] if pairs[0] else [*right, *left])

    def _factors(self, c: Node, sign: float) -> tuple[Node, Node]:
        """A coefficient as a product with what does not move, its sign there."""
        if c.op == "mul":
            a, b = self.target.operands(c)
            for fixed, moving in ((a, b), (b, a)):
                if self.fixed(fixed):
                    return moving, self._negative(fixed, sign)
        return c, number(self.target, sign, c)  # type: ignore[arg-type]

    def _signed(self, pair: tuple[Node, Node], sign: float) -> tuple[Node, Node]:
        return pair[0], self._negative(pair[1], sign)

    def _negative(self, c: Node, sign: float) -> Node:
        return c if sign > 0 else self.target.add("neg", [c])

    def fixed(self, node: Node) -> bool:
        """Whether a node of the target depends on neither time nor state."""
        if node.id not in self._fixed:
            self._fixed[node.id] = node.op != "input" and all(
                self.fixed(o) for o in self.target.operands(node)
            )
        return self._fixed[node.id]

    def by_derivative(self, node: Node, operands: Sequence[Node]) -> Callable[[int], Coefficient]:
        """k y_k = sum over operands x of sum_j j x_j d_(k-j), d the partial derivative by x."""
        rule = lookup(node.op).vjp
        assert rule is not None
        # the rule builds into any graph; this one makes equal nodes once
        graph: Any = self.source
        partials = rule(graph, node, operands, number(graph, 1.0, node))
        pairs = [
            (self.of(x), self.of(d)) for x, d in zip(operands, partials) if d is not None and self.moves(x)
        ]

        def make(k: int) -> Coefficient:
            total: Coefficient = None
            for x, d in pairs:
                rates = Series(lambda j, x=x: self.scaled(float(j), x[j]))  # type: ignore[misc]
                total = self.plus(total, self.convolution(rates, d, k, 1, k))
            return self.scaled(1.0 / k, total)

        return make

    # ------------------------------------------------------------ arithmetic of coefficients

    def whole(self, c: Coefficient, like: Node) -> Node:
        """A coefficient, zeros where it is 0."""
        return zeros(self.target, extents(like)) if c is None else c  # type: ignore[arg-type]

    def scaled(self, factor: float, c: Coefficient) -> Coefficient:
        if c is None or factor == 0:
            return None
        if factor == 1:
            return c
        scale = number(self.target, factor, c)  # type: ignore[arg-type]
        if c.op == "mul":
            # what does not move is multiplied once a run
            a, b = self.target.operands(c)
            for fixed, moving in ((a, b), (b, a)):
                if self.fixed(fixed):
                    return self.target.add("mul", [self.target.add("mul", [scale, fixed]), moving])
        return self.target.add("mul", [scale, c])

    def plus(self, a: Coefficient, b: Coefficient) -> Coefficient:
        if a is None or b is None:
            return a if b is None else b
        return self.target.add("add", [a, b])

    def minus(self, a: Coefficient, b: Coefficient) -> Coefficient:
        if b is None:
            return a
        return self.target.add("neg", [b]) if a is None else self.target.add("sub", [a, b])

    def times(self, a: Coefficient, b: Coefficient) -> Coefficient:
        return None if a is None or b is None else self.target.add("mul", [a, b])

    def over(self, factor: float, c: Coefficient, like: Node) -> Node:
        """factor/c: a quotient once, where each order would want one."""
        return self.target.add("div", [number(self.target, factor, like), self.whole(c, like)])  # type: ignore[arg-type]

    def convolution(self, a: Series, b: Series, k: int, first: int, last: int) -> Coefficient:
        """The sum of a_j b_(k-j) for j = first, …, last."""
        return self.dot([(a[j], b[k - j]) for j in inwards(first, last)])

    def dot(self, pairs: Iterable[tuple[Coefficient, Coefficient]]) -> Coefficient:
        """A sum of elementwise products, as one contraction."""
        some = [(a, b) for a, b in pairs if a is not None and b is not None]
        if len(some) < 2:
            return self.times(*some[0]) if some else None
        left, right = (self.target.add("stack", list(side), axis=0) for side in zip(*some))
        axes = "abcdefgh"[: len(extents(some[0][0]))]
        if not axes:
            found = self.target.add("matmul", [left, right])
        else:
            found = self.target.add("einsum", [left, right], equation=f"z{axes},z{axes}->{axes}")
        self._pairs[found.id] = some
        return found


def inwards(first: int, last: int) -> list[int]:
    """first, …, last with the ends last: there stand the newest coefficients, for which the others then need
    not wait."""
    return sorted(range(first, last + 1), key=lambda j: (-min(j - first, last - j), j))


# ---------------------------------------------------------------- recurrences of their own

Rule = Callable[[Expansion, Node, Sequence[Node]], Callable[[int], Coefficient]]


def _product(x: Expansion, node: Node, operands: Sequence[Node]) -> Callable[[int], Coefficient]:
    """y = a b: y_k = sum_j a_j b_(k-j); of a square, half of the sum twice."""
    a, b = (x.of(o) for o in operands)
    if operands[0].id == operands[1].id:
        return lambda k: _square(x, a, k, 0)
    return lambda k: x.convolution(a, b, k, 0, k)


def _square(x: Expansion, a: Series, k: int, first: int) -> Coefficient:
    """The sum of a_j a_(k-j) for j = first, …, k - first."""
    half = range((k + 1) // 2 - 1, first - 1, -1)
    twice = x.scaled(2.0, x.dot([(a[j], a[k - j]) for j in half]))
    return twice if k % 2 else x.plus(twice, x.times(a[k // 2], a[k // 2]))


def _contraction(x: Expansion, node: Node, operands: Sequence[Node]) -> Callable[[int], Coefficient]:
    """A product of two arrays, contracted: the sum over j is one more index."""
    if node.op == "matmul":
        equation = matmul_equation(*(len(extents(o)) for o in operands))
    else:
        equation = node.attr("equation").replace(" ", "")
    moving = [i for i, o in enumerate(operands) if x.moves(o)]
    if len(moving) > 2:
        raise NoSeries("it has a contraction of three values and more that move")
    terms, result = equation.split("->")[0].split(","), equation.split("->")[1]
    letter = next(c for c in "ZYXWVU" if c not in equation)
    widened = [letter + t if i in moving else t for i, t in enumerate(terms)]
    first, second = (x.of(operands[i]) for i in moving)

    def make(k: int) -> Coefficient:
        pairs = [(first[j], second[k - j]) for j in inwards(0, k)]
        some = [(a, b) for a, b in pairs if a is not None and b is not None]
        if not some:
            return None
        if len(some) == 1:
            sides = dict(zip(moving, some[0]))
            given = [sides[i] if i in sides else x.whole(x.of(o)[0], o) for i, o in enumerate(operands)]
            return x.target.add(node.op, given, type=node.type, **dict(node.attrs))
        stacked = [x.target.add("stack", list(side), axis=0) for side in zip(*some)]
        sides = dict(zip(moving, stacked))
        given = [sides[i] if i in sides else x.whole(x.of(o)[0], o) for i, o in enumerate(operands)]
        return x.target.add("einsum", given, equation=f"{','.join(widened)}->{result}")

    return make


def _quotient(x: Expansion, node: Node, operands: Sequence[Node]) -> Callable[[int], Coefficient]:
    """y = a/b: y_k = (a_k - sum_(j >= 1) b_j y_(k-j))/b_0."""
    a, b = (x.of(o) for o in operands)
    y = x.of(node)
    one = x.over(1.0, b[0], node)
    return lambda k: x.times(x.minus(a[k], x.convolution(b, y, k, 1, k)), one)


def _root(x: Expansion, node: Node, operands: Sequence[Node]) -> Callable[[int], Coefficient]:
    """y = sqrt(a): y_k = (a_k - sum_(0<j<k) y_j y_(k-j))/(2 y_0)."""
    a, y = x.of(operands[0]), x.of(node)
    half = x.over(0.5, y[0], node)
    return lambda k: x.times(x.minus(a[k], _square(x, y, k, 1)), half)


def _logarithm(x: Expansion, node: Node, operands: Sequence[Node]) -> Callable[[int], Coefficient]:
    """y = log(a): y_k = (a_k - sum_(0<j<k) j y_j a_(k-j)/k)/a_0."""
    a, y = x.of(operands[0]), x.of(node)
    one = x.over(1.0, a[0], node)
    rates = Series(lambda j: x.scaled(float(j), y[j]))

    def make(k: int) -> Coefficient:
        return x.times(x.minus(a[k], x.scaled(1.0 / k, x.convolution(rates, a, k, 1, k - 1))), one)

    return make


def _power(x: Expansion, node: Node, operands: Sequence[Node]) -> Callable[[int], Coefficient]:
    """y = a^r: whole powers are products, a varying exponent is exp(r log a), and for the others
    y_k = sum_(j >= 1) (r j - (k - j)) a_j y_(k-j)/(k a_0)."""
    base, exponent = operands
    r = constant_of(x.source, exponent)  # type: ignore[arg-type]
    if r is None:
        graph: Any = x.source
        other = op(graph, "exp", op(graph, "mul", exponent, op(graph, "log", base)))
        return lambda k: x.of(other)[k]
    if r == int(r) and 0 <= r <= LONGEST_POWER:
        product = _as_products(x, base, int(r), node)
        return lambda k: x.of(product)[k]
    a, y = x.of(base), x.of(node)
    one = x.over(1.0, a[0], node)

    def make(k: int) -> Coefficient:
        pairs = [(x.scaled(r * j - (k - j), a[j]), y[k - j]) for j in inwards(1, k)]
        return x.times(x.scaled(1.0 / k, x.dot(pairs)), one)

    return make


def _as_products(x: Expansion, base: Node, n: int, like: Node) -> Node:
    graph: Any = x.source
    found: Node | None = None
    square = base
    while n:
        if n & 1:
            found = square if found is None else op(graph, "mul", found, square)
        n >>= 1
        if n:
            square = op(graph, "mul", square, square)
    return number(graph, 1.0, like) if found is None else found


def _chosen(x: Expansion, node: Node, operands: Sequence[Node]) -> Callable[[int], Coefficient]:
    """A branch is chosen by the condition at order 0."""
    condition, a, b = (x.of(o) for o in operands)

    def make(k: int) -> Coefficient:
        if a[k] is None and b[k] is None:
            return None
        parts = [x.whole(condition[0], operands[0]), x.whole(a[k], node), x.whole(b[k], node)]
        return x.target.add("select", parts)

    return make


RECURRENCES: Mapping[str, Rule] = {
    "mul": _product,
    "matmul": _contraction,
    "einsum": _contraction,
    "div": _quotient,
    "sqrt": _root,
    "log": _logarithm,
    "pow": _power,
    "select": _chosen,
}
"""The ops that have a recurrence of their own."""
