"""The elaborator: one walk over expressions that checks, lowers or evaluates.

What an operation does is the builder's business: `TypeBuilder` only infers types, the lowering's
builder adds graph nodes, the host's computes tensors. Names, calls, binders, shapes and units
mean the same in all three because they are worked out here, once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import (
    UNKNOWN,
    Axis,
    Builtin,
    Closure,
    DistV,
    FileV,
    HostV,
    ListV,
    ModelV,
    NetV,
    NotLowered,
    OperatorV,
    RangeV,
    TupleV,
    Unknown,
    Value,
    WordV,
    describe,
    is_known,
    is_number,
)
from ndl.compiler.diagnostics import Label, Sink, fail
from ndl.compiler.ops.table import TypeRuleError
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import BOOL, INTEGER, SCALAR, Dim, Tensor, Type

if TYPE_CHECKING:
    from ndl.compiler.lower.builder import GraphBuilder


class Builder(Protocol):
    """Makes values: types only, graph nodes, or tensors."""

    mode: str

    def op(self, name: str, args: Sequence[Value], span: Span, attrs: dict[str, Any]) -> Value: ...

    def const(self, value: Any, type: Tensor, span: Span) -> Value: ...


class Worker(Builder, Protocol):
    """A builder that makes more than types: graph nodes or tensors."""

    def named(self, v: Value, name: str) -> Value: ...

    def apply_operator(self, ev: Evaluator, op: OperatorV, args: list[Any], span: Span) -> Any: ...

    def apply_net(self, ev: Evaluator, net: NetV, args: list[Any], span: Span) -> Any: ...

    def root(self, ev: Evaluator, function: Any, start: Any, span: Span) -> Any: ...

    def derive(
        self, ev: Evaluator, e: tree.Expr, by: list[tree.Expr], scope: Scope, kind: str, span: Span
    ) -> Any: ...


class TypeBuilder:
    """Infers types and computes nothing but dimensions: a whole number that a generic dimension stands
    for has its polynomial as `ref`."""

    mode = "check"

    def op(self, name: str, args: Sequence[Value], span: Span, attrs: dict[str, Any]) -> Value:
        from ndl.compiler.ops.table import infer

        result = infer(name, [a.type for a in args], attrs)
        assert isinstance(result, Tensor)
        sizes = [a.ref for a in args]
        if name in DIMENSION_OPS and all(isinstance(d, Dim) for d in sizes):
            return Value(result, DIMENSION_OPS[name](*sizes))
        return Value(result)

    def const(self, value: Any, type: Tensor, span: Span) -> Value:
        return Value(type, Dim.of(value) if isinstance(value, int) and value >= 0 else None)


DIMENSION_OPS: dict[str, Callable[[Dim, Dim], Dim]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floordiv": lambda a, b: a // b,
}
BINARY = {"+": "add", "-": "sub", "*": "mul", "/": "div", "//": "floordiv", "^": "pow"}
COMPARE = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}
MAX_DEPTH = 150


class Evaluator:
    """Evaluates syntax in a scope with a builder. Errors go to the sink and leave `UNKNOWN`; with
    `strict` the first one is raised."""

    def __init__(self, builder: Builder, sink: Sink, strict: bool = False) -> None:
        from ndl.compiler.check.expressions import RULES

        self.rules = RULES
        self.builder = builder
        self.sink = sink
        self.strict = strict
        self.depth = 0
        self.context: Any = None  # what is being built: an operator's or a model's weights
        self.host: Any = None  # evaluates what only a run knows
        self.file_values: dict[int, Any] = {}
        self.told: dict[str, Dim] | None = None  # dimensions of weights that their use tells, if wanted
        self.points: dict[tuple[str, int], Dim] = {}  # how many points fields have, where that is known
        self.fields: Any = None  # what derivatives and integrals of fields are on the grids of a model
        self.integrals: dict[int, Any] = {}  # of an integral equation: what stands for each integral
        self.undecided = 0  # choices around the current place that only a run decides
        self.active: list[Any] = []  # the functions whose bodies are being evaluated
        self.endless: set[Any] = set()  # those found to call themselves without end

    @property
    def worker(self) -> Worker:
        """The builder, where one asks that does more than to check."""
        return cast(Worker, self.builder)

    @property
    def lowering(self) -> GraphBuilder:
        """The builder, where one asks that knows it to make a graph."""
        return cast("GraphBuilder", self.builder)

    @property
    def checking(self) -> bool:
        return self.builder.mode == "check"

    # ------------------------------------------------------------ errors

    def error(self, code: str, message: str, span: Span, **more: Any) -> Any:
        if self.strict:
            raise fail(code, message, span, **more)
        self.sink.error(code, message, span, **more)
        return UNKNOWN

    def not_lowered(
        self, construct: str, span: Span, help: str = "see the language reference for what runs today"
    ) -> Any:
        """A construct that later work lowers: fine when checking, one clear error otherwise."""
        if self.checking:
            return UNKNOWN
        raise fail(
            "NDL490",
            f"{construct} is not yet lowered",
            span,
            notes=("the language has it and the checker knows it, but this version cannot run it",),
            help=help,
        )

    # ------------------------------------------------------------ dispatch

    def eval(self, expr: tree.Expr, scope: Scope, expect: Type | None = None) -> Any:
        """The value of an expression; `expect` is the type that its place asks for, if known."""
        rule = self.rules.get(type(expr))
        if rule is None:
            return self.error("NDL901", f"no rule for {type(expr).__name__}", expr.span)
        self.depth += 1
        try:
            if self.depth > MAX_DEPTH * 6:
                return self.error("NDL310", "this expression calls itself without end", expr.span)
            return rule(self, expr, scope, expect)
        finally:
            self.depth -= 1

    def number(self, expr: tree.Expr, scope: Scope, what: str) -> Any:
        """A number known when compiling, or UNKNOWN (with an error when it cannot be one)."""
        value = self.eval(expr, scope)
        value = self.known(value)
        if is_number(value) or isinstance(value, Unknown):
            return value
        return self.error("NDL311", f"{what} must be a number, not {describe(value)}", expr.span)

    def known(self, value: Any) -> Any:
        """A host's scalar as a plain number where the builder can say it."""
        get = getattr(self.builder, "known", None)
        return get(value) if get is not None and isinstance(value, Value) else value

    # ------------------------------------------------------------ values

    def value(self, found: Any, span: Span) -> Value | Unknown:
        """A run-time value: numbers become constants, lists of agreeing elements tensors."""
        if isinstance(found, (Value, Unknown)):
            return found
        if isinstance(found, bool):
            return self.builder.const(found, BOOL, span)
        if isinstance(found, complex):
            return self.builder.const(found, Tensor("C"), span)
        if isinstance(found, int):
            return self.builder.const(found, INTEGER, span)
        if isinstance(found, float):
            return self.builder.const(found, SCALAR, span)
        if isinstance(found, (ListV, TupleV)):
            return self._stack(found.items, span)
        if isinstance(found, RangeV):
            integers = self.integers(found, span)
            if integers is not None:
                return self.value(ListV(tuple(integers)), span)
            return UNKNOWN
        if isinstance(found, NotLowered):
            unknown: Unknown = self.not_lowered(found.construct, found.span or span)
            return unknown
        if isinstance(found, HostV):
            return UNKNOWN
        hint = None
        if isinstance(found, DistV):
            hint = f"a draw is a statement of its own: `z ~ {' '.join(span.text.split())}`, then `z`"
        unknown = self.error("NDL312", f"a value is needed here, not {describe(found)}", span, help=hint)
        return unknown

    def _stack(self, items: Sequence[Any], span: Span) -> Value | Unknown:
        nested = constant_array(items)
        if nested is not None:
            kind, shape, data = nested
            return self.builder.const(data, Tensor(kind, tuple(map(Dim.of, shape))), span)
        values = [self.value(i, span) for i in items]
        good = [v for v in values if isinstance(v, Value)]
        if len(good) < len(values) or not good:
            return UNKNOWN
        ranks = {v.type.rank for v in good}
        if len(ranks) > 1:
            unknown: Unknown = self.error(
                "NDL302",
                "the elements of this list differ in shape: "
                + ", ".join(sorted({str(v.type) for v in good})),
                span,
            )
            return unknown
        return self.op("stack", good, span, axis=0)

    def integers(self, found: RangeV, span: Span) -> list[int] | None:
        """The integers of `a..b by c`, when known; None when they are not."""
        lo, hi, by = self.known(found.lo), self.known(found.hi), self.known(found.by)
        by = 1 if by is None else by
        ends = [lo, hi, by]
        if any(isinstance(e, (Unknown, Value)) for e in ends):
            return None
        if not all(is_number(e) and float(e).is_integer() for e in ends) or by == 0:
            self.error("NDL313", "a range of integers needs whole ends known when compiling", span)
            return None
        lo, hi, by = int(lo), int(hi), int(by)
        if abs(hi - lo) // abs(by) > 1_000_000:
            self.error(
                "NDL314", f"this range has {abs(hi - lo) // abs(by) + 1} turns, more than a million", span
            )
            return None
        return list(range(lo, hi + (1 if by > 0 else -1), by))

    # ------------------------------------------------------------ operations

    def op(
        self, name: str, args: Sequence[Value], span: Span, exprs: Sequence[tree.Expr] = (), **attrs: Any
    ) -> Value | Unknown:
        """Apply an op of the table; bound axes are carried along in front."""
        try:
            axes = merge_axes(args)
            if not axes:
                return self.builder.op(name, args, span, attrs)
            from ndl.compiler.check.axes import lifted

            return lifted(self, name, args, axes, span, attrs)
        except TypeRuleError as problem:
            unknown: Unknown = self._type_error(problem, args, span, exprs)
            return unknown

    def _type_error(
        self, problem: TypeRuleError, args: Sequence[Value], span: Span, exprs: Sequence[tree.Expr]
    ) -> Any:
        labels = [Label(exprs[i].span, str(args[i].type)) for i in problem.operands if i < len(exprs)]
        if not labels:
            return self.error(problem.code, problem.message, span, help=problem.help)
        main = labels[-1]
        notes = tuple(n for i in problem.operands if i < len(exprs) for n in self._origin(exprs[i], args[i]))
        return self.error(
            problem.code,
            problem.message,
            main.span,
            text=main.text,
            labels=tuple(labels[:-1]),
            notes=notes,
            help=problem.help or _contraction(problem, args, exprs),
        )

    def _origin(self, expr: tree.Expr, value: Value) -> list[str]:
        """Where a named operand got its type."""
        where = (
            getattr(self.context, "declared", lambda _: None)(expr.id)
            if isinstance(expr, tree.Name)
            else None
        )
        if where is not None:
            return [f"`{where.text or expr.span.text}` was declared {value.type} on line {where.line}"]
        return [f"`{expr.span.text}` is {value.type}"] if len(expr.span.text) < 60 else []

    def elementwise(self, name: str, args: Sequence[Any], span: Span, exprs: Sequence[tree.Expr] = ()) -> Any:
        """An elementwise op; scalars are spread to the shape of the others."""
        places = [e.span for e in exprs] or [span] * len(args)
        values = [self.value(a, place) for a, place in zip(args, places)]
        good = [v for v in values if isinstance(v, Value)]
        if len(good) < len(values):
            return UNKNOWN
        shape = next((v.type.shape for v in good if v.type.rank), None)
        if shape is not None:
            good = [v if v.type.rank else self.spread(v, shape, span) for v in good]
        return self.op(name, good, span, exprs)

    def spread(self, value: Value, shape: tuple[Dim, ...], span: Span) -> Value:
        """A scalar repeated to a shape."""
        found = self.op("expand", [value], span, shape=_plain(shape), axes=())
        assert isinstance(found, Value)
        return found

    def binary(self, op: str, left: Any, right: Any, span: Span, exprs: Sequence[tree.Expr] = ()) -> Any:
        """`left op right`, folded when both are known."""
        if isinstance(left, Unknown) or isinstance(right, Unknown):
            return UNKNOWN
        if is_number(left) and is_number(right):
            return self._fold(op, left, right, span)
        if op == "@":
            return self.matmul(left, right, span, exprs)
        left, right = self.linear_map(left), self.linear_map(right)
        for side, other in ((left, right), (right, left)):
            arithmetic = getattr(side, "arithmetic", None)
            if arithmetic is not None:
                return arithmetic(self, op, other, span, side is left)
        if isinstance(left, (NotLowered, HostV)) or isinstance(right, (NotLowered, HostV)):
            for side in (left, right):
                if isinstance(side, NotLowered):
                    return self.not_lowered(side.construct, side.span or span)
            return UNKNOWN
        if op == "^" and right == -1 and isinstance(left, Value) and left.type.rank == 2:
            return self.op("inv", [left], span, exprs)
        return self.elementwise(BINARY[op], [left, right], span, exprs)

    def linear_map(self, value: Any) -> Any:
        """What stands for a map without an argument, `lap` or a formula, as one; others as they are."""
        from ndl.compiler.check.maps import as_map

        written = isinstance(value, (Builtin, Closure)) or hasattr(value, "as_map")
        return as_map(value) or value if written else value

    def _fold(self, op: str, a: Any, b: Any, span: Span) -> Any:
        try:
            if op == "+":
                return a + b
            if op == "-":
                return a - b
            if op == "*":
                return a * b
            if op == "/":
                return a / b
            if op == "//":
                return a // b
            if op == "^":
                if isinstance(a, int) and isinstance(b, int) and abs(b) > 4096:
                    a = float(a)
                power = a**b
                if isinstance(power, complex) and not isinstance(a, complex) and not isinstance(b, complex):
                    return self.error(
                        "NDL315",
                        f"{a} to the power {b} is not real",
                        span,
                        help="write it with `2i` if you mean it",
                    )
                return power
        except ZeroDivisionError:
            return self.error("NDL316", "this divides by zero", span)
        except OverflowError:
            return math.inf
        return self.error("NDL317", "`@` needs a tensor on each side", span)

    def matmul(self, left: Any, right: Any, span: Span, exprs: Sequence[tree.Expr] = ()) -> Any:
        """`a @ b`: the last axis of a contracted with the first of b."""
        left = self.linear_map(left)
        apply = getattr(left, "apply_to", None)
        if apply is not None:
            return apply(self, right, span)
        for side in (left, right):
            if isinstance(side, (NotLowered, Closure, ModelV, Builtin)):
                return self.not_lowered("a linear map that is not a matrix", span)
        a, b = self.value(left, span), self.value(right, span)
        if isinstance(a, Unknown) or isinstance(b, Unknown):
            return UNKNOWN
        return self.op("matmul", [a, b], span, exprs)

    def compare(self, op: str, left: Any, right: Any, span: Span, exprs: Sequence[tree.Expr]) -> Any:
        if op in ("in", "not in"):
            inside = self.member(left, right, span, exprs)
            return self.negate(inside, span) if op == "not in" else inside
        if isinstance(left, Unknown) or isinstance(right, Unknown):
            return UNKNOWN
        if is_known(left) and is_known(right):
            if op == "==":
                return left == right
            if op == "!=":
                return left != right
            if isinstance(left, str) or isinstance(right, str):
                return self.error("NDL318", "texts have no order", span)
            return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[op]
        if isinstance(left, (HostV, WordV)) or isinstance(right, (HostV, WordV)):
            return UNKNOWN
        return self.elementwise(COMPARE[op], [left, right], span, exprs)

    def member(self, left: Any, right: Any, span: Span, exprs: Sequence[tree.Expr]) -> Any:
        """`x in lo..hi`, `x in [..]`."""
        if isinstance(left, Unknown) or isinstance(right, (Unknown, HostV)):
            return UNKNOWN
        if isinstance(right, RangeV):
            low = self.compare("<=", right.lo, left, span, (exprs[1], exprs[0]))
            high = self.compare("<=", left, right.hi, span, exprs)
            return self.both("and", low, high, span)
        if isinstance(right, (ListV, TupleV)):
            found: Any = False
            for item in right.items:
                found = self.both("or", found, self.compare("==", left, item, span, exprs), span)
            return found
        return self.not_lowered("membership in a set", span)

    def both(self, op: str, a: Any, b: Any, span: Span) -> Any:
        """`a and b`, `a or b`; the second side of a known first one decides."""
        if isinstance(a, bool):
            return (b if a else False) if op == "and" else (True if a else b)
        if isinstance(b, bool):
            return (a if b else False) if op == "and" else (True if b else a)
        if isinstance(a, Unknown) or isinstance(b, Unknown):
            return UNKNOWN
        return self.elementwise(op, [a, b], span)

    def negate(self, a: Any, span: Span) -> Any:
        if isinstance(a, bool):
            return not a
        if isinstance(a, Unknown):
            return a
        return self.elementwise("not", [a], span)

    def choose(self, cond: Any, then: Any, orelse: Any, span: Span) -> Any:
        """`if cond then a else b` with a condition that only the run knows."""
        if any(isinstance(v, (Unknown, HostV)) for v in (cond, then, orelse)):
            return UNKNOWN
        return self.elementwise("select", [cond, then, orelse], span)

    def file_value(self, declared: FileV) -> Any:
        """A file-level declaration's value, worked out once by each evaluator."""
        if id(declared) not in self.file_values:
            from ndl.compiler.check.file_values import file_value

            self.file_values[id(declared)] = UNKNOWN  # while it is being worked out
            self.file_values[id(declared)] = file_value(self, declared)
        return self.file_values[id(declared)]

    def apply(self, function: Any, args: Sequence[Any], span: Span) -> Any:
        """Call a function value with values."""
        from ndl.compiler.check.calls import apply

        return apply(self, function, list(args), {}, span, None)


