"""Tree → text: one line for any node, with the fewest parentheses that give the same tree."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fractions import Fraction

from ndl.compiler.syntax import tree as t
from ndl.compiler.syntax.tokens import RESERVED

# How tightly a form binds; an operand below the level that its place asks for is parenthesised.
LOOSE, OR, AND, NOT, COMPARE, RANGE, SUM, PRODUCT, UNARY, POWER, POSTFIX = range(11)
BINARY = {"+": SUM, "-": SUM, "*": PRODUCT, "/": PRODUCT, "//": PRODUCT, "@": PRODUCT, "^": POWER}
SPACED = {"+": " + ", "-": " - ", "@": " @ "}
AFTER_EVERY = re.compile(r"(\d)|([^\W\d]\w*)")
NOT_AFTER_EVERY = RESERVED | {"per", "as", "wrt", "except"}


def show_expr(expr: t.Expr, level: int = LOOSE) -> str:
    """The text of an expression where at least `level` is asked for."""
    text, own = _expr(expr)
    return text if own >= level else f"({text})"


def _expr(expr: t.Expr) -> tuple[str, int]:
    match expr:
        case t.Num(text=text):
            return text, UNARY if text.startswith("-") else POSTFIX
        case t.Str(value=value):
            return quoted(value), POSTFIX
        case t.Name(id=name, primes=primes):
            return name + "'" * primes, POSTFIX
        case t.Attr(value=value, name=name, primes=primes):
            left = show_expr(value, POSTFIX)
            return f"{f'({left})' if left.endswith('.') else left}.{name}{chr(39) * primes}", POSTFIX
        case t.Unary(op="not", operand=operand):
            return f"not {show_expr(operand, NOT)}", NOT
        case t.Unary(op=op, operand=operand):
            return op + show_expr(operand, UNARY), UNARY
        case t.Binary(op="^", left=left, right=right):
            return f"{show_expr(left, POSTFIX)}^{_exponent(right)}", POWER
        case t.Binary(op=op, left=left, right=right):
            own = BINARY[op]
            mixed = own == PRODUCT and op != "@" and isinstance(left, t.Binary) and left.op == "@"
            first = POSTFIX if mixed else own  # (A @ x)*h, not A @ x*h
            last = POSTFIX if isinstance(right, t.Unary) else own + 1  # a - (-b), not a - -b
            return f"{show_expr(left, first)}{SPACED.get(op, op)}{show_expr(right, last)}", own
        case t.Logical(op=op, left=left, right=right):
            own = OR if op == "or" else AND
            return f"{show_expr(left, own)} {op} {show_expr(right, own + 1)}", own
        case t.Compare():
            return _compare(expr, ""), COMPARE
        case t.Conditional(cond=cond, then=then, orelse=orelse):
            return f"if {show_expr(cond)} then {show_expr(then)} else {show_expr(orelse)}", LOOSE
        case t.Lambda(pattern=pattern, body=body):
            return f"{show_pattern(pattern)} -> {show_expr(body)}", LOOSE
        case t.Range(lo=lo, hi=hi, by=by):
            ends = [_tight(end) for end in (lo, hi)]
            gap = " " if ends[0].endswith(".") else ""
            return f"{ends[0]}{gap}..{ends[1]}" + (f" by {_tight(by)}" if by else ""), RANGE
        case t.Call(func=func, args=args):
            return f"{show_expr(func, POSTFIX)}({show_args(args)})", POSTFIX
        case t.Slice(start=start, stop=stop):
            return f"{show_expr(start) if start else ''}:{show_expr(stop) if stop else ''}", POSTFIX
        case t.Index(value=value, items=items):
            return f"{show_expr(value, POSTFIX)}[{_list(items)}]", POSTFIX
        case t.ListExpr(items=items):
            return f"[{_list(items)}]", POSTFIX
        case t.Comprehension(body=body, binders=binders, cond=cond):
            tail = f" if {show_expr(cond)}" if cond else ""
            return f"[{show_expr(body)}{_binders(binders)}{tail}]", POSTFIX
        case t.TupleExpr(items=items):
            return f"({_list(items)}{',' if len(items) == 1 else ''})", POSTFIX
        case t.DictExpr(entries=entries):
            return "{" + ", ".join(f"{show_expr(k)}: {show_expr(v)}" for k, v in entries) + "}", POSTFIX
        case t.SetBuilder(names=names, cond=cond):
            return f"{{{', '.join(names)} | {show_expr(cond)}}}", POSTFIX
        case t.Restrict():
            return f"({show_restricted(expr)})", POSTFIX
        case t.Every(value=value):
            return _every(value), LOOSE
        case t.Words(name=name):
            return name, POSTFIX if name == "all" else LOOSE
        case t.Except():
            return f"({_except(expr)})", POSTFIX
    raise TypeError(f"no text for {type(expr).__name__}")


def _list(items: Iterable[t.Expr]) -> str:
    return ", ".join(map(show_expr, items))


def _exponent(expr: t.Expr) -> str:
    """Right of `^` a sign needs no parentheses."""
    if isinstance(expr, t.Unary) and expr.op != "not":
        return expr.op + _exponent(expr.operand)
    return show_expr(expr, POWER)


def _tight(expr: t.Expr) -> str:
    """An end of an interval: a sum without blanks, `0..n-1`."""
    if isinstance(expr, t.Binary) and BINARY[expr.op] == SUM:
        return f"{_tight(expr.left)}{expr.op}{show_expr(expr.right, PRODUCT)}"
    return show_expr(expr, SUM)


def _compare(expr: t.Compare, restriction: str) -> str:
    first, *rest = expr.operands
    parts = [show_expr(first, RANGE)]
    parts += [f"{op} {show_expr(operand, RANGE)}" for op, operand in zip(expr.ops, rest)]
    return " ".join(parts) + restriction


def show_restricted(expr: t.Expr) -> str:
    """A value where `S if c` and `x in S if c` may stand."""
    if isinstance(expr, t.Restrict):
        return f"{show_expr(expr.value)} if {show_expr(expr.cond)}"
    if isinstance(expr, t.Compare) and expr.ops[-1] == "in" and isinstance(expr.operands[-1], t.Restrict):
        part = expr.operands[-1]
        bare = t.Compare(expr.span, expr.ops, (*expr.operands[:-1], part.value))
        return f"{show_expr(bare)} if {show_expr(part.cond)}"
    return show_expr(expr)


def _every(value: t.Expr) -> str:
    text = show_expr(value, SUM)
    word = AFTER_EVERY.match(text)
    if word and word[2] not in NOT_AFTER_EVERY:
        return f"every {text}"
    return f"every({show_expr(value)})"


def _except(expr: t.Except) -> str:
    """Without parentheses, as in a setting's value."""
    return f"{show_value(expr.value)} except {', '.join(show_expr(e, POSTFIX) for e in expr.excluded)}"


