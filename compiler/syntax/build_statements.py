"""Statements: from the children of a production to a tree node."""

from __future__ import annotations

from typing import Any

from ndl.compiler.source import Span
from ndl.compiler.syntax import tree as t
from ndl.compiler.syntax.build_base import Base, Place, present, short
from ndl.compiler.syntax.build_words import as_every, as_setting, as_words
from ndl.compiler.syntax.late import MISPLACED, instead, late_constraint, mended

CLAUSES = ("type", "format", "value", "law", "option", "per")
ONCE = {"law": "value"}


class Statements(Base):
    """One method an action of the grammar."""

    def declare(self, keyword: str, place: Place, c: list[Any]) -> t.Declare:
        return t.Declare(self.span(place), keyword, tuple(self.in_order(keyword, i) for i in present(c)))

    def in_order(self, keyword: str, item: t.DeclItem) -> t.DeclItem:
        """An item whose constraint stands before its value."""
        late = late_constraint(keyword, item)
        if late is None:
            return item
        self.error("NDL120", MISPLACED, late.span, help=instead(keyword, item, late))
        return mended(item, late)

    def on_declare_param(self, place: Place, c: list[Any]) -> t.Declare:
        return self.declare("param", place, c)

    def on_declare_state(self, place: Place, c: list[Any]) -> t.Declare:
        return self.declare("state", place, c)

    def on_declare_const(self, place: Place, c: list[Any]) -> t.Declare:
        return self.declare("const", place, c)

    def on_declare_input(self, place: Place, c: list[Any]) -> t.Declare:
        return self.declare("input", place, c)

    def on_declare(self, place: Place, c: list[Any]) -> t.Declare:
        made: t.Declare = c[0]
        return made

    def on_decl_item(self, place: Place, c: list[Any]) -> t.DeclItem:
        name, constraint, *clauses = c
        given: dict[str, Any] = {}
        last = -1
        for kind, value, where in clauses:
            rank = CLAUSES.index(ONCE.get(kind, kind))
            if rank <= last:
                self.error(
                    "NDL120",
                    "these clauses stand in another order, each once",
                    where,
                    help="`name [constraint] [: type] [as format] [= value or ~ law] [if option] [per word]`",
                )
            last = max(last, rank)
            given.setdefault(kind, value)
        return t.DeclItem(
            self.span(place),
            name.text,
            self.at(name),
            name.data,
            constraint,
            given.get("type"),
            given.get("format"),
            given.get("value"),
            given.get("law"),
            given.get("option"),
            given.get("per"),
        )

    def on_constraint(self, place: Place, c: list[Any]) -> t.Constraint:
        return t.Constraint(self.span(place), c[0].text, c[1])

    def on_type_clause(self, place: Place, c: list[Any]) -> tuple[str, Any, Span]:
        return "type", c[0], self.span(place)

    def on_format_clause(self, place: Place, c: list[Any]) -> tuple[str, Any, Span]:
        return "format", c[0], self.span(place)

    def on_value_clause(self, place: Place, c: list[Any]) -> tuple[str, Any, Span]:
        return "value", c[0], self.span(place)

    def on_law_clause(self, place: Place, c: list[Any]) -> tuple[str, Any, Span]:
        return "law", c[0], self.span(place)

    def on_option_clause(self, place: Place, c: list[Any]) -> tuple[str, Any, Span]:
        return "option", c[0], self.span(place)

    def on_per(self, place: Place, c: list[Any]) -> tuple[str, Any, Span]:
        return "per", " ".join(self.plain(word) for word in c), self.span(place)

    def on_noise(self, place: Place, c: list[Any]) -> t.Noise:
        return t.Noise(self.span(place), self.plain(c[0]), self.at(c[0]), c[1])

    def on_term(self, place: Place, c: list[Any]) -> t.Term:
        return t.Term(self.span(place), self.plain(c[0]), self.at(c[0]), c[1])

    def on_targets(self, place: Place, c: list[Any]) -> tuple[t.Expr, ...]:
        return tuple(c)

    def on_equation(self, place: Place, c: list[Any]) -> t.Assign:
        return t.Assign(self.span(place), c[0], c[1])

    def on_typed(self, place: Place, c: list[Any]) -> t.Assign:
        return t.Assign(self.span(place), (self.name(c[0]),), c[2], c[1])

    def on_typed_draw(self, place: Place, c: list[Any]) -> t.Draw:
        name, type_, law, per = c
        return t.Draw(self.span(place), self.plain(name), self.at(name), law, type_, per[1] if per else None)

    def on_draw(self, place: Place, c: list[Any]) -> t.Stmt:
        targets, law, per = c
        target = targets[0]
        if len(targets) > 1 or not isinstance(target, t.Name) or target.primes:
            self.error(
                "NDL121",
                "`~` draws a random value for one name",
                target.span.to(targets[-1].span),
                help="an equation is written with `=`",
            )
            return t.Assign(self.span(place), targets, law)
        return t.Draw(self.span(place), target.id, target.span, law, None, per[1] if per else None)

    def on_reset(self, place: Place, c: list[Any]) -> t.Reset:
        (target, *more), value = c
        inner = target
        while isinstance(inner, t.Index):
            inner = inner.value
        if more or not isinstance(inner, t.Name):
            advice = "write one reset a line" if more else "a comparison with a negative number is `x < -1`"
            self.error("NDL122", "`<-` resets one state", self.span(place), help=advice)
        return t.Reset(self.span(place), target, value)

    def on_bare(self, place: Place, c: list[Any]) -> t.Stmt:
        (value, *more) = c[0]
        if more:
            value = t.TupleExpr(self.span(place), c[0])
        if isinstance(value, t.Name) and value.id == "end":
            self.error(
                "NDL123", "`end` closes nothing here", value.span, help="blocks end with their indentation"
            )
        if isinstance(value, t.Compare) and value.ops[0] == "==":
            left, right = value.operands[0].span, value.operands[1].span
            self.error(
                "NDL124",
                "`==` asks whether two values are equal",
                Span(self.source, left.end, right.start),
                help=f"an equation or a setting has one sign: `{short(left)} = {short(right)}`",
            )
            if len(value.operands) == 2:
                return t.Assign(self.span(place), (value.operands[0],), value.operands[1])
        return t.ExprStmt(self.span(place), value)

    def on_stop(self, place: Place, c: list[Any]) -> t.Stop:
        return t.Stop(self.span(place), c[0].data if c[0] else None)

    def on_require(self, place: Place, c: list[Any]) -> t.Require:
        return t.Require(self.span(place), c[0], c[1].data if c[1] else None)

    def on_assert(self, place: Place, c: list[Any]) -> t.Assert:
        return t.Assert(self.span(place), c[0], c[1].data if c[1] else None)

    def on_observe(self, place: Place, c: list[Any]) -> t.Observe:
        return t.Observe(self.span(place), self.plain(c[0]), self.at(c[0]), c[1])

    def on_calculus(self, place: Place, c: list[Any]) -> t.Calculus:
        return t.Calculus(self.span(place), self.plain(c[0]))

    def on_return(self, place: Place, c: list[Any]) -> t.Return:
        return t.Return(self.span(place), tuple(c))

    def on_until(self, place: Place, c: list[Any]) -> t.Until:
        return t.Until(self.span(place), c[0])

    def on_tableau(self, place: Place, c: list[Any]) -> t.Tableau:
        stages, outputs = c[0].data
        return t.Tableau(self.span(place), stages, outputs)

    def on_optimize(self, place: Place, c: list[Any]) -> t.Optimize:
        return self.on_optimize_block(place, [*c, None])

    def on_optimize_block(self, place: Place, c: list[Any]) -> t.Optimize:
        sense, value, _, players, block = c
        settings = self.no_doc(block, "a player") if block else ()
        wrt = as_words(players) if players else None
        return t.Optimize(self.span(place), sense.text, value, wrt, tuple(map(as_setting, settings)))

    def on_on(self, place: Place, c: list[Any]) -> t.On:
        where, cond, body = c
        if cond is not None:
            where = t.Restrict(where.span.to(cond.span), where, cond)
        return t.On(self.span(place), where, self.no_doc(body, "a boundary condition"))

    def on_when(self, place: Place, c: list[Any]) -> t.When:
        return t.When(self.span(place), as_every(c[0]), self.no_doc(c[1], "an event"))

    def on_for(self, place: Place, c: list[Any]) -> t.For:
        return t.For(self.span(place), c[0], c[1], self.no_doc(c[2], "a loop"))

    def on_phase(self, place: Place, c: list[Any]) -> t.Phase:
        settings = tuple(map(as_setting, self.no_doc(c[1], "a phase")))
        return t.Phase(self.span(place), self.plain(c[0]), settings)

    def on_step(self, place: Place, c: list[Any]) -> t.Step:
        *names, block = c
        return t.Step(
            self.span(place), tuple(self.plain(n) for n in names if n), self.no_doc(block, "a step")
        )

    def on_value_tuple(self, place: Place, c: list[Any]) -> t.TupleExpr:
        return t.TupleExpr(self.span(place), tuple(c))

    def on_excluded(self, place: Place, c: list[Any]) -> list[t.Expr]:
        return list(c)

    def on_value_except(self, place: Place, c: list[Any]) -> t.Except:
        *items, excluded = c
        value = items[0]
        if len(items) > 1:
            value = t.TupleExpr(items[0].span.to(items[-1].span), tuple(items))
        return t.Except(self.span(place), as_words(value), tuple(excluded))