def _plain(shape: Sequence[Dim]) -> tuple[Any, ...]:
    """Dimensions as integers where they are known."""
    return tuple(d.constant if d.constant is not None else d for d in shape)


def merge_axes(args: Sequence[Value]) -> tuple[Axis, ...]:
    """The bound axes of several values: those of grids, then others in the order in which they were bound."""
    found: list[Axis] = []
    for a in args:
        found.extend(axis for axis in a.axes if axis not in found)
    sampled = {axis.sampled: axis for axis in found if axis.sampled is not None}
    for axis in found:
        if axis.sampled is not None and sampled[axis.sampled] is not axis:
            raise two_samplings(axis, sampled[axis.sampled])
    if any(a.place is not None for a in found):
        found.sort(key=lambda a: math.inf if a.place is None else a.place)
    return tuple(found)


def two_samplings(a: Axis, b: Axis) -> TypeRuleError:
    """The error of fields with different points along one coordinate."""
    assert a.sampled is not None
    few, many = sorted((a.extent.constant or 0, b.extent.constant or 0))
    return TypeRuleError(
        f"fields on `{a.sampled[0]}` with {few} and {many} points along `{a.name}` meet here",
        help="bring one of them to the points of the other by `resample(v, ratio)`",
        code="NDL493",
    )


