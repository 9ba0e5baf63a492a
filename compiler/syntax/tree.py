"""The syntax tree: these classes are the specification of what the parser returns.

Every node is frozen and starts with its `span`. Names are NFKC-normalised; `primes` counts
the apostrophes of a name (`x''` is `Name("x", primes=2)`). Nothing here is resolved or typed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from ndl.compiler.source import Source, Span


@dataclass(frozen=True, slots=True)
class Node:
    span: Span = field(repr=False, compare=False)


# ---------------------------------------------------------------- expressions


@dataclass(frozen=True, slots=True)
class Expr(Node):
    pass


@dataclass(frozen=True, slots=True)
class Num(Expr):
    """`1`, `2.5`, `1e-3`, `10_000`, `2i`; `text` is what was written."""

    value: int | float
    text: str
    imaginary: bool = False


@dataclass(frozen=True, slots=True)
class Str(Expr):
    value: str


@dataclass(frozen=True, slots=True)
class Name(Expr):
    id: str
    primes: int = 0


@dataclass(frozen=True, slots=True)
class Attr(Expr):
    """`value.name`, also `A.T` and `s.final.theta'`."""

    value: Expr
    name: str
    primes: int = 0
    name_span: Span | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Unary(Expr):
    op: str  # - + not
    operand: Expr


@dataclass(frozen=True, slots=True)
class Binary(Expr):
    op: str  # + - * / // @ ^
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Logical(Expr):
    op: str  # and or
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Compare(Expr):
    """A chain `a < b <= c`, also `x in S` and `x not in S`: operands[i] ops[i] operands[i+1]."""

    ops: tuple[str, ...]  # < <= > >= == != in "not in"
    operands: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Conditional(Expr):
    """`if cond then a else b`."""

    cond: Expr
    then: Expr
    orelse: Expr


@dataclass(frozen=True, slots=True)
class Pattern(Node):
    """What a lambda, `for` or binder binds: `x`, or `(x, y)` / `[x, y]` (then `names` has several
    and `bracket` says which was written, "(" or "["; a single bare name has bracket "")."""

    names: tuple[str, ...]
    bracket: str = ""


@dataclass(frozen=True, slots=True)
class Lambda(Expr):
    """`x -> e`, `(x, y) -> e`, `[x, y] -> e`."""

    pattern: Pattern
    body: Expr


@dataclass(frozen=True, slots=True)
class Range(Expr):
    """`lo..hi by step`."""

    lo: Expr
    hi: Expr
    by: Expr | None = None


@dataclass(frozen=True, slots=True)
class Arg(Node):
    """An argument of a call.

    kind "positional": `value`; "keyword": `name = value`; "draw": `name ~ value`;
    "part": `name: value` (splittings). `x in S` is positional, a `Compare` with "in".
    """

    kind: str
    name: str | None
    value: Expr
    name_span: Span | None = field(default=None, repr=False, compare=False)
    primes: int = 0


@dataclass(frozen=True, slots=True)
class Call(Expr):
    func: Expr
    args: tuple[Arg, ...]


@dataclass(frozen=True, slots=True)
class Slice(Expr):
    """`a:b` inside an index; either end may be missing."""

    start: Expr | None
    stop: Expr | None


@dataclass(frozen=True, slots=True)
class Index(Expr):
    value: Expr
    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class ListExpr(Expr):
    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Binder(Node):
    """`for x in S`, `for i, j` (one binder a bare name, set None)."""

    pattern: Pattern
    set: Expr | None


@dataclass(frozen=True, slots=True)
class Comprehension(Expr):
    """`[body for binders if cond]`."""

    body: Expr
    binders: tuple[Binder, ...]
    cond: Expr | None


@dataclass(frozen=True, slots=True)
class TupleExpr(Expr):
    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class DictExpr(Expr):
    """`{Rod: chebyshev(32), Torus: fourier(64, 64)}`."""

    entries: tuple[tuple[Expr, Expr], ...]


@dataclass(frozen=True, slots=True)
class SetBuilder(Expr):
    """`{ x, y | x^2 + y^2 < 1 }`."""

    names: tuple[str, ...]
    cond: Expr


@dataclass(frozen=True, slots=True)
class Restrict(Expr):
    """`S if c`: the part of a set where `c` holds (in arguments and in sets of binders)."""

    value: Expr
    cond: Expr


@dataclass(frozen=True, slots=True)
class Every(Expr):
    """`every 0.01`."""

    value: Expr


@dataclass(frozen=True, slots=True)
class Words(Expr):
    """`all`, `initial states`: words that only a setting's value knows (`name` is "all" or
    "initial states")."""

    name: str


@dataclass(frozen=True, slots=True)
class Except(Expr):
    """`all except start, head.bias`."""

    value: Expr
    excluded: tuple[Expr, ...]


# ---------------------------------------------------------------- types


@dataclass(frozen=True, slots=True)
class UnitExpr(Node):
    """`m/s^2` as (name, exponent) factors in the order written; `1` has none."""

    factors: tuple[tuple[str, Fraction], ...]


@dataclass(frozen=True, slots=True)
class TypeExpr(Node):
    pass


@dataclass(frozen=True, slots=True)
class TypeName(TypeExpr):
    """`R`, `R[n, 2*d]`, `R{m/s}`, `R["16x0e"]` (a dim that is a `Str`), a model's name; for
    noises also `wiener[m](cov=S)`, where `args` are the call's."""

    name: str
    dims: tuple[Expr, ...] = ()
    unit: UnitExpr | None = None
    args: tuple[Arg, ...] = ()


