"""A model's statements sorted by what they say; each name is defined once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.weights import without_value
from ndl.compiler.diagnostics import did_you_mean
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree


@dataclass(frozen=True)
class Equation:
    """One left side with its right side. kind: rate (of `order`), differential, integral, algebraic.
    `part` picks a component of a joint right side `u', v' = e`."""

    kind: str
    name: str
    order: int
    value: tree.Expr
    span: Span
    part: int | None = None
    parts: int = 1


@dataclass
class Parts:
    """What a model's body declares."""

    decl: tree.Model
    params: dict[str, tree.DeclItem] = field(default_factory=dict)
    consts: dict[str, tree.DeclItem] = field(default_factory=dict)
    states: dict[str, dict[int, tree.DeclItem]] = field(default_factory=dict)
    inputs: dict[str, tree.DeclItem] = field(default_factory=dict)
    noises: dict[str, tree.Noise] = field(default_factory=dict)
    nets: dict[str, tree.Net] = field(default_factory=dict)
    derived: dict[str, tree.Assign] = field(default_factory=dict)
    terms: dict[str, tree.Term] = field(default_factory=dict)
    draws: dict[str, tree.Draw] = field(default_factory=dict)
    domains: dict[str, tree.DomainDecl] = field(default_factory=dict)
    rates: dict[str, Equation] = field(default_factory=dict)
    zeros: list[Equation] = field(default_factory=list)
    events: list[tree.When] = field(default_factory=list)
    requires: list[tree.Require] = field(default_factory=list)
    observes: list[tree.Observe] = field(default_factory=list)
    conditions: list[tree.On] = field(default_factory=list)
    energies: list[tree.Optimize] = field(default_factory=list)
    jumps: dict[int, str] = field(default_factory=dict)  # events of `poisson` noises, with their streams
    kept: dict[str, tuple[str, bool]] = field(default_factory=dict)
    """States that hold earlier values: the state whose value each takes next, and whether the solver's steps
    shift them along (else events do)."""
    calculus: str = "ito"
    spans: dict[str, Span] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.decl.name

    def order(self, state: str) -> int:
        """Order in time of a state's equation; 0 when it has no rate."""
        found = self.rates.get(state)
        return found.order if found is not None and found.kind in ("rate", "differential") else 0

    def reset_names(self) -> set[str]:
        """States that some event resets."""
        found: set[str] = set()
        for event in self.events:
            for stmt in event.body:
                if isinstance(stmt, tree.Reset):
                    target = stmt.target.value if isinstance(stmt.target, tree.Index) else stmt.target
                    if isinstance(target, tree.Name):
                        found.add(target.id)
        return found

    def algebraic(self) -> list[str]:
        """States that neither an equation of their own, nor a reset, nor the steps of the solver change."""
        resets = self.reset_names()
        return [s for s in self.states if s not in self.rates and s not in resets and s not in self.kept]

    def names(self) -> Iterator[str]:
        yield from self.spans
        yield "t"


TAKEN = ("t", "dt")


def collect(ev: Evaluator, decl: tree.Model) -> Parts:
    """Sort a model's statements; report names defined twice and equations without a state."""
    from ndl.compiler.check.coloured import expand_coloured
    from ndl.compiler.check.jumps import expand_jumps
    from ndl.compiler.check.recurrences import keep_previous

    parts = Parts(decl)
    equations: list[tree.Assign] = []
    for p in (*decl.data, *decl.options):
        parts.spans[p.name] = p.span
    for stmt in decl.body:
        _statement(ev, parts, stmt, equations)
    for name in list(parts.spans):
        _check_name(ev, parts, name)
    for stmt in equations:
        _equation(ev, parts, stmt)
    expand_coloured(ev, parts)
    expand_jumps(ev, parts)
    keep_previous(parts)
    _check_states(ev, parts)
    return parts


def _enter(ev: Evaluator, parts: Parts, name: str, span: Span) -> bool:
    if name in parts.spans:
        first = parts.spans[name].line
        ev.error("NDL404", f"`{name}` is defined twice in `{parts.name}` (first on line {first})", span)
        return False
    parts.spans[name] = span
    return True


