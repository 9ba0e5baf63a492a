"""Expressions: from the children of a production to a tree node."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ndl.compiler.syntax import tree as t
from ndl.compiler.syntax.build_base import Base, Place, present
from ndl.compiler.syntax.build_words import as_every, as_words
from ndl.compiler.syntax.tokens import Token


class Expressions(Base):
    """One method an action of the grammar."""

    def on_name(self, place: Place, c: list[Any]) -> t.Name:
        return t.Name(self.span(place), c[0].text, c[0].data)

    def on_number(self, place: Place, c: list[Any]) -> t.Num:
        value, imaginary = c[0].data
        text = c[0].text
        return t.Num(self.span(place), value, text, imaginary)

    def on_string(self, place: Place, c: list[Any]) -> t.Str:
        return t.Str(self.span(place), c[0].data)

    def on_group(self, place: Place, c: list[Any]) -> t.Expr:
        inner: t.Expr = c[0]
        return inner

    def on_single(self, place: Place, c: list[Any]) -> t.TupleExpr:
        return t.TupleExpr(self.span(place), (c[0],))

    def on_tuple(self, place: Place, c: list[Any]) -> t.TupleExpr:
        return t.TupleExpr(self.span(place), tuple(c))

    def on_list(self, place: Place, c: list[Any]) -> t.ListExpr:
        return t.ListExpr(self.span(place), present(c))

    def on_comprehension(self, place: Place, c: list[Any]) -> t.Comprehension:
        body, *clauses, cond = c
        return t.Comprehension(self.span(place), body, tuple(b for clause in clauses for b in clause), cond)

    def on_for_clause(self, place: Place, c: list[Any]) -> list[t.Binder]:
        pattern, set_ = c
        if set_ is None and not pattern.bracket:
            return [t.Binder(pattern.span, t.Pattern(pattern.span, (name,)), None) for name in pattern.names]
        return [t.Binder(self.span(place), pattern, set_)]

    def pattern(self, place: Place, c: list[Any], bracket: str) -> t.Pattern:
        return t.Pattern(self.span(place), tuple(self.plain(k) for k in c), bracket)

    def on_bare_pattern(self, place: Place, c: list[Any]) -> t.Pattern:
        return self.pattern(place, c, "")

    def on_round_pattern(self, place: Place, c: list[Any]) -> t.Pattern:
        return self.pattern(place, c, "(" if len(c) > 1 else "")

    def on_square_pattern(self, place: Place, c: list[Any]) -> t.Pattern:
        return self.pattern(place, c, "[")

    def on_dict(self, place: Place, c: list[Any]) -> t.DictExpr:
        return t.DictExpr(self.span(place), tuple(c))

    def on_entry(self, place: Place, c: list[Any]) -> tuple[t.Expr, t.Expr]:
        return c[0], c[1]

    def on_set_builder(self, place: Place, c: list[Any]) -> t.SetBuilder:
        *names, cond = c
        return t.SetBuilder(self.span(place), tuple(self.plain(n) for n in names), cond)

    def on_lambda(self, place: Place, c: list[Any]) -> t.Expr:
        left, body = c
        names: Iterable[t.Expr] = (left,)
        bracket = ""
        if isinstance(left, t.TupleExpr | t.ListExpr):
            names, bracket = left.items, "(" if isinstance(left, t.TupleExpr) else "["
        if not names or any(not isinstance(n, t.Name) or n.primes for n in names):
            advice = "a map is `x -> e`, `(x, y) -> e` or `[x, y] -> e`"
            self.error("NDL126", "left of `->` stands a name, or names in brackets", left.span, help=advice)
            return body  # type: ignore[no-any-return]
        pattern = t.Pattern(left.span, tuple(n.id for n in names if isinstance(n, t.Name)), bracket)
        return t.Lambda(self.span(place), pattern, body)

    def on_conditional(self, place: Place, c: list[Any]) -> t.Conditional:
        return t.Conditional(self.span(place), *c)

    def on_every(self, place: Place, c: list[Any]) -> t.Every:
        return t.Every(self.span(place), c[0])

    def on_initial(self, place: Place, c: list[Any]) -> t.Words:
        if c[0].text != "states" or c[0].data:
            advice = "the initial values of all states are called `initial states`"
            self.error("NDL127", f"`initial {c[0].text}` means nothing", self.at(c[0]), help=advice)
        return t.Words(self.span(place), "initial states")

    def on_or(self, place: Place, c: list[Any]) -> t.Logical:
        return t.Logical(self.span(place), "or", c[0], c[1])

    def on_and(self, place: Place, c: list[Any]) -> t.Logical:
        return t.Logical(self.span(place), "and", c[0], c[1])

    def on_not(self, place: Place, c: list[Any]) -> t.Unary:
        return t.Unary(self.span(place), "not", c[0])

    def on_compare(self, place: Place, c: list[Any]) -> t.Compare:
        ops = tuple(op if isinstance(op, str) else op.text for op in c[1::2])
        return t.Compare(self.span(place), ops, tuple(c[0::2]))

    def on_not_in(self, place: Place, c: list[Any]) -> str:
        return "not in"

    def on_interval(self, place: Place, c: list[Any]) -> t.Range:
        return t.Range(self.span(place), *c)

    def on_binary(self, place: Place, c: list[Any]) -> t.Binary:
        return t.Binary(self.span(place), c[1].text, c[0], c[2])

    def on_unary(self, place: Place, c: list[Any]) -> t.Unary:
        return t.Unary(self.span(place), c[0].text, c[1])

    def on_power(self, place: Place, c: list[Any]) -> t.Binary:
        return t.Binary(self.span(place), "^", c[0], c[1])

    def on_attribute(self, place: Place, c: list[Any]) -> t.Attr:
        return t.Attr(self.span(place), c[0], c[1].text, c[1].data, self.at(c[1]))

    def on_call(self, place: Place, c: list[Any]) -> t.Call:
        return t.Call(self.span(place), c[0], c[1])

    def on_call_args(self, place: Place, c: list[Any]) -> tuple[t.Arg, ...]:
        return present(c)

    def on_index(self, place: Place, c: list[Any]) -> t.Index:
        return t.Index(self.span(place), c[0], tuple(c[1:]))

    def on_slice(self, place: Place, c: list[Any]) -> t.Slice:
        return t.Slice(self.span(place), c[0], c[1])

    def on_positional(self, place: Place, c: list[Any]) -> t.Arg:
        return t.Arg(self.span(place), "positional", None, c[0])

    def argument(self, kind: str, place: Place, name: Token, value: t.Expr) -> t.Arg:
        return t.Arg(self.span(place), kind, name.text, value, self.at(name), name.data)

    def on_keyword(self, place: Place, c: list[Any]) -> t.Arg:
        return self.argument("keyword", place, c[0], as_words(as_every(c[1])))

    def on_drawn(self, place: Place, c: list[Any]) -> t.Arg:
        return self.argument("draw", place, c[0], c[1])

    def on_part(self, place: Place, c: list[Any]) -> t.Arg:
        return self.argument("part", place, c[0], c[1])

    def on_arg_except(self, place: Place, c: list[Any]) -> t.Except:
        return t.Except(self.span(place), as_words(c[0]), (c[1],))

    def on_restrict(self, place: Place, c: list[Any]) -> t.Expr:
        value, cond = c
        if isinstance(value, t.Compare) and value.ops[-1] == "in":
            last = value.operands[-1]
            part = t.Restrict(last.span.to(cond.span), last, cond)
            return t.Compare(self.span(place), value.ops, (*value.operands[:-1], part))
        return t.Restrict(self.span(place), value, cond)