def _binders(binders: Sequence[t.Binder]) -> str:
    out, bare = "", False
    for binder in binders:
        alone = binder.set is None and not binder.pattern.bracket
        out += ", " if alone and bare else " for "
        out += show_pattern(binder.pattern)
        if binder.set is not None:
            out += f" in {show_expr(binder.set)}"
        bare = alone
    return out


def show_pattern(pattern: t.Pattern) -> str:
    names = ", ".join(pattern.names)
    return {"": names, "(": f"({names})", "[": f"[{names}]"}[pattern.bracket]


def show_args(args: Iterable[t.Arg]) -> str:
    return ", ".join(map(show_arg, args))


def show_arg(arg: t.Arg) -> str:
    name = f"{arg.name}{chr(39) * arg.primes}"
    if arg.kind == "positional":
        return show_restricted(arg.value)
    if arg.kind == "keyword":
        value = arg.value
        if (
            isinstance(value, t.Except)
            and len(value.excluded) == 1
            and not isinstance(value.value, t.TupleExpr)
        ):
            return f"{name}={_except(value)}"
        return f"{name}={show_restricted(value)}"
    return f"{name} ~ {show_expr(arg.value)}" if arg.kind == "draw" else f"{name}: {show_expr(arg.value)}"


def show_value(expr: t.Expr) -> str:
    """A setting's value or an equation's right side, where a tuple and `except` stand bare."""
    if isinstance(expr, t.TupleExpr) and len(expr.items) > 1:
        return _list(expr.items)
    return _except(expr) if isinstance(expr, t.Except) else show_expr(expr)


def quoted(value: str) -> str:
    """A string as it is written."""
    for raw, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\t", "\\t")):
        value = value.replace(raw, escaped)
    return f'"{value}"'


# ---------------------------------------------------------------- types


