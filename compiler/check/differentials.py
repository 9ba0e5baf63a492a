"""`dz = f*dt + g*dW + h @ dX` taken apart into a coefficient for each differential."""

from __future__ import annotations

from dataclasses import dataclass

from ndl.compiler.syntax import tree


@dataclass(frozen=True)
class Summand:
    """`factor * d<name>` (or `@`, with `matrix`); `at` are the indices of `dX[0]`. The factor is syntax;
    None stands for 1."""

    name: str
    factor: tree.Expr | None
    matrix: bool
    at: tuple[tree.Expr, ...]
    span: object


class NotLinear(Exception):
    """A summand that is not an expression times one differential."""

    def __init__(self, expr: tree.Expr, why: str) -> None:
        super().__init__(why)
        self.expr = expr
        self.why = why


def differential(e: tree.Expr) -> tuple[str, tuple[tree.Expr, ...]] | None:
    """The name behind `dt`, `dW` or `dX[0]`: any name that starts with d."""
    if isinstance(e, tree.Index) and isinstance(e.value, tree.Name):
        found = differential(e.value)
        return (found[0], e.items) if found else None
    if isinstance(e, tree.Name) and e.id[:1] == "d" and len(e.id) > 1 and not e.primes:
        return e.id[1:], ()
    return None


def occurs(e: tree.Expr, names: frozenset[str]) -> bool:
    """Whether a differential of one of the names stands in an expression's sums and products."""
    found = differential(e)
    if found is not None and found[0] in names:
        return True
    if isinstance(e, tree.Binary):
        return occurs(e.left, names) or occurs(e.right, names)
    if isinstance(e, tree.Unary):
        return occurs(e.operand, names)
    return False


def summands(e: tree.Expr, names: frozenset[str]) -> list[Summand]:
    """The summands of a differential form. Raises NotLinear."""
    return [s for term, negative in _terms(e, False, names) for s in [_summand(term, negative, names)]]


def terms(e: tree.Expr, names: frozenset[str]) -> list[tuple[tree.Expr, bool]]:
    """The terms of a differential form, each with whether it is subtracted."""
    return _terms(e, False, names)


def _terms(e: tree.Expr, negative: bool, names: frozenset[str]) -> list[tuple[tree.Expr, bool]]:
    """The sum as a list of (term, whether subtracted), products distributed over inner sums."""
    if isinstance(e, tree.Binary) and e.op in "+-":
        flip = negative != (e.op == "-")
        return _terms(e.left, negative, names) + _terms(e.right, flip, names)
    if isinstance(e, tree.Unary) and e.op in "+-" and occurs(e.operand, names):
        return _terms(e.operand, negative != (e.op == "-"), names)
    if isinstance(e, tree.Binary) and e.op in ("*", "/", "@"):
        inner, other = (e.right, e.left) if occurs(e.right, names) else (e.left, e.right)
        if occurs(inner, names) and isinstance(inner, tree.Binary) and inner.op in "+-" and e.op != "/":
            out: list[tuple[tree.Expr, bool]] = []
            for term, flip in _terms(inner, negative, names):
                product = (
                    tree.Binary(e.span, e.op, other, term)
                    if inner is e.right
                    else tree.Binary(e.span, e.op, term, other)
                )
                out.append((product, flip))
            return out
    return [(e, negative)]


def _summand(e: tree.Expr, negative: bool, names: frozenset[str]) -> Summand:
    name, factor, matrix, at = _split(e, names)
    if negative:
        factor = tree.Unary(e.span, "-", factor if factor is not None else tree.Num(e.span, 1, "1"))
    return Summand(name, factor, matrix, at, e.span)


def _split(e: tree.Expr, names: frozenset[str]) -> tuple[str, tree.Expr | None, bool, tuple[tree.Expr, ...]]:
    found = differential(e)
    if found is not None and found[0] in names:
        return found[0], None, False, found[1]
    if isinstance(e, tree.Unary) and e.op == "-":
        name, factor, matrix, at = _split(e.operand, names)
        one = factor if factor is not None else tree.Num(e.span, 1, "1")
        return name, tree.Unary(e.span, "-", one), matrix, at
    if isinstance(e, tree.Binary) and e.op in ("*", "/", "@"):
        left, right = occurs(e.left, names), occurs(e.right, names)
        if left and right:
            raise NotLinear(e, "it multiplies two differentials")
        if right and e.op == "/":
            raise NotLinear(e, "it divides by a differential")
        if right:
            name, factor, matrix, at = _split(e.right, names)
            whole = e.left if factor is None else tree.Binary(e.span, e.op, e.left, factor)
            return name, whole, matrix or (e.op == "@" and factor is None), at
        if left and e.op != "@":
            name, factor, matrix, at = _split(e.left, names)
            if factor is None and e.op == "*":
                return name, e.right, matrix, at
            one = factor if factor is not None else tree.Num(e.span, 1, "1")
            return name, tree.Binary(e.span, e.op, one, e.right), matrix, at
    raise NotLinear(e, "it is not an expression times `dt`, a noise's or an input's differential")
