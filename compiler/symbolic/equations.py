"""The equations of a model for a reader: aligned text and LaTeX, from its syntax tree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ndl.compiler.symbolic.latex import expr_latex
from ndl.compiler.symbolic.latex_names import name_latex
from ndl.compiler.syntax import tree


@dataclass(frozen=True)
class Equation:
    """`left sign right` in the words of the file and in LaTeX; `condition` says where it holds."""

    left: str
    sign: str
    right: str
    left_latex: str
    sign_latex: str
    right_latex: str
    condition: str = ""


def equations(model: tree.Model) -> tuple[Equation, ...]:
    """The equations, definitions, boundary conditions and resets of a model, in the order of the file."""
    return tuple(_statements(model.body, differentials(model), ""))


def differentials(model: tree.Model) -> frozenset[str]:
    """The names that are differentials in this model: `dt` and `d` before a state, noise or input."""
    names = {"t"}
    for statement in model.body:
        if isinstance(statement, tree.Declare) and statement.keyword in ("state", "input"):
            names.update(item.name for item in statement.items)
        elif isinstance(statement, tree.Noise):
            names.add(statement.name)
    names.update(p.name for p in model.data)
    return frozenset(f"d{name}" for name in names)


def equations_text(model: tree.Model) -> str:
    """The equations as written, their signs below one another."""
    found = equations(model)
    width = max((len(e.left) for e in found), default=0)
    lines = []
    for e in found:
        condition = f"   ({e.condition})" if e.condition else ""
        lines.append(f"{e.left.ljust(width)} {e.sign} {e.right}{condition}".rstrip())
    return "\n".join(lines)


def equations_latex(model: tree.Model) -> str:
    """The equations as an `aligned` environment."""
    lines = []
    for e in equations(model):
        condition = rf" && \text{{{_escape(e.condition)}}}" if e.condition else ""
        lines.append(rf"  {e.left_latex} &{e.sign_latex} {e.right_latex}{condition}")
    return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"


def _statements(body: tuple[tree.Stmt, ...], ds: frozenset[str], condition: str) -> Iterator[Equation]:
    for s in body:
        if isinstance(s, tree.Assign):
            yield _equation(s.targets, "=", "=", s.value, ds, condition)
        elif isinstance(s, tree.Term):
            yield Equation(
                s.name, "=", source(s.value), name_latex(s.name), "=", expr_latex(s.value, ds), condition
            )
        elif isinstance(s, tree.Reset):
            yield _equation((s.target,), "<-", r"\leftarrow", s.value, ds, condition)
        elif isinstance(s, tree.Observe):
            yield Equation(
                s.name, "~", source(s.law), name_latex(s.name), r"\sim", expr_latex(s.law, ds), condition
            )
        elif isinstance(s, tree.Optimize):
            right, latex = source(s.value), expr_latex(s.value, ds)
            yield Equation(s.sense, "", right, rf"\{s.sense[:3]}", "", latex, condition)
        elif isinstance(s, tree.On):
            yield from _statements(s.body, ds, f"on {source(s.set)}")
        elif isinstance(s, tree.When):
            yield from _statements(s.body, ds, f"when {source(s.trigger)}")


def _equation(
    targets: tuple[tree.Expr, ...],
    sign: str,
    sign_latex: str,
    value: tree.Expr,
    ds: frozenset[str],
    condition: str,
) -> Equation:
    left = ", ".join(map(source, targets))
    left_latex = ", ".join(expr_latex(target, ds) for target in targets)
    return Equation(left, sign, source(value), left_latex, sign_latex, expr_latex(value, ds), condition)


def source(expr: tree.Expr) -> str:
    """What the user wrote, on one line."""
    return " ".join(expr.span.text.split())


def _escape(text: str) -> str:
    for c in "\\{}":
        text = text.replace(c, "")
    for c in "#$%&_":
        text = text.replace(c, "\\" + c)
    return text.replace("^", r"\textasciicircum{}").replace("~", r"\textasciitilde{}")
