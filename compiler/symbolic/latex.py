"""Expressions of the syntax tree as LaTeX, in the form in which the user wrote them.

The tree is printed as it stands: nothing is expanded, reordered or evaluated. Pure Python.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ndl.compiler.symbolic.latex_names import name_latex
from ndl.compiler.syntax import tree

# Binding strength of what is printed, loosest first; as in the grammar.
LOOSE, OR, AND, NOT, COMPARE, RANGE, ADD, MUL, NEG, POW, ATOM = range(11)

BINARY = {"+": (" + ", ADD), "-": (" - ", ADD), "*": (r"\,", MUL), "@": (r"\,", MUL)}

RELATIONS = {
    "<": "<", "<=": r"\le", ">": ">", ">=": r"\ge", "==": "=", "!=": r"\ne",
    "in": r"\in", "not in": r"\notin",
}  # fmt: skip

COMMANDS = frozenset(["sin", "cos", "tan", "sinh", "cosh", "tanh", "exp", "log", "det", "max", "min"])

ALIASES = {
    "asin": r"\arcsin", "acos": r"\arccos", "atan": r"\arctan",
    "lap": r"\Delta", "grad": r"\nabla", "div": r"\nabla\cdot", "curl": r"\nabla\times",
    "argmin": r"\operatorname{arg\,min}", "argmax": r"\operatorname{arg\,max}",
    "expect": r"\mathbb{E}",
}  # fmt: skip

FENCES = {
    "abs": (r"\left|", r"\right|"),
    "norm": (r"\left\lVert ", r"\right\rVert"),
    "floor": (r"\left\lfloor ", r"\right\rfloor"),
    "ceil": (r"\left\lceil ", r"\right\rceil"),
}

BIG = {"sum": r"\sum", "prod": r"\prod", "integral": r"\int", "max": r"\max", "min": r"\min"}

CONSTANTS = {
    "pi": r"\pi", "e": r"\mathrm{e}", "inf": r"\infty",
    "nan": r"\mathrm{nan}", "true": r"\mathrm{true}", "false": r"\mathrm{false}",
}  # fmt: skip


def expr_latex(expr: tree.Expr, differentials: frozenset[str] = frozenset()) -> str:
    """An expression as LaTeX (without `$`); names in `differentials`, such as `dW`, get an upright d."""
    return Printer(differentials).show(expr)


class Printer:
    """Prints by class of node; a method returns the text and how tightly it binds."""

    def __init__(self, differentials: frozenset[str] = frozenset()) -> None:
        self.differentials = differentials

    def show(self, expr: tree.Expr, at_least: int = LOOSE) -> str:
        """The text, in parentheses where it binds less tightly than `at_least`."""
        text, strength = self.visit(expr)
        return text if strength >= at_least else fenced(text)

    def visit(self, expr: tree.Expr) -> tuple[str, int]:
        method: Callable[[tree.Expr], tuple[str, int]] | None = getattr(
            self, f"visit_{type(expr).__name__}", None
        )
        if method is None:
            raise NotImplementedError(f"no LaTeX for {type(expr).__name__}")
        return method(expr)

    def many(self, items: tuple[tree.Expr, ...]) -> str:
        return ", ".join(map(self.show, items))

    # ------------------------------------------------------------ leaves

    def visit_Num(self, expr: tree.Num) -> tuple[str, int]:
        text = number_latex(expr.text or repr(expr.value))
        imaginary = r"\mathrm{i}" if expr.imaginary else ""
        return text + imaginary, MUL if r"\times" in text else ATOM

    def visit_Str(self, expr: tree.Str) -> tuple[str, int]:
        escaped = re.sub(r"([#$%&_{}])", r"\\\1", expr.value.replace("\\", r"\textbackslash "))
        return rf"\text{{{escaped}}}", ATOM

    def visit_Name(self, expr: tree.Name) -> tuple[str, int]:
        if expr.id in self.differentials and len(expr.id) > 1 and expr.id[0] == "d":
            return r"\mathrm{d}" + name_latex(expr.id[1:], expr.primes), ATOM
        if expr.id in CONSTANTS and not expr.primes:
            return CONSTANTS[expr.id], ATOM
        return name_latex(expr.id, expr.primes), ATOM

    def visit_Words(self, expr: tree.Words) -> tuple[str, int]:
        return rf"\text{{{expr.name}}}", ATOM

    # ------------------------------------------------------------ operators

    def visit_Unary(self, expr: tree.Unary) -> tuple[str, int]:
        if expr.op == "not":
            return r"\lnot " + self.show(expr.operand, NOT), NOT
        return expr.op + self.show(expr.operand, MUL), NEG if expr.op == "+" else ADD

    def visit_Binary(self, expr: tree.Binary) -> tuple[str, int]:
        left, right, op = expr.left, expr.right, expr.op
        if op == "/":
            derivative = self.derivative(left, right)
            return derivative or rf"\frac{{{self.show(left)}}}{{{self.show(right)}}}", POW
        if op == "//":
            return rf"\left\lfloor \frac{{{self.show(left)}}}{{{self.show(right)}}} \right\rfloor", ATOM
        if op == "^":
            return f"{self.show(left, ATOM)}^{{{self.show(right)}}}", POW
        sign, strength = BINARY[op]
        second = self.show(right, strength + 1)
        if sign == r"\," and second[:1].isdigit():
            sign = r" \cdot "
        return f"{self.show(left, strength)}{sign}{second}", strength

    def derivative(self, left: tree.Expr, right: tree.Expr) -> str | None:
        """`dx/dt`, read as a derivative when both are differentials."""
        names = [e.id for e in (left, right) if isinstance(e, tree.Name)]
        if len(names) == 2 and set(names) <= self.differentials:
            return rf"\frac{{{self.show(left)}}}{{{self.show(right)}}}"
        return None

    def visit_Logical(self, expr: tree.Logical) -> tuple[str, int]:
        sign, strength = (r" \lor ", OR) if expr.op == "or" else (r" \land ", AND)
        return self.show(expr.left, strength) + sign + self.show(expr.right, strength + 1), strength

    def visit_Compare(self, expr: tree.Compare) -> tuple[str, int]:
        text = self.show(expr.operands[0], RANGE)
        for op, operand in zip(expr.ops, expr.operands[1:], strict=True):
            text += f" {RELATIONS[op]} {self.show(operand, RANGE)}"
        return text, COMPARE

    def visit_Conditional(self, expr: tree.Conditional) -> tuple[str, int]:
        rows = [f"{self.show(expr.then)} & \\text{{if }} {self.show(expr.cond)}"]
        last = expr.orelse
        while isinstance(last, tree.Conditional):
            rows.append(f"{self.show(last.then)} & \\text{{if }} {self.show(last.cond)}")
            last = last.orelse
        rows.append(f"{self.show(last)} & \\text{{otherwise}}")
        return r"\begin{cases} " + r" \\ ".join(rows) + r" \end{cases}", ADD

    def visit_Lambda(self, expr: tree.Lambda) -> tuple[str, int]:
        return rf"{self.pattern(expr.pattern)} \mapsto {self.show(expr.body)}", LOOSE

    def visit_Range(self, expr: tree.Range) -> tuple[str, int]:
        text = rf"\left[{self.show(expr.lo)}, {self.show(expr.hi)}\right]"
        return text + (rf"_{{{self.show(expr.by)}}}" if expr.by is not None else ""), ATOM

    # ------------------------------------------------------------ calls

    def visit_Call(self, expr: tree.Call) -> tuple[str, int]:
        name = expr.func.id if isinstance(expr.func, tree.Name) and not expr.func.primes else ""
        positional = [a.value for a in expr.args if a.kind == "positional"]
        if name and len(positional) == len(expr.args):
            special = self.special(name, positional)
            if special is not None:
                return special
        return self.head(expr.func) + fenced(", ".join(map(self.argument, expr.args))), POW

    def special(self, name: str, args: list[tree.Expr]) -> tuple[str, int] | None:
        """Functions with a notation of their own."""
        if name in BIG and len(args) >= 2 and all(is_binder(a) for a in args[1:]):
            return self.big(name, args)
        if len(args) == 1 and name == "sqrt":
            return rf"\sqrt{{{self.show(args[0])}}}", ATOM
        if len(args) == 1 and name in FENCES:
            left, right = FENCES[name]
            return left + self.show(args[0]) + right, ATOM
        if len(args) == 1 and re.fullmatch("d[a-su-z]+", name) and len(name) <= 3 and name not in ("div",):
            return rf"\partial_{{{name[1:]}}} {self.show(args[0], POW)}", MUL
        if len(args) == 1 and name in ("lap", "grad", "div", "curl"):
            return f"{ALIASES[name]} {self.show(args[0], POW)}", MUL
        if len(args) >= 2 and name == "diff":
            variables = "".join(self.show(a, ATOM) + " " for a in args[1:]).strip()
            return rf"\partial_{{{variables}}} {self.show(args[0], POW)}", MUL
        return None

    def big(self, name: str, args: list[tree.Expr]) -> tuple[str, int]:
        """`sum(e, i)`, `integral(e, s in 0..t)`."""
        body = self.show(args[0], MUL)
        if name != "integral":
            under = ", ".join(map(self.show, args[1:]))
            return rf"{BIG[name]}_{{{under}}} {body}", MUL
        signs, ends = "", ""
        for binder in args[1:]:
            assert isinstance(binder, tree.Compare)  # is_binder says so
            variable, over = binder.operands
            if isinstance(over, tree.Range):
                signs += rf"\int_{{{self.show(over.lo)}}}^{{{self.show(over.hi)}}} "
            else:
                signs += rf"\int_{{{self.show(over)}}} "
            ends = rf" \,\mathrm{{d}}{self.show(variable, ATOM)}" + ends
        return signs + body + ends, MUL

    def head(self, func: tree.Expr) -> str:
        if not isinstance(func, tree.Name) or func.primes:
            return self.show(func, ATOM)
        if func.id in ALIASES:
            return ALIASES[func.id]
        return f"\\{func.id}" if func.id in COMMANDS else operator_latex(func.id)

    def argument(self, arg: tree.Arg) -> str:
        value = self.show(arg.value)
        if arg.name is None:
            return value
        sign = {"keyword": "=", "draw": r" \sim ", "part": ": "}[arg.kind]
        return name_latex(arg.name, arg.primes) + sign + value

    # ------------------------------------------------------------ parts and collections

    def visit_Attr(self, expr: tree.Attr) -> tuple[str, int]:
        if expr.name == "T" and not expr.primes:
            return self.show(expr.value, ATOM) + r"^{\top}", POW
        return f"{self.show(expr.value, ATOM)}.{name_latex(expr.name, expr.primes)}", ATOM

    def visit_Index(self, expr: tree.Index) -> tuple[str, int]:
        inner = ",".join(map(self.show, expr.items))
        base = self.show(expr.value, ATOM)
        return (f"{{{base}}}" if "_" in base else base) + f"_{{{inner}}}", ATOM

    def visit_Slice(self, expr: tree.Slice) -> tuple[str, int]:
        ends = [self.show(e) if e is not None else "" for e in (expr.start, expr.stop)]
        return ":".join(ends), ATOM

    def visit_ListExpr(self, expr: tree.ListExpr) -> tuple[str, int]:
        rows = expr.items
        if rows and all(isinstance(r, tree.ListExpr) and r.items for r in rows):
            lines = [" & ".join(map(self.show, r.items)) for r in rows if isinstance(r, tree.ListExpr)]
        else:
            lines = list(map(self.show, rows))
        return r"\begin{pmatrix} " + r" \\ ".join(lines) + r" \end{pmatrix}", ATOM

    def visit_TupleExpr(self, expr: tree.TupleExpr) -> tuple[str, int]:
        return fenced(self.many(expr.items)), ATOM

    def visit_DictExpr(self, expr: tree.DictExpr) -> tuple[str, int]:
        entries = ", ".join(rf"{self.show(k)} \mapsto {self.show(v)}" for k, v in expr.entries)
        return rf"\left\{{{entries}\right\}}", ATOM

    def visit_Comprehension(self, expr: tree.Comprehension) -> tuple[str, int]:
        under = ",\\, ".join(map(self.binder, expr.binders))
        if expr.cond is not None:
            under += rf" \mid {self.show(expr.cond)}"
        return rf"\left({self.show(expr.body)}\right)_{{{under}}}", ATOM

    def visit_SetBuilder(self, expr: tree.SetBuilder) -> tuple[str, int]:
        names = ", ".join(map(name_latex, expr.names))
        return rf"\left\{{ {names} \mid {self.show(expr.cond)} \right\}}", ATOM

    def visit_Restrict(self, expr: tree.Restrict) -> tuple[str, int]:
        return rf"{self.show(expr.value, RANGE)} \mid {self.show(expr.cond)}", LOOSE

    def visit_Every(self, expr: tree.Every) -> tuple[str, int]:
        return rf"\text{{every }} {self.show(expr.value, MUL)}", LOOSE

    def visit_Except(self, expr: tree.Except) -> tuple[str, int]:
        return rf"{self.show(expr.value)} \setminus \left\{{{self.many(expr.excluded)}\right\}}", LOOSE

    def binder(self, binder: tree.Binder) -> str:
        names = self.pattern(binder.pattern)
        return names if binder.set is None else rf"{names} \in {self.show(binder.set)}"

    def pattern(self, pattern: tree.Pattern) -> str:
        names = ", ".join(map(name_latex, pattern.names))
        return fenced(names) if len(pattern.names) > 1 else names


def is_binder(expr: tree.Expr) -> bool:
    return isinstance(expr, tree.Compare) and expr.ops == ("in",)


def fenced(text: str) -> str:
    return rf"\left({text}\right)"


def operator_latex(name: str) -> str:
    """A function's name: upright when it is a word."""
    text = name_latex(name)
    return text.replace(r"\mathrm{", r"\operatorname{", 1) if text.startswith(r"\mathrm{") else text


def number_latex(text: str) -> str:
    """`1e-3` → `10^{-3}`, `2.5e4` → `2.5 \\times 10^{4}`, `10_000` → `10000`."""
    text = text.replace("_", "").rstrip("i")
    mantissa, _, exponent = text.lower().partition("e")
    if not exponent:
        return mantissa
    power = f"10^{{{int(exponent)}}}"
    return power if mantissa in ("1", "1.0") else rf"{mantissa} \times {power}"
