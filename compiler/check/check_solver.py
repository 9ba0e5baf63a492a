"""Checks a `solver`: its tableau against its claimed order, or its step."""

from __future__ import annotations

from typing import Any

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.linear import Diagonal
from ndl.compiler.check.operators import CheckContext
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.statements import run, run_block
from ndl.compiler.check.values import UNKNOWN, ListV, Object, SolverV, Value, is_number
from ndl.compiler.check.weights import read_item
from ndl.compiler.diagnostics import did_you_mean
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import INTEGER, SCALAR, tensor

KINDS = ("ode", "sde", "split", "root", "linear", "energy", "integral", "constraint")
CALLABLES = {"f", "g", "A", "B", "F", "E", "K", "P"}


class Hole(Object):
    """A callable argument of a step, as the checker sees it."""

    kind = "right-hand side"

    def call(self, ev: Any, args: list[Any], options: dict[str, Any], span: Span) -> Any:
        return UNKNOWN

    def apply_to(self, ev: Any, right: Any, span: Span) -> Any:
        """`A @ v`."""
        return Value(tensor("n"))

    def series(self, ev: Any, x: Any, t: Any, order: int, span: Span) -> Any:
        return Value(tensor(order + 1, "n"))

    def phi(self, ev: Any, order: int, h: Any, v: Any, span: Span) -> Any:
        return Value(tensor("n"))

    def linear_part(self, ev: Any, v: Any, span: Span) -> Any:
        return Value(tensor("n"))


class LinearHole(Hole):
    """The A of a linear system."""

    kind = "linear map"

    def attribute(self, ev: Any, name: str, primes: int, span: Span) -> Any:
        return self if name == "T" else super().attribute(ev, name, primes, span)

    def arithmetic(self, ev: Any, op: str, other: Any, span: Span, left: bool) -> Any:
        return self

    def negative(self) -> LinearHole:
        return self

    def solve_to(self, ev: Any, right: Any, span: Span) -> Any:
        """`A^-1 @ v`."""
        return Value(tensor("n"))

    def apply_to(self, ev: Any, right: Any, span: Span) -> Any:
        """`A @ v`, `A @ B`."""
        return self if isinstance(right, LinearHole) else super().apply_to(ev, right, span)


def hole(name: str, kind: str) -> Hole:
    return LinearHole() if name == "A" and kind == "linear" else Hole()


def maps_of(kind: str) -> dict[str, Any]:
    """Linear maps that the steps of a kind may name: `lap` is that of an energy's fields."""
    return {"lap": LinearHole()} if kind == "energy" else {}


def numeric(ev: Evaluator, e: tree.Expr | None, scope: Scope) -> float | None:
    if e is None:
        return None
    found = ev.eval(e, scope)
    return float(found) if is_number(found) else None


def check_solver(ev: Evaluator, solver: SolverV) -> None:
    """Check one declaration."""
    decl, scope = solver.decl, solver.module.scope.child()
    if decl.kind not in KINDS:
        ev.error(
            "NDL425",
            f"there is no kind of solver `{decl.kind}`",
            decl.name_span,
            help=did_you_mean(decl.kind, KINDS) or f"kinds: {', '.join(KINDS)}",
        )
        return
    for p in (*decl.data, *decl.options):
        scope.names[p.name] = ev.eval(p.default, scope) if p.default is not None else UNKNOWN
        if p.name == "quadrature":
            scope.names[p.name] = UNKNOWN
    order, embedded = numeric(ev, decl.order, scope), numeric(ev, decl.embedded, scope)
    steps = [s for s in decl.body if isinstance(s, tree.Step)]
    tableaux = [s for s in decl.body if isinstance(s, tree.Tableau)]
    if len(steps) + len(tableaux) != 1 and decl.kind != "integral":
        ev.error("NDL426", f"`{decl.name}` needs a `tableau:` or one `step(…):`", decl.name_span)
    for tableau in tableaux:
        _check_tableau(ev, decl, tableau, order, embedded)
    saved, ev.context = ev.context, CheckContext("solver")
    vector, holes = tensor("n"), {c: hole(c, decl.kind) for c in CALLABLES}
    scope.names.update(maps_of(decl.kind))
    for stmt in decl.body:
        if isinstance(stmt, tree.Declare):
            for item in stmt.items:
                read_item(
                    ev,
                    item,
                    scope.child({**dict.fromkeys(("x", "u", "b"), Value(vector)), **holes}),
                )
                scope.names[item.name] = UNKNOWN
    for step in steps:
        _check_step(ev, step, scope, decl.kind)
    for stmt in decl.body:
        if isinstance(stmt, tree.Until):
            ev.eval(stmt.cond, scope.child({n: UNKNOWN for s in steps for n in (*s.params, *_locals(s))}))
        elif isinstance(stmt, tree.Assign) and isinstance(stmt.targets[0], tree.Call):
            call = stmt.targets[0]
            names = [a.value.id for a in call.args if isinstance(a.value, tree.Name)]
            ev.eval(stmt.value, scope.child({n: Value(SCALAR) for n in names}))
        elif isinstance(stmt, tree.Assign) and not header_word(stmt):
            ev.eval(stmt.value, scope.child({n: UNKNOWN for s in steps for n in (*s.params, *_locals(s))}))
            if isinstance(stmt.targets[0], tree.Name):
                scope.names[stmt.targets[0].id] = UNKNOWN
    ev.context = saved


