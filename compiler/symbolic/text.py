"""Expressions as NDL text, for facts and messages."""

from __future__ import annotations

from typing import Any

import sympy as sp
from ndl.compiler.symbolic.functions import OP_OF
from ndl.compiler.symbolic.numbers import decimal
from sympy.core.sorting import default_sort_key
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.str import StrPrinter

SPELLING = {
    "maximum": "max", "minimum": "min", "mod": "mod", "atan2": "atan2", "floordiv": "floor_divide",
    "stop_gradient": "stop_gradient",
}  # fmt: skip

INFIX = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=", "and": "and", "or": "or"}


class _Printer(StrPrinter):  # type: ignore[misc]
    """`^` for powers, functions by their names in NDL, decimals as the user would write them."""

    def _print_Pow(self, expr: Any, rational: bool = False) -> str:
        if expr.exp.is_Rational and 2 * expr.exp == 1:
            return f"sqrt({self._print(expr.base)})"
        if expr.exp.is_Rational and expr.exp < 0:
            below = self.parenthesize(expr.base**-expr.exp, PRECEDENCE["Mul"] + 1)
            return f"1/{below}"
        base = self.parenthesize(expr.base, PRECEDENCE["Pow"] + 1)
        return f"{base}^{self.parenthesize(expr.exp, PRECEDENCE['Pow'])}"

    def _print_Rational(self, expr: Any) -> str:
        return repr(float(expr)) if decimal(expr) else f"{expr.p}/{expr.q}"

    def _print_Integer(self, expr: Any) -> str:
        return f"{float(expr):g}" if abs(expr) >= 10**6 else str(int(expr))

    def _print_ImaginaryUnit(self, expr: Any) -> str:
        return "1i"

    def _print_Exp1(self, expr: Any) -> str:
        return "e"

    def _print_Mul(self, expr: Any) -> str:
        coefficient, _ = expr.as_coeff_Mul(rational=True)
        if coefficient.is_Rational and coefficient < 0:
            return "-" + str(self._print(-expr))
        above, below = [], []
        if coefficient.is_Rational and coefficient != 1:
            whole = coefficient.is_Integer or decimal(coefficient)
            if whole or coefficient.p != 1:
                above.append(self._print(coefficient if whole else sp.Integer(coefficient.p)))
            if not whole:
                below.append(str(coefficient.q))
        for factor in sorted(expr.args, key=default_sort_key):
            if factor.is_Rational:
                continue
            if factor.is_Pow and factor.exp.is_Rational and factor.exp < 0:
                below.append(self.parenthesize(factor.base**-factor.exp, PRECEDENCE["Mul"] + 1))
            else:
                above.append(self.parenthesize(factor, PRECEDENCE["Mul"]))
        top = "*".join(above) or "1"
        bottom = "*".join(below)
        return top + (f"/({bottom})" if len(below) > 1 else f"/{bottom}" if below else "")

    def _print_Function(self, expr: Any) -> str:
        op = OP_OF.get(expr.func, expr.func.__name__)
        arguments = [self._print(a) for a in expr.args]
        if op in INFIX:
            return f" {INFIX[op]} ".join(arguments)
        if op == "select":
            return f"(if {arguments[0]} then {arguments[1]} else {arguments[2]})"
        return f"{SPELLING.get(op, op)}({', '.join(arguments)})"

    def _print_exp(self, expr: Any) -> str:
        return self._print_Function(expr)

    def _print_Abs(self, expr: Any) -> str:
        return f"abs({self._print(expr.args[0])})"


def expr_text(expr: Any) -> str:
    """An expression in the notation of the language, the same in every process."""
    return str(_Printer({"order": "lex"}).doprint(expr))
