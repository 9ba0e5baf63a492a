"""Linear maps as values: `exp(t*lap) @ v`, `(identity - a*lap)^-1 @ v`, `(-lap)^s @ v`.

A map is kept as the formula that was written. Sums, multiples and products act one after the other on any
grid; powers, inverses and exponentials act on Fourier modes, where the maps inside are diagonal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ndl.compiler.check.linear import Diagonal
from ndl.compiler.check.values import (
    UNKNOWN,
    Builtin,
    Closure,
    HostV,
    ListV,
    Object,
    Unknown,
    Value,
    is_number,
)
from ndl.compiler.diagnostics import fail
from ndl.compiler.syntax import tree
from ndl.compiler.types import SCALAR

MAPS = ("lap",)
"""Operators that stand for themselves without an argument."""


class Map(Object):
    """A linear map. `op` is `base` (`of` is a function of a field), `identity`, `*` (a number and a map),
    `+`, `-`, `@` (maps), `^` (a map and a number), `exp` or `matrix`. `source` is the map whose transpose a
    `base` is."""

    kind = "linear map"

    def __init__(self, op: str, *of: Any, name: str = "", back: Any = None, source: Any = None) -> None:
        self.op, self.of, self.name, self.back, self.source = op, of, name, back, source

    # ------------------------------------------------------------ arithmetic

    def arithmetic(self, ev: Any, op: str, other: Any, span: Any, left: bool) -> Any:
        """`M op other` (`left`) or `other op M`."""
        if isinstance(other, (Unknown, HostV)):
            return UNKNOWN
        if op in ("+", "-"):
            b = as_map(other) or self._beside(ev, other, span)
            if b is None:
                return ev.error(
                    "NDL317", "a linear map is added to another one", span, help="write `a*identity`"
                )
            return Map(op, self, b) if left else Map(op, b, self)
        if op == "^" and left:
            return Map("^", self, other)
        if op == "*" or (op == "/" and left):
            if as_map(other) is not None:
                return ev.error("NDL317", "maps follow each other by `@`", span)
            return Map("*", other if op == "*" else ev.binary("/", 1.0, other, span), self)
        return ev.error("NDL317", f"`{op}` has no meaning for a linear map", span)

    def negative(self) -> Map:
        return Map("*", -1.0, self)

    def _beside(self, ev: Any, other: Any, span: Any) -> Map | None:
        """A matrix that is added to a map of vectors."""
        if not self.of_arrays:
            return None
        matrix = _square(ev, other, span)
        return None if matrix is None else Map("matrix", matrix)

    def attribute(self, ev: Any, name: str, primes: int, span: Any) -> Any:
        return Map("T", self) if name == "T" else super().attribute(ev, name, primes, span)

    def transposed(self) -> Map:
        """The transpose, as a formula of those of its leaves."""
        if self.op in ("T", "identity"):
            return self.of[0] if self.op == "T" else self
        if self.op == "base":
            back = self.back or (lambda ev, v, span: ev.lowering.adjoint(ev, self, v, span))
            return Map("base", back, name=f"{self.name}.T", back=self.of[0], source=self)
        if self.op == "matrix":
            back = lambda ev, v, span: ev.matmul(v, self.of[0], span)  # noqa: E731
            return Map("base", back, name=f"{self.name}.T", source=self)
        if self.op == "@":
            return Map("@", self.of[1].transposed(), self.of[0].transposed())
        return Map(self.op, *(m.transposed() if isinstance(m, Map) else m for m in self.of))

    @property
    def of_arrays(self) -> bool:
        """Whether it is of values outside of models, which no type calls fields."""
        return any(m.of_arrays for m in self.of if isinstance(m, Map))

    @property
    def of_fields(self) -> bool:
        """Whether it has a derivative in it."""
        if self.op == "base":
            return len(self.of) == 1 and self.back is None and not self.of_arrays
        return any(m.of_fields for m in self.of if isinstance(m, Map))

    # ------------------------------------------------------------ action

    @property
    def varies(self) -> bool:
        """Whether a factor in it is a field."""
        return any(m.varies if isinstance(m, Map) else bool(getattr(m, "axes", ())) for m in self.of)

    @property
    def of_nodes(self) -> bool:
        """Whether it acts on what the nodes of a mesh hold: a power, an exponential, or what starts with
        one."""
        if self.op == "@":
            return bool(self.of[1].of_nodes)
        inner = [m for m in self.of if isinstance(m, Map)]
        return self.op in ("^", "exp") or bool(inner and all(m.of_nodes for m in inner))

    def apply_to(self, ev: Any, right: Any, span: Any) -> Any:
        """`M @ v`, and `M @ N`."""
        second = as_map(right)
        if second is not None:
            return Map("@", self, second)
        v = ev.value(right, span)
        if isinstance(v, Unknown):
            return UNKNOWN
        if ev.checking:
            if v.type.on is None and self.of_fields:
                return self._no_field(ev, v, span)
            return Value(replace(v.type, kind="C")) if self.complex else v
        if ev.fields is None and ev.host is not None:
            return ev.host.act(self, v, span)
        return self.on(ev, v, span)

    def solve_to(self, ev: Any, right: Any, span: Any) -> Any:
        """`M^-1 @ v`."""
        return Map("^", self, -1).apply_to(ev, right, span)

    def _no_field(self, ev: Any, v: Value, span: Any) -> Any:
        return ev.error("NDL342", f"this map is of fields, and this is {v.type}", span)

    def on(self, ev: Any, v: Value, span: Any) -> Any:
        """The map of a field on a grid."""
        if self.op in ("^", "exp"):
            in_step = getattr(ev.context, "function_of_map", None)
            if in_step is not None:
                return in_step(ev, self, v, span)
            if ev.fields is None:
                return ev.not_lowered("a function of a linear map of what is no field", span)
            return ev.fields.by_modes(self, v, span)
        if self.op == "T":
            return self.of[0].transposed().on(ev, v, span)
        if self.op == "base":
            if len(self.of) > 1 and not (ev.fields is not None and ev.fields.tracing):
                ev.lowering.check_linear(ev, self, v, span)
            return self.of[0](ev, v, span)
        if self.op == "identity":
            return v
        if self.op == "matrix":
            return ev.matmul(self.of[0], v, span)
        a, b = self.of
        if self.op == "*":
            return ev.binary("*", a, b.on(ev, v, span), span)
        if self.op == "@":
            return a.on(ev, ev.value(b.on(ev, v, span), span), span)
        return ev.binary(self.op, a.on(ev, v, span), b.on(ev, v, span), span)

    def derived(self, name: str) -> Map:
        """`lap(M)`, `dxx(M)`: the derivative after the map."""

        def act(ev: Any, v: Value, span: Any) -> Any:
            return ev.fields.lap(v, span) if name == "lap" else ev.fields.partial(v, name, span)

        return Map("@", Map("base", act, name=name), self)

    @property
    def complex(self) -> bool:
        """Whether numbers in it are complex."""
        return any(
            m.complex
            if isinstance(m, Map)
            else isinstance(m, complex) or (isinstance(m, Value) and m.type.kind == "C")
            for m in self.of
        )

    def symbol(self, ev: Any, base: Callable[[Map], Any], span: Any) -> Any:
        """What the map multiplies modes by, given what those at its leaves do."""
        if self.op in ("base", "identity"):
            return base(self)
        inner = [m.symbol(ev, base, span) if isinstance(m, Map) else m for m in self.of]
        if any(isinstance(m, Value) and (m.axes or m.type.rank) for m in self.of):
            return ev.not_lowered("a function of a map with coefficients that are no numbers", span)
        if self.op == "exp":
            return ev.elementwise("exp", inner, span)
        if self.op == "T":
            whole = isinstance(inner[0], Value) and inner[0].type.kind == "C"
            return ev.elementwise("conj", inner, span) if whole else inner[0]
        if self.op == "^":
            return _power(ev, inner[0], inner[1], span)
        return ev.binary("*" if self.op == "@" else self.op, *inner, span)


def acted_on(ev: Any, map_: Any, e: tree.Expr, scope: Any, inverse: bool = False) -> Any:
    """What stands after the `@` of a map; on meshes functions of maps take it at the nodes."""
    known = as_map(map_) if ev.fields is not None else None
    if known is None or not (inverse or known.of_nodes):
        return ev.eval(e, scope)
    with ev.fields.weak.at("node"):
        return ev.eval(e, scope)


class Argument(Map):
    """What stands for the field in `q -> 2*q - lap(q)`: applied to it, the function gives its map."""

    def __init__(self) -> None:
        super().__init__("identity")

    def arithmetic(self, ev: Any, op: str, other: Any, span: Any, left: bool) -> Any:
        if op == "^":
            return ev.not_lowered("a function of a map that is not linear", span)
        return super().arithmetic(ev, op, other, span, left)


def _power(ev: Any, symbol: Any, exponent: Any, span: Any) -> Any:
    """Modes that a map takes to 0 stay 0 under its powers."""
    if not isinstance(symbol, Value):
        return UNKNOWN
    whole = symbol.type.kind == "C"
    if whole and exponent != -1:
        return ev.not_lowered("a power, but -1, of a map with odd derivatives", span)
    square = ev.binary("*", symbol, ev.elementwise("conj", [symbol], span) if whole else symbol, span)
    size = ev.elementwise("real", [square], span) if whole else square
    kept = ev.elementwise("select", [ev.compare("==", size, 0.0, span, ()), 0.0, 1.0], span)
    safe = ev.binary("+", symbol, ev.binary("-", 1.0, kept, span), span)
    if is_number(exponent) and exponent == -1:
        return ev.binary("*", kept, ev.binary("/", 1.0, safe, span), span)
    return ev.binary("*", kept, ev.binary("^", safe, exponent, span), span)


def exponential(ev: Any, v: Any, e: tree.Call) -> Any:
    """`exp(A)` before `@`: of a square matrix the exponential of the map, else entry by entry."""
    from ndl.compiler.check.elementwise import unary_value

    inner = _square(ev, v, e.span)
    if inner is not None:
        return ev.op("expm", [inner], e.span, (e.args[0].value,))
    return UNKNOWN if isinstance(v, (Unknown, HostV)) else unary_value(ev, "exp", v, e.span, e.args[0].value)


def power(ev: Any, v: Any, exponent: Any, e: tree.Binary) -> Any:
    """`A^n` before `@`: of a square matrix the power of the map, else entry by entry."""
    number = isinstance(exponent, (int, float)) or (isinstance(exponent, Value) and not exponent.type.rank)
    inner = _square(ev, v, e.left.span) if number else None
    if inner is None:
        return ev.binary("^", v, exponent, e.span, (e.left, e.right))
    return power_of(ev, inner, exponent, e.span)


def power_of(ev: Any, inner: Value, exponent: Any, span: Any) -> Any:
    """The power of a square matrix. Raises `NDLError` (NDL472)."""
    if not isinstance(exponent, int) or exponent == 0:
        refuse_unless_symmetric(ev, inner, f"the power `{span.text}`", span)
        s = ev.elementwise("real", [exponent], span)
        return UNKNOWN if isinstance(s, Unknown) else ev.op("symmetric_power", [inner, s], span)
    inner = inner if exponent > 0 else ev.op("inv", [inner], span)
    found = inner
    for _ in range(abs(exponent) - 1):
        found = ev.matmul(found, inner, span)
    return found


def refuse_unless_symmetric(ev: Any, matrix: Value, what: str, span: Any) -> None:
    """A matrix is proved to be symmetric by its formula; outside of models its numbers tell."""
    if ev.checking:
        return
    proved = getattr(ev.builder, "is_symmetric", None)
    if proved is not None and not proved(matrix):
        raise fail(
            "NDL472",
            f"{what} is of a matrix that is not known to be symmetric",
            span,
            help="`A.T @ A` and `(A + A.T)/2` are symmetric whatever A is",
        )


def norm_by(ev: Any, v: Value, map_: Any, span: Any) -> Any:
    """`norm(v, A)`: the root of v . A v (of conj(v) . A v), of a field integrated over its domain."""
    host_map = as_map(map_)
    if host_map is not None and ev.host is not None and not ev.checking:
        return ev.host.norm_by(v, host_map, span)
    if host_map is not None and ev.fields is not None and not ev.checking:
        paired = ev.fields.weak.paired(host_map, v, span)
        if paired is not None:
            return ev.elementwise("sqrt", [paired], span)
    image = ev.value(ev.matmul(map_, v, span), span)
    if isinstance(image, Unknown):
        return UNKNOWN
    whole = v.type.kind == "C"
    product = ev.binary("*", ev.elementwise("conj", [v], span) if whole else v, image, span)
    product = ev.elementwise("real", [product], span) if whole else product
    axes = tuple(range(v.type.rank))
    total = ev.op("sum", [product], span, axes=axes) if axes else product
    if ev.checking:
        return Value(SCALAR)
    owned = [a for a in v.axes if ev.fields is not None and a in ev.fields.space.owner]
    if owned:
        total = ev.fields.integral(total, owned, span)
    return ev.elementwise("sqrt", [total], span)


def _square(ev: Any, v: Any, span: Any) -> Any:
    """A value if it is a square matrix, else None."""
    if isinstance(v, ListV):
        v = ev.value(v, span)
    square = isinstance(v, Value) and v.type.rank == 2 and v.type.shape[0] == v.type.shape[1]
    return v if square else None


def as_map(value: Any) -> Map | None:
    """A value as a linear map: `lap`, a function of a field, `a*identity`."""
    if isinstance(value, Map):
        return value
    own = getattr(value, "as_map", None)
    if own is not None:
        found: Map | None = own()
        return found
    if isinstance(value, Builtin) and value.name in MAPS:
        return Map("base", lambda ev, v, span: getattr(ev.fields, value.name)(v, span), name=value.name)
    if isinstance(value, Closure):
        return Map("base", lambda ev, v, span: ev.apply(value, [v], span), value)
    if isinstance(value, Diagonal) and not (isinstance(value.entries, Value) and value.entries.type.rank):
        return Map("*", value.entries, Map("identity"))
    return None