def header_word(stmt: tree.Assign) -> tuple[str, str] | None:
    """`serves = diagonal`: what a solver says of itself, as (name, word)."""
    target = stmt.targets[0]
    if isinstance(target, tree.Name) and target.id == "serves" and isinstance(stmt.value, tree.Name):
        return target.id, stmt.value.id
    return None


def _locals(step: tree.Step) -> list[str]:
    found = []
    for s in step.body:
        if isinstance(s, tree.Assign):
            found += [t.id for t in s.targets if isinstance(t, tree.Name)]
    return found


def _check_tableau(
    ev: Evaluator, decl: tree.Solver, tableau: tree.Tableau, order: float | None, embedded: float | None
) -> None:
    from ndl.compiler.symbolic.order_conditions import check_tableau

    if not tableau.outputs:
        ev.error("NDL427", f"the tableau of `{decl.name}` has no output row", tableau.span)
        return
    if order is None:
        return
    span = decl.order.span if decl.order is not None else decl.name_span
    inner = decl.embedded.span if decl.embedded is not None else None
    for diagnostic in check_tableau(decl.name, order, embedded, tableau, span, inner):
        ev.sink.add(diagnostic)


def _check_step(ev: Evaluator, step: tree.Step, scope: Scope, kind: str) -> None:
    known: dict[str, Any] = {
        "x": Value(tensor("n")),
        "t": Value(SCALAR),
        "h": Value(SCALAR),
        "n": Value(INTEGER),
        "dW": Value(tensor("m")),
        "dZ": Value(tensor("m")),
        "b": Value(tensor("n")),
        "y": Value(tensor("n")),
        "u": Value(tensor("n")),
        "mass": Diagonal(Value(tensor("n"))),
        "rtol": Value(tensor("n")),
        "atol": Value(tensor("n")),
    }
    names = {p: hole(p, kind) if p in CALLABLES else known.get(p, UNKNOWN) for p in step.params}
    inner = scope.child(names)
    inner.names["h"] = names.get("h", UNKNOWN)
    found = run_block(ev, step.body, inner)
    if found is None:
        ev.error("NDL403", "this step returns nothing", step.span, help="end it with `return …`")
    check_stiffness(ev, inner.names.get("stiffness"), step.span)


def check_stiffness(ev: Evaluator, found: Any, span: Span) -> None:
    """`stiffness = [k2 - k1, y2 - y1]` is two vectors, as far as its type is known."""
    if isinstance(found, ListV) and all(isinstance(v, Value) for v in found.items):
        found = ev.value(found, span)
    if isinstance(found, Value) and found.type.shape != tensor(2, "n").shape:
        ev.error(
            "NDL453",
            f"`stiffness` is {found.type} here, and should be two vectors of the state's size",
            span,
            help="write the difference of two slopes and that of their states: "
            "`stiffness = [k2 - k1, y2 - y1]`",
        )


__all__ = ["check_solver", "numeric", "run"]