def _statement(ev: Evaluator, parts: Parts, stmt: tree.Stmt, equations: list[tree.Assign]) -> None:
    if isinstance(stmt, tree.Declare):
        for item in stmt.items:
            _declare(ev, parts, stmt.keyword, item)
    elif isinstance(stmt, tree.Noise):
        if _enter(ev, parts, stmt.name, stmt.name_span):
            parts.noises[stmt.name] = stmt
    elif isinstance(stmt, tree.Net):
        if _enter(ev, parts, stmt.name, stmt.name_span):
            parts.nets[stmt.name] = stmt
    elif isinstance(stmt, tree.Term):
        if _enter(ev, parts, stmt.name, stmt.name_span):
            parts.terms[stmt.name] = stmt
    elif isinstance(stmt, tree.Draw):
        if _enter(ev, parts, stmt.name, stmt.name_span):
            parts.draws[stmt.name] = stmt
    elif isinstance(stmt, tree.DomainDecl):
        if _enter(ev, parts, stmt.name, stmt.name_span):
            parts.domains[stmt.name] = stmt
    elif isinstance(stmt, tree.Assign):
        equations.append(stmt)
    elif isinstance(stmt, tree.When):
        parts.events.append(stmt)
    elif isinstance(stmt, tree.Require):
        parts.requires.append(stmt)
    elif isinstance(stmt, tree.Observe):
        if _enter(ev, parts, stmt.name, stmt.name_span):
            parts.observes.append(stmt)
    elif isinstance(stmt, tree.On):
        parts.conditions.append(stmt)
    elif isinstance(stmt, tree.Optimize):
        parts.energies.append(stmt)
    elif isinstance(stmt, tree.Calculus):
        if stmt.name not in ("ito", "stratonovich"):
            ev.error(
                "NDL405",
                f"there is no calculus `{stmt.name}`",
                stmt.span,
                help=did_you_mean(stmt.name, ["ito", "stratonovich"]) or "write `ito` or `stratonovich`",
            )
        parts.calculus = stmt.name
    else:
        hint = "a reset stands in the block of a `when`" if isinstance(stmt, tree.Reset) else None
        if isinstance(stmt, tree.Return):
            hint = "a model holds equations, `x' = e`, and quantities, `y = e`"
        ev.error("NDL401", "this statement has no meaning in a model", stmt.span, help=hint)


def _declare(ev: Evaluator, parts: Parts, keyword: str, item: tree.DeclItem) -> None:
    if keyword == "state":
        orders = parts.states.setdefault(item.name, {})
        if item.primes in orders:
            shown = item.name + "'" * item.primes
            first = orders[item.primes].name_span.line
            ev.error(
                "NDL404",
                f"`{shown}` is defined twice in `{parts.name}` (first on line {first})",
                item.name_span,
            )
            return
        if not orders and item.name in parts.spans:
            _enter(ev, parts, item.name, item.name_span)
            return
        orders[item.primes] = item
        parts.spans.setdefault(item.name, item.name_span)
        return
    if keyword == "input" and item.name == "t":
        parts.inputs["t"] = item
        return
    if not _enter(ev, parts, item.name, item.name_span):
        return
    if keyword != "input":
        without_value(ev, keyword, item)
    {"param": parts.params, "const": parts.consts, "input": parts.inputs}[keyword][item.name] = item


def _check_name(ev: Evaluator, parts: Parts, name: str) -> None:
    span = parts.spans[name]
    if name in TAKEN:
        ev.error("NDL406", f"`{name}` is taken in a model: it is the time", span, help="choose another name")
    if name[:1] == "d" and name[1:] in {**parts.states, **parts.inputs, **parts.noises}:
        ev.error(
            "NDL406",
            f"`{name}` is taken: it is the differential of `{name[1:]}`",
            span,
            help="choose another name",
        )
    if name in parts.states and name in ("final", "steps", "stats", "events", "grid"):
        ev.error("NDL406", f"no state can be called `{name}`: a solution has that name", span)


def _equation(ev: Evaluator, parts: Parts, stmt: tree.Assign) -> None:
    """Sort `left = right` by its left side."""
    several = len(stmt.targets)
    for k, target in enumerate(stmt.targets):
        part = k if several > 1 else None
        if isinstance(target, tree.Name) and target.primes:
            _add_rate(
                ev, parts, Equation("rate", target.id, target.primes, stmt.value, target.span, part, several)
            )
        elif isinstance(target, tree.Name) and _differential(parts, target.id):
            eq = Equation("differential", target.id[1:], 1, stmt.value, target.span, part, several)
            _add_rate(ev, parts, eq)
        elif isinstance(target, tree.Name):
            if target.id in parts.states:
                ev.error(
                    "NDL407",
                    f"`{target.id}` is a state: its equation gives its rate",
                    target.span,
                    help=f"write `{target.id}' = …`",
                )
            elif target.id[:1] == "d" and len(target.id) > 1 and _has_differential(stmt.value):
                ev.error(
                    "NDL408",
                    f"the equation for `{target.id}` has no state `{target.id[1:]}`",
                    target.span,
                    help=did_you_mean(target.id[1:], parts.states) or f"declare `state {target.id[1:]} = …`",
                )
            elif _enter(ev, parts, target.id, target.span):
                _check_name(ev, parts, target.id)
                parts.derived[target.id] = stmt
        elif isinstance(target, tree.Num) and target.value == 0:
            parts.zeros.append(Equation("algebraic", "", 0, stmt.value, stmt.span))
        elif (ratio := _leibniz(target)) is not None:
            _add_rate(ev, parts, Equation("rate", ratio, 1, stmt.value, target.span, part, several))
        elif (told := _otherwise_written(parts, target, stmt.value)) is not None:
            ev.error(
                "NDL409",
                "an equation has a name, `x'`, `x''`, `dx`, `y(t)` or `0` on its left",
                target.span,
                help=told,
            )
        elif isinstance(target, tree.Call) and isinstance(target.func, tree.Name):
            _add_rate(
                ev, parts, Equation("integral", target.func.id, 0, stmt.value, target.span, part, several)
            )
        else:
            ev.error(
                "NDL409",
                "an equation has a name, `x'`, `x''`, `dx`, `y(t)` or `0` on its left",
                target.span,
                help="write `0 = left - right` for an implicit equation",
            )


