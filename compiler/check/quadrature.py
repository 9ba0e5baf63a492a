"""Integrals and expectations by Gauss's rules: the nodes become an array axis.

The rules are made from the recurrence of the law's polynomials by Golub and Welsch (1969, Math. Comp. 23,
221–230): nodes are the eigenvalues of the Jacobi matrix, weights the squares of the first components of its
eigenvectors. Laws on finitely many numbers, and `poisson` up to a tail below 1e-17, are sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.axes import reduce_axes
from ndl.compiler.check.binders import Clause, clause_of, over_whole
from ndl.compiler.check.evaluator import Evaluator, constant_of
from ndl.compiler.check.fields import over_domain, part_of_axis, whole_integral
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import (
    UNKNOWN,
    Axis,
    BallV,
    BoundaryV,
    DistV,
    DomainV,
    HostV,
    ListV,
    RangeV,
    Unknown,
    Value,
)
from ndl.compiler.diagnostics import did_you_mean
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import Dim, Tensor, Type

if TYPE_CHECKING:
    import numpy.typing as npt

NODES = 32

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Rule:
    """Nodes of a standard law; `weights` are numbers or a vector that the run computes; `place` carries a
    node to the law with its arguments."""

    nodes: Any
    weights: Any
    place: Callable[[Evaluator, Any, list[Any], Span], Any]


# ---------------------------------------------------------------- rules


def _gauss(diagonal: npt.NDArray[Any], beside: npt.NDArray[Any]) -> tuple[Numbers, Numbers]:
    """Nodes and weights of the law whose orthonormal polynomials have this recurrence."""
    import numpy as np

    nodes, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
    return tuple(map(float, nodes)), tuple(map(float, vectors[0] ** 2))


def hermite() -> tuple[Numbers, Numbers]:
    """For N(0, 1)."""
    import numpy as np

    return _gauss(np.zeros(NODES), np.sqrt(np.arange(1.0, NODES)))


def legendre() -> tuple[Numbers, Numbers]:
    """For the uniform law on 0..1."""
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return tuple(map(float, (nodes + 1) / 2)), tuple(map(float, weights / 2))


def laguerre(shape: float = 1.0) -> tuple[Numbers, Numbers]:
    """For the gamma law of this shape and rate 1."""
    import numpy as np

    k = np.arange(float(NODES))
    return _gauss(2 * k + shape, np.sqrt(k[1:] * (k[1:] + shape - 1)))


def jacobi(a: float, b: float) -> tuple[Numbers, Numbers]:
    """For the beta law."""
    import numpy as np

    p, q = b - 1, a - 1  # weight (1 - x)^p (1 + x)^q on -1..1
    k = np.arange(1.0, NODES)
    s = 2 * k + p + q
    first = (q - p) / (p + q + 2)
    diagonal = np.concatenate([[first], (q * q - p * p) / (s * (s + 2))])
    # for k = 1 the factor k + p + q cancels s - 1
    ratio = np.where(k == 1, 1.0, (k + p + q) / np.where(k == 1, 1.0, s - 1))
    square = 4 * k * (k + p) * (k + q) * ratio / (s**2 * (s + 1))
    nodes, weights = _gauss(diagonal, np.sqrt(square))
    return tuple((x + 1) / 2 for x in nodes), weights


def counts(rate: float) -> tuple[Numbers, Numbers]:
    """For the Poisson law: all counts whose probabilities add up to more than 1 - 1e-17."""
    import math

    most = math.ceil(rate + 12 * math.sqrt(rate) + 40)
    numbers = range(most + 1)
    return tuple(map(float, numbers)), tuple(
        math.exp(k * math.log(rate) - rate - math.lgamma(k + 1)) for k in numbers
    )


# ---------------------------------------------------------------- laws


def _two(args: list[Any]) -> tuple[Any, Any]:
    """The two arguments of a law, 0 and 1 where they are not given."""
    return (args[0] if args else 0.0), (args[1] if len(args) > 1 else 1.0)


def _affine(ev: Evaluator, u: Any, args: list[Any], span: Span) -> Any:
    shift, scale = _two(args)
    return ev.binary("+", shift, ev.binary("*", scale, u, span), span)


def _between(ev: Evaluator, u: Any, args: list[Any], span: Span) -> Any:
    low, high = _two(args)
    return ev.binary("+", low, ev.binary("*", ev.binary("-", high, low, span), u, span), span)


def _lognormal(ev: Evaluator, u: Any, args: list[Any], span: Span) -> Any:
    return ev.elementwise("exp", [_affine(ev, u, args, span)], span)


def _loguniform(ev: Evaluator, u: Any, args: list[Any], span: Span) -> Any:
    ends = [ev.elementwise("log", [a], span) for a in args]
    return ev.elementwise("exp", [_between(ev, u, ends, span)], span)


def _rated(ev: Evaluator, u: Any, args: list[Any], span: Span) -> Any:
    """Divided by the last argument, a rate."""
    return ev.binary("/", u, args[-1], span) if args else u


def _same(ev: Evaluator, u: Any, args: list[Any], span: Span) -> Any:
    return u


CONTINUOUS: dict[str, tuple[Callable[[], tuple[Numbers, Numbers]], Any, int, int]] = {
    "normal": (hermite, _affine, 0, 2),
    "lognormal": (hermite, _lognormal, 0, 2),
    "uniform": (legendre, _between, 0, 2),
    "loguniform": (legendre, _loguniform, 2, 2),
    "exponential": (laguerre, _rated, 0, 1),
}
"""The rule of the standard law, how its nodes are carried, and how many arguments the law may have."""

SHAPED = {"gamma": 2, "beta": 2, "poisson_law": 1}
"""Laws whose nodes depend on arguments, which are known when compiling, and how many they have at most."""

COUNTED = ("bernoulli", "categorical", "choice")

LAWS = (*CONTINUOUS, "laplace", *SHAPED, *COUNTED)


def rule_of(ev: Evaluator, law: DistV, span: Span) -> Rule | Unknown:
    """The rule of a law; the checker, which computes nothing, gets zeros."""
    args = list(law.args)
    if law.law in COUNTED:
        return _counted(ev, law, args, span)
    if law.law in SHAPED:
        return _shaped(ev, law, args, span)
    if law.law == "laplace":
        zeros = ((0.0,) * 2 * NODES,) * 2
        nodes, weights = zeros if ev.checking else _both_sides()
        return Rule(nodes, weights, _affine)
    make, place, least, most = CONTINUOUS[law.law]
    if not least <= len(args) <= most:
        return _miscounted(ev, law, span)
    nodes, weights = ((0.0,) * NODES,) * 2 if ev.checking else make()
    return Rule(nodes, weights, place)


def _both_sides() -> tuple[Numbers, Numbers]:
    nodes, weights = laguerre()
    return (*(-x for x in nodes), *nodes), tuple(w / 2 for w in (*weights, *weights))


def _shaped(ev: Evaluator, law: DistV, args: list[Any], span: Span) -> Rule | Unknown:
    least = 2 if law.law == "beta" else 1
    if not least <= len(args) <= SHAPED[law.law]:
        return _miscounted(ev, law, span)
    fixed = args if law.law == "beta" else args[:1]
    known = [constant_of(ev.known(a)) for a in fixed]
    if any(isinstance(a, (Unknown, HostV)) for a in fixed):
        return UNKNOWN
    if any(not isinstance(k, (int, float)) for k in known):
        found: Unknown = ev.error(
            "NDL349",
            f"the {'rate' if law.law == 'poisson_law' else 'shape'} of this law must be known when compiling",
            law.span or span,
            notes=("the nodes of its quadrature depend on it",),
        )
        return found
    if any(k <= 0 for k in known):
        bad: Unknown = ev.error("NDL366", "the arguments of this law must be above 0", law.span or span)
        return bad
    if law.law == "poisson_law":
        return Rule(*counts(known[0]), _same)
    nodes, weights = ((0.0,) * NODES,) * 2 if ev.checking else _of_shape(law.law, known)
    return Rule(nodes, weights, _same if law.law == "beta" or len(args) == 1 else _rated)


def _of_shape(law: str, known: list[Any]) -> tuple[Numbers, Numbers]:
    return jacobi(*known) if law == "beta" else laguerre(*known)


def _counted(ev: Evaluator, law: DistV, args: list[Any], span: Span) -> Rule | Unknown:
    """Finitely many values."""
    if law.law == "bernoulli":
        p = args[0] if args else 0.5
        rest = ev.binary("-", 1.0, p, span)
        shares = ev.value(ListV((rest, p)), span)
        return UNKNOWN if isinstance(shares, Unknown) else Rule((0.0, 1.0), shares, _same)
    given = ev.value(args[0], span) if len(args) == 1 else None
    if given is None:
        return _miscounted(ev, law, span)
    size = given.type.shape[0].constant if isinstance(given, Value) and given.type.rank == 1 else None
    if size is None or isinstance(given, Unknown):
        return UNKNOWN
    if law.law == "choice":
        return Rule(given, (1.0 / size,) * size, _same)
    total = ev.op("sum", [given], span, axes=(0,))
    shares = ev.value(ev.binary("/", given, total, span), span)
    return UNKNOWN if isinstance(shares, Unknown) else Rule(tuple(map(float, range(size))), shares, _same)


def _miscounted(ev: Evaluator, law: DistV, span: Span) -> Unknown:
    found: Unknown = ev.error("NDL322", f"`{law.law}` is given {len(law.args)} arguments", law.span or span)
    return found


# ---------------------------------------------------------------- the two functions


def along(ev: Evaluator, values: Any, axis: Axis, span: Span) -> Value:
    """Numbers, or a vector that the run computes, as one value with a bound axis."""
    if not isinstance(values, Value):
        values = ev.builder.const(tuple(values), Tensor("R", (axis.extent,)), span)
    return Value(Tensor(values.type.kind), values.ref, (*values.axes, axis))


def integral(ev: Evaluator, e: tree.Call, scope: Scope, expect: Type | None) -> Any:
    """`integral(e, s in a..b)`: Gauss–Legendre with 32 nodes; over a domain it is a field's."""
    if id(e) in ev.integrals:
        return ev.integrals[id(e)]
    clause = clause_of(ev, e.args[1], scope) if len(e.args) == 2 else None
    if clause is None and len(e.args) == 1:
        return whole_integral(ev, e, scope)
    if clause is None:
        *_, domain = (ev.eval(a.value, scope) for a in e.args[1:])
        if len(e.args) == 2 and isinstance(domain, (DomainV, BoundaryV, BallV)):
            return over_whole(ev, "integral", e, domain, scope)
        return ev.not_lowered("an integral over a domain", e.span)
    found = ev.eval(clause.set, scope) if clause.set is not None else UNKNOWN
    if not isinstance(found, RangeV):
        return over_domain(ev, "integral", e, clause, found, scope)
    along_field = part_of_axis(ev, e, clause, found, scope)
    if along_field is not None:
        return along_field
    nodes, weights = ((0.0,) * NODES,) * 2 if ev.checking else legendre()
    total = _mean(ev, e, [(clause, Rule(nodes, weights, _between), [found.lo, found.hi])], scope)
    length = ev.binary("-", found.hi, found.lo, e.span)
    return UNKNOWN if isinstance(total, Unknown) else ev.binary("*", length, total, e.span)