def show_type(type_: t.TypeExpr) -> str:
    """The text of a type."""
    match type_:
        case t.MapType(params=params, result=result):
            single = len(params) == 1 and not isinstance(params[0], t.MapType | t.TupleType)
            left = ", ".join(map(show_type, params))
            return f"{left if single else f'({left})'} -> {show_type(result)}"
        case t.FieldType(value=value, domain=domain):
            text = show_type(value)
            closed = isinstance(value, t.TypeName | t.TupleType)
            return f"{text if closed else f'({text})'} on {show_set(domain)}"
        case t.TupleType(items=items):
            return f"({', '.join(map(show_type, items))})"
        case t.TypeName(name=name, dims=dims, unit=unit, args=args):
            name += f"[{_list(dims)}]" if dims else ""
            name += f"{{{show_unit(unit)}}}" if unit else ""
            return name + (f"({show_args(args)})" if args else "")
    raise TypeError(f"no text for {type(type_).__name__}")


def show_set(domain: t.Expr) -> str:
    """What stands after `on`: a name, a call, a product."""
    if isinstance(domain, t.Binary) and domain.op == "*":
        return f"{show_set(domain.left)}*{show_expr(domain.right, POSTFIX)}"
    return show_expr(domain, POSTFIX)


def show_unit(unit: t.UnitExpr) -> str:
    """`m/s^2`."""
    out = ""
    for name, power in unit.factors:
        if power < 0:
            out += f"/{name}" if out else f"1/{name}"
        else:
            out += f"*{name}" if out else name
        if abs(power) != 1:
            out += f"^{abs(power)}" if power.denominator == 1 else f"^({abs(power)})"
    return out or "1"


# ---------------------------------------------------------------- statements


def show_stmt(stmt: t.Stmt) -> str:
    """One line for a statement or declaration; a block of several lines is shown as `…`."""
    head = " ".join(cells(stmt))
    body = body_of(stmt)
    if body is None:
        return head
    if len(body) == 1 and body_of(body[0]) is None:
        return f"{head} {show_stmt(body[0])}"
    return f"{head} …"


def body_of(stmt: t.Stmt) -> tuple[t.Stmt, ...] | None:
    """The statements of a statement's block; None for one that has no block."""
    match stmt:
        case t.Fn(short=short, body=body):
            return None if short else body
        case t.Operator(body=body) | t.Model(body=body) | t.Solver(body=body) | t.Train(body=body):
            return body
        case t.Test(body=body) | t.On(body=body) | t.When(body=body) | t.For(body=body) | t.Step(body=body):
            return body
        case t.Solve(settings=settings) | t.Phase(settings=settings):
            return settings
        case t.Optimize(settings=settings):
            return settings or None
    return None


def cells(stmt: t.Stmt) -> list[str]:
    """The line of a statement, or the head of its block, cut where lines may be aligned."""
    match stmt:
        case t.Declare(keyword=keyword, items=(item,)):
            return _declared(f"{keyword} ", item)
        case t.Declare(keyword=keyword, items=items):
            return [f"{keyword} " + ", ".join(" ".join(_declared("", item)) for item in items)]
        case t.Noise(name=name, law=law):
            return [f"noise {name}: {show_type(law)}"]
        case t.Net(name=name, signature=signature, value=value, per=per):
            line = f"net {name}" + (f": {show_type(signature)}" if signature else "")
            right = ([f"= {show_expr(value)}"] if value else []) + ([f"per {per}"] if per else [])
            return [line, " ".join(right)] if right else [line]
        case t.Term(name=name, value=value):
            return [f"term {name}", f"= {show_expr(value)}"]
        case t.Assign(targets=targets, value=value, type=type_):
            left = _list(targets) + (f": {show_type(type_)}" if type_ else "")
            return [left, f"= {show_value(value)}"]
        case t.Draw(name=name, law=law, type=type_, per=per):
            left = name + (f": {show_type(type_)}" if type_ else "")
            return [left, f"~ {show_expr(law)}" + (f" per {per}" if per else "")]
        case t.Reset(target=target, value=value):
            return [show_expr(target), f"<- {show_expr(value)}"]
        case t.Observe(name=name, law=law):
            return [f"observe {name}", f"~ {show_expr(law)}"]
        case t.Stop(reason=reason):
            return ["stop" + (f" {quoted(reason)}" if reason is not None else "")]
        case t.Require(cond=cond, why=why) | t.Assert(cond=cond, why=why):
            word = "require" if isinstance(stmt, t.Require) else "assert"
            return [f"{word} {show_expr(cond)}" + (f", {quoted(why)}" if why is not None else "")]
        case t.Calculus(name=name):
            return [f"calculus {name}"]
        case t.Return(values=values):
            return [f"return {_list(values)}"]
        case t.Until(cond=cond):
            return [f"until {show_expr(cond)}"]
        case t.ExprStmt(value=value):
            return [show_value(value)]
        case t.Optimize(sense=sense, value=value, wrt=wrt, settings=settings):
            line = f"{sense} {show_expr(value)}" + (f" wrt {show_value(wrt)}" if wrt else "")
            return [line + (":" if settings else "")]
        case t.On(set=set_):
            if isinstance(set_, t.Restrict):
                return [f"on {show_set(set_.value)} if {show_expr(set_.cond)}:"]
            return [f"on {show_set(set_)}:"]
        case t.When(trigger=trigger):
            return [f"when {show_expr(trigger)}:"]
        case t.For(pattern=pattern, iter=iter_):
            return [f"for {show_pattern(pattern)} in {show_expr(iter_)}:"]
        case t.Phase(name=name):
            return [f"phase {name}:"]
        case t.Step(params=params):
            return [f"step({', '.join(params)}):"]
        case t.Tableau():
            return ["tableau:"]
    return _declaration(stmt)