@dataclass(frozen=True, slots=True)
class FieldType(TypeExpr):
    """`R[c] on Omega`, `R on time`, `white on Omega`."""

    value: TypeExpr
    domain: Expr


@dataclass(frozen=True, slots=True)
class MapType(TypeExpr):
    """`(R[a], R[b]) -> R[c]`."""

    params: tuple[TypeExpr, ...]
    result: TypeExpr


@dataclass(frozen=True, slots=True)
class TupleType(TypeExpr):
    items: tuple[TypeExpr, ...]


# ---------------------------------------------------------------- statements


@dataclass(frozen=True, slots=True)
class Stmt(Node):
    pass


@dataclass(frozen=True, slots=True)
class Constraint(Node):
    """`> 0`, `>= 0`, `< 1`, `<= 1`, `in 0..1`."""

    op: str
    bound: Expr


@dataclass(frozen=True, slots=True)
class DeclItem(Node):
    """`name [constraint] [: type] [as format] [= value | ~ law] [if option] [per word]`."""

    name: str
    name_span: Span = field(repr=False, compare=False)
    primes: int = 0
    constraint: Constraint | None = None
    type: TypeExpr | None = None
    format: Expr | None = None
    value: Expr | None = None
    law: Expr | None = None
    cond: Expr | None = None
    per: str | None = None


@dataclass(frozen=True, slots=True)
class Declare(Stmt):
    """`param …`, `state …`, `const …`, `input …`, with one or several items."""

    keyword: str  # param state const input
    items: tuple[DeclItem, ...]


@dataclass(frozen=True, slots=True)
class Noise(Stmt):
    name: str
    name_span: Span = field(repr=False, compare=False)
    law: TypeExpr


@dataclass(frozen=True, slots=True)
class Net(Stmt):
    """`net f: R[2] -> R[2] = MLP(width=32) per step`; also at file level."""

    name: str
    name_span: Span = field(repr=False, compare=False)
    signature: TypeExpr | None = None
    value: Expr | None = None
    per: str | None = None


@dataclass(frozen=True, slots=True)
class Term(Stmt):
    name: str
    name_span: Span = field(repr=False, compare=False)
    value: Expr


@dataclass(frozen=True, slots=True)
class Assign(Stmt):
    """`a, b = e`, and every equation: `x' = e`, `dx/dt = e`, `dx = e`, `0 = e`, `y(t) = e`,
    `u', v' = e`, `dense(theta) = e`, `error = e`, a setting `span = 0..1`. Targets are the
    expressions written on the left."""

    targets: tuple[Expr, ...]
    value: Expr
    type: TypeExpr | None = None


@dataclass(frozen=True, slots=True)
class Draw(Stmt):
    """`z: T ~ law [per step]`, `pde ~ Poisson`."""

    name: str
    name_span: Span = field(repr=False, compare=False)
    law: Expr
    type: TypeExpr | None = None
    per: str | None = None


@dataclass(frozen=True, slots=True)
class Reset(Stmt):
    """`v <- -e*v`; the target is a `Name` (primes allowed) or an index of one."""

    target: Expr
    value: Expr


@dataclass(frozen=True, slots=True)
class On(Stmt):
    """`on boundary(Omega): u = 0`."""

    set: Expr
    body: tuple[Stmt, ...]


@dataclass(frozen=True, slots=True)
class When(Stmt):
    """`when falling(h): …`, `when every 1: …`."""

    trigger: Expr
    body: tuple[Stmt, ...]


@dataclass(frozen=True, slots=True)
class Stop(Stmt):
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Require(Stmt):
    cond: Expr
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Observe(Stmt):
    """`observe y ~ normal(C @ x, r)`."""

    name: str
    name_span: Span = field(repr=False, compare=False)
    law: Expr


@dataclass(frozen=True, slots=True)
class Optimize(Stmt):
    """`minimize e [wrt SET] [: settings]`; `settings` are `Assign`s."""

    sense: str  # minimize maximize
    value: Expr
    wrt: Expr | None = None
    settings: tuple[Stmt, ...] = ()