def constant_array(items: Sequence[Any]) -> tuple[str, tuple[int, ...], tuple[Any, ...]] | None:
    """(kind, shape, nested tuples) of nested lists of numbers; None when they are not that."""
    if not items:
        return None
    if all(isinstance(i, bool) for i in items):
        return "Bool", (len(items),), tuple(items)
    if all(is_number(i) for i in items):
        kind = "C" if any(isinstance(i, complex) for i in items) else "Z"
        if kind == "Z" and any(isinstance(i, float) for i in items):
            kind = "R"
        return kind, (len(items),), tuple(items)
    if all(isinstance(i, ListV) for i in items):
        parts = [constant_array(i.items) for i in items]
        good = [p for p in parts if p is not None]
        if len(good) < len(parts) or len({p[1] for p in good}) > 1:
            return None
        order = ["Bool", "Z", "R", "C"]
        kind = max((p[0] for p in good), key=order.index)
        return kind, (len(items), *good[0][1]), tuple(p[2] for p in good)
    return None


def constant_of(found: Any) -> Any:
    """A value known when compiling as a number or nested tuples, or None."""
    if isinstance(found, bool) or is_number(found):
        return found
    if isinstance(found, ListV):
        nested = constant_array(found.items)
        return None if nested is None else nested[2]
    return None


__all__ = ["Builder", "Evaluator", "TypeBuilder", "constant_array", "constant_of", "merge_axes"]


def _contraction(problem: TypeRuleError, args: Sequence[Value], exprs: Sequence[tree.Expr]) -> str | None:
    """`A*x` of a matrix and a vector that `@` would contract."""
    if problem.message != "shapes differ in a product" or len(args) != 2 or len(exprs) < 2:
        return None
    a, b = (v.type.shape for v in args)
    fits = a and b and len(a) != len(b) and a[-1] == b[0]
    return (
        f"`*` goes component by component: write `{exprs[0].span.text} @ {exprs[1].span.text}`"
        if fits
        else None
    )