def expectation(ev: Evaluator, e: tree.Call, scope: Scope, expect: Type | None) -> Any:
    """`expect(e, z ~ d, …)`: the mean over independent draws."""
    clauses = [clause_of(ev, a, scope) for a in e.args[1:]]
    drawn: list[tuple[Clause, Rule, list[Any]]] = []
    for clause in clauses:
        if clause is None or clause.law is None:
            return ev.error("NDL340", "`expect` needs a draw: `expect(e, z ~ normal(0, 1))`", e.span)
        law = ev.eval(clause.law, scope)
        if isinstance(law, (Unknown, HostV)):
            return UNKNOWN
        if not isinstance(law, DistV) or law.law not in LAWS:
            return _no_rule(ev, law, clause.law.span)
        rule = rule_of(ev, law, clause.law.span)
        if isinstance(rule, Unknown):
            return UNKNOWN
        drawn.append((clause, rule, list(law.args)))
    return _mean(ev, e, drawn, scope)


def _no_rule(ev: Evaluator, law: Any, span: Span) -> Any:
    if not isinstance(law, DistV):
        return ev.error("NDL340", "`expect` averages over a distribution", span)
    return ev.error(
        "NDL365",
        f"`expect` has no rule for `{law.law}`",
        span,
        help=did_you_mean(law.law, LAWS) or "draw a sample and take its mean, or write the integral",
    )


def _mean(ev: Evaluator, e: tree.Call, drawn: list[tuple[Clause, Rule, list[Any]]], scope: Scope) -> Any:
    """The weighted sum of a body over the nodes of one or several rules."""
    inner, axes, weights = scope.child(), [], []
    for clause, rule, args in drawn:
        name = clause.pattern.names[0]
        size = rule.nodes.type.shape[0] if isinstance(rule.nodes, Value) else Dim.of(len(rule.nodes))
        axis = Axis(name, size)
        inner.names[name] = rule.place(ev, along(ev, rule.nodes, axis, e.span), args, e.span)
        axes.append(axis)
        weights.append(along(ev, rule.weights, axis, e.span))
    total = ev.eval(e.args[0].value, inner)
    for w in weights:
        total = ev.binary("*", total, w, e.span)
    product = ev.value(total, e.span)
    return UNKNOWN if isinstance(product, Unknown) else reduce_axes(ev, "sum", product, axes, e.span)
