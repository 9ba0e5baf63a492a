"""sympy → graph: expressions printed as operations, in an order that does not depend on the process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy as sp
from ndl.compiler.ir.graph import Node
from ndl.compiler.passes.rewrite import Rewriter
from ndl.compiler.source import NO_SPAN, Span
from ndl.compiler.symbolic.functions import OP_OF, Truth
from ndl.compiler.symbolic.numbers import decimal, number
from ndl.compiler.types import BOOL, SCALAR
from sympy.core.sorting import default_sort_key


class Unprintable(Exception):
    """An expression for which there is no op; whoever asked keeps what there was."""


class Writer:
    """Writes expressions into a graph; `leaf` gives the node of a symbol."""

    def __init__(self, target: Rewriter, leaf: Callable[[Any], Node], span: Span = NO_SPAN) -> None:
        self.target, self.leaf, self.span = target, leaf, span
        self._known: dict[Any, Node] = {}

    def write(self, expr: Any) -> Node:
        """The node of a real or Bool expression; each subexpression is written once."""
        if expr not in self._known:
            self._known[expr] = self._write(expr)
        return self._known[expr]

    def op(self, name: str, *operands: Node) -> Node:
        kind = BOOL if name in TRUTHS else SCALAR
        return self.target.add(name, operands, type=kind, span=self.span)

    def constant(self, expr: Any, whole: bool = False) -> Node:
        """A number; an integer stays one where arithmetic takes it (`2*x`, `x^2`)."""
        value = number(expr)
        if value is None:
            raise Unprintable(str(expr))
        value = value if whole else float(value)
        return self.target.add("const", value=value, span=self.span)

    def operand(self, expr: Any) -> Node:
        """An operand of arithmetic, where integers need not be floats."""
        return self.constant(expr, whole=True) if expr.is_Integer else self.write(expr)

    def _write(self, expr: Any) -> Node:
        if expr.is_Symbol:
            return self.leaf(expr)
        if expr.is_number and not expr.is_Boolean:
            return self.constant(expr)
        if expr.is_Add:
            return self._sum(expr)
        if expr.is_Mul:
            return self._product(expr)
        if expr.is_Pow:
            return self._power(expr.base, expr.exp)
        op = OP_OF.get(expr.func)
        if op is None:
            raise Unprintable(f"{expr.func}")
        return self.op(op, *(self.write(a) for a in expr.args))

    # ------------------------------------------------------------ arithmetic

    def _sum(self, expr: Any) -> Node:
        """Positive terms first, then what is subtracted."""
        plus: list[Any] = []
        minus: list[Any] = []
        for term in sorted(expr.args, key=default_sort_key):
            (minus if sign_of(term) < 0 else plus).append(term)
        if not plus:
            return self.op("neg", self._sum_of([-t for t in minus]))
        total = self._sum_of(plus)
        for term in minus:
            total = self.op("sub", total, self.operand(-term))
        return total

    def _sum_of(self, terms: list[Any]) -> Node:
        total = self.operand(terms[0]) if len(terms) > 1 else self.write(terms[0])
        for term in terms[1:]:
            total = self.op("add", total, self.operand(term))
        return total

    def _product(self, expr: Any) -> Node:
        if sign_of(expr) < 0:
            return self.op("neg", self.write(-expr))
        coefficient: Any = sp.Mul(*(f for f in expr.args if f.is_number))
        above, below = [], []
        for factor in sorted((f for f in expr.args if not f.is_number), key=default_sort_key):
            base, power = (factor.base, factor.exp) if factor.is_Pow else (factor, sp.S.One)
            if power.is_Rational and power < 0:
                below.append(base**-power)
            else:
                above.append(factor)
        if coefficient.is_Rational and not coefficient.is_Integer and not decimal(coefficient):
            below.insert(0, sp.Integer(coefficient.q))
            coefficient = sp.Integer(coefficient.p)
        if coefficient != 1 or not above:
            above.insert(0, coefficient)
        top = self._product_of(above)
        return self.op("div", top, self._product_of(below)) if below else top

    def _product_of(self, factors: list[Any]) -> Node:
        total = self.operand(factors[0])
        for factor in factors[1:]:
            total = self.op("mul", total, self.operand(factor))
        return total

    def _power(self, base: Any, power: Any) -> Node:
        if power.is_Rational and power < 0:
            return self.op("div", self.constant(sp.S.One, whole=True), self.write(base**-power))
        if power == sp.Rational(1, 2):
            return self.op("sqrt", self.write(base))
        return self.op("pow", self.operand(base), self.operand(power))


TRUTHS = frozenset(name for head, name in OP_OF.items() if isinstance(head, type) and issubclass(head, Truth))
"""Ops whose result is a Bool."""


def sign_of(term: Any) -> int:
    """The sign of a term's numeric coefficient."""
    coefficient, _ = term.as_coeff_Mul(rational=True)
    return -1 if coefficient.is_Rational and coefficient < 0 else 1
