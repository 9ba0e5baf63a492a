"""Two samplings that meet, before anything is lowered: how many times as many points as a datum each field of
a body has, as far as `resample` and strides tell it.

A field is unknown where the points of another decide (`ifft(c)`, `field(T, S)`, coordinates) or where what
made it is not looked into; the lowering, which knows the numbers of points, has the last word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

from ndl.compiler.check.evaluator import Evaluator, TypeBuilder
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import UNKNOWN, Builtin, FileV, NetV, OperatorV
from ndl.compiler.diagnostics import Label, Sink
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree

Ratio = tuple[Fraction, ...]
"""For each coordinate, or one for all."""


@dataclass(frozen=True)
class Sampling:
    """`ratio` times as many points as `base`, a datum or a domain, has."""

    base: str
    ratio: Ratio = (Fraction(1),)

    def times(self, ratio: Ratio, power: int = 1) -> Sampling:
        own = [r if power == 1 else 1 / r for r in ratio]
        return Sampling(self.base, tuple(a * b for a, b in _pairs(self.ratio, own)))

    def differs(self, other: Sampling) -> bool:
        """Whether both are known to have other points."""
        return self.base == other.base and any(a != b for a, b in _pairs(self.ratio, other.ratio))

    @property
    def text(self) -> str:
        each = [str(r) for r in self.ratio]
        return each[0] if len(set(each)) == 1 else f"[{', '.join(each)}]"


def _pairs(a: Any, b: Any) -> Iterator[tuple[Fraction, Fraction]]:
    count = max(len(a), len(b))
    return zip(tuple(a) * (count // len(a)), tuple(b) * (count // len(b)))


Names = Mapping[str, "Sampling | None"]
CHANGED = {"resample": ("ratio", 1, 1), "convolve": ("stride", None, -1)}
"""What gives a field at other points: the name of the ratio, its place among the arguments, its power."""
APART = frozenset({"ifft", "fft", "field", "values", "integral", "mean", "var", "norm", "shape", "expect"})
"""Functions whose value does not stand at the points of their first argument, or stands at no points."""


class Samplings:
    """Reads the body of an operator or the formulas of a model. With `told` what meets is reported."""

    def __init__(self, ev: Evaluator, scope: Scope, told: bool = True, depth: int = 0) -> None:
        self.ev, self.scope, self.told, self.depth = ev, scope, told, depth
        self.quiet = Evaluator(TypeBuilder(), Sink())  # of ratios; what is wrong with them is told elsewhere
        self.locals: dict[str, tree.Expr | None] = {}
        """Nets of the body, as they are written."""

    # ------------------------------------------------------------ statements

    def block(self, body: tuple[tree.Stmt, ...], names: dict[str, Sampling | None]) -> Sampling | None:
        """The sampling of what a body returns."""
        for stmt in body:
            if isinstance(stmt, tree.Assign):
                found = self.of(stmt.value, names)
                for target in stmt.targets:
                    if isinstance(target, tree.Name):
                        names[target.id] = found if len(stmt.targets) == 1 else None
            elif isinstance(stmt, tree.Net):
                self.locals[stmt.name] = stmt.value
            elif isinstance(stmt, tree.For):
                before = dict(names)
                self.block(stmt.body, names)
                for name, found in names.items():  # what a turn changes differs from turn to turn
                    if name in before and found != before[name]:
                        names[name] = None
            elif isinstance(stmt, tree.Return):
                found_all = [self.of(value, names) for value in stmt.values]
                return found_all[0] if len(found_all) == 1 else None
        return None

    # ------------------------------------------------------------ expressions

    def of(self, e: Any, names: Names) -> Sampling | None:
        if isinstance(e, tree.Name):
            return names.get(e.id)
        if isinstance(e, tree.Call):
            return self._call(e, names)
        if isinstance(e, tree.Lambda):
            return None
        if isinstance(e, tree.Conditional):
            found = [self.of(branch, names) for branch in (e.then, e.orelse)]
            return found[0] if found[0] == found[1] else None
        if isinstance(e, tree.Index):
            return self.of(e.value, names)
        parts = [p for f in fields(e) if f.name != "span" for p in _expressions(getattr(e, f.name))]
        return self.joined(parts, names)

    def joined(self, parts: list[tree.Expr], names: Names) -> Sampling | None:
        """That of a formula of several fields; an error where two meet."""
        known: tuple[Sampling, Span] | None = None
        alike = True
        for part in parts:
            found = self.of(part, names)
            if found is None:
                continue
            if known is not None and found.differs(known[0]):
                self.meet(found, part.span, *known)
                return None
            alike = alike and (known is None or found.base == known[0].base)
            known = known or (found, part.span)
        return known[0] if known is not None and alike else None

    def meet(self, found: Sampling, span: Span, other: Sampling, where: Span) -> None:
        if self.told:
            self.ev.error(
                "NDL493",
                f"fields with {other.text} and {found.text} times the points of `{found.base}` meet here",
                span,
                labels=(Label(where, f"{other.text} times the points"),),
                help="bring one of them to the points of the other by `resample(v, ratio)`",
            )

    def _call(self, e: tree.Call, names: Names) -> Sampling | None:
        positional = [a.value for a in e.args if a.kind == "positional"]
        name = e.func.id if isinstance(e.func, tree.Name) else ""
        if name in names:  # a field at a point
            return None
        value = self.scope.find(name) if name and name not in self.locals else None
        if isinstance(value, Builtin):
            bound = any(isinstance(p, tree.Compare) and p.ops == ("in",) for p in positional)
            if name in CHANGED and positional:
                return self._changed(e, name, positional, names)
            inner = self.joined(positional[:1] if bound else positional, names)
            return None if name in APART or bound else inner
        samplings = [self.of(p, names) for p in positional]
        op, options = self._operator(e.func)
        return None if op is None else self._applied(op, options, samplings)

    def _changed(self, e: tree.Call, name: str, positional: list[tree.Expr], names: Names) -> Sampling | None:
        option, place, power = CHANGED[name]
        written = next((a.value for a in e.args if a.name == option), None)
        if place is not None and len(positional) > place:
            written = positional[place]
        field = self.of(positional[0 if name == "resample" else -1], names)
        ratio: Ratio | None = (Fraction(1),) if written is None else self._ratio(written)
        return None if field is None or ratio is None else field.times(ratio, power)

    def _ratio(self, e: tree.Expr) -> Ratio | None:
        items = e.items if isinstance(e, tree.ListExpr) else (e,)
        found = [self.quiet.known(self.quiet.eval(i, self.scope)) for i in items]
        if any(isinstance(r, bool) or not isinstance(r, (int, float)) or r <= 0 for r in found):
            return None
        return tuple(Fraction(r).limit_denominator(1024) for r in found)

    # ------------------------------------------------------------ operators that are applied

    def _operator(self, func: tree.Expr) -> tuple[OperatorV | None, dict[str, Any]]:
        """The operator that an expression names or constructs, with its options as far as they are known."""
        if isinstance(func, tree.Name) and func.id in self.locals:
            written = self.locals[func.id]
            return (None, {}) if written is None else self._operator(written)
        if isinstance(func, tree.Call):
            op, options = self._operator(func.func)
            given = {a.name: self.quiet.eval(a.value, self.scope) for a in func.args if a.name}
            return op, options | given
        if not isinstance(func, tree.Name):
            return None, {}
        value: Any = self.scope.find(func.id)
        if isinstance(value, FileV) and value.kind == "net":
            value = self.quiet.file_value(value)
        if isinstance(value, NetV):
            value = value.target
        return (value, dict(value.options)) if isinstance(value, OperatorV) else (None, {})

    def _applied(
        self, op: OperatorV, options: dict[str, Any], samplings: list[Sampling | None]
    ) -> Sampling | None:
        """What an operator makes of the samplings of its data."""
        if self.depth > 8 or len(samplings) != len(op.decl.data):
            return None
        if not any(data_of(op.decl).values()):  # it acts at each point
            return samplings[0] if len(set(samplings)) == 1 else None
        scope = op.module.scope.child()
        for p in op.decl.options:
            default = UNKNOWN if p.default is None else self.quiet.eval(p.default, scope)
            scope.names[p.name] = options.get(p.name, default)
        inner = Samplings(self.ev, scope, told=False, depth=self.depth + 1)
        found = inner.block(op.decl.body, data_of(op.decl))
        given = {p.name: s for p, s in zip(op.decl.data, samplings)}
        own = None if found is None else given.get(found.base)
        return None if found is None or own is None else own.times(found.ratio)


def data_of(decl: tree.Operator) -> dict[str, Sampling | None]:
    """Each datum that is a field has a sampling of its own."""
    return {p.name: Sampling(p.name) if isinstance(p.type, tree.FieldType) else None for p in decl.data}


def check_samplings(ev: Evaluator, decl: tree.Operator, scope: Scope) -> None:
    """Errors where fields of an operator with other points meet."""
    Samplings(ev, scope).block(decl.body, data_of(decl))


def check_model_samplings(ev: Evaluator, el: Any) -> None:
    """The same of a model's formulas; its fields on a domain have the points of its grid."""
    parts = el.parts
    names: dict[str, Sampling | None] = {}
    for name in parts.states:
        type_ = el.state_type(name)
        names[name] = Sampling(type_.on) if type_ is not None and type_.on not in (None, "time") else None
    reader = Samplings(ev, el.scope)
    for name, stmt in parts.derived.items():
        names[name] = reader.of(stmt.value, names)
    for eq in parts.rates.values():
        found, own = reader.of(eq.value, names), names.get(eq.name)
        if found is not None and own is not None and eq.part is None and found.differs(own):
            reader.meet(found, eq.value.span, own, eq.span)
    for eq in parts.zeros:
        reader.of(eq.value, names)


def _expressions(value: Any) -> Iterator[tree.Expr]:
    if isinstance(value, tree.Expr):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _expressions(item)