def _otherwise_written(parts: Parts, target: tree.Expr, value: tree.Expr) -> str | None:
    """What to write for a left side of another language: `x'(t)`, `x(0)`, `diff(x, t)`, `d(x)/dt`."""
    if isinstance(target, tree.Binary) and target.op == "/" and isinstance(target.left, tree.Call):
        target = target.left
    if not isinstance(target, tree.Call) or not isinstance(target.func, tree.Name):
        return None
    called, first = target.func, next((a.value for a in target.args), None)
    if called.primes:
        return f"write `{called.id}{chr(39) * called.primes} = …`"
    if isinstance(first, tree.Num) and called.id in parts.states:
        start = parts.states[called.id].get(0)
        if start is not None and isinstance(start.type, tree.FieldType):
            return f"a condition at an end is `on left(S): {called.id} = …`"
        return f"an initial value stands with its state: `state {called.id} = {value.span.text}`"
    if isinstance(first, tree.Name) and first.id in parts.states and called.id not in parts.states:
        return f"write `{first.id}' = …`" if called.id in RATES else None
    return None


RATES = frozenset(["d", "D", "der", "diff", "ddt", "dt", "Dt", "derivative", "dot"])


def _differential(parts: Parts, name: str) -> bool:
    return name[:1] == "d" and name[1:] in parts.states


def _leibniz(target: tree.Expr) -> str | None:
    """`dx/dt` as the state `x`."""
    if (
        isinstance(target, tree.Binary)
        and target.op == "/"
        and isinstance(target.left, tree.Name)
        and isinstance(target.right, tree.Name)
        and target.right.id == "dt"
        and target.left.id[:1] == "d"
    ):
        return target.left.id[1:]
    return None


def _has_differential(e: tree.Expr) -> bool:
    if isinstance(e, tree.Name):
        return e.id == "dt"
    if isinstance(e, tree.Binary):
        return _has_differential(e.left) or _has_differential(e.right)
    return False


def _add_rate(ev: Evaluator, parts: Parts, eq: Equation) -> None:
    shown = {"rate": eq.name + "'" * eq.order, "differential": f"d{eq.name}", "integral": f"{eq.name}(t)"}[
        eq.kind
    ]
    if eq.name not in parts.states:
        ev.error(
            "NDL408",
            f"`{shown}` has an equation, but `{eq.name}` is not a state",
            eq.span,
            help=did_you_mean(eq.name, parts.states) or f"declare `state {eq.name} = …`",
        )
        return
    if eq.name in parts.rates:
        first = parts.rates[eq.name]
        ev.error(
            "NDL410",
            f"`{shown}` has two equations; the first is on line {first.span.line}",
            eq.span,
            help="remove one, or add their right sides",
        )
        return
    parts.rates[eq.name] = eq


def _check_states(ev: Evaluator, parts: Parts) -> None:
    """A state has an equation or is reset; its initial values fit its order."""
    algebraic = [] if parts.energies else parts.algebraic()
    unread = ("NDL1", "NDL401", "NDL407", "NDL409")  # a statement that may be the one that is missing here
    broken = any(d.code.startswith(unread) for d in ev.sink.found)
    if not parts.zeros and not broken:
        for name in algebraic:
            ev.error(
                "NDL411",
                f"the state `{name}` has no equation",
                parts.spans[name],
                help=f"write `{name}' = …`, reset it in a `when`, or declare it a `param`",
            )
    if parts.zeros and not algebraic and not parts.energies:
        ev.error("NDL412", "this `0 =` has no state left to determine", parts.zeros[0].span)
    for name, orders in parts.states.items():
        order = parts.order(name)
        for primes, item in orders.items():
            if primes and primes >= max(order, 1):
                ev.error(
                    "NDL413",
                    f"`{name}{chr(39) * primes}` has an initial value, but its equation is of order {order}",
                    item.name_span,
                )
        needs = range(max(order, 1)) if name in parts.rates and parts.rates[name].kind != "integral" else ()
        for k in needs:
            item_k = orders.get(k)
            if item_k is None or (item_k.value is None and item_k.law is None):
                shown = name + "'" * k
                ev.error(
                    "NDL414",
                    f"`{shown}` has no initial value",
                    parts.spans[name],
                    help=f"write `state {shown} = …`",
                )
