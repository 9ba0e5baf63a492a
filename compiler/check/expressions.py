"""What each form of expression means: one rule for each node of the syntax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.habits import NAMES
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import (
    UNKNOWN,
    Builtin,
    Closure,
    DictV,
    EveryV,
    FileV,
    ListV,
    ModelV,
    NotLowered,
    RangeV,
    Training,
    TupleV,
    Unknown,
    WordV,
    is_number,
)
from ndl.compiler.diagnostics import did_you_mean
from ndl.compiler.syntax import tree
from ndl.compiler.types import Type


def _num(ev: Evaluator, e: tree.Num, scope: Scope, expect: Type | None) -> Any:
    return complex(0, e.value) if e.imaginary else e.value


def _str(ev: Evaluator, e: tree.Str, scope: Scope, expect: Type | None) -> Any:
    return e.value


def _name(ev: Evaluator, e: tree.Name, scope: Scope, expect: Type | None) -> Any:
    found = scope.find(e.id, e.primes)
    if found is not None:
        if isinstance(found, Training):
            return found.read(ev, e.span)
        return ev.file_value(found) if isinstance(found, FileV) else found
    shown = e.id + "'" * e.primes
    hint = did_you_mean(e.id, scope.all_names()) if scope.advice is None else scope.advice(e.id)
    if e.primes and scope.find(e.id) is not None:
        hint = (
            f"`{e.id}` has no equation for `{shown}`: a derivative by a coordinate x is `dx({e.id})`, "
            "and noise stands in a differential form, `dx = f*dt + g*dW`"
        )
    hint = NAMES.get(e.id, hint)
    return ev.error("NDL201", f"`{shown}` is not known", e.span, help=hint)


def _attr(ev: Evaluator, e: tree.Attr, scope: Scope, expect: Type | None) -> Any:
    from ndl.compiler.check.calls import attribute

    return attribute(ev, ev.eval(e.value, scope), e)


def _unary(ev: Evaluator, e: tree.Unary, scope: Scope, expect: Type | None) -> Any:
    found = ev.eval(e.operand, scope, expect)
    if e.op == "not":
        return ev.negate(found, e.span)
    if isinstance(found, Unknown) or e.op == "+":
        return found
    if is_number(found):
        return -found
    found = ev.linear_map(found)
    if hasattr(found, "negative"):
        return found.negative()
    return ev.elementwise("neg", [found], e.span, [e.operand])


def _binary(ev: Evaluator, e: tree.Binary, scope: Scope, expect: Type | None) -> Any:
    if e.op == "@":
        return _product(ev, e, scope)
    spine: list[tree.Binary] = []
    node: tree.Expr = e
    while isinstance(node, tree.Binary) and node.op != "@":
        spine.append(node)
        node = node.left
    left = ev.eval(node, scope, expect)
    for b in reversed(spine):
        right = ev.eval(b.right, scope, expect if b.op != "^" else None)
        left = ev.binary(b.op, left, right, b.span, (b.left, b.right))
    return left


def _product(ev: Evaluator, e: tree.Binary, scope: Scope) -> Any:
    """`a @ b`; powers and exponentials on its left are those of maps."""
    from ndl.compiler.check.derivatives import is_jacobian, product_with_jacobian
    from ndl.compiler.check.maps import acted_on

    if is_jacobian(e.left, scope):
        right = ev.eval(e.right, scope)
        found = product_with_jacobian(ev, e.left, right, scope, e.span)
        if found is not None:
            return found
        return ev.binary("@", ev.eval(e.left, scope), right, e.span, (e.left, e.right))
    if isinstance(e.left, tree.Binary) and e.left.op == "^":
        exponent = ev.known(ev.eval(e.left.right, scope))
        if exponent == -1:
            return _solve(ev, e, ev.eval(e.left.left, scope), scope)
    left = _map_of(ev, e.left, scope)
    return ev.binary("@", left, acted_on(ev, left, e.right, scope), e.span, (e.left, e.right))


def _map_of(ev: Evaluator, e: tree.Expr, scope: Scope) -> Any:
    """What stands before `@`: a power or an exponential of a map, also with a sign or a factor before it."""
    from ndl.compiler.check.maps import exponential, power

    if isinstance(e, tree.Unary) and e.op == "-" and _is_function(e.operand, scope):
        inner = ev.linear_map(_map_of(ev, e.operand, scope))
        return inner.negative() if hasattr(inner, "negative") else ev.elementwise("neg", [inner], e.span)
    if isinstance(e, tree.Binary) and e.op == "*" and _is_function(e.right, scope):
        return ev.binary("*", ev.eval(e.left, scope), _map_of(ev, e.right, scope), e.span, (e.left, e.right))
    if isinstance(e, tree.Binary) and e.op == "^":
        return power(ev, ev.eval(e.left, scope), ev.known(ev.eval(e.right, scope)), e)
    if isinstance(e, tree.Call) and _is_exp(e, scope):
        return exponential(ev, ev.eval(e.args[0].value, scope), e)
    return ev.eval(e, scope)


def _is_function(e: tree.Expr, scope: Scope) -> bool:
    return (isinstance(e, tree.Binary) and e.op == "^") or (isinstance(e, tree.Call) and _is_exp(e, scope))


def _is_exp(e: tree.Call, scope: Scope) -> bool:
    """Whether a call is the exponential of one value."""
    if not isinstance(e.func, tree.Name) or e.func.id != "exp" or [a.kind for a in e.args] != ["positional"]:
        return False
    found = scope.find("exp")
    return isinstance(found, Builtin) and found.name == "exp"


def _solve(ev: Evaluator, e: tree.Binary, matrix: Any, scope: Scope) -> Any:
    """`A^-1 @ b` as a linear solve, without forming the inverse."""
    from ndl.compiler.check.maps import acted_on

    assert isinstance(e.left, tree.Binary)
    right = acted_on(ev, matrix, e.right, scope, True)
    inverse = getattr(matrix, "solve_to", None)
    if inverse is not None:
        return inverse(ev, right, e.span)
    if isinstance(matrix, (Closure, Builtin)) and (ev.checking or ev.fields is not None):
        from ndl.compiler.check.fields import inverse_of_map

        return inverse_of_map(ev, matrix, right, e.span)
    if isinstance(matrix, (NotLowered, Closure, ModelV, Builtin)):
        return ev.not_lowered("the inverse of a linear map that is not a matrix", e.span)
    a, b = ev.value(matrix, e.left.span), ev.value(right, e.right.span)
    if isinstance(a, Unknown) or isinstance(b, Unknown):
        return UNKNOWN
    return ev.op("solve", [a, b], e.span, (e.left.left, e.right))


def _logical(ev: Evaluator, e: tree.Logical, scope: Scope, expect: Type | None) -> Any:
    a = ev.known(ev.eval(e.left, scope))
    if isinstance(a, bool) and a is (e.op == "or"):
        return a
    return ev.both(e.op, a, ev.known(ev.eval(e.right, scope)), e.span)


def _compare(ev: Evaluator, e: tree.Compare, scope: Scope, expect: Type | None) -> Any:
    values = [ev.eval(o, scope) for o in e.operands]
    found: Any = True
    for i, op in enumerate(e.ops):
        part = ev.compare(op, values[i], values[i + 1], e.span, (e.operands[i], e.operands[i + 1]))
        found = ev.both("and", found, part, e.span)
    return found


def _conditional(ev: Evaluator, e: tree.Conditional, scope: Scope, expect: Type | None) -> Any:
    cond = ev.known(ev.eval(e.cond, scope))
    if isinstance(cond, bool):
        return ev.eval(e.then if cond else e.orelse, scope, expect)
    ev.undecided += 1
    try:
        then, orelse = ev.eval(e.then, scope, expect), ev.eval(e.orelse, scope, expect)
    finally:
        ev.undecided -= 1
    return ev.choose(cond, then, orelse, e.span)


def _lambda(ev: Evaluator, e: tree.Lambda, scope: Scope, expect: Type | None) -> Any:
    if ev.checking:
        ev.eval(e.body, scope.child(dict.fromkeys(e.pattern.names, UNKNOWN)))
    return Closure(e, scope)


def _range(ev: Evaluator, e: tree.Range, scope: Scope, expect: Type | None) -> Any:
    by = None if e.by is None else ev.eval(e.by, scope)
    return RangeV(ev.eval(e.lo, scope), ev.eval(e.hi, scope), by)


def _call(ev: Evaluator, e: tree.Call, scope: Scope, expect: Type | None) -> Any:
    from ndl.compiler.check.calls import call

    return call(ev, e, scope, expect)


def _index(ev: Evaluator, e: tree.Index, scope: Scope, expect: Type | None) -> Any:
    from ndl.compiler.check.indexing import index

    return index(ev, ev.eval(e.value, scope), e, scope)


def _list(ev: Evaluator, e: tree.ListExpr, scope: Scope, expect: Type | None) -> Any:
    return ListV(tuple(ev.eval(i, scope) for i in e.items))


def _tuple(ev: Evaluator, e: tree.TupleExpr, scope: Scope, expect: Type | None) -> Any:
    return TupleV(tuple(ev.eval(i, scope) for i in e.items))


def _dict(ev: Evaluator, e: tree.DictExpr, scope: Scope, expect: Type | None) -> Any:
    return DictV(tuple((ev.eval(k, scope), ev.eval(v, scope)) for k, v in e.entries))


def _comprehension(ev: Evaluator, e: tree.Comprehension, scope: Scope, expect: Type | None) -> Any:
    from ndl.compiler.check.binders import comprehension

    return comprehension(ev, e, scope)


def _set(ev: Evaluator, e: tree.SetBuilder, scope: Scope, expect: Type | None) -> Any:
    from ndl.compiler.check.fields import set_of_points

    return set_of_points(ev, e, scope)


def _restrict(ev: Evaluator, e: tree.Restrict, scope: Scope, expect: Type | None) -> Any:
    from ndl.compiler.check.fields import part_of_set

    return part_of_set(ev, e, scope)


def _every(ev: Evaluator, e: tree.Every, scope: Scope, expect: Type | None) -> Any:
    return EveryV(ev.eval(e.value, scope))


def _words(ev: Evaluator, e: tree.Words, scope: Scope, expect: Type | None) -> Any:
    return WordV(e.name)


def _except(ev: Evaluator, e: tree.Except, scope: Scope, expect: Type | None) -> Any:
    return WordV("except", (ev.eval(e.value, scope), e.excluded))


Rule = Callable[..., Any]
RULES: dict[type, Rule] = {
    tree.Num: _num,
    tree.Str: _str,
    tree.Name: _name,
    tree.Attr: _attr,
    tree.Unary: _unary,
    tree.Binary: _binary,
    tree.Logical: _logical,
    tree.Compare: _compare,
    tree.Conditional: _conditional,
    tree.Lambda: _lambda,
    tree.Range: _range,
    tree.Call: _call,
    tree.Index: _index,
    tree.ListExpr: _list,
    tree.TupleExpr: _tuple,
    tree.DictExpr: _dict,
    tree.Comprehension: _comprehension,
    tree.SetBuilder: _set,
    tree.Restrict: _restrict,
    tree.Every: _every,
    tree.Words: _words,
    tree.Except: _except,
}