@dataclass(frozen=True, slots=True)
class Calculus(Stmt):
    name: str  # ito stratonovich (not checked here)


@dataclass(frozen=True, slots=True)
class Return(Stmt):
    values: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class For(Stmt):
    pattern: Pattern
    iter: Expr
    body: tuple[Stmt, ...]


@dataclass(frozen=True, slots=True)
class Assert(Stmt):
    cond: Expr
    why: str | None = None


@dataclass(frozen=True, slots=True)
class ExprStmt(Stmt):
    value: Expr


@dataclass(frozen=True, slots=True)
class Phase(Stmt):
    name: str
    settings: tuple[Stmt, ...]


@dataclass(frozen=True, slots=True)
class TableauRow(Node):
    """One row: the entry left of `|` (None in output rows) and those right of it, exact."""

    c: Fraction | float | None
    a: tuple[Fraction | float, ...]
    text: str = field(compare=False, default="")


@dataclass(frozen=True, slots=True)
class Tableau(Stmt):
    stages: tuple[TableauRow, ...]
    outputs: tuple[TableauRow, ...]  # the solution, then the embedded one


@dataclass(frozen=True, slots=True)
class Step(Stmt):
    """`step(f, x, t, h): …` of a solver."""

    params: tuple[str, ...]
    body: tuple[Stmt, ...]


@dataclass(frozen=True, slots=True)
class Until(Stmt):
    cond: Expr


# ---------------------------------------------------------------- declarations


@dataclass(frozen=True, slots=True)
class Parameter(Node):
    """A datum (`x: R[In]`) or an option (`width = 64`) of a header."""

    name: str
    type: TypeExpr | None = None
    default: Expr | None = None


@dataclass(frozen=True, slots=True)
class Decl(Stmt):
    """A named declaration with a header; `data` stand before the `;`, `options` after it."""

    name: str
    name_span: Span = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Fn(Decl):
    data: tuple[Parameter, ...]
    options: tuple[Parameter, ...]
    result: TypeExpr | None
    body: tuple[Stmt, ...]  # `fn f(x) = e` has one Return
    short: bool = False  # written on one line with `=`
    doc: str | None = None


@dataclass(frozen=True, slots=True)
class Operator(Decl):
    data: tuple[Parameter, ...]
    options: tuple[Parameter, ...]
    result: TypeExpr | None
    body: tuple[Stmt, ...]
    doc: str | None = None


@dataclass(frozen=True, slots=True)
class Model(Decl):
    data: tuple[Parameter, ...]
    options: tuple[Parameter, ...]
    body: tuple[Stmt, ...]
    doc: str | None = None


@dataclass(frozen=True, slots=True)
class ModelAlias(Decl):
    """`model Fast = reduce(ConvODE, pod(rank=8))`."""

    value: Expr


@dataclass(frozen=True, slots=True)
class DomainDecl(Decl):
    """`domain Torus = periodic(x in 0..1)`; also inside a model."""

    value: Expr


@dataclass(frozen=True, slots=True)
class Solver(Decl):
    data: tuple[Parameter, ...]
    options: tuple[Parameter, ...]
    kind: str  # ode sde split root linear energy integral
    order: Expr | None
    embedded: Expr | None
    body: tuple[Stmt, ...]
    doc: str | None = None


@dataclass(frozen=True, slots=True)
class Solve(Stmt):
    """`solve Lorenz(rho ~ uniform(0, 28)) as sweep: …`."""

    target: Expr
    alias: str | None
    settings: tuple[Stmt, ...]
    doc: str | None = None


@dataclass(frozen=True, slots=True)
class Train(Stmt):
    targets: tuple[Expr, ...]
    alias: str | None
    body: tuple[Stmt, ...]
    doc: str | None = None


@dataclass(frozen=True, slots=True)
class Test(Stmt):
    title: str
    body: tuple[Stmt, ...]


@dataclass(frozen=True, slots=True)
class Extern(Stmt):
    """`extern net f: R[64] -> R[64]`."""

    name: str
    name_span: Span = field(repr=False, compare=False)
    signature: TypeExpr


@dataclass(frozen=True, slots=True)
class UseName(Node):
    name: str
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class Use(Stmt):
    """`use std.nets: MLP, Linear` · `use ./wells as w`; `path` is as written."""

    path: str
    names: tuple[UseName, ...]
    alias: str | None
    path_span: Span = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Edition(Stmt):
    year: int


@dataclass(frozen=True, slots=True)
class Comment(Node):
    """`# text`, kept for the formatter; `own_line` when nothing stands before it."""

    text: str
    own_line: bool


@dataclass(frozen=True, slots=True)
class File:
    """A parsed file."""

    source: Source = field(repr=False, compare=False)
    doc: str | None
    items: tuple[Stmt, ...]
    comments: tuple[Comment, ...] = field(compare=False, default=())
