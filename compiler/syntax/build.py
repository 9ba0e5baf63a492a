"""What each production of the grammar becomes; here files and declarations."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from ndl.compiler.syntax import tree as t
from ndl.compiler.syntax.build_base import Block, Place, present
from ndl.compiler.syntax.build_expressions import Expressions
from ndl.compiler.syntax.build_statements import Statements
from ndl.compiler.syntax.build_types import Types
from ndl.compiler.syntax.build_words import as_setting
from ndl.compiler.syntax.late import late_in_header


class Builder(Statements, Types, Expressions):
    """Makes nodes: one method an action of the grammar."""

    def actions(self) -> dict[str, Callable[[Place, list[Any]], Any]]:
        return {name[3:]: getattr(self, name) for name in _methods()}

    def on_file(self, place: Place, c: list[Any]) -> t.File:
        items = present(c[1:])
        for item in items[1:]:
            if isinstance(item, t.Edition):
                self.error(
                    "NDL119", "an edition stands before all else", item.span, help="make it the first line"
                )
        return t.File(self.source, c[0].data if c[0] else None, items)

    def on_expression(self, place: Place, c: list[Any]) -> t.Expr:
        expr: t.Expr = c[0]
        return expr

    def on_broken(self, place: Place, c: list[Any]) -> None:
        return None

    def on_edition(self, place: Place, c: list[Any]) -> t.Edition:
        year = c[0].data[0]
        if not isinstance(year, int):
            self.error("NDL119", "an edition is a year", self.at(c[0]), help="write `edition 2026`")
            year = 2026
        return t.Edition(self.span(place), year)

    def on_use(self, place: Place, c: list[Any]) -> t.Use:
        path, alias, *names = c
        return t.Use(
            self.span(place),
            path.text,
            present(names),
            self.plain(alias) if alias else None,
            self.at(path),
        )

    def on_use_name(self, place: Place, c: list[Any]) -> t.UseName:
        return t.UseName(self.span(place), self.plain(c[0]), self.plain(c[1]) if c[1] else None)

    def on_extern(self, place: Place, c: list[Any]) -> t.Extern:
        return t.Extern(self.span(place), self.plain(c[0]), self.at(c[0]), c[1])

    def on_domain(self, place: Place, c: list[Any]) -> t.DomainDecl:
        return t.DomainDecl(self.span(place), self.plain(c[0]), self.at(c[0]), c[1])

    def on_net(self, place: Place, c: list[Any]) -> t.Net:
        name, signature, value, per = c
        return t.Net(
            self.span(place), self.plain(name), self.at(name), signature, value, per[1] if per else None
        )

    def on_short_fn(self, place: Place, c: list[Any]) -> t.Fn:
        name, (data, options), result, value = c
        body = (t.Return(value.span, (value,)),)
        return t.Fn(
            self.span(place), self.plain(name), self.at(name), data, options, result, body, short=True
        )

    def on_long_fn(self, place: Place, c: list[Any]) -> t.Fn:
        name, (data, options), result, block = c
        where = self.span(place)
        return t.Fn(
            where, self.plain(name), self.at(name), data, options, result, block.stmts, False, self.doc(block)
        )

    def on_operator(self, place: Place, c: list[Any]) -> t.Operator:
        name, header, result, block = c
        data, options = _told_apart(*(header or ((), ())))
        where = self.span(place)
        return t.Operator(
            where, self.plain(name), self.at(name), data, options, result, block.stmts, self.doc(block)
        )

    def on_model(self, place: Place, c: list[Any]) -> t.Model:
        name, header, block = c
        data, options = _told_apart(*(header or ((), ())))
        where = self.span(place)
        return t.Model(where, self.plain(name), self.at(name), data, options, block.stmts, self.doc(block))

    def on_model_alias(self, place: Place, c: list[Any]) -> t.ModelAlias:
        return t.ModelAlias(self.span(place), self.plain(c[0]), self.at(c[0]), c[1])

    def on_solver(self, place: Place, c: list[Any]) -> t.Solver:
        name, header, kind, order, block = c
        data, options = header or ((), ())
        first, second = order or (None, None)
        return t.Solver(
            self.span(place),
            self.plain(name),
            self.at(name),
            data,
            options,
            self.plain(kind),
            first,
            second,
            block.stmts,
            self.doc(block),
        )

    def on_order(self, place: Place, c: list[Any]) -> tuple[t.Expr, t.Expr | None]:
        order, embedded = c
        number = order.kind == "NUMBER"
        return self.on_number((order.start, order.end), [order]) if number else self.name(order), embedded

    def on_solve(self, place: Place, c: list[Any]) -> t.Solve:
        target, alias, block = c
        settings = tuple(map(as_setting, block.stmts))
        return t.Solve(
            self.span(place), target, self.plain(alias) if alias else None, settings, self.doc(block)
        )

    def on_train(self, place: Place, c: list[Any]) -> t.Train:
        *targets, alias, block = c
        body = tuple(map(as_setting, block.stmts))
        alias = self.plain(alias) if alias else None
        return t.Train(self.span(place), present(targets), alias, body, self.doc(block))

    def on_test(self, place: Place, c: list[Any]) -> t.Test:
        return t.Test(self.span(place), c[0].data, self.no_doc(c[1], "a test"))

    def on_header(
        self, place: Place, c: list[Any]
    ) -> tuple[tuple[t.Parameter, ...], tuple[t.Parameter, ...]]:
        return c[0], c[1] or ()

    def on_parameters(self, place: Place, c: list[Any]) -> tuple[t.Parameter, ...]:
        return present(c)

    def on_parameter(self, place: Place, c: list[Any]) -> t.Parameter:
        name, type_, default = c
        if late := late_in_header(default):
            advice = f"write `{name.text} = {late.start.span.text}`; a `param` in the body may be constrained"
            self.error("NDL120", "what stands in a header takes no constraint", late.span, help=advice)
            default = late.start
        return t.Parameter(self.span(place), self.plain(name), type_, default)

    def on_block(self, place: Place, c: list[Any]) -> Block:
        return Block(c[0], present(c[1:]), self.span(place))

    def on_line_block(self, place: Place, c: list[Any]) -> Block:
        return Block(None, present(c), self.span(place))


Parameters = tuple[t.Parameter, ...]


def _told_apart(data: Parameters, options: Parameters) -> tuple[Parameters, Parameters]:
    """Data and options: without a `;`, what has a default and no type is an option, `model M(d = 4)`."""
    if options:
        return data, options
    chosen = tuple(p for p in data if p.default is not None and p.type is None)
    return tuple(p for p in data if p not in chosen), chosen


@cache
def _methods() -> tuple[str, ...]:
    return tuple(name for name in dir(Builder) if name.startswith("on_"))