def _declared(lead: str, item: t.DeclItem) -> list[str]:
    line = [f"{lead}{item.name}{chr(39) * item.primes}"]
    if item.constraint:
        line.append(f"{item.constraint.op} {show_expr(item.constraint.bound, RANGE)}")
    if item.type:
        line[-1] += f": {show_type(item.type)}"
    if item.format:
        line[-1] += f" as {show_expr(item.format, POSTFIX)}"
    if item.value:
        line.append(f"= {show_expr(item.value)}")
    if item.law:
        line.append(f"~ {show_expr(item.law)}")
    if item.cond:
        line[-1] += f" if {show_expr(item.cond)}"
    if item.per:
        line[-1] += f" per {item.per}"
    return line


def _declaration(stmt: t.Stmt) -> list[str]:
    match stmt:
        case t.Edition(year=year):
            return [f"edition {year}"]
        case t.Use(path=path, names=names, alias=alias):
            listed = ", ".join(n.name + (f" as {n.alias}" if n.alias else "") for n in names)
            return [f"use {path}" + (f" as {alias}" if alias else "") + (f": {listed}" if listed else "")]
        case t.Extern(name=name, signature=signature):
            return [f"extern net {name}: {show_type(signature)}"]
        case t.DomainDecl(name=name, value=value):
            return [f"domain {name}", f"= {show_expr(value)}"]
        case t.ModelAlias(name=name, value=value):
            return [f"model {name}", f"= {show_expr(value)}"]
        case t.Fn(name=name, short=short, body=body):
            head = f"fn {name}{_header(stmt.data, stmt.options)}{_result(stmt.result)}"
            if short and isinstance(body[0], t.Return):
                return [head, f"= {show_expr(body[0].values[0])}"]
            return [head + ":"]
        case t.Operator(name=name, data=data, options=options, result=result):
            return [f"operator {name}{_header(data, options)}{_result(result)}:"]
        case t.Model(name=name, data=data, options=options):
            return [f"model {name}{_header(data, options) if data or options else ''}:"]
        case t.Solver(name=name, data=data, options=options, kind=kind, order=order, embedded=embedded):
            head = f"solver {name}{_header(data, options) if data or options else ''} for {kind}"
            if order:
                head += f" order {show_expr(order)}" + (f"({show_expr(embedded)})" if embedded else "")
            return [head + ":"]
        case t.Solve(target=target, alias=alias):
            return [f"solve {show_expr(target, POSTFIX)}{f' as {alias}' if alias else ''}:"]
        case t.Train(targets=targets, alias=alias):
            shown = ", ".join(show_expr(e, POSTFIX) for e in targets)
            return [f"train {shown}{f' as {alias}' if alias else ''}:"]
        case t.Test(title=title):
            return [f"test {quoted(title)}:"]
    raise TypeError(f"no text for {type(stmt).__name__}")


def _result(type_: t.TypeExpr | None) -> str:
    return f" -> {show_type(type_)}" if type_ else ""


def _header(data: Sequence[t.Parameter], options: Sequence[t.Parameter]) -> str:
    tail = f"; {', '.join(map(show_parameter, options))}" if options else ""
    return f"({', '.join(map(show_parameter, data))}{tail})"


def show_parameter(p: t.Parameter) -> str:
    """`x: R[In]`, `width = 64`."""
    line = p.name + (f": {show_type(p.type)}" if p.type else "")
    return line + (f" = {show_expr(p.default)}" if p.default else "")


def show_constant(value: Fraction | float) -> str:
    """An entry of a tableau."""
    return str(value) if isinstance(value, Fraction) else repr(value)
