"""What an expression can be while it is elaborated.

Numbers, truth values and texts that are known when compiling are plain Python values. Everything
that is computed at run time is a `Value`: a type with a builder's reference (nothing when only
checking, a graph node when lowering, a tensor when evaluating).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ndl.compiler.syntax import tree
from ndl.compiler.types import BOOL, Dim, Map, Tensor, Type

if TYPE_CHECKING:
    from ndl.compiler.check.modules import Module
    from ndl.compiler.check.scope import Scope


@dataclass(frozen=True, eq=False)
class Axis:
    """A bound index: `i` of `sum(e, i)`; `extent` is the number of its values. The axis of a grid, along
    which fields are stored, is one too; its `place` among all of them keeps them in order, before other
    indices. `sampled`: the domain and the number of the coordinate along whose points fields stand; two axes
    of one coordinate are two samplings."""

    name: str
    extent: Dim
    place: int | None = None
    sampled: tuple[str, int] | None = None


@dataclass(frozen=True, eq=False)
class Value:
    """A run-time value. `axes` are bound indices that stand before the axes of `type.shape`."""

    type: Tensor
    ref: Any = None
    axes: tuple[Axis, ...] = ()
    index_of: Axis | None = None  # set when the value is the bare bound index itself


class Unknown:
    """A value whose type is not known (an error was reported, or only the run can tell)."""

    def __repr__(self) -> str:
        return "unknown"


UNKNOWN = Unknown()


@dataclass(frozen=True, eq=False)
class ListV:
    """`[a, b]`, a list of values; a tensor when its elements agree."""

    items: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class TupleV:
    items: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class DictV:
    entries: tuple[tuple[Any, Any], ...]


@dataclass(frozen=True, eq=False)
class RangeV:
    """`lo..hi by step`: an interval, or its integers."""

    lo: Any
    hi: Any
    by: Any = None


@dataclass(frozen=True, eq=False)
class EveryV:
    """`every 0.01`."""

    value: Any


@dataclass(frozen=True, eq=False)
class WordV:
    """A word that a setting takes (`steps`, `end`, `cpu`, `discrete`), with its arguments if called."""

    name: str
    args: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Closure:
    """A lambda with the scope in which it was written."""

    expr: tree.Lambda
    scope: Scope


@dataclass(frozen=True, eq=False)
class FnV:
    decl: tree.Fn
    module: Module


@dataclass(frozen=True, eq=False)
class Builtin:
    """A function of the language itself; see `builtins.py`."""

    name: str
    handler: Callable[..., Any]
    least: int = 0
    most: int | None = None
    keywords: tuple[str, ...] = ()
    raw: bool = False  # the handler gets syntax, because the function binds names


@dataclass(frozen=True, eq=False)
class OperatorV:
    """An operator, with the options and dimensions fixed so far; `built` after a construction."""

    decl: tree.Operator
    module: Module
    options: Mapping[str, Any] = field(default_factory=dict)
    dims: Mapping[str, Dim] = field(default_factory=dict)
    built: bool = False
    place: Any = None
    sets: Mapping[str, DomainV] = field(default_factory=dict)
    """The domains that the sets of its header stand for, as far as they are known."""


@dataclass(frozen=True, eq=False)
class NetV:
    """A named set of weights that can be applied: `net f: sig = …`, `extern net`; `inner` is the signature
    that its operator sees where it differs; `origin` the net (or module) with whose weights it begins."""

    name: str
    signature: Type | None
    target: Any  # OperatorV, Closure, FnV, or None for an extern
    per: str | None = None
    owner: Any = None
    inner: Map | None = None
    origin: Any = None


@dataclass(frozen=True, eq=False)
class DistV:
    """A distribution: `uniform(0, 1)`."""

    law: str
    args: tuple[Any, ...]
    span: Any = None


@dataclass(frozen=True, eq=False)
class ModelV:
    """A model, with what an application has set: `values` by keyword, `laws` by `~`, `members` by
    `in`; `data` are positional arguments of its header; `origin` is what a function over models knows of
    the one that it made; `grid` is where its fields are stored (`check/grids.py`)."""

    decl: tree.Model
    module: Module
    values: Mapping[str, Any] = field(default_factory=dict)
    laws: Mapping[str, Any] = field(default_factory=dict)
    members: Mapping[str, Any] = field(default_factory=dict)
    data: tuple[Any, ...] = ()
    origin: Any = None
    grid: Any = None


@dataclass(frozen=True, eq=False)
class SolverV:
    decl: tree.Solver
    module: Module


@dataclass(frozen=True, eq=False)
class MethodV:
    """A solver with its options: `tsit5(rtol=1e-6)`, `strang(a: exact, b: rk4, h=0.1)`."""

    solvers: tuple[SolverV, ...]  # the same name may be defined for several kinds (`heun`)
    options: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Any] = field(default_factory=dict)
    positional: tuple[Any, ...] = ()
    span: Any = None

    @property
    def name(self) -> str:
        return self.solvers[0].decl.name


@dataclass(frozen=True, eq=False)
class DomainV:
    """A domain with its coordinates, the range of each (`RangeV`), and whether it is periodic there. `given`:
    what it is called outside, where an application puts it in the place of a model's own. `shape`: the
    condition or the mesh of a domain that is no box, which has no ranges."""

    name: str
    coordinates: tuple[str, ...]
    ranges: tuple[Any, ...] = ()
    periodic: tuple[bool, ...] = ()
    given: str = ""
    shape: ShapeV | MeshFileV | PointsV | None = None

    def arithmetic(self, ev: Any, op: str, other: Any, span: Any, left: bool) -> Any:
        """`A*B`, a product of domains."""
        if isinstance(other, Unknown):
            return UNKNOWN
        if isinstance(other, DomainV) and (self.shape is not None or other.shape is not None):
            return ev.not_lowered("a product with a domain that is no box", span)
        if op != "*" or not isinstance(other, DomainV):
            return ev.error("NDL317", f"`{op}` has no meaning for a domain", span)
        a, b = (self, other) if left else (other, self)
        twice = [c for c in a.coordinates if c in b.coordinates]
        if twice:
            return ev.error("NDL341", f"both factors of this product have the coordinate `{twice[0]}`", span)
        joined = (a.coordinates + b.coordinates, a.ranges + b.ranges, a.periodic + b.periodic)
        return DomainV(f"{a.name}*{b.name}", *joined)


@dataclass(frozen=True, eq=False)
class ShapeV:
    """`{ x, y | x^2 + y^2 < 1 }`: where a condition on the coordinates holds."""

    cond: tree.Expr
    scope: Any


@dataclass(frozen=True, eq=False)
class MeshFileV:
    """`mesh("wing.msh")`."""

    file: str
    span: Any


@dataclass(frozen=True, eq=False)
class PointsV:
    """`points(X)`: the coordinates of each point; None where only a run knows them."""

    rows: tuple[tuple[float, ...], ...] | None
    span: Any


@dataclass(frozen=True, eq=False)
class BoundaryV:
    """Parts of a domain's boundary: pairs (number of a coordinate, `low` or `high`), all of a domain that is
    no box, or the part of a mesh called `part`; of these, where the conditions `where` hold."""

    domain: DomainV
    faces: tuple[tuple[int, str], ...]
    part: str = ""
    where: tuple[tree.Expr, ...] = ()
    text: str = ""


@dataclass(frozen=True, eq=False)
class DualV:
    """`dual(S, m)`: the wavenumbers of a domain with |k_j| <= m_j; None where the checker does not know m."""

    domain: DomainV
    modes: tuple[int, ...] | None

    @property
    def name(self) -> str:
        """Under which two fields are on the same set."""
        if self.modes is None:
            return f"dual({self.domain.name}, ?)"
        equal = len(set(self.modes)) == 1
        shown = str(self.modes[0]) if equal else str(list(self.modes))
        return f"dual({self.domain.name}, {shown})"


@dataclass(frozen=True, eq=False)
class BallV:
    """The points at most a radius from a centre, whose coordinates these are; of `domain`, where it is not
    that of the centre."""

    centre: tuple[Any, ...]
    radius: Any
    domain: DomainV | None = None


@dataclass(frozen=True, eq=False)
class ModuleV:
    """`use std.solvers as s`: its names after a dot."""

    module: Module


@dataclass(frozen=True, eq=False)
class HostV:
    """A value that only a run has (a solution, a training result, data), as the checker sees it:
    `names` are the attributes that it is known to have (None: any)."""

    kind: str
    names: tuple[str, ...] | None = None
    model: ModelV | None = None


@dataclass(frozen=True, eq=False)
class NotLowered:
    """A construct that checks but has no lowering yet; using it in a run is one clear error."""

    construct: str
    span: Any = None


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float, complex)) and not isinstance(value, bool)


def is_known(value: Any) -> bool:
    """Known when compiling: a number, a truth value or a text."""
    return isinstance(value, (int, float, complex, bool, str))


def describe(value: Any) -> str:
    """What a value is, in the user's words, for messages."""
    names: dict[type, str] = {
        Closure: "a function",
        FnV: "a function",
        Builtin: "a function",
        OperatorV: "an operator",
        NetV: "a net",
        DistV: "a distribution",
        ModelV: "a model",
        SolverV: "a solver",
        MethodV: "a method",
        DomainV: "a domain",
        BoundaryV: "a part of a boundary",
        DualV: "a set of wavenumbers",
        ModuleV: "a module",
        RangeV: "a range",
        DictV: "a table of settings",
        TupleV: "a tuple",
        ListV: "a list",
        WordV: "a word of a setting",
    }
    if isinstance(value, Value):
        return f"{value.type}"
    if isinstance(value, bool):
        return "a truth value"
    if is_number(value):
        return "a number"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, HostV):
        return f"a {value.kind}"
    return names.get(type(value), "a value")


class Object:
    """A value with behaviour of its own: a solution, a solver's callable argument, a data table."""

    kind = "object"

    def attribute(self, ev: Any, name: str, primes: int, span: Any) -> Any:
        return ev.error("NDL207", f"a {self.kind} has no `{name}`", span)

    def call(self, ev: Any, args: list[Any], options: dict[str, Any], span: Any) -> Any:
        return ev.error("NDL320", f"a {self.kind} cannot be called", span)

    def index(self, ev: Any, items: list[Any], span: Any) -> Any:
        return ev.error("NDL321", f"a {self.kind} has no elements", span)


class Training(Object):
    """The constant `training`: true while a training step is computed."""

    kind = "truth value"

    def read(self, ev: Any, span: Any) -> Any:
        if ev.checking:
            return Value(BOOL)
        make = getattr(ev.builder, "training", None)
        return False if make is None else make(span)


@dataclass(frozen=True, eq=False)
class FileV:
    """A value declared at file level that each evaluator works out for itself: `const`, `net`, `extern`,
    `domain`, `model X = …`, and a named `solve` or `train`."""

    kind: str  # const net extern domain alias solve train
    stmt: tree.Stmt
    item: tree.DeclItem | None
    module: Module
