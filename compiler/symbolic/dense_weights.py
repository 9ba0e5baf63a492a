"""The weights of a dense output as polynomials."""

from __future__ import annotations

from typing import Any

from ndl.compiler.ir.graph import Function
from ndl.compiler.ops.table import lookup


def polynomials(function: Function) -> tuple[tuple[float, ...], ...] | None:
    """The list b_1(theta), b_2(theta), … that a function of theta gives, each by its coefficients of theta,
    theta^2, …, all of one length; None where they are no polynomials that are 0 at theta = 0."""
    import sympy

    theta = sympy.Symbol("theta")
    values: dict[int, Any] = {}
    for node in function.graph.needed([n for _, n in function.outputs]):
        operands = [values[i] for i in node.inputs]
        image = lookup(node.op).sympy
        if node.op == "input":
            values[node.id] = theta
        elif node.op == "const":
            values[node.id] = _exact(node.attr("value"))
        elif node.op in ("stack", "concat", "expand"):
            values[node.id] = operands if node.op == "stack" else operands[0]
        elif image is not None and not any(isinstance(v, list) for v in operands):
            values[node.id] = image(*operands)
        else:
            return None
    weights = values[function.outputs[0][1].id]
    if not isinstance(weights, list) or not all(sympy.sympify(w).is_polynomial(theta) for w in weights):
        return None
    rows = [sympy.Poly(w, theta).all_coeffs()[::-1] for w in weights]
    if any(row[0] != 0 or not all(c.is_Number for c in row) for row in rows):
        return None
    longest = max(2, *map(len, rows))
    return tuple(tuple(map(float, row[1:])) + (0.0,) * (longest - len(row)) for row in rows)


def _exact(value: Any) -> Any:
    """A constant, or a list of them, as exact rational numbers of sympy."""
    import sympy

    if isinstance(value, tuple):
        return [_exact(v) for v in value]
    return sympy.Rational(*float(value).as_integer_ratio())
